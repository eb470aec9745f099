"""What all plans share about the data: target spacing, median shape, task, normalization, splits; ZYX."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from voxplan.plans.schema import CaseNumbers, ChannelNormalization, DatasetPlan, Task
from voxplan.plans.targets import FOREGROUND
from voxplan.profiling.fingerprint import CaseFingerprint, Fingerprint
from voxplan.profiling.formats.base import UNITS_IN_MM, Unit
from voxplan.profiling.summary import SPACING_MISSING

from .decisions import Decisions
from .overrides import DatasetOverrides
from .rules.normalization import UINT8_RANGE, choose_normalization
from .rules.spacing import median_shape_at_spacing, target_spacing, transpose_axes
from .rules.splits import choose_splits
from .rules.task import TaskChoice, choose_task

Triple = tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFacts:
    """What the plans need of the data beyond what stands in the file."""

    plan: DatasetPlan
    task: TaskChoice
    voxels: int
    """Of the training cases at the target spacing, by their median shape (nnU-Net's count)."""
    uncompressed_bytes: int
    """All images and labels in memory."""
    compressed_streams: bool
    flat: bool
    """One section: 2D data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Grid:
    """Spacing and shape of the training set."""

    spacing: Triple | None
    median: tuple[int, int, int]
    unit: Unit


def training_cases(fingerprint: Fingerprint) -> tuple[CaseFingerprint, ...]:
    """The cases that can be trained on: those with labels, or all where none has.

    Raises:
        ValueError: no case at all, or one of which only the header was read.
    """
    labelled = tuple(case for case in fingerprint.cases if case.label is not None)
    cases = labelled or fingerprint.cases
    if not cases:
        failed = f"; {len(fingerprint.failures)} failed" if fingerprint.failures else ""
        msg = f"fingerprint of {fingerprint.dataset.name!r} has no cases{failed}: nothing can be planned"
        raise ValueError(msg)
    if not fingerprint.summary.channels:
        msg = (
            f"fingerprint of {fingerprint.dataset.name!r} has no intensities, as --headers-only leaves it: "
            "nothing can be planned; profile the voxels too (the same command without --headers-only)"
        )
        raise ValueError(msg)
    return cases


def plan_dataset(
    fingerprint: Fingerprint,
    *,
    task: Task | None = None,
    spacing: Triple | None = None,
    unit: Unit | None = None,
    overrides: DatasetOverrides | None = None,
) -> DataFacts:
    """The shared part of the plans file.

    Args:
        fingerprint: of the data set.
        task: set by the user; wins over what the labels are.
        spacing: ZYX, set by the user; wins over what every file says.
        unit: of ``spacing``.
        overrides: of the data set.

    Raises:
        ValueError: no cases, or a task that cannot be.
    """
    settings = overrides or DatasetOverrides()
    cases = training_cases(fingerprint)
    decisions = Decisions()
    warnings = [
        remark
        for remark in fingerprint.summary.warnings
        if spacing is None or not remark.startswith(SPACING_MISSING)
    ]
    if len(cases) < len(fingerprint.cases):
        warnings.append(
            f"{len(fingerprint.cases) - len(cases)} cases have no labels: they are not trained on"
        )
    grid = _grid(fingerprint, cases, spacing, unit, settings, decisions, warnings)
    flat = grid.median[0] == 1
    labels = fingerprint.dataset.labels
    choice = choose_task(
        labels.kind,
        labels.classes,
        stated=settings.task or task,
        offset_count=settings.affinity_offsets,
        flat=flat,
        anisotropy=None if grid.spacing is None else grid.spacing[0] / min(grid.spacing[1:]),
    )
    if choice.object_ids and labels.ignore == FOREGROUND:
        msg = (
            f"--task semantic: every object id above 0 would be read as class {FOREGROUND}, which is the "
            "ignore label; give ignored voxels another value"
        )
        raise ValueError(msg)
    _decide_task(choice, settings, decisions)
    warnings += choice.warnings
    normalization = _normalization(fingerprint, cases, grid, settings, decisions)
    splits, decision = choose_splits({case.id: case.shape for case in cases})
    decisions.put("splits", decision)
    transpose = transpose_axes(grid.spacing)[0] if grid.spacing is not None else (0, 1, 2)
    decisions.add(
        "transpose", "rule", "the axis of coarsest spacing first, as nnU-Net trains; patches here stay ZYX"
    )
    voxels = prod(grid.median) * max(len(cases), fingerprint.dataset.declared_cases or 0)
    plan = DatasetPlan(
        name=fingerprint.dataset.name,
        task=choice.task,
        offsets=choice.offsets,
        channel_names=fingerprint.dataset.channel_names,
        classes=choice.classes,
        object_ids=choice.object_ids,
        ignore=labels.ignore,
        out_channels=choice.out_channels,
        target_spacing=grid.spacing,
        spacing_unit=grid.unit,
        median_shape=grid.median,
        training_voxels=voxels,
        transpose=(transpose[0], transpose[1], transpose[2]),
        normalization=normalization,
        case_numbers=_case_numbers(cases, normalization),
        splits=splits,
        decisions=decisions.as_dict(),
        warnings=tuple(dict.fromkeys(warnings)),
    )
    return DataFacts(
        plan=plan,
        task=choice,
        voxels=voxels,
        uncompressed_bytes=sum(_bytes(case) for case in cases),
        compressed_streams=any(case.compressed_stream for case in cases),
        flat=flat,
    )


def _bytes(case: CaseFingerprint) -> int:
    """Image and label of one case in memory, as stored."""
    widest = max(np.dtype(name).itemsize for name in case.dtype.split(","))  # one name a kind of file
    itemsize = widest * len(case.channels)
    if case.label_dtype is not None:
        itemsize += np.dtype(case.label_dtype).itemsize
    return prod(case.shape) * itemsize


def _spacings(
    cases: Sequence[CaseFingerprint], stated: Triple | None, unit: Unit
) -> list[tuple[CaseFingerprint, Triple]]:
    """Cases that know their spacing, in ``unit``."""
    if stated is not None:
        return [(case, stated) for case in cases]
    known = []
    for case in cases:
        values = case.spacing.values
        if values is not None:
            scale = UNITS_IN_MM.get(case.spacing.unit, 1.0) / UNITS_IN_MM.get(unit, 1.0)
            if case.spacing.unit == unit or case.spacing.unit == "unknown" or unit == "unknown":
                scale = 1.0
            z, y, x = (value * scale for value in values)
            known.append((case, (z, y, x)))
    return known


def _rounded(values: Sequence[float]) -> tuple[int, int, int]:
    z, y, x = (max(1, round(value)) for value in values)
    return z, y, x


def _grid(
    fingerprint: Fingerprint,
    cases: Sequence[CaseFingerprint],
    stated: Triple | None,
    stated_unit: Unit | None,
    settings: DatasetOverrides,
    decisions: Decisions,
    warnings: list[str],
) -> _Grid:
    unit: Unit = fingerprint.summary.spacing_unit if stated is None else stated_unit or "unknown"
    known = _spacings(cases, stated, unit)
    shapes = [case.shape_after_crop for case in cases]
    if not known and settings.target_spacing is None:
        warnings.append(
            "NO SPACING: no case knows its voxel size, so the plans are made in voxels, as if isotropic; "
            "state it with --spacing Z Y X --unit UNIT"
        )
        decisions.add(
            "target_spacing", "data", "no case knows its spacing: planned in voxels, nothing is resampled"
        )
        decisions.add("median_shape", "data", "median of the cases' shapes after cropping, in voxels")
        return _Grid(spacing=None, median=_rounded(np.median(np.asarray(shapes), 0).tolist()), unit="unknown")
    if not known:
        msg = "target_spacing is set, but no case knows its own: state that with --spacing Z Y X --unit UNIT"
        raise ValueError(msg)
    if len(known) < len(cases):
        count = len(cases) - len(known)
        warnings.append(
            f"{count} cases know no spacing: they are planned as if at the target spacing; to train, "
            "state it (--spacing) or leave them out (--exclude)"
        )
    table = [values for _, values in known]
    if settings.target_spacing is not None:
        chosen = settings.target_spacing
        decisions.user("target_spacing", chosen)
    else:
        chosen = target_spacing(table, [case.shape_after_crop for case, _ in known])
        by_median = tuple(float(value) for value in np.median(np.asarray(table), 0))
        why = "median of the cases' spacings on each axis (nnU-Net's rule)"
        if chosen != by_median:
            why += "; the thick axis takes its 10th percentile instead"
        if stated is not None:
            why = "the spacing that the user states for every case"
        decisions.add("target_spacing", "user" if stated is not None else "rule", why)
    if unit == "unknown":
        warnings.append("the spacing has no unit: ratios between axes are used, physical sizes are not known")
    z, y, x = chosen
    spacing = {case.id: values for case, values in known}
    median = median_shape_at_spacing(shapes, [spacing.get(case.id, (z, y, x)) for case in cases], (z, y, x))
    decisions.add("median_shape", "data", "median of the cases' shapes after cropping, at the target spacing")
    return _Grid(spacing=(z, y, x), median=_rounded(median), unit=unit)


def _decide_task(choice: TaskChoice, settings: DatasetOverrides, decisions: Decisions) -> None:
    decisions.put("task", choice.decision)
    if choice.task == "affinity":
        if settings.affinity_offsets is not None:
            decisions.user("offsets", settings.affinity_offsets)
        decisions.add(
            "offsets", "rule", "nearest neighbours; set affinity_offsets=12 for long-range ones too"
        )
        decisions.add("out_channels", "rule", f"one channel an offset: {choice.out_channels}")
    elif choice.task == "boundary":
        decisions.add("out_channels", "rule", "one channel: boundary or not")
    elif choice.regions:
        decisions.add("out_channels", "data", f"{choice.out_channels} overlapping regions, one channel each")
    else:
        decisions.add("out_channels", "data", f"{choice.out_channels} classes, background included")


def _normalization(
    fingerprint: Fingerprint,
    cases: Sequence[CaseFingerprint],
    grid: _Grid,
    settings: DatasetOverrides,
    decisions: Decisions,
) -> tuple[ChannelNormalization, ...]:
    in_mm = UNITS_IN_MM.get(grid.unit)
    finest = None if grid.spacing is None or in_mm is None else min(grid.spacing) * in_mm
    chosen, reasons = [], []
    for name, channel in zip(fingerprint.dataset.channel_names, fingerprint.summary.channels, strict=True):
        rule_name = {"ct": "CT", "zscore": "zscore", "none": "noNorm", "scale": "rescale_to_0_1"}
        asked = settings.normalization
        normalization, decision = choose_normalization(
            rule_name[asked] if asked is not None else name,
            dtypes=sorted({case.dtype for case in cases}),
            statistics=channel.case_weighted,
            relative_size=fingerprint.summary.median_relative_size_after_cropping,
            finest_spacing_mm=finest,
        )
        if asked == "scale" and {case.dtype for case in cases} == {"uint8"}:
            low, high = UINT8_RANGE
            normalization = ChannelNormalization(channel=name, scheme="scale", low=low, high=high)
        chosen.append(normalization.model_copy(update={"channel": name}))
        reasons.append(f"{name}: {decision.why}")
    if settings.normalization is not None:
        decisions.user("normalization", settings.normalization)
    decisions.add("normalization", "rule", "; ".join(reasons))
    return tuple(chosen)


def _case_numbers(
    cases: Sequence[CaseFingerprint], normalization: Sequence[ChannelNormalization]
) -> dict[str, CaseNumbers]:
    """Mean and std of each case and channel, where some channel is z-scored case by case."""
    if not any(channel.scheme == "zscore" for channel in normalization):
        return {}
    numbers = {}
    for case in cases:
        means, stds = [], []
        for channel, scheme in zip(case.channels, normalization, strict=True):
            statistics = (channel.nonzero if scheme.masked else channel.crop) or channel.crop
            means.append(0.0 if statistics is None else statistics.mean)
            stds.append(1.0 if statistics is None else statistics.std)
        numbers[case.id] = CaseNumbers(mean=tuple(means), std=tuple(stds))
    return numbers
