"""Slices, one file each, as one volume along Z; and PNG, which only ever is a slice."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from .axes import check_region
from .base import FormatError, Reader, ReadOptions, Region, Spacing, Volume, VolumeHeader, VolumeSource
from .damage import damage_named
from .spacing import in_plane_warning, planar_spacing, resolve_spacing
from .tiff_other_files import PART_OF_A_SET

_PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_PNG_COLOURS: Final = {2: "RGB", 3: "palette colour", 6: "RGBA"}


class SliceStack(Volume):
    """Two-dimensional files stacked in the order given; each is opened when it is read.

    All must have the first one's shape, channels and type. This is checked as each slice is read, so that
    opening a stack of thousands costs one file.
    """

    def __init__(
        self, source: VolumeSource, options: ReadOptions, reader_for: Callable[[Path], Reader]
    ) -> None:
        self.source = source
        self._reader_for = reader_for
        self._options = replace(options, spacing=None)
        with self._open_slice(0) as first:
            header = first.header
        if header.shape[0] != 1:
            msg = (
                f"{source.paths[0]}: holds {header.shape[0]} slices, but is listed as one slice of the "
                f"volume {source.name}; give it as a volume of its own"
            )
            raise FormatError(msg, kind="ambiguous")
        self._slice = header
        self.header = VolumeHeader(
            shape=(len(source.paths), *header.shape[1:]),
            channels=header.channels,
            dtype=header.dtype,
            spacing=resolve_spacing(options, []),
            slope=header.slope,
            intercept=header.intercept,
            block=(1, *header.block[1:]),
            stored_bytes=sum(path.stat().st_size for path in source.paths),
            warnings=tuple(w for w in header.warnings if PART_OF_A_SET not in w) + self._doubt(options),
        )

    def _doubt(self, options: ReadOptions) -> tuple[str, ...]:
        """What the first slice knows of its plane, which is not enough for a volume."""
        stated = self._slice.spacing
        if options.spacing is not None or stated.values is None:
            return ()
        _, y, x = stated.values
        return (in_plane_warning(y, x, stated.unit, stated.source),)

    def _open_slice(self, number: int) -> Volume:
        path = self.source.paths[number]
        return self._reader_for(path).open(VolumeSource(paths=(path,)), self._options)

    def read(self, region: Region, channel: int | None = None) -> NDArray[Any]:
        """See :meth:`.base.Volume.read`; a slice that differs from the first is named in the error."""
        check_region(region, self.header.shape, channel, self.header.channels)
        planes = region[0]
        lengths = [part.stop - part.start for part in region]
        block = np.empty((self.header.channels if channel is None else 1, *lengths), self.header.dtype)
        if block.size:
            for at, number in enumerate(range(planes.start, planes.stop)):
                block[:, at] = self._read_slice(number, region, channel)
        return block if channel is None else block[0]

    def _read_slice(self, number: int, region: Region, channel: int | None) -> NDArray[Any]:
        path = self.source.paths[number]
        with damage_named(f"{path}: slice {number} of {self.source.name} cannot be read"):
            try:
                volume = self._open_slice(number)
            except FileNotFoundError as error:
                msg = f"{path}: slice {number} of {self.source.name} has vanished"
                raise FormatError(msg) from error
        with volume:
            got, want = volume.header, self._slice
            if (got.shape, got.channels, got.dtype) != (want.shape, want.channels, want.dtype):
                msg = (
                    f"{path}: slice {number} is {_describe(got)}, but {self.source.paths[0].name}, the first "
                    f"of the volume, is {_describe(want)}; all slices of a volume must agree"
                )
                raise FormatError(msg)
            part = volume.read((slice(0, 1), region[1], region[2]), channel)
        return part[:, 0] if channel is None else part


class PngReader(Reader):
    """One greyscale ``.png`` as a volume with one slice."""

    name: ClassVar[str] = "png"
    suffixes: ClassVar[tuple[str, ...]] = (".png",)

    def open(self, source: VolumeSource, options: ReadOptions) -> Volume:
        """See :class:`.base.Reader`; colours are refused."""
        return _PngSlice(source, options)


class _PngSlice(Volume):
    def __init__(self, source: VolumeSource, options: ReadOptions) -> None:
        self.source = source
        path = source.paths[0]
        width, height, depth, colour, pixel = _png_header(path)
        if colour in _PNG_COLOURS:
            msg = (
                f"{path}: pixels are {_PNG_COLOURS[colour]}, not intensities or labels; convert it to grey "
                "values, or leave it out with --exclude"
            )
            raise FormatError(msg, kind="not-intensities")
        stated: list[Spacing] = []
        if pixel is not None:
            spacing, _ = planar_spacing(*pixel, 1, "mm", "header")
            stated = [spacing]
        self.header = VolumeHeader(
            shape=(1, height, width),
            channels=2 if colour == 4 else 1,
            dtype=np.dtype(np.uint16 if depth == 16 else np.uint8),
            spacing=resolve_spacing(options, stated),
            block=(1, height, width),
            stored_bytes=path.stat().st_size,
        )

    def read(self, region: Region, channel: int | None = None) -> NDArray[Any]:
        check_region(region, self.header.shape, channel, self.header.channels)
        import imagecodecs

        path = self.source.paths[0]
        _, height, width = self.header.shape
        try:
            image: NDArray[Any] = imagecodecs.png_decode(path.read_bytes())
        except (RuntimeError, ValueError, OSError) as error:
            msg = f"{path}: cannot be decoded ({error}); the file is damaged or cut short"
            raise FormatError(msg) from error
        image = image.reshape(height, width, self.header.channels)[region[1], region[2]]
        block = np.ascontiguousarray(image.transpose(2, 0, 1)[:, np.newaxis][:, region[0]])
        block = block.astype(self.header.dtype, copy=False)
        return block if channel is None else block[channel]


def _png_header(path: Path) -> tuple[int, int, int, int, tuple[float, float] | None]:
    """Width, height, bits, colour type, and the YX pixel edges in mm where a pHYs chunk states them."""
    with path.open("rb") as file:
        if file.read(8) != _PNG_SIGNATURE:
            msg = f"{path}: no PNG file; it is empty, cut short or of another format"
            raise FormatError(msg)
        pixel = None
        fields = None
        while len(head := file.read(8)) == 8:
            length, name = struct.unpack(">I4s", head)
            if name in (b"IDAT", b"IEND"):
                break
            if length > 1 << 20 or name not in (b"IHDR", b"pHYs"):
                file.seek(length + 4, 1)
                continue
            content = file.read(length + 4)
            if name == b"IHDR" and len(content) >= 13:
                fields = struct.unpack(">IIBB", content[:10])
            elif name == b"pHYs" and len(content) >= 9:
                x, y, unit = struct.unpack(">IIB", content[:9])
                if unit == 1 and x and y:
                    pixel = (1000.0 / y, 1000.0 / x)
    if fields is None or 0 in fields[:2]:
        msg = f"{path}: PNG without a usable header; the file is damaged"
        raise FormatError(msg)
    width, height, depth, colour = fields
    return width, height, depth, colour, pixel


def _describe(header: VolumeHeader) -> str:
    return f"{header.shape[1]} x {header.shape[2]}, {header.channels} channel(s), {header.dtype}"
