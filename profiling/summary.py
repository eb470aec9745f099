"""The data set in numbers, from the numbers of its cases; independent of their order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median as middle

import numpy as np
from numpy.typing import NDArray

from .fingerprint import (
    AxisSummary,
    CaseFingerprint,
    ChannelSummary,
    SpacingCluster,
    SpacingRecord,
    Summary,
    Triple,
)
from .formats.base import Unit
from .shown_spacing import converted
from .statistics import Distribution, combined

CLUSTER_TOLERANCE = 0.05
"""Spacings that agree to within this share on every axis belong together."""

SPACING_MISSING = "spacing missing in"
"""Beginning of the remark that a spacing stated later makes untrue."""


def summarize(
    cases: Sequence[CaseFingerprint],
    distributions: Mapping[str, Sequence[Iterable[Distribution | None]]],
    *,
    failures: int,
    class_frequencies: dict[str, float] | None,
    warnings: Iterable[str] = (),
) -> Summary:
    """The summary of at least one case.

    Args:
        cases: sorted by id.
        distributions: for the regions ``foreground`` and ``nonzero``, for every channel, the cases'
        distributions. failures: cases that could not be profiled. class_frequencies: see
        :func:`class_frequencies`. warnings: what layout, labels and outliers have to say, before the
        summary's own.
    """
    unit = reference_unit(cases)
    spacings, remarks = spacings_in(unit, cases)
    known = np.array([spacing for spacing in spacings if spacing is not None], dtype=np.float64).reshape(
        -1, 3
    )
    axis_spacing = axis_summary(known) if len(known) else None
    cropped = [_voxels(case.shape_after_crop) / _voxels(case.shape) for case in cases]
    return Summary(
        cases=len(cases),
        failures=failures,
        voxels=sum(_voxels(case.shape) for case in cases),
        stored_bytes=sum(case.stored_bytes for case in cases),
        shape=axis_summary(np.array([case.shape for case in cases], dtype=np.float64)),
        shape_after_crop=axis_summary(np.array([case.shape_after_crop for case in cases], dtype=np.float64)),
        spacing=axis_spacing,
        spacing_unit=unit,
        spacing_missing=len(cases) - len(known),
        spacing_clusters=spacing_clusters(known),
        anisotropy=max(axis_spacing.median) / min(axis_spacing.median) if axis_spacing else None,
        median_relative_size_after_cropping=middle(cropped),
        channels=channel_summaries(distributions),
        class_frequencies=class_frequencies,
        warnings=(*warnings, *remarks),
    )


def reference_unit(cases: Sequence[CaseFingerprint]) -> Unit:
    """The unit of the first case that states one; ``unknown`` if none does."""
    for case in cases:
        if case.spacing.values is not None and case.spacing.unit != "unknown":
            return case.spacing.unit
    return "unknown"


def in_unit(spacing: SpacingRecord, unit: Unit) -> Triple | None:
    """Spacing in ``unit``; a number without unit is taken to be in it. None where it is missing."""
    if spacing.values is None or spacing.unit == unit or "unknown" in (spacing.unit, unit):
        return spacing.values
    z, y, x = converted(spacing.values, spacing.unit, unit)
    return z, y, x


def spacings_in(unit: Unit, cases: Sequence[CaseFingerprint]) -> tuple[list[Triple | None], list[str]]:
    """Every case's spacing in one unit, and what is to be said about it."""
    remarks: list[str] = []
    stated = [case for case in cases if case.spacing.values is not None]
    missing = [case.id for case in cases if case.spacing.values is None]
    converted = [case.id for case in stated if case.spacing.unit not in (unit, "unknown")]
    bare = [case.id for case in stated if case.spacing.unit == "unknown"]
    if converted:
        remarks.append(f"units differ: {named(converted)} converted to {unit}, the unit of the first case")
    if bare and unit != "unknown":
        remarks.append(
            f"spacing without unit in {named(bare)}: taken to be in {unit}; --unit says so for good"
        )
    if missing:
        remarks.append(
            f"{SPACING_MISSING} {named(missing)}: plans will be made in voxels unless "
            "--spacing Z Y X --unit UNIT says it"
        )
    return [in_unit(case.spacing, unit) for case in cases], remarks


