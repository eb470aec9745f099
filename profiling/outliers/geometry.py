"""Spacing, shape, orientation and number of channels, against the other cases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from ..fingerprint import Outlier
from ..shown_spacing import converted, shown_unit
from ..summary import CLUSTER_TOLERANCE, reference_unit, spacing_clusters, spacings_in
from .base import FEWEST_CASES, MAIN_SHARE, DataSet, far_from_median, majority, numbers

SHAPE_FACTOR = 2.0
"""An edge at least so many times longer or shorter than the median stands out, if few cases differ so."""

SPACING_FACTOR = 4.0
"""Likewise of a spacing, where no spacing is that of most cases: a wrong unit, or a point misplaced."""


def odd_spacings(data: DataSet) -> Iterator[Outlier]:
    """Cases far from the spacing that most cases have (else from the median), or without one."""
    unit = reference_unit(data.cases)
    spacings = spacings_in(unit, data.cases)[0]
    known = np.array([s for s in spacings if s is not None], np.float64).reshape(-1, 3)
    if len(spacings) < FEWEST_CASES or len(known) < MAIN_SHARE * len(spacings):
        return
    clusters = spacing_clusters(known)
    main, count = clusters[0].spacing, clusters[0].cases
    shown = shown_unit(unit, np.median(known, axis=0).tolist())

    def told(spacing: Sequence[float]) -> str:
        return numbers(converted(spacing, unit, shown))

    logs = np.log2(np.array([spacing or (np.nan,) * 3 for spacing in spacings], np.float64))
    far = {place for axis in logs.T for place in far_from_median(axis.tolist(), np.log2(SPACING_FACTOR))}
    for place, (case, spacing) in enumerate(zip(data.cases, spacings, strict=True)):
        if spacing is None:
            reason = f"states no spacing, while {len(known)} of {len(spacings)} cases do"
            yield Outlier(case_id=case.id, kind="spacing", reason=reason)
        elif count >= MAIN_SHARE * len(known) and not _close(spacing, main):
            reason = (
                f"spacing {told(spacing)} {shown}, while {count} of {len(known)} cases have about "
                f"{told(main)}"
            )
            yield Outlier(case_id=case.id, kind="spacing", reason=reason)
        elif place in far and not _close(spacing, main):
            usual = told(np.median(known, axis=0).tolist())
            reason = f"spacing {told(spacing)} {shown}, while the median is {usual}"
            yield Outlier(case_id=case.id, kind="spacing", reason=reason)


def _close(spacing: tuple[float, float, float], main: tuple[float, float, float]) -> bool:
    """Whether a spacing is near enough to be of the cluster, whose ends may be twice the tolerance apart."""
    return all(abs(a - b) <= 2 * CLUSTER_TOLERANCE * min(a, b) for a, b in zip(spacing, main, strict=True))


def odd_shapes(data: DataSet) -> Iterator[Outlier]:
    """Cases with an edge far longer or shorter than usual."""
    if len(data.cases) < FEWEST_CASES:
        return
    shapes = np.array([case.shape for case in data.cases], np.float64)
    edges = np.log2(shapes)
    odd = {place for axis in edges.T for place in far_from_median(axis.tolist(), np.log2(SHAPE_FACTOR))}
    usual = numbers(np.median(shapes, axis=0).tolist())
    for place in sorted(odd):
        case = data.cases[place]
        reason = f"shape {' x '.join(map(str, case.shape))}, while the median is {usual}"
        yield Outlier(case_id=case.id, kind="shape", reason=reason)


def odd_channels(data: DataSet) -> Iterator[Outlier]:
    """Cases with another number of channels than most."""
    counts = Counter(len(case.channels) for case in data.cases if case.channels)
    if len(counts) < 2:
        return
    usual = usual_channels(counts)
    for case in data.cases:
        if case.channels and len(case.channels) != usual:
            most = f"{counts[usual]} of {counts.total()} cases have {usual}"
            reason = f"has {len(case.channels)} channels, while {most}"
            yield Outlier(case_id=case.id, kind="channels", reason=reason)


def usual_channels(counts: Counter[int]) -> int:
    """The number of channels that most cases have; of two as frequent ones the smaller."""
    return min(counts, key=lambda channels: (-counts[channels], channels))


def mirrored(data: DataSet) -> Iterator[Outlier]:
    """Cases whose affine mirrors the grid while those of the others do not, or the other way round."""
    known = [case for case in data.cases if case.affine_flips is not None]
    usual = majority([case.affine_flips for case in known])
    if usual is None:
        return
    others = Counter(case.orientation for case in known if case.affine_flips == usual).most_common(1)[0][0]
    for case in known:
        if case.affine_flips != usual:
            reason = (
                f"its axes are {_handed(not usual)} ({case.orientation}), while those of most cases are "
                f"{_handed(usual)} (mostly {others}): as arrays, left and right are swapped"
            )
            yield Outlier(case_id=case.id, kind="flip", reason=reason)


def odd_orientations(data: DataSet) -> Iterator[Outlier]:
    """Cases whose axes point elsewhere than those of most, without being mirror images."""
    known = [case for case in data.cases if case.orientation is not None]
    usual = majority([case.orientation for case in known])
    if usual is None:
        return
    handed = {case.affine_flips for case in known if case.orientation == usual}
    for case in known:
        if case.orientation != usual and case.affine_flips in handed:
            reason = f"axes point {case.orientation} (ZYX), while those of most cases point {usual}"
            yield Outlier(case_id=case.id, kind="orientation", reason=reason)


def _handed(flipped: bool | None) -> str:
    return "left-handed" if flipped else "right-handed"


def disagreeing_files(data: DataSet, kind: str) -> Iterator[Outlier]:
    """Cases whose label map or channels lie elsewhere than the image, by their headers."""
    for case in data.cases:
        for mismatch in case.mismatches:
            if mismatch.kind == kind:
                yield Outlier(case_id=case.id, kind=f"{kind}-mismatch", reason=mismatch.reason)
