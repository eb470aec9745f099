"""From nnU-Net's fingerprint to voxplan's, and back.

nnU-Net's file is the poorer one: it has no case ids, units, class sizes, uncropped shapes, dtypes or deciles.
Going from it to a voxplan fingerprint, what it does not say stays unknown, with a warning.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydantic import ValidationError

from voxplan.profiling.fingerprint import (
    AxisSummary,
    CaseFingerprint,
    ChannelStatistics,
    ChannelSummary,
    DatasetInfo,
    Fingerprint,
    IntensityStatistics,
    Labels,
    Provenance,
    SpacingRecord,
    Summary,
    Triple,
)
from voxplan.profiling.fingerprint_checks import first_contradiction
from voxplan.profiling.formats.base import UNITS_IN_MM, Unit

from .dataset_plan import training_cases
from .nnunet_fingerprint import ChannelIntensities, NnunetDataset, NnunetFingerprint
from .rules.task import UNLABELLED_CLASSES

SAMPLED_VOXELS = 10**8
"""Foreground voxels that nnU-Net draws over all cases (``num_foreground_voxels_for_intensitystats``)."""
READ_AS = "float32"
"""What nnU-Net reads every image as; its file does not say what is stored."""
SOURCE = "nnunet-fingerprint"
"""Layout and spacing source of a fingerprint that came from nnU-Net's file."""
WARNING = (
    "made from nnU-Net's dataset_fingerprint.json, which has no case ids, units, class sizes or dtypes: what "
    "depends on them (splits, loss weights, caching) is planned as unknown"
)


def from_fingerprint(fingerprint: Fingerprint) -> tuple[NnunetFingerprint, NnunetDataset]:
    """What nnU-Net's two files would say about a profiled data set.

    Raises:
        ValueError: something that nnU-Net needs is missing (cases, spacing, foreground).
    """
    cases = training_cases(fingerprint)
    spacings = [_known_spacing(case, fingerprint.summary.spacing_unit) for case in cases]
    intensities = {
        str(index): _nnunet_intensities(channel.case_weighted, fingerprint.dataset.channel_names[index])
        for index, channel in enumerate(fingerprint.summary.channels)
    }
    numbers = NnunetFingerprint(
        foreground_intensity_properties_per_channel=intensities,
        median_relative_size_after_cropping=fingerprint.summary.median_relative_size_after_cropping,
        shapes_after_crop=tuple(case.shape_after_crop for case in cases),
        spacings=tuple(spacings),
    )
    dataset = NnunetDataset(
        channel_names={str(i): name for i, name in enumerate(fingerprint.dataset.channel_names)},
        labels=nnunet_labels(fingerprint.dataset.labels),
        numTraining=fingerprint.dataset.declared_cases or len(cases),
        file_ending=file_ending(cases[0].images[0])
        if cases[0].images
        else f".{fingerprint.dataset.file_format}",
    )
    return numbers, dataset


def nnunet_labels(labels: Labels) -> dict[str, int | list[int]]:
    """``labels`` of a dataset.json: ``background``, one value a class, a list for a region, ``ignore`` last.

    Object ids, and data without labels, count as background and one class: so nnU-Net would be planned for a
    binary segmentation.
    """
    if labels.kind != "semantic" or not labels.classes:
        return {name: values[0] for name, values in UNLABELLED_CLASSES.items()}
    table: dict[str, int | list[int]] = {"background": 0}
    for name, values in labels.classes.items():
        if values != (0,):
            table[name] = values[0] if len(values) == 1 else list(values)
    if labels.ignore is not None:
        table["ignore"] = labels.ignore
    return table


def file_ending(path: str) -> str:
    """Ending of a volume's file, a container's ``:key`` left out: ``.nii.gz``, ``.h5``."""
    from voxplan.profiling.formats import strip_suffix

    file = Path(path.rsplit(":", 1)[0] if ":" in Path(path).name else path)
    return file.name[len(strip_suffix(file)) :]


def _known_spacing(case: CaseFingerprint, unit: Unit) -> Triple:
    """In ``unit``; numbers that need no conversion stay as they are."""
    if case.spacing.values is None:
        msg = f"case {case.id}: the spacing is missing, and nnU-Net plans by it: profile with --spacing Z Y X"
        raise ValueError(msg)
    if case.spacing.unit == unit or "unknown" in (case.spacing.unit, unit):
        return case.spacing.values
    scale = UNITS_IN_MM[case.spacing.unit] / UNITS_IN_MM[unit]
    z, y, x = (value * scale for value in case.spacing.values)
    return z, y, x


def _nnunet_intensities(statistics: IntensityStatistics | None, channel: str) -> ChannelIntensities:
    if statistics is None:
        msg = f"channel {channel}: no case has foreground, and nnU-Net takes its intensities from there"
        raise ValueError(msg)
    return ChannelIntensities(
        max=statistics.max,
        mean=statistics.mean,
        median=statistics.median,
        min=statistics.min,
        percentile_00_5=statistics.percentile_00_5,
        percentile_99_5=statistics.percentile_99_5,
        std=statistics.std,
    )


