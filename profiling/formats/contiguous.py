"""Voxels that lie uncompressed, in one piece, in a file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from .axes import AxisOrder
from .base import FormatError, Region


class ContiguousVoxels:
    """An array at an offset of a file, read region by region.

    Whole planes are read straight into the result: mapped pages would count as resident memory, and turn a
    file that is cut short while it is read into a crash. Parts of planes go through a map that lives for
    the one call.
    """

    def __init__(self, path: Path, offset: int, dtype: np.dtype[Any], axes: AxisOrder) -> None:
        self._path = path
        self._offset = offset
        self._dtype = dtype
        self._axes = axes
        size = path.stat().st_size
        need = offset + dtype.itemsize * axes.channels * _voxels(axes.shape)
        if size < need:
            msg = f"{path}: truncated: {need} bytes are declared, the file has {size}; get the file again"
            raise FormatError(msg)
        self._file: BinaryIO = path.open("rb", buffering=0)

    def read(self, region: Region, channel: int | None) -> NDArray[Any]:
        """Stored values of a region, native byte order; see :meth:`.base.Volume.read`."""
        planes, rows, columns = region
        _, y, x = self._axes.shape
        in_one_piece = (columns.start, columns.stop) == (0, x) and (
            (rows.start, rows.stop) == (0, y) or planes.stop - planes.start == 1
        )
        if in_one_piece and self._axes.is_channels_first_zyx:
            block = self._read_rows(planes, rows, channel)
        else:
            mapped: NDArray[Any] = np.memmap(
                self._path, dtype=self._dtype, mode="r", offset=self._offset, shape=self._axes.stored
            )
            block = self._axes.arrange(np.array(mapped[self._axes.index(region, channel)]), channel)
        return to_native(block)

    def _read_rows(self, planes: slice, rows: slice, channel: int | None) -> NDArray[Any]:
        """Whole planes, or whole rows of one plane: of each channel one piece of the file."""
        z, y, x = self._axes.shape
        chosen = range(self._axes.channels) if channel is None else range(channel, channel + 1)
        block = np.empty((len(chosen), planes.stop - planes.start, rows.stop - rows.start, x), self._dtype)
        for part, which in zip(block, chosen, strict=True):
            first_row = (which * z + planes.start) * y + rows.start
            at = self._offset + first_row * x * self._dtype.itemsize
            read_exactly(self._file, part.reshape(-1).view(np.uint8), at, self._path)
        return block if channel is None else block[0]

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_exactly(file: BinaryIO, into: NDArray[np.uint8], offset: int, path: Path) -> None:
    """Fill a byte array from an offset of a file, or raise FormatError where the file ends before."""
    done, view = 0, into.data
    while done < len(view):
        try:
            got = os.preadv(file.fileno(), [view[done:]], offset + done)
        except OSError as error:
            msg = f"{path}: cannot be read at byte {offset + done} ({error})"
            raise FormatError(msg) from error
        if got == 0:
            msg = f"{path}: truncated: ends at byte {offset + done}, {len(view) - done} more are declared"
            raise FormatError(msg)
        done += got


def to_native(block: NDArray[Any]) -> NDArray[Any]:
    """The same values in native byte order; bytes are swapped in place."""
    if block.dtype.isnative:
        return block
    return block.byteswap(inplace=True).view(block.dtype.newbyteorder("="))


def _voxels(shape: tuple[int, int, int]) -> int:
    return shape[0] * shape[1] * shape[2]
