"""NRRD and MetaImage: raw and deflated data by planes, other encodings whole through SimpleITK."""

from __future__ import annotations

from contextlib import closing
from math import prod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from .axes import AxisOrder, check_region
from .base import (
    FormatError,
    Reader,
    ReadOptions,
    Region,
    Spacing,
    Volume,
    VolumeHeader,
    VolumeSource,
    in_other_files,
)
from .contiguous import ContiguousVoxels, to_native
from .gzip_stream import GzipStream
from .itk_process import read_apart
from .metaimage_header import read_metaimage_header
from .nrrd_header import read_nrrd_header
from .orientation import affine_rows, is_flipped, orientation_letters
from .raw_layout import RawLayout
from .spacing import checked_spacing, planar_spacing, resolve_spacing
from .streamed import StreamedVoxels

DETACHED_VOXELS = (".raw", ".zraw", ".raw.gz", ".gz", ".img", ".bin", ".dat")
"""Suffixes that writers of ``.mhd`` and ``.nhdr`` (ITK, teem) and their users give the file of the voxels."""


class ItkReader(Reader):
    """``.nrrd``, ``.nhdr``, ``.mha``, ``.mhd``. The files know their axes, so ``--axes`` does not apply."""

    name: ClassVar[str] = "itk"
    suffixes: ClassVar[tuple[str, ...]] = (".nrrd", ".nhdr", ".mha", ".mhd")

    def beside(self, path: Path) -> tuple[Path, ...]:
        """See :class:`.base.Reader`; of detached headers the files that writers put the voxels into."""
        if path.suffix.lower() not in (".mhd", ".nhdr"):
            return ()
        return tuple(path.with_suffix(suffix) for suffix in DETACHED_VOXELS)

    def open(self, source: VolumeSource, options: ReadOptions) -> Volume:
        """See :class:`.base.Reader`."""
        path = source.paths[0]
        read_header = read_nrrd_header if path.suffix.lower() in (".nrrd", ".nhdr") else read_metaimage_header
        layout = read_header(path)
        other_files = layout.several_files or layout.data_path not in (path, *self.beside(path))
        with in_other_files(other_files):
            return _ItkVolume(source, layout, options, other_files=other_files)


class _ItkVolume(Volume):
    def __init__(
        self, source: VolumeSource, layout: RawLayout, options: ReadOptions, *, other_files: bool
    ) -> None:
        self.source = source
        axes = AxisOrder(layout.letters, layout.stored)
        self._voxels = _open_voxels(source, layout, axes)
        spacing, doubt = _spacing(layout, axes)
        warnings = list(layout.warnings)
        if options.spacing is None and doubt is not None:
            warnings.append(doubt)
        z, y, x = axes.shape
        files = {source.paths[0], layout.data_path}
        self.header = VolumeHeader(
            shape=axes.shape,
            channels=axes.channels,
            dtype=layout.dtype.newbyteorder("="),
            spacing=resolve_spacing(options, [spacing]),
            orientation=None if layout.directions is None else orientation_letters(layout.directions),
            affine_flips=None if layout.directions is None else is_flipped(layout.directions),
            affine=affine_rows(layout.affine),
            block=(z, y, x) if isinstance(self._voxels, _WholeVoxels) else (1, y, x),
            sequential=isinstance(self._voxels, StreamedVoxels),
            stored_bytes=sum(path.stat().st_size for path in files),
            other_files=other_files,
            warnings=tuple(warnings),
        )

    def read(self, region: Region, channel: int | None = None) -> NDArray[Any]:
        check_region(region, self.header.shape, channel, self.header.channels)
        return self._voxels.read(region, channel)

    def close(self) -> None:
        self._voxels.close()


class _WholeVoxels:
    """An encoding or axis order that cannot be read in parts: kept from the first read until it is closed."""

    def __init__(self, source: VolumeSource, layout: RawLayout, axes: AxisOrder, size: int) -> None:
        self._path = source.paths[0]
        self._layout = layout
        self._axes = axes
        self._array: NDArray[Any] | None = None
        if self._is_stream:
            with closing(_stream(layout)) as stream:
                stream.require_room(size)

    @property
    def _is_stream(self) -> bool:
        return self._layout.encoding in ("gzip", "zlib") and self._layout.offset >= 0

    def read(self, region: Region, channel: int | None) -> NDArray[Any]:
        """See :meth:`.base.Volume.read`."""
        if self._array is None:
            self._array = self._inflated() if self._is_stream else self._by_simpleitk()
        return self._axes.arrange(self._array[self._axes.index(region, channel)], channel)

    def _inflated(self) -> NDArray[Any]:
        array = np.empty(self._axes.stored, self._layout.dtype)
        with closing(_stream(self._layout)) as stream:
            stream.read_into(array.reshape(-1).view(np.uint8), 0, last=True)
        return to_native(array)

    def _by_simpleitk(self) -> NDArray[Any]:
        array = read_apart(self._path)
        if array.size != prod(self._axes.stored):
            msg = f"{self._path}: holds {array.shape}, where its header declares {self._axes.stored}"
            raise FormatError(msg)
        return array.reshape(self._axes.stored)

    def close(self) -> None:
        """Let go of the voxels."""
        self._array = None


def _stream(layout: RawLayout) -> GzipStream:
    return GzipStream(layout.data_path, layout.offset, "gzip" if layout.encoding == "gzip" else "zlib")


def _open_voxels(
    source: VolumeSource, layout: RawLayout, axes: AxisOrder
) -> ContiguousVoxels | StreamedVoxels | _WholeVoxels:
    size = layout.dtype.itemsize * axes.channels * axes.shape[0] * axes.shape[1] * axes.shape[2]
    if layout.encoding == "raw":
        offset = layout.data_path.stat().st_size - size if layout.offset < 0 else layout.offset
        return ContiguousVoxels(layout.data_path, max(offset, 0), layout.dtype, axes)
    if layout.encoding in ("gzip", "zlib") and layout.offset >= 0 and axes.is_channels_first_zyx:
        stream = _stream(layout)
        try:
            return StreamedVoxels(stream, layout.data_path, 0, layout.dtype, axes)
        except FormatError:
            stream.close()
            raise
    return _WholeVoxels(source, layout, axes, size)


def _spacing(layout: RawLayout, axes: AxisOrder) -> tuple[Spacing, str | None]:
    stated = layout.spacing
    if stated is None:
        return Spacing.missing(), None
    if len(stated) == 2:
        return planar_spacing(stated[1], stated[0], axes.shape[0], layout.unit, "header")
    return checked_spacing(stated[::-1], layout.unit, "header")
