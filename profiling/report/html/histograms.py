"""Exact counts of a data set's intensities, joined to the bars that a drawing has room for."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...fingerprint import IntensityStatistics
from ...statistics import Distribution

MOST_BARS = 96
MARGIN = 0.1
"""Room beyond the 0.5 and 99.5 percentiles, as a share of their distance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bars:
    """Shares of voxels by intensity; what lies beyond the ends is counted, not drawn."""

    start: float
    width: float
    by_voxel: NDArray[np.float64]
    """Share of all voxels in each bar; every voxel weighs the same."""
    by_case: NDArray[np.float64]
    """Likewise; every case weighs the same."""
    below: float
    """Share of voxels below the first bar."""
    above: float
    """Share of voxels above the last bar."""

    @property
    def stop(self) -> float:
        """Upper edge of the last bar."""
        return self.start + self.width * self.by_voxel.size


def bar_edges(pooled: IntensityStatistics, *, whole: bool) -> tuple[float, float, int]:
    """Lower edge, width and number of bars; of ``whole`` numbers each bar holds equally many."""
    low, high = pooled.percentile_00_5, pooled.percentile_99_5
    room = MARGIN * (high - low)
    low, high = max(pooled.min, low - room), min(pooled.max, high + room)
    if whole:
        low, high = math.floor(low), math.ceil(high)
        width = max(1, math.ceil((high - low + 1) / MOST_BARS))
        return low - 0.5, float(width), max(1, math.ceil((high - low + 1) / width))
    if not high > low:
        return low - 0.5, 1.0, 1
    return low, (high - low) / MOST_BARS, MOST_BARS


def collect_bars(
    distributions: Iterable[Distribution | None], pooled: IntensityStatistics, *, whole: bool
) -> Bars:
    """The bars of all cases together; ``distributions`` is gone over once, and nothing of it is kept.

    Args:
        distributions: one a case; None where it has no voxels in the region.
        pooled: of the same voxels.
        whole: whether all intensities are whole numbers.
    """
    start, width, number = bar_edges(pooled, whole=whole)
    by_voxel, by_case = np.zeros(number + 2), np.zeros(number + 2)
    cases = 0
    for distribution in distributions:
        if distribution is None:
            continue
        intensities, counts = distribution.table()
        # the last bar takes its upper edge too, so that the largest value is inside
        places = np.clip(np.floor((intensities - start) / width), -1, number).astype(np.int64)
        places[intensities == start + width * number] = number - 1
        sums = np.bincount(places + 1, weights=counts.astype(np.float64), minlength=number + 2)
        by_voxel += sums
        by_case += sums / sums.sum()
        cases += 1
    by_voxel /= max(1.0, by_voxel.sum())
    by_case /= max(1, cases)
    return Bars(
        start=start,
        width=width,
        by_voxel=by_voxel[1:-1],
        by_case=by_case[1:-1],
        below=float(by_voxel[0]),
        above=float(by_voxel[-1]),
    )


def are_whole(dtypes: Iterable[str], pooled: IntensityStatistics) -> bool:
    """Whether intensities are whole numbers: integers are stored, and no slope makes fractions of them."""
    stored = all(np.dtype(name).kind in "biu" for names in dtypes for name in names.split(","))
    numbers: Sequence[float] = (
        pooled.min,
        pooled.percentile_00_5,
        pooled.percentile_10,
        pooled.median,
        pooled.percentile_90,
        pooled.percentile_99_5,
        pooled.max,
    )
    return stored and all(float(value).is_integer() for value in numbers)
