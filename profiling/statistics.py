"""Intensity statistics of one case, and of many cases together; exact and independent of their order.

Quantiles are ``inverted_cdf``: the smallest value that at least the share ``q`` of the voxels does not
exceed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from .fingerprint import IntensityStatistics
from .histogram import MAX_DISTINCT, ValueHistogram, smallest_counts
from .mixture import Component, mixture_quantiles
from .moments import (
    FIXED_BITS,
    moments_of_intensity,
    nearest_float,
    standard_deviation,
    sum_and_squares,
    to_fixed,
)

__all__ = [
    "MAX_DISTINCT",
    "QUANTILES",
    "Distribution",
    "ValueHistogram",
    "case_weighted",
    "combined",
    "pooled",
]

QUANTILES = (Fraction(1, 200), Fraction(1, 10), Fraction(1, 2), Fraction(9, 10), Fraction(199, 200))
"""Shares of the five quantiles that a fingerprint states."""


@dataclass(frozen=True, eq=False)
class Distribution:
    """How the intensities of one channel in one region of one case are distributed; frozen and compact."""

    values: NDArray[Any]
    """Distinct stored values, ascending; lower edges of bins where :attr:`step` is not 0."""
    counts: NDArray[Any]
    """Voxels of each, in the narrowest unsigned type."""
    slope: float
    intercept: float
    step: float
    """Width of a bin in stored values; 0.0 where every value has its own counter."""
    extent: tuple[float, float]
    """Smallest and largest stored value."""
    sums: tuple[int, int]
    """Exact sums of stored values and of their squares, in the units of :mod:`.moments`."""

    @classmethod
    def of(
        cls, histogram: ValueHistogram, slope: float = 1.0, intercept: float = 0.0, zeros: int = 0
    ) -> Self | None:
        """The distribution of a histogram, with so many voxels of intensity 0; None without any voxel."""
        values, counts = histogram.table()
        total, squares = histogram.sums()
        extent = histogram.extent()
        if zeros:
            if histogram.zero is None:
                msg = f"no stored {histogram.dtype} has the intensity 0, so {zeros} zero voxels cannot be"
                raise ValueError(msg)
            zero = np.array([histogram.zero[0]], histogram.dtype)
            added = sum_and_squares(zero)
            total, squares = total + zeros * added[0], squares + zeros * added[1]
            place = histogram.bins_of(zero)
            at = int(np.searchsorted(values, place[0]))
            if at < values.size and values[at] == place[0]:
                counts = counts.copy()
                counts[at] += zeros
            else:
                values, counts = np.insert(values, at, place), np.insert(counts, at, zeros)
            low, high = (zero[0], zero[0]) if extent is None else extent
            extent = (min(low, zero[0]), max(high, zero[0]))
        if extent is None:
            return None
        return cls(
            values=values,
            counts=smallest_counts(counts),
            slope=float(slope),
            intercept=float(intercept),
            step=histogram.step,
            extent=(float(extent[0]), float(extent[1])),
            sums=(total, squares),
        )

    @cached_property
    def count(self) -> int:
        """Voxels."""
        return int(self.counts.sum(dtype=np.int64))

    def intensity(self, stored: NDArray[Any]) -> NDArray[np.float64]:
        """``slope`` * stored + ``intercept`` in float64; beyond its range the largest finite number."""
        if (self.slope, self.intercept) == (1.0, 0.0):
            return stored.astype(np.float64)
        with np.errstate(over="ignore"):
            result = stored.astype(np.float64) * self.slope + self.intercept
        largest = np.finfo(np.float64).max
        return np.clip(result, -largest, largest)

    @cached_property
    def range(self) -> tuple[float, float]:
        """Smallest and largest intensity."""
        low, high = self.intensity(np.array(self.extent))
        return (float(high), float(low)) if self.slope < 0 else (float(low), float(high))

    @property
    def error(self) -> float:
        """Bound on the error of every intensity of :meth:`table`: half a bin, and rounding to float64."""
        if not self.step:
            return 0.0
        rounding = math.ulp(max(abs(end) for end in self.range))
        return abs(self.slope) * self.step / 2 + 2 * rounding

    def table(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Intensities, ascending (the middle of bins), and how many voxels have each."""
        stored = self.values
        if self.step:
            whole = self.values.dtype.kind != "f"
            stored = self.values.astype(np.float64) + (self.step - whole) / 2
        intensities = self.intensity(stored)
        if self.step:
            intensities = np.clip(intensities, *self.range)
        counts = self.counts.astype(np.int64)
        return (intensities[::-1], counts[::-1]) if self.slope < 0 else (intensities, counts)

    def moments(self) -> tuple[Fraction, Fraction]:
        """Exact mean of the intensity and of its square."""
        return moments_of_intensity(*self.sums, self.count, self.slope, self.intercept)

    def statistics(self) -> IntensityStatistics:
        """The numbers that the fingerprint states."""
        intensities, counts = self.table()
        ranks = [max(1, -(-q.numerator * self.count // q.denominator)) for q in QUANTILES]
        quantiles = intensities[np.searchsorted(np.cumsum(counts), ranks)]
        return _statistics(self.count, *self.moments(), self.range, [float(v) for v in quantiles], self.error)

    def state(self) -> dict[str, Any]:
        """Everything, as arrays and plain numbers, for a sidecar."""
        return {
            "values": self.values,
            "counts": self.counts,
            "slope": self.slope,
            "intercept": self.intercept,
            "step": self.step,
            "extent": self.extent,
            "sums": self.sums,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """The distribution whose :meth:`state` this is."""
        return cls(
            values=np.asarray(state["values"]),
            counts=np.asarray(state["counts"]),
            slope=float(state["slope"]),
            intercept=float(state["intercept"]),
            step=float(state["step"]),
            extent=(float(state["extent"][0]), float(state["extent"][1])),
            sums=(int(state["sums"][0]), int(state["sums"][1])),
        )


def case_weighted(distributions: Iterable[Distribution | None]) -> IntensityStatistics | None:
    """Statistics in which every case with voxels weighs the same, as in nnU-Net; None without any voxel."""
    return combined(distributions)[0]


def pooled(distributions: Iterable[Distribution | None]) -> IntensityStatistics | None:
    """Statistics in which every voxel weighs the same; None without any voxel."""
    return combined(distributions)[1]


def combined(
    distributions: Iterable[Distribution | None],
) -> tuple[IntensityStatistics | None, IntensityStatistics | None]:
    """Statistics with every case weighing the same, and with every voxel weighing the same.

    ``distributions`` is gone through three times and nothing of it is kept, so it may load its items as it
    goes.
    """
    by_case, by_voxel = _Moments(), _Moments()
    ranges: list[tuple[float, float]] = []
    error = 0.0
    for distribution in distributions:
        if distribution is None:
            continue
        first, second = distribution.moments()
        by_case.add(1, first, second)
        by_voxel.add(distribution.count, first, second)
        ranges.append(distribution.range)
        error = max(error, distribution.error)
    if not ranges:
        return None, None

    def components() -> Iterator[Component]:
        for distribution in distributions:
            if distribution is not None:
                yield Component(*distribution.table(), (distribution.count, 1))

    targets = [[q * moments.weight for q in QUANTILES] for moments in (by_case, by_voxel)]
    quantiles = mixture_quantiles(components, targets)
    extent = min(low for low, _ in ranges), max(high for _, high in ranges)
    weighted, together = (
        _statistics(by_voxel.weight, *moments.means(), extent, found, error)
        for moments, found in zip((by_case, by_voxel), quantiles, strict=True)
    )
    return weighted, together


@dataclass
class _Moments:
    """Exact weighted sums of the means of cases, and of their squares."""

    weight: int = 0
    first: int = 0
    second: int = 0

    def add(self, weight: int, first: Fraction, second: Fraction) -> None:
        self.weight += weight
        self.first += to_fixed(weight * first)
        self.second += to_fixed(weight * second)

    def means(self) -> tuple[Fraction, Fraction]:
        unit = self.weight << FIXED_BITS
        return Fraction(self.first, unit), Fraction(self.second, unit)


def _statistics(
    count: int,
    mean: Fraction,
    square: Fraction,
    extent: tuple[float, float],
    quantiles: Sequence[float],
    error: float,
) -> IntensityStatistics:
    return IntensityStatistics(
        count=count,
        mean=nearest_float(mean),
        std=standard_deviation(mean, square),
        min=extent[0],
        max=extent[1],
        percentile_00_5=quantiles[0],
        percentile_10=quantiles[1],
        median=quantiles[2],
        percentile_90=quantiles[3],
        percentile_99_5=quantiles[4],
        quantile_error=error,
    )
