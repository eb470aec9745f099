"""NIfTI-1 and NIfTI-2: ``.nii`` by slabs at random, ``.nii.gz`` as a forward stream."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from .axes import AxisOrder, check_region
from .base import TIME_POINTS, Reader, ReadOptions, Region, Spacing, Volume, VolumeHeader, VolumeSource
from .contiguous import ContiguousVoxels
from .gzip_stream import GzipStream
from .nifti_header import HEADER_BYTES, NiftiHeader, parse_header
from .orientation import affine_rows, is_flipped, is_orthonormal, orientation_letters
from .spacing import checked_spacing, is_length, resolve_spacing
from .streamed import StreamedVoxels

_SAME_LENGTH = 1e-3
"""Relative difference of two spacings of one header that its rounding explains."""


class NiftiReader(Reader):
    """``.nii`` and ``.nii.gz``. The file knows its axes, so ``--axes`` does not apply."""

    name: ClassVar[str] = "nifti"
    suffixes: ClassVar[tuple[str, ...]] = (".nii.gz", ".nii")

    def open(self, source: VolumeSource, options: ReadOptions) -> Volume:
        """See :class:`.base.Reader`."""
        path = source.paths[0]
        if path.name.lower().endswith(".gz"):
            return _StreamedNifti(source, options)
        return _RandomNifti(source, options)


class _RandomNifti(Volume):
    """Uncompressed."""

    def __init__(self, source: VolumeSource, options: ReadOptions) -> None:
        self.source = source
        path = source.paths[0]
        with path.open("rb") as file:
            header = parse_header(file.read(HEADER_BYTES), path)
        axes = _axes(header)
        self.header = _volume_header(header, axes, path, options, sequential=False)
        self._voxels = ContiguousVoxels(path, header.offset, header.dtype, axes)

    def read(self, region: Region, channel: int | None = None) -> NDArray[Any]:
        check_region(region, self.header.shape, channel, self.header.channels)
        return self._voxels.read(region, channel)

    def close(self) -> None:
        self._voxels.close()


class _StreamedNifti(Volume):
    """Compressed: planes in ascending Z, channel after channel, are cheap."""

    def __init__(self, source: VolumeSource, options: ReadOptions) -> None:
        self.source = source
        path = source.paths[0]
        stream = GzipStream(path)
        try:
            header = parse_header(stream.read_header(HEADER_BYTES), path)
            axes = _axes(header)
            self.header = _volume_header(header, axes, path, options, sequential=True)
            self._voxels = StreamedVoxels(stream, path, header.offset, header.dtype, axes)
        except BaseException:
            stream.close()
            raise

    def read(self, region: Region, channel: int | None = None) -> NDArray[Any]:
        check_region(region, self.header.shape, channel, self.header.channels)
        return self._voxels.read(region, channel)

    def close(self) -> None:
        self._voxels.close()


def _axes(header: NiftiHeader) -> AxisOrder:
    """NIfTI stores X fastest: as a C array the axes come in reverse, vector components and time first."""
    return AxisOrder("ctzyx"[-len(header.dims) :], header.dims[::-1])


def _volume_header(
    header: NiftiHeader, axes: AxisOrder, path: Path, options: ReadOptions, *, sequential: bool
) -> VolumeHeader:
    warnings = []
    spacing, doubts = _spacing(header)
    if options.spacing is None:
        warnings += doubts
    slope, intercept = header.scl_slope, header.scl_inter
    if slope == 0 or not math.isfinite(slope):
        slope, intercept = 1.0, 0.0
    elif not math.isfinite(intercept):
        warnings.append(f"scl_inter is {intercept}: taken as 0")
        intercept = 0.0
    directions = header.directions
    if directions is not None and not is_orthonormal(directions):
        warnings.append("the affine is not orthonormal (sheared axes): the grid is read as stored")
    if len(header.dims) > 3 and header.dims[3] > 1:
        warnings.append(f"4-D: {header.dims[3]} {TIME_POINTS}")
    _, y, x = axes.shape
    return VolumeHeader(
        shape=axes.shape,
        channels=axes.channels,
        dtype=header.dtype.newbyteorder("="),
        spacing=resolve_spacing(options, [spacing]),
        slope=slope,
        intercept=intercept,
        orientation=None if directions is None else orientation_letters(directions),
        affine_flips=None if directions is None else is_flipped(directions),
        affine=affine_rows(header.affine),
        block=(1, y, x),
        sequential=sequential,
        stored_bytes=path.stat().st_size,
        warnings=tuple(warnings),
    )


def _spacing(header: NiftiHeader) -> tuple[Spacing, list[str]]:
    """Spacing from ``pixdim``, as ITK and nnU-Net take it, even where the sform says otherwise.

    Only where ``pixdim`` holds no lengths are the columns of the sform believed.
    """
    unit, factor = header.unit
    has_affine = header.qform_code > 0 or header.sform_code > 0
    if header.pixdim == (1.0, 1.0, 1.0) and unit == "unknown" and not has_affine:
        why = "pixdim is 1, 1, 1 without unit, qform or sform: a placeholder, spacing taken as missing"
        return Spacing.missing(), [why]
    columns = np.linalg.norm(header.srow[:, :3], axis=0)
    sform = [float(n) for n in columns] if header.sform_code > 0 else None
    usable = sform is not None and all(is_length(n) for n in sform)
    if not all(is_length(n) for n in header.pixdim) and usable and sform is not None:
        spacing, _ = checked_spacing([n * factor for n in sform[::-1]], unit, "header")
        return spacing, [
            f"pixdim (XYZ) {_numbers(header.pixdim)} is not usable: spacing taken from the sform"
        ]
    spacing, doubt = checked_spacing([n * factor for n in header.pixdim[::-1]], unit, "header")
    if (
        doubt is None
        and usable
        and not all(
            abs(a - b) <= _SAME_LENGTH * abs(b) for a, b in zip(columns.tolist(), header.pixdim, strict=True)
        )
    ):
        doubt = (
            f"the sform says {_numbers(columns)} (XYZ) where pixdim says {_numbers(header.pixdim)}: "
            "pixdim is taken, as ITK does"
        )
    return spacing, [] if doubt is None else [doubt]


def _numbers(values: Any) -> str:
    return ", ".join(f"{v:g}" for v in values)
