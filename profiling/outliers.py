"""Cases that stand out from their data set, each with the reason in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .fingerprint import CaseFingerprint
from .summary import CLUSTER_TOLERANCE, reference_unit, spacing_clusters, spacings_in

FEWEST_CASES = 5
"""Below, no case is the odd one out."""
MAIN_CLUSTER_SHARE = 0.8
"""Share of cases in one spacing cluster from which the others stand out."""
SHAPE_FACTOR = 4.0
"""An edge this many times longer or shorter than the median of its axis stands out."""


@dataclass(frozen=True, slots=True)
class Outlier:
    """One case and why it stands out."""

    case_id: str
    kind: str
    """``spacing``, ``shape``, ``empty``, ``constant``, ``non-finite``, ``no-foreground``."""
    reason: str

    def __str__(self) -> str:
        return f"{self.case_id}: {self.reason}"


def find_outliers(cases: Sequence[CaseFingerprint]) -> tuple[Outlier, ...]:
    """What stands out, by case id and kind."""
    found = [*_odd_spacings(cases), *_odd_shapes(cases), *_odd_content(cases)]
    return tuple(sorted(found, key=lambda outlier: (outlier.case_id, outlier.kind, outlier.reason)))


def _odd_spacings(cases: Sequence[CaseFingerprint]) -> list[Outlier]:
    """Cases far from the spacing that most cases have."""
    unit = reference_unit(cases)
    spacings = spacings_in(unit, cases)[0]
    known = np.array([spacing for spacing in spacings if spacing is not None], dtype=np.float64).reshape(
        -1, 3
    )
    clusters = spacing_clusters(known)
    if len(clusters) < 2 or len(known) < FEWEST_CASES or clusters[0].cases < MAIN_CLUSTER_SHARE * len(known):
        return []
    main = clusters[0].spacing
    found = []
    for case, spacing in zip(cases, spacings, strict=True):
        if spacing is not None and not _close(spacing, main):
            reason = (
                f"spacing {_numbers(spacing)} {unit}, while {clusters[0].cases} of {len(known)} cases have "
                f"about {_numbers(main)}"
            )
            found.append(Outlier(case.id, "spacing", reason))
    return found


def _close(spacing: Sequence[float], main: Sequence[float]) -> bool:
    """Whether a spacing is near enough to be of the cluster, whose ends may be twice the tolerance apart."""
    return all(abs(a - b) <= 2 * CLUSTER_TOLERANCE * min(a, b) for a, b in zip(spacing, main, strict=True))


def _odd_shapes(cases: Sequence[CaseFingerprint]) -> list[Outlier]:
    """Cases with an edge far longer or shorter than usual."""
    if len(cases) < FEWEST_CASES:
        return []
    shapes = np.array([case.shape for case in cases], dtype=np.float64)
    median = np.median(shapes, axis=0)
    ratio = np.maximum(shapes / median, median / shapes).max(axis=1)
    usual = " x ".join(f"{edge:g}" for edge in median)
    return [
        Outlier(case.id, "shape", f"shape {' x '.join(map(str, case.shape))}, while the median is {usual}")
        for case, worst in zip(cases, ratio, strict=True)
        if worst > SHAPE_FACTOR
    ]


def _odd_content(cases: Sequence[CaseFingerprint]) -> list[Outlier]:
    """All-zero and constant channels, voxels that are no numbers, labels without foreground."""
    found = []
    for case in cases:
        for number, channel in enumerate(case.channels):
            where = f"channel {number}" if len(case.channels) > 1 else "the image"
            if channel.non_finite:
                found.append(
                    Outlier(case.id, "non-finite", f"{where} has {channel.non_finite} NaN or infinite voxels")
                )
            if channel.nonzero is None and channel.crop is not None:
                found.append(Outlier(case.id, "empty", f"{where} is zero everywhere"))
            elif channel.crop is not None and channel.crop.min == channel.crop.max:
                found.append(Outlier(case.id, "constant", f"{where} is {channel.crop.min:g} everywhere"))
        if case.foreground_voxels == 0:
            found.append(Outlier(case.id, "no-foreground", "the label map has no foreground"))
    return found


def _numbers(values: Sequence[float]) -> str:
    return " x ".join(f"{value:.4g}" for value in values)