def named(ids: Sequence[str], shown: int = 3) -> str:
    """``3 cases (a, b, c)``; a few ids stand for many."""
    few = ", ".join(ids[:shown])
    more = f" and {len(ids) - shown} more" if len(ids) > shown else ""
    return f"{len(ids)} case{'s' if len(ids) != 1 else ''} ({few}{more})"


def axis_summary(rows: NDArray[np.float64]) -> AxisSummary:
    """Per-axis numbers of (cases, 3)."""
    quantiles = np.percentile(rows, (10, 90), axis=0, method="inverted_cdf")
    return AxisSummary(
        median=_triple(np.median(rows, axis=0)),
        min=_triple(rows.min(axis=0)),
        max=_triple(rows.max(axis=0)),
        percentile_10=_triple(quantiles[0]),
        percentile_90=_triple(quantiles[1]),
    )


def spacing_clusters(spacings: NDArray[np.float64]) -> tuple[SpacingCluster, ...]:
    """Groups of (cases, 3) spacings, the largest first; the spacing of a group is its median.

    Spacings are taken in ascending order, and each group is what lies within the tolerance of its first
    member, so that the order of cases does not matter.
    """
    rest = spacings[np.lexsort(spacings.T[::-1])]
    clusters: list[SpacingCluster] = []
    while len(rest):
        near = agree(rest, rest[0])
        clusters.append(SpacingCluster(spacing=_triple(np.median(rest[near], axis=0)), cases=int(near.sum())))
        rest = rest[~near]
    return tuple(sorted(clusters, key=lambda cluster: (-cluster.cases, cluster.spacing)))


def agree(spacings: NDArray[np.float64], one: NDArray[np.float64] | Triple) -> NDArray[np.bool_]:
    """Which of (cases, 3) spacings agree with ``one`` on every axis."""
    other = np.asarray(one)
    within = np.abs(spacings - other) <= CLUSTER_TOLERANCE * np.minimum(spacings, other)
    return np.asarray(within.all(axis=1))


def channel_summaries(
    distributions: Mapping[str, Sequence[Iterable[Distribution | None]]],
) -> tuple[ChannelSummary, ...]:
    """Every channel over its foreground or, where no case has any, over its non-zero voxels."""
    summaries = []
    for foreground, nonzero in zip(distributions["foreground"], distributions["nonzero"], strict=True):
        weighted, together = combined(foreground)
        if weighted is not None:
            summary = ChannelSummary(region="foreground", case_weighted=weighted, pooled=together)
        else:
            weighted, together = combined(nonzero)
            summary = ChannelSummary(region="nonzero", case_weighted=weighted, pooled=together)
        summaries.append(summary)
    return tuple(summaries)


def class_frequencies(
    cases: Sequence[CaseFingerprint], classes: Mapping[str, tuple[int, ...]]
) -> dict[str, float] | None:
    """Share of all voxels of the labelled cases that each class has; None without such cases."""
    labelled = [case for case in cases if case.class_voxels is not None]
    total = sum(_voxels(case.shape) for case in labelled)
    if not total:
        return None
    frequencies = {}
    for name, values in classes.items():
        count = sum((case.class_voxels or {}).get(str(value), 0) for case in labelled for value in values)
        frequencies[name] = count / total
    return frequencies


def _voxels(shape: Sequence[int]) -> int:
    """Number of voxels as an unbounded int."""
    z, y, x = shape
    return z * y * x


def _triple(values: NDArray[np.float64]) -> Triple:
    z, y, x = values.tolist()
    return z, y, x