def to_fingerprint(numbers: NnunetFingerprint, dataset: NnunetDataset, name: str) -> Fingerprint:
    """A voxplan fingerprint that says what nnU-Net's files say, and marks the rest as unknown.

    Case ids are made up (``case_0000``), shapes are those after cropping, the unit is unknown.

    Raises:
        ValueError: the files contradict themselves or each other.
    """
    try:
        fingerprint = _fingerprint(numbers, dataset, name)
    except ValidationError as error:
        first = error.errors()[0]
        problem: str | None = f"{first['loc'][-1]}: {first['msg'].lower()}"
    else:
        problem = first_contradiction(fingerprint)
        if problem is None:
            return fingerprint
    msg = f"nnU-Net's fingerprint of {name!r} and its dataset.json contradict themselves: {problem}"
    raise ValueError(msg)


def _fingerprint(numbers: NnunetFingerprint, dataset: NnunetDataset, name: str) -> Fingerprint:
    spacings = np.asarray(numbers.spacings, dtype=np.float64)
    shapes = np.asarray(numbers.shapes_after_crop, dtype=np.float64)
    median_spacing = np.median(spacings, 0)
    return Fingerprint(
        dataset=DatasetInfo(
            name=name,
            root="",
            layout=SOURCE,
            file_format=dataset.file_ending.removeprefix("."),
            channel_names=tuple(dataset.channel_names.values()),
            labels=_labels(dataset),
            declared_cases=dataset.numTraining,
        ),
        summary=Summary(
            cases=len(spacings),
            failures=0,
            voxels=int(shapes.prod(axis=1).sum()),
            stored_bytes=0,
            shape=_axes(shapes),
            shape_after_crop=_axes(shapes),
            spacing=_axes(spacings),
            spacing_unit="unknown",
            spacing_missing=0,
            spacing_clusters=(),
            anisotropy=float(median_spacing.max() / median_spacing.min()),
            median_relative_size_after_cropping=numbers.median_relative_size_after_cropping,
            channels=tuple(
                ChannelSummary(
                    region="foreground", case_weighted=_statistics(channel, len(spacings)), pooled=None
                )
                for channel in numbers.foreground_intensity_properties_per_channel.values()
            ),
            class_frequencies=None,
            warnings=(WARNING,),
        ),
        cases=tuple(_case(numbers, index) for index in range(len(spacings))),
        failures=(),
        provenance=Provenance(program=SOURCE, version="", created="", options={}, seconds=0.0),
    )


def _labels(dataset: NnunetDataset) -> Labels:
    """The ignore label apart, as in nnU-Net."""
    classes = {
        name: (value,) if isinstance(value, int) else tuple(value)
        for name, value in dataset.labels.items()
        if name != "ignore"
    }
    ignore = dataset.labels.get("ignore")
    return Labels(
        kind="semantic",
        proposed=False,
        reason="dataset.json says so",
        classes=classes,
        ignore=ignore if isinstance(ignore, int) else None,
    )


def _case(numbers: NnunetFingerprint, index: int) -> CaseFingerprint:
    z, y, x = numbers.shapes_after_crop[index]
    channels = len(numbers.foreground_intensity_properties_per_channel)
    return CaseFingerprint(
        id=f"case_{index:04d}",
        images=(),
        label=None,
        shape=(z, y, x),
        spacing=SpacingRecord(values=numbers.spacings[index], unit="unknown", source=SOURCE),
        orientation=None,
        dtype=READ_AS,
        label_dtype=None,
        channels=(ChannelStatistics(foreground=None, crop=None, nonzero=None),) * channels,
        crop_box=((0, z), (0, y), (0, x)),
        shape_after_crop=(z, y, x),
        foreground_voxels=None,
        class_voxels=None,
        objects=None,
        stored_bytes=0,
        compressed_stream=False,
        content_key="",
        warnings=(),
    )


def _statistics(channel: ChannelIntensities, cases: int) -> IntensityStatistics:
    """nnU-Net's numbers; the deciles, which it does not keep, as the middle of their range, with a bound."""
    low = (channel.percentile_00_5 + channel.median) / 2
    high = (channel.median + channel.percentile_99_5) / 2
    return IntensityStatistics(
        count=SAMPLED_VOXELS // cases * cases,
        mean=channel.mean,
        std=channel.std,
        min=channel.min,
        max=channel.max,
        percentile_00_5=channel.percentile_00_5,
        percentile_10=low,
        median=channel.median,
        percentile_90=high,
        percentile_99_5=channel.percentile_99_5,
        quantile_error=max(channel.median - low, channel.percentile_99_5 - high),
    )


def _axes(table: np.ndarray) -> AxisSummary:
    def quantile(percent: float) -> Triple:
        z, y, x = np.percentile(table, percent, axis=0, method="inverted_cdf")
        return float(z), float(y), float(x)

    z, y, x = np.median(table, axis=0)
    return AxisSummary(
        median=(float(z), float(y), float(x)),
        min=quantile(0),
        max=quantile(100),
        percentile_10=quantile(10),
        percentile_90=quantile(90),
    )
