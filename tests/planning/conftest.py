"""Fingerprints and machines for planning tests, built from a few numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from voxplan.plans.schema import Gpu, Hardware
from voxplan.profiling.fingerprint import (
    AxisSummary,
    CaseFingerprint,
    ChannelStatistics,
    ChannelSummary,
    DatasetInfo,
    Fingerprint,
    IntensityStatistics,
    Labels,
    ObjectStatistics,
    Provenance,
    SpacingRecord,
    Summary,
)

GIB = 1024**3
Triple = tuple[float, float, float]


def statistics(mean: float = 100.0, std: float = 25.0) -> IntensityStatistics:
    return IntensityStatistics(
        count=1000,
        mean=mean,
        std=std,
        min=0.0,
        max=255.0,
        percentile_00_5=5.0,
        percentile_10=20.0,
        median=mean,
        percentile_90=180.0,
        percentile_99_5=250.0,
    )


def axes(values: Sequence[Triple]) -> AxisSummary:
    table = np.asarray(values, dtype=float)

    def row(at: float) -> Triple:
        z, y, x = (float(value) for value in np.percentile(table, at, axis=0, method="inverted_cdf"))
        return z, y, x

    z, y, x = (float(value) for value in np.median(table, axis=0))
    return AxisSummary(
        median=(z, y, x), min=row(0), max=row(100), percentile_10=row(10), percentile_90=row(90)
    )


def build_fingerprint(
    *,
    shapes: Sequence[tuple[int, int, int]] = ((128, 160, 144),) * 6,
    spacing: Triple | Sequence[Triple | None] | None = (1.0, 1.0, 1.0),
    unit: Any = "mm",
    channels: Sequence[str] = ("CT",),
    label_kind: Any = "semantic",
    classes: dict[str, tuple[int, ...]] | None = None,
    dtype: str = "int16",
    compressed: bool = False,
    relative_size: float = 1.0,
    objects: int = 0,
) -> Fingerprint:
    """A fingerprint as ``profile-dataset`` would write it, of these numbers."""
    if classes is None:
        classes = {"background": (0,), "organ": (1,)} if label_kind == "semantic" else {}
    spacings = [spacing] * len(shapes) if spacing is None or isinstance(spacing[0], float) else list(spacing)
    cases = tuple(
        CaseFingerprint(
            id=f"case_{index:03d}",
            images=tuple(f"case_{index:03d}_{channel:04d}.nii.gz" for channel in range(len(channels))),
            label=None if label_kind == "none" else f"labels/case_{index:03d}.nii.gz",
            shape=shape,
            spacing=SpacingRecord(
                values=own,  # type: ignore[arg-type]
                unit=unit if own is not None else "unknown",
                source="header" if own is not None else "missing",
            ),
            orientation=None,
            dtype=dtype,
            label_dtype=None if label_kind == "none" else "uint8",
            channels=tuple(
                ChannelStatistics(
                    foreground=statistics(),
                    crop=statistics(mean=90.0 + index, std=20.0),
                    nonzero=statistics(mean=95.0 + index, std=21.0),
                )
                for _ in channels
            ),
            crop_box=((0, shape[0]), (0, shape[1]), (0, shape[2])),
            shape_after_crop=shape,
            foreground_voxels=None if label_kind == "none" else 1000,
            class_voxels=None,
            objects=ObjectStatistics(
                count=objects,
                size_min=10,
                size_median=500,
                size_max=9000,
                size_percentile_10=50,
                size_percentile_90=5000,
                largest_id=objects + 17,
            )
            if label_kind == "instance"
            else None,
            stored_bytes=int(np.prod(shape)),
            compressed_stream=compressed,
            content_key="",
            warnings=(),
        )
        for index, (shape, own) in enumerate(zip(shapes, spacings, strict=True))
    )
    known = [own for own in spacings if own is not None]
    sizes = [(float(z), float(y), float(x)) for z, y, x in shapes]
    summary = Summary(
        cases=len(cases),
        failures=0,
        voxels=sum(int(np.prod(shape)) for shape in shapes),
        stored_bytes=sum(case.stored_bytes for case in cases),
        shape=axes(sizes),
        shape_after_crop=axes(sizes),
        spacing=axes(known) if known else None,  # type: ignore[arg-type]
        spacing_unit=unit if known else "unknown",
        spacing_missing=len(spacings) - len(known),
        spacing_clusters=(),
        anisotropy=None,
        median_relative_size_after_cropping=relative_size,
        channels=tuple(
            ChannelSummary(region="foreground", case_weighted=statistics(), pooled=statistics())
            for _ in channels
        ),
        class_frequencies=None,
        warnings=(),
    )
    return Fingerprint(
        dataset=DatasetInfo(
            name="Phantom",
            root="/nowhere",
            layout="nnunet",
            file_format="nifti",
            channel_names=tuple(channels),
            labels=Labels(kind=label_kind, proposed=True, reason="test", classes=classes),
        ),
        summary=summary,
        cases=cases,
        failures=(),
        provenance=Provenance(program="test", version="0", created="", options={}, seconds=0.0),
    )


def build_hardware(
    *memory_gb: float,
    capability: tuple[int, int] | None = (8, 6),
    ram_gb: float = 64,
    cores: int = 16,
    shared_memory: int | None = 32 * GIB,
) -> Hardware:
    """A machine with one GPU for each number of GiB."""
    return Hardware(
        gpus=tuple(
            Gpu(
                name=f"test {size:g} GB",
                total_memory=int(size * GIB),
                free_memory=int(size * GIB),
                compute_capability=capability,
                present=False,
            )
            for size in memory_gb
        ),
        ram=int(ram_gb * GIB),
        ram_available=int(ram_gb * GIB),
        cores=cores,
        shared_memory=shared_memory,
        stated=True,
    )


@pytest.fixture(scope="session")
def make_fingerprint() -> Callable[..., Fingerprint]:
    return build_fingerprint


@pytest.fixture(scope="session")
def make_hardware() -> Callable[..., Hardware]:
    return build_hardware
