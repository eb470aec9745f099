"""The voxels of a few fixed places of a volume, taken while it is streamed.

Two volumes of equal statistics that agree in these voxels too are the same volume, for all that matters to a
data set; a mirrored or shifted copy has the statistics but not the voxels.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .blocks import Extent
from .formats.base import Region

PLACES_PER_AXIS = 16
"""At most 4096 voxels of a channel, 32 KiB; a volume of at most 16 voxels an axis is taken whole."""


class VoxelSamples:
    """Stored values on a grid of places that depends on the shape alone, whatever the blocks."""

    def __init__(self, shape: Extent, dtype: np.dtype[Any]) -> None:
        self._places = tuple(_places(length) for length in shape)
        extent = tuple(map(len, self._places))
        self.values: NDArray[Any] = np.zeros(extent, dtype)
        """ZYX; 0 where :attr:`seen` is False."""
        self.seen = np.zeros(extent, bool)

    def add(self, block: NDArray[Any], region: Region) -> None:
        """Take what lies in a block; ``region`` is where it lies in the volume."""
        taken: list[slice] = []
        for places, part in zip(self._places, region, strict=True):
            first = bisect_left(places, part.start)
            last = bisect_left(places, part.stop, first)
            if first == last:  # most planes of a deep volume
                return
            taken.append(slice(first, last))
        z, y, x = (
            np.array(places[some], np.intp) - part.start
            for places, some, part in zip(self._places, taken, region, strict=True)
        )
        at = tuple(taken)
        self.values[at] = block[z[:, np.newaxis, np.newaxis], y[:, np.newaxis], x]
        self.seen[at] = True

    def merge(self, values: NDArray[Any], seen: NDArray[np.bool_]) -> None:
        """Take what a pass over other blocks of the same volume has seen."""
        self.values[seen] = values[seen]
        self.seen |= seen

    def intensities(self, slope: float, intercept: float) -> bytes:
        """The intensities of all places in float64, so that copies of another type compare equal."""
        with np.errstate(over="ignore"):
            values = self.values.astype(np.float64) * slope + intercept
        values[np.isnan(values)] = np.nan  # one bit pattern for all of them
        return (values + 0.0).tobytes()


def _places(length: int) -> list[int]:
    """Ascending indices, spread evenly: the centres of equal parts."""
    count = min(length, PLACES_PER_AXIS)
    return [(2 * place + 1) * length // (2 * count) for place in range(count)]
