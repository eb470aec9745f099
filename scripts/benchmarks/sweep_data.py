"""Thirty data sets as their fingerprints would describe them: the variety that the planner is swept over.

Shapes and spacings follow public data sets where one is named; the numbers of the intensities do not matter
to memory and are the same for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from voxplan.profiling.fingerprint import (
    AxisSummary,
    CaseFingerprint,
    ChannelStatistics,
    ChannelSummary,
    DatasetInfo,
    Fingerprint,
    IntensityStatistics,
    LabelKind,
    Labels,
    ObjectStatistics,
    Provenance,
    SpacingRecord,
    Summary,
)
from voxplan.profiling.formats.base import Unit

Triple = tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class SweptData:
    """One data set: ``cases`` volumes of about one shape."""

    name: str
    shape: tuple[int, int, int]
    """ZYX."""
    spacing: Triple | None
    cases: int
    unit: Unit = "mm"
    channels: tuple[str, ...] = ("CT",)
    labels: LabelKind = "semantic"
    classes: int = 2
    """Background included."""
    dtype: str = "int16"
    spread: float = 0.0
    """Relative half-width of the shapes around the median."""

    def fingerprint(self) -> Fingerprint:
        """As ``profile-dataset`` would write it."""
        factors = np.linspace(1 - self.spread, 1 + self.spread, self.cases) if self.cases > 1 else [1.0]
        shapes = [tuple(max(1, round(edge * factor)) for edge in self.shape) for factor in factors]
        return _fingerprint(self, shapes)


def _em(name: str, shape: tuple[int, int, int], spacing: Triple | None, **options: Any) -> SweptData:
    defaults: dict[str, Any] = {"unit": "nm", "channels": ("em",), "dtype": "uint8", "cases": 1}
    return SweptData(name=name, shape=shape, spacing=spacing, **(defaults | options))


SWEPT: tuple[SweptData, ...] = (
    SweptData(
        name="hippocampus", shape=(36, 50, 35), spacing=(1, 1, 1), cases=260, channels=("MRI",), classes=3
    ),
    SweptData(name="heart", shape=(115, 320, 232), spacing=(1.37, 1.25, 1.25), cases=20, channels=("MRI",)),
    SweptData(
        name="prostate",
        shape=(20, 320, 319),
        spacing=(3.6, 0.62, 0.62),
        cases=32,
        channels=("T2", "ADC"),
        classes=3,
    ),
    SweptData(
        name="brain_tumour",
        shape=(138, 170, 138),
        spacing=(1, 1, 1),
        cases=484,
        channels=("FLAIR", "T1w", "T1gd", "T2w"),
        classes=4,
    ),
    SweptData(
        name="liver", shape=(482, 512, 512), spacing=(1.0, 0.77, 0.77), cases=131, classes=3, spread=0.2
    ),
    SweptData(name="lung", shape=(252, 512, 512), spacing=(1.24, 0.79, 0.79), cases=63),
    SweptData(name="pancreas", shape=(93, 512, 512), spacing=(2.5, 0.8, 0.8), cases=281, classes=3),
    SweptData(name="hepatic_vessel", shape=(49, 512, 512), spacing=(5.0, 0.8, 0.8), cases=303, classes=3),
    SweptData(name="spleen", shape=(90, 512, 512), spacing=(5.0, 0.79, 0.79), cases=41),
    SweptData(name="colon", shape=(95, 512, 512), spacing=(5.0, 0.78, 0.78), cases=126),
    SweptData(
        name="acdc", shape=(9, 237, 208), spacing=(10.0, 1.56, 1.56), cases=200, channels=("MRI",), classes=4
    ),
    SweptData(name="kits", shape=(528, 512, 512), spacing=(0.78, 0.78, 0.78), cases=300, classes=4),
    SweptData(
        name="amos", shape=(238, 582, 582), spacing=(2.0, 0.71, 0.71), cases=240, classes=16, spread=0.3
    ),
    SweptData(name="whole_body_105", shape=(237, 229, 229), spacing=(1.5, 1.5, 1.5), cases=1139, classes=105),
    SweptData(name="coarse_x", shape=(256, 256, 40), spacing=(1.0, 1.0, 6.0), cases=12, channels=("MRI",)),
    SweptData(name="micro_ct", shape=(1024, 1024, 1024), spacing=(0.02, 0.02, 0.02), cases=4, dtype="uint16"),
    SweptData(name="tiny", shape=(3, 30, 41), spacing=(1, 1, 1), cases=5),
    SweptData(name="thin", shape=(5, 512, 512), spacing=(8.0, 0.5, 0.5), cases=30),
    SweptData(name="one_case_no_labels", shape=(160, 160, 160), spacing=(1, 1, 1), cases=1, labels="none"),
    SweptData(
        name="light_sheet",
        shape=(300, 2048, 2048),
        spacing=(5.0, 1.6, 1.6),
        cases=3,
        unit="um",
        channels=("nuclei", "membrane"),
        dtype="uint16",
    ),
    SweptData(
        name="nuclei_instances",
        shape=(40, 512, 512),
        spacing=(1.0, 0.25, 0.25),
        cases=27,
        unit="um",
        channels=("dapi",),
        labels="instance",
        dtype="uint16",
    ),
    SweptData(
        name="histology_2d",
        shape=(1, 1024, 1024),
        spacing=(1, 0.5, 0.5),
        cases=200,
        unit="um",
        channels=("R", "G", "B"),
        classes=6,
        dtype="uint8",
    ),
    SweptData(name="thumbnails_2d", shape=(1, 28, 40), spacing=(1, 1, 1), cases=5000, dtype="uint8"),
    SweptData(
        name="huge_planes_2d",
        shape=(1, 8000, 6000),
        spacing=(1, 0.2, 0.2),
        cases=12,
        unit="um",
        dtype="uint8",
    ),
    _em("lucchi", (165, 768, 1024), (5.0, 5.0, 5.0)),
    _em("snemi3d", (100, 1024, 1024), (30.0, 6.0, 6.0), labels="instance"),
    _em("mitoem", (400, 4096, 4096), (30.0, 8.0, 8.0), labels="instance"),
    _em("cremi", (125, 1250, 1250), (40.0, 4.0, 4.0), labels="instance", cases=3),
    _em("fib_sem", (3000, 5000, 4000), (8.0, 8.0, 8.0), labels="instance"),
    _em("em_without_spacing", (20, 1024, 1024), None, classes=3),
)


def _statistics() -> IntensityStatistics:
    return IntensityStatistics(
        count=1000,
        mean=100.0,
        std=25.0,
        min=0.0,
        max=255.0,
        percentile_00_5=5.0,
        percentile_10=20.0,
        median=100.0,
        percentile_90=180.0,
        percentile_99_5=250.0,
    )


def _axes(rows: Sequence[Triple]) -> AxisSummary:
    table = np.asarray(rows, dtype=float)

    def at(percent: float) -> Triple:
        z, y, x = (float(value) for value in np.percentile(table, percent, axis=0, method="inverted_cdf"))
        return z, y, x

    return AxisSummary(median=at(50), min=at(0), max=at(100), percentile_10=at(10), percentile_90=at(90))


def _case(data: SweptData, index: int, shape: Any) -> CaseFingerprint:
    objects = ObjectStatistics(
        count=500,
        size_min=10,
        size_median=500,
        size_max=9000,
        size_percentile_10=50,
        size_percentile_90=5000,
        largest_id=600,
    )
    label = None if data.labels == "none" else f"labels/case_{index:04d}.nii.gz"
    return CaseFingerprint(
        id=f"case_{index:04d}",
        images=tuple(
            f"images/case_{index:04d}_{channel:04d}.nii.gz" for channel in range(len(data.channels))
        ),
        label=label,
        shape=shape,
        spacing=SpacingRecord(
            values=data.spacing,
            unit="unknown" if data.spacing is None else data.unit,
            source="missing" if data.spacing is None else "header",
        ),
        orientation=None,
        dtype=data.dtype,
        label_dtype=None if label is None else "uint16",
        channels=tuple(
            ChannelStatistics(foreground=_statistics(), crop=_statistics(), nonzero=_statistics())
            for _ in data.channels
        ),
        crop_box=tuple((0, edge) for edge in shape),  # type: ignore[arg-type]
        shape_after_crop=shape,
        foreground_voxels=None if label is None else 1000,
        class_voxels=None,
        objects=objects if data.labels == "instance" else None,
        stored_bytes=int(np.prod(shape)),
        compressed_stream=data.unit == "mm",
        content_key="",
        warnings=(),
    )


def _fingerprint(data: SweptData, shapes: Sequence[Any]) -> Fingerprint:
    cases = tuple(_case(data, index, shape) for index, shape in enumerate(shapes))
    classes: dict[str, tuple[int, ...]] = {"background": (0,)}
    classes |= {f"class_{value}": (value,) for value in range(1, data.classes)}
    sizes = _axes([(float(z), float(y), float(x)) for z, y, x in shapes])
    summary = Summary(
        cases=len(cases),
        failures=0,
        voxels=sum(int(np.prod(shape)) for shape in shapes),
        stored_bytes=sum(case.stored_bytes for case in cases),
        shape=sizes,
        shape_after_crop=sizes,
        spacing=None if data.spacing is None else _axes([data.spacing]),
        spacing_unit="unknown" if data.spacing is None else data.unit,
        spacing_missing=len(cases) if data.spacing is None else 0,
        spacing_clusters=(),
        anisotropy=None,
        median_relative_size_after_cropping=1.0,
        channels=tuple(
            ChannelSummary(region="foreground", case_weighted=_statistics(), pooled=_statistics())
            for _ in data.channels
        ),
        class_frequencies=None,
        warnings=(),
    )
    return Fingerprint(
        dataset=DatasetInfo(
            name=data.name,
            root="",
            layout="nnunet",
            file_format="nifti",
            channel_names=data.channels,
            labels=Labels(
                kind=data.labels,
                proposed=True,
                reason="sweep",
                classes=classes if data.labels == "semantic" else {},
            ),
        ),
        summary=summary,
        cases=cases,
        failures=(),
        provenance=Provenance(program="plan_sweep", version="0", created="", options={}, seconds=0.0),
    )
