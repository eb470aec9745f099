"""Exact, mergeable counts of the stored values of one channel in one region.

Up to 16 bits every value has its counter. Wider types keep the sorted distinct values. Where more than 2^20
are distinct, neighbours share a bin: the bins are [k * 2^p, (k + 1) * 2^p) with the smallest ``p`` that
leaves at most 2^20 of them in use. Bins of one ``p`` nest in those of the next, so ``p``, and with it every
number, depends on the values alone and not on the order in which they came; and as more than 2^20 bins were
in use at ``p`` - 1, a bin is narrower than 2^-19 of the range of the values. Counts, sums, minimum and
maximum stay exact. That is why one pass over the voxels is enough.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from .binning import bin_indices, bins, edges_of, fitting_power, has_indices, smallest_power
from .codec import dtype_of
from .counting import collapse, count_distinct, decode, encode, merge_counts, places_in_use
from .dense import count_dense, count_divided
from .moments import sum_and_squares

MAX_DISTINCT = 1 << 20
"""Distinct values (or bins) of one histogram: 16 MiB."""
Zero = tuple[Any, Any]
"""Smallest and largest stored value whose intensity is 0."""

_PENDING = 1 << 18
"""Distinct values that wait until they are merged, at least: sorting fewer at a time costs more in total."""
_WINDOW = 1 << 21
"""Bins around the median that are counted without sorting: 16 MiB of counters."""


class ValueHistogram:
    """How often each stored value occurs; zeros and non-finite voxels are counted apart.

    Args:
        dtype: native type of the stored values: bool, integers or float16 to float64.
        zero: stored values whose intensity is 0 (see :func:`.binning.stored_zero`); they go to :attr:`zeros`.
        limit: distinct values kept before neighbours share a bin.
    """

    def __init__(
        self, dtype: np.dtype[Any] | type, zero: Zero | None = None, limit: int = MAX_DISTINCT
    ) -> None:
        self.dtype = np.dtype(dtype).newbyteorder("=")
        if self.dtype.kind not in "biuf" or self.dtype.itemsize > 8:
            msg = f"voxels must be bool, integers or floats of at most 64 bits, got {self.dtype}"
            raise TypeError(msg)
        self.zero = zero
        self.limit = limit
        self.zeros = 0
        self.non_finite = 0
        self._dense = self.dtype.itemsize <= 2
        self._exact_power = smallest_power(self.dtype)
        self._power = self._exact_power
        self._sums = (0, 0)
        self._extent: tuple[Any, Any] | None = None
        self._values: NDArray[Any] = np.empty(0, self.dtype)
        self._counts: NDArray[np.int64] = np.zeros(
            1 << 8 * self.dtype.itemsize if self._dense else 0, np.int64
        )
        self._pending: list[tuple[NDArray[Any], NDArray[np.int64]]] = []
        self._pending_size = 0
        self._window: NDArray[np.int64] | None = None
        self._first = 0
        self._zero_places = slice(0, 0)
        """Of the counters of :attr:`zero`, for integers of at most 16 bits."""
        if self._dense and self.dtype.kind != "f" and zero is not None:
            first, last = encode(np.array(zero, self.dtype)).tolist()
            self._zero_places = slice(first, last + 1)

    @property
    def exact(self) -> bool:
        """Whether every distinct value still has its own counter."""
        return self._power == self._exact_power

    @property
    def step(self) -> float:
        """Width of a bin in stored values; 0.0 where counts are exact."""
        return 0.0 if self.exact else math.ldexp(1.0, self._power)

    def bins_of(self, values: NDArray[Any]) -> NDArray[Any]:
        """The entries of :meth:`table` that count these values."""
        return values if self.exact else bins(values, self._power)

    def add(self, values: NDArray[Any]) -> None:
        """Count an array of any shape, stored values of :attr:`dtype`."""
        flat = np.ascontiguousarray(values).reshape(-1)
        if flat.dtype != self.dtype:
            msg = f"this histogram counts {self.dtype}, got {flat.dtype}"
            raise TypeError(msg)
        if self._dense:
            count_dense(flat, self._counts)
            return
        start = 0
        while start < flat.size:
            size = _PENDING if self.exact else _WINDOW // 2
            self._add_wide(flat[start : start + size])
            start += size

    def add_divided(self, values: NDArray[Any], mask: NDArray[np.bool_], inside: ValueHistogram) -> None:
        """Count the values outside a mask of the same shape here, and the others in ``inside``."""
        flat, chosen = (np.ascontiguousarray(array).reshape(-1) for array in (values, mask))
        if self._dense and flat.dtype == self.dtype == inside.dtype:
            count_divided(flat, chosen, self._counts, inside._counts)
            return
        inside.add(flat[chosen])
        self.add(flat[~chosen])

    @property
    def empty(self) -> int:
        """How many of the voxels counted so far are 0 or not finite."""
        if self._dense and self.dtype.kind == "f":
            self._settle_dense()
        return self.zeros + self.non_finite + int(self._counts[self._zero_places].sum())

    def _add_wide(self, values: NDArray[Any]) -> None:
        if values.dtype.kind == "f":
            finite = np.isfinite(values)
            if not finite.all():
                self.non_finite += int(values.size - np.count_nonzero(finite))
                values = values[finite]
        if not self.exact:
            self._add_binned(values)
            return
        distinct, counts = count_distinct(values)
        if self.zero is not None:
            first, last = (
                np.searchsorted(distinct, self.zero[0]),
                np.searchsorted(distinct, self.zero[1], "right"),
            )
            self.zeros += int(counts[first:last].sum())
            distinct, counts = np.delete(distinct, slice(first, last)), np.delete(counts, slice(first, last))
        self._append(distinct, counts)

    def _add_binned(self, values: NDArray[Any]) -> None:
        """Take zeros out, add the rest to the exact sums and extent, and count its bins."""
        if self.zero is not None:
            is_zero = values == self.zero[0]
            if self.zero[0] != self.zero[1]:
                is_zero = (values >= self.zero[0]) & (values <= self.zero[1])
            zeros = int(np.count_nonzero(is_zero))
            if zeros:
                self.zeros += zeros
                values = values[~is_zero]
        if not values.size:
            return
        self._add_sums(*sum_and_squares(values))
        low, high = values.min(), values.max()
        self._widen(low, high)
        if self._window is None:
            self._open_window()
        if self._window is not None and has_indices(low, high, self._power):
            indices = bin_indices(values, self._power) - self._first
            outside = (indices < 0) | (indices >= _WINDOW)
            if outside.any():
                values, indices = values[outside], indices[~outside]
            else:
                values = values[:0]
            self._window += np.bincount(indices, minlength=_WINDOW)
        self._append(*count_distinct(bins(values, self._power)))

    def _open_window(self) -> None:
        """Counters for the bins around the median of those in use: most voxels need no sorting then."""
        if self._values.size and has_indices(self._values[0], self._values[-1], self._power):
            indices = bin_indices(self._values, self._power)
            middle = int(indices[np.searchsorted(np.cumsum(self._counts), self._counts.sum() // 2)])
            self._first = middle - _WINDOW // 2
            self._window = np.zeros(_WINDOW, np.int64)

    def _close_window(self) -> None:
        """Move the counts of the window to those that wait."""
        if self._window is None:
            return
        used = np.flatnonzero(self._window)
        if used.size:
            edges = edges_of(used + self._first, self._power, self.dtype)
            self._pending.append((edges, self._window[used]))
        self._window = None

    def _add_sums(self, total: int, squares: int) -> None:
        self._sums = (self._sums[0] + total, self._sums[1] + squares)

    def _widen(self, low: Any, high: Any) -> None:
        low, high = low + self.dtype.type(0), high + self.dtype.type(0)  # -0.0 becomes 0.0
        self._extent = (
            (low, high) if self._extent is None else (min(self._extent[0], low), max(self._extent[1], high))
        )

    def _append(self, values: NDArray[Any], counts: NDArray[np.int64]) -> None:
        if values.size:
            self._pending.append((values, counts))
            self._pending_size += values.size
            if self._pending_size > max(_PENDING, self._values.size):
                self._compact()

    def _compact(self) -> None:
        """Merge what waits, and widen the bins if too many are in use."""
        self._close_window()
        if not self._pending:
            return
        parts = [(self._values, self._counts), *self._pending]
        self._pending, self._pending_size = [], 0
        self._values, self._counts = merge_counts(parts)
        if self._values.size > self.limit:
            self._coarsen()

    def _coarsen(self) -> None:
        if self.exact:
            self._add_sums(*sum_and_squares(self._values, self._counts))
            self._widen(self._values[0], self._values[-1])
        power = fitting_power(self._values, self._power, self.limit)
        self._values, self._counts = collapse(bins(self._values, power), self._counts)
        self._power = power

    def _coarsen_to(self, power: int) -> None:
        """Widen the bins to ``power``, as a merge needs that."""
        self._compact()
        if power <= self._power:
            return
        if self.exact and self._values.size:
            self._add_sums(*sum_and_squares(self._values, self._counts))
            self._widen(self._values[0], self._values[-1])
        self._values, self._counts = collapse(bins(self._values, power), self._counts)
        self._power = power

    def merge(self, other: ValueHistogram) -> None:
        """Add the counts of another histogram of the same type, zero and limit; ``other`` stays as it is."""
        if (self.dtype, self.zero, self.limit) != (other.dtype, other.zero, other.limit):
            mine, theirs = (self.dtype, self.zero), (other.dtype, other.zero)
            msg = f"histograms of {mine} and {theirs} (type, zero) do not merge"
            raise ValueError(msg)
        self.zeros += other.zeros
        self.non_finite += other.non_finite
        if self._dense:
            self._counts += other._counts
            return
        other._compact()
        self._coarsen_to(other._power)
        values, counts = other._values, other._counts
        if not self.exact:
            if other.exact:
                self._add_sums(*sum_and_squares(values, counts))
                extent = (values[0], values[-1]) if values.size else None
                values, counts = collapse(bins(values, self._power), counts)
            else:
                self._add_sums(*other._sums)
                extent = other._extent
                values, counts = collapse(bins(values, self._power), counts)
            if extent is not None:
                self._widen(*extent)
        self._append(values, counts.copy())
        self._compact()

    def table(self) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Distinct values without zeros (of bins the lower edges), ascending, and their counts."""
        if not self._dense:
            self._compact()
            return self._values, self._counts
        self._settle_dense()
        used = places_in_use(self._counts)
        values = decode(used, self.dtype)
        if self.dtype.kind == "f":
            order = np.argsort(values)
            values, used = values[order], used[order]
        return values, self._counts[used]

    def _settle_dense(self) -> None:
        """Move zeros and non-finite values from the counters to where they belong."""
        if self.dtype.kind == "f":
            self._settle_floats()
            return
        self.zeros += int(self._counts[self._zero_places].sum())
        self._counts[self._zero_places] = 0

    def _settle_floats(self) -> None:
        positive, negative = encode(np.array([0.0, -0.0], self.dtype))
        self._counts[positive] += self._counts[negative]
        self._counts[negative] = 0
        used = places_in_use(self._counts)
        stored = decode(used, self.dtype)
        finite = np.isfinite(stored)
        self.non_finite += int(self._counts[used[~finite]].sum())
        self._counts[used[~finite]] = 0
        if self.zero is not None:
            zero = used[(stored >= self.zero[0]) & (stored <= self.zero[1])]
            self.zeros += int(self._counts[zero].sum())
            self._counts[zero] = 0

    def sums(self) -> tuple[int, int]:
        """Exact sums of the stored values (without zeros) and of their squares; see :mod:`.moments`."""
        values, counts = self.table()
        return sum_and_squares(values, counts) if self.exact else self._sums

    def extent(self) -> tuple[Any, Any] | None:
        """Smallest and largest stored value (without zeros), or None where there is none."""
        values, _ = self.table()
        if not self.exact:
            return self._extent
        return (values[0], values[-1]) if values.size else None

    def state(self) -> dict[str, Any]:
        """Everything, as arrays and plain numbers, for a journal."""
        values, counts = self.table()
        return {
            "dtype": self.dtype.str,
            "zero": self.zero,
            "limit": self.limit,
            "zeros": self.zeros,
            "non_finite": self.non_finite,
            "power": self._power,
            "sums": self._sums,
            "extent": self._extent,
            "values": values,
            "counts": smallest_counts(counts),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """The histogram whose :meth:`state` this is."""
        zero = state["zero"]
        histogram = cls(dtype_of(state["dtype"]), None if zero is None else tuple(zero), int(state["limit"]))
        histogram.zeros, histogram.non_finite = int(state["zeros"]), int(state["non_finite"])
        counts = state["counts"].astype(np.int64)
        if histogram._dense:
            histogram._counts[encode(state["values"])] = counts
            return histogram
        histogram._power = int(state["power"])
        histogram._sums = (int(state["sums"][0]), int(state["sums"][1]))
        histogram._extent = None if state["extent"] is None else tuple(state["extent"])
        histogram._values, histogram._counts = state["values"].astype(histogram.dtype), counts
        return histogram


def smallest_counts(counts: NDArray[np.int64]) -> NDArray[Any]:
    """Counts in the narrowest unsigned type that holds them."""
    return counts.astype(np.min_scalar_type(int(counts.max(initial=0))))
