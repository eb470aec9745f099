"""Voxels in a deflated stream, channel after channel in ZYX order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .axes import AxisOrder
from .base import Region
from .contiguous import to_native
from .gzip_stream import GzipStream


class StreamedVoxels:
    """An array at an offset of the inflated data; whole planes are inflated straight into the result."""

    def __init__(
        self, stream: GzipStream, path: Path, offset: int, dtype: np.dtype[Any], axes: AxisOrder
    ) -> None:
        self._stream = stream
        self._offset = offset
        self._dtype = dtype
        self._axes = axes
        z, y, x = axes.shape
        self._voxels = axes.channels * z * y * x
        stream.require_room(offset + dtype.itemsize * self._voxels)

    def read(self, region: Region, channel: int | None) -> NDArray[Any]:
        """Stored values of a region, native byte order; see :meth:`.base.Volume.read`."""
        chosen = range(self._axes.channels) if channel is None else range(channel, channel + 1)
        block = np.empty((len(chosen), *(part.stop - part.start for part in region)), self._dtype)
        if block.size:
            for part, which in zip(block, chosen, strict=True):
                self._read_channel(part, region, which)
        return to_native(block if channel is None else block[0])

    def _read_channel(self, into: NDArray[Any], region: Region, channel: int) -> None:
        depth, height, width = self._axes.shape
        planes, rows, columns = region
        first = channel * depth + planes.start
        if (rows.start, rows.stop, columns.start, columns.stop) == (0, height, 0, width):
            self._fill(into, first * height * width)
            return
        strip = np.empty((rows.stop - rows.start, width), self._dtype)
        for plane in range(planes.stop - planes.start):
            self._fill(strip, ((first + plane) * height + rows.start) * width)
            into[plane] = strip[:, columns]

    def _fill(self, into: NDArray[Any], first_voxel: int) -> None:
        end = first_voxel + into.size == self._voxels
        offset = self._offset + first_voxel * self._dtype.itemsize
        self._stream.read_into(into.reshape(-1).view(np.uint8), offset, last=end)

    def close(self) -> None:
        """Close the file."""
        self._stream.close()
