"""The voxels of a few fixed places of a volume, taken while it is streamed.

Two volumes of equal statistics that agree in these voxels too are the same volume, for all that matters to a
data set; a mirrored or shifted copy has the statistics but not the voxels.
"""

from __future__ import annotations

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
        extent = tuple(place.size for place in self._places)
        self.values: NDArray[Any] = np.zeros(extent, dtype)
        """ZYX; 0 where :attr:`seen` is False."""
        self.seen = np.zeros(extent, bool)

    def add(self, block: NDArray[Any], region: Region) -> None:
        """Take what lies in a block; ``region`` is where it lies in the volume."""
        z, y, x = (
            slice(*np.searchsorted(places, (part.start, part.stop)).tolist())
            for places, part in zip(self._places, region, strict=True)
        )
        if z.start == z.stop or y.start == y.stop or x.start == x.stop:
            return
        within = np.ix_(
            *(
                places[taken] - part.start
                for places, taken, part in zip(self._places, (z, y, x), region, strict=True)
            )
        )
        self.values[z, y, x] = block[within]
        self.seen[z, y, x] = True

    def merge(self, values: NDArray[Any], seen: NDArray[np.bool_]) -> None:
        """Take what a pass over other blocks of the same volume has seen."""
        self.values[seen] = values[seen]
        self.seen |= seen

    def intensities(self, slope: float, intercept: float) -> bytes:
        """The intensities of all places in float64, so that copies of another type compare equal."""
        values = self.values.astype(np.float64) * slope + intercept
        values[np.isnan(values)] = np.nan  # one bit pattern for all of them
        return (values + 0.0).tobytes()


def _places(length: int) -> NDArray[np.int64]:
    """Ascending indices, spread evenly: the centres of equal parts."""
    count = min(length, PLACES_PER_AXIS)
    return (2 * np.arange(count, dtype=np.int64) + 1) * length // (2 * count)
