"""What the numbers of a fingerprint say about each other: a file that others made may say anything.

The model (:mod:`.fingerprint`) knows types alone. Plans from a spacing of -1, a shape of 0 or percentiles
that descend would be plans all the same, and nothing would show where their numbers come from.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

from .formats.spacing import is_length

if TYPE_CHECKING:
    from .fingerprint import AxisSummary, CaseFingerprint, Fingerprint, IntensityStatistics, Labels

TYPES = frozenset(
    [
        "bool",
        "int8",
        "int16",
        "int32",
        "int64",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "float16",
        "float32",
        "float64",
    ]
)
"""What voxels are read as, by numpy's names."""
LARGEST_VALUE = 1 << 64
"""Label values lie below: no type of voxels holds more."""


def first_contradiction(fingerprint: Fingerprint) -> str | None:
    """Where and how a fingerprint contradicts itself, as ``cases.3.shape: ...``; None where it does not."""
    return next(_contradictions(fingerprint), None)


def _contradictions(fingerprint: Fingerprint) -> Iterator[str]:
    summary, cases = fingerprint.summary, fingerprint.cases
    if not cases:
        yield "cases: there are none"
    for what, stated, found in (
        ("cases", summary.cases, len(cases)),
        ("failures", summary.failures, len(fingerprint.failures)),
        ("channels", len(summary.channels), len(fingerprint.dataset.channel_names)),
    ):
        if stated != found and (what != "channels" or stated):  # there are none where only headers were read
            yield f"summary.{what}: says {stated}, and there are {found}"
    if len({case.id for case in cases}) != len(cases):
        yield "cases: two have the same id"
    for number, case in enumerate(cases):
        for problem in _of_case(case):
            yield f"cases.{number}.{problem}"
    for problem in _of_axes(summary.shape, "shape", 1.0):
        yield f"summary.{problem}"
    for problem in _of_axes(summary.shape_after_crop, "shape_after_crop", 1.0):
        yield f"summary.{problem}"
    if summary.spacing is not None:
        for problem in _of_axes(summary.spacing, "spacing", 0.0):
            yield f"summary.{problem}"
    if summary.anisotropy is not None and summary.anisotropy < 1:
        yield f"summary.anisotropy: {summary.anisotropy} is below 1"
    if not 0 < summary.median_relative_size_after_cropping <= 1:
        yield "summary.median_relative_size_after_cropping: is no share of 1"
    if min(summary.voxels, summary.stored_bytes) < 0:
        yield "summary: voxels and stored_bytes are not negative"
    for number, channel in enumerate(summary.channels):
        for name in ("case_weighted", "pooled"):
            for problem in _of_statistics(getattr(channel, name)):
                yield f"summary.channels.{number}.{name}: {problem}"
    if any(not 0 <= share <= 1 for share in (summary.class_frequencies or {}).values()):
        yield "summary.class_frequencies: are no shares of 1"
    for problem in _of_labels(fingerprint.dataset.labels):
        yield f"dataset.labels.{problem}"


def _of_case(case: CaseFingerprint) -> Iterator[str]:
    if min(case.shape) < 1:
        yield f"shape: {list(case.shape)} holds no voxels"
    edges = [stop - start for start, stop in case.crop_box]
    inside = all(0 <= start < stop <= n for (start, stop), n in zip(case.crop_box, case.shape, strict=True))
    if not inside or tuple(edges) != case.shape_after_crop:
        yield f"crop_box: {case.crop_box} is no box of {list(case.shape_after_crop)} voxels in the volume"
    types = [*case.dtype.split(","), *([] if case.label_dtype is None else [case.label_dtype])]
    if unknown := [name for name in types if name not in TYPES]:
        yield f"dtype, label_dtype: {unknown[0]!r:.40} is no type of voxels"
    spacing = case.spacing.values
    if spacing is not None and not all(map(is_length, spacing)):
        yield f"spacing: {list(spacing)} are no lengths"
    if min(case.stored_bytes, case.foreground_voxels or 0, *(case.class_voxels or {"": 0}).values()) < 0:
        yield "stored_bytes, foreground_voxels, class_voxels: are not negative"
    for number, channel in enumerate(case.channels):
        for name in ("foreground", "crop", "nonzero"):
            for problem in _of_statistics(getattr(channel, name)):
                yield f"channels.{number}.{name}: {problem}"


def _of_axes(axes: AxisSummary, name: str, least: float) -> Iterator[str]:
    for numbers in zip(axes.min, axes.percentile_10, axes.percentile_90, axes.max, strict=True):
        if numbers[0] < least or numbers[0] <= 0 or any(a > b for a, b in pairwise(numbers)):
            yield f"{name}: {list(numbers)} is no range of an axis"
    for low, middle, high in zip(axes.min, axes.median, axes.max, strict=True):
        if not low <= middle <= high:
            yield f"{name}.median: {middle} lies outside of {low} to {high}"


def _of_statistics(numbers: IntensityStatistics | None) -> Iterator[str]:
    if numbers is None:
        return
    ascending = (
        numbers.percentile_00_5,
        numbers.percentile_10,
        numbers.median,
        numbers.percentile_90,
        numbers.percentile_99_5,
    )
    if numbers.count < 1:
        yield f"count {numbers.count} is below 1"
    if numbers.std < 0 or numbers.quantile_error < 0:
        yield "std and quantile_error are not negative"
    if numbers.min > numbers.max or any(a > b for a, b in pairwise(ascending)):
        yield "minimum, percentiles and maximum do not ascend"


def _of_labels(labels: Labels) -> Iterator[str]:
    for name, values in labels.classes.items():
        if not values or any(not -LARGEST_VALUE < value < LARGEST_VALUE for value in values):
            yield f"classes: {name!r} has no values, or some of no type of voxels"
