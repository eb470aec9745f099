"""Quantiles of a mixture of counted distributions, decided in integers and fractions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_CELL_BITS = 44
"""Low bits of a float64 that the first, coarse pass ignores: 256 cells an octave."""
_MARGIN = 1e-6
"""Relative margin of the coarse pass, far above the rounding of its float64 sums (10^6 terms of 2^-53)."""
_WAITING = 1 << 18
"""Cells that wait until they are added up: 4 MiB."""
_WAITING_PARTS = 1 << 10
"""Parts of components that wait until they are put into one table: an array takes 100 bytes of its own."""
_GUARD_BITS = 200
"""Fractional bits in which shares are compared before fractions decide a tie."""


class Component(NamedTuple):
    """One distribution: ascending values, their counts, and what a count is divided by in each mixture."""

    values: NDArray[np.float64]
    counts: NDArray[np.int64]
    divisors: tuple[int, ...]
    """One for each way of weighting."""


class _Candidates:
    """What can hold one quantile: the values in its bracket with their counts, and how many lie below it.

    Of many small components next to nothing is kept of each: equal values of one divisor are added up.
    """

    def __init__(self) -> None:
        self.below: dict[int, int] = {}
        """By divisor; every divisor of a component has an entry."""
        self._waiting: list[tuple[NDArray[np.float64], NDArray[np.int64], int]] = []
        self._size = 0
        self._tables: list[_Table] = []

    def add(self, values: NDArray[np.float64], counts: NDArray[np.int64], below: int, divisor: int) -> None:
        """One component's part."""
        self.below[divisor] = self.below.get(divisor, 0) + below
        if values.size:
            self._waiting.append((values.copy(), counts.copy(), divisor))
            self._size += values.size
            if len(self._waiting) >= _WAITING_PARTS or self._size >= _WAITING:
                self._settle()

    def table(self) -> _Table:
        """All values, by divisor and ascending."""
        self._settle()
        self._tables = [_merged(self._tables)] if self._tables else []
        return self._tables[0]

    def _settle(self) -> None:
        if self._waiting:
            divisors = [np.full(values.size, divisor) for values, _, divisor in self._waiting]
            waiting = _Table(
                np.concatenate([values for values, _, _ in self._waiting]),
                np.concatenate([counts for _, counts, _ in self._waiting]),
                np.concatenate(divisors),
            )
            self._tables.append(_merged([waiting]))
            self._waiting, self._size = [], 0


class _Table(NamedTuple):
    """Values with their counts and divisors, each a column."""

    values: NDArray[np.float64]
    counts: NDArray[np.int64]
    divisors: NDArray[np.int64]


def mixture_quantiles(
    components: Callable[[], Iterable[Component]], targets: Sequence[Sequence[Fraction]]
) -> list[list[float]]:
    """Smallest value v with (sum over components of counts up to v / divisor) >= target, for each target.

    Args:
        components: called twice; each call goes through all components, which need not all be in memory.
        targets: for each way of weighting: positive, at most the total weight.
    """
    cells, weights = _coarse(components(), len(targets))
    brackets = [
        [_bracket(cells, np.cumsum(weight), target) for target in wanted]
        for wanted, weight in zip(targets, weights, strict=True)
    ]
    candidates = [[_Candidates() for _ in wanted] for wanted in targets]
    for component in components():
        places = _cells(component.values)
        below = np.concatenate(([0], np.cumsum(component.counts)))
        for way, divisor in enumerate(component.divisors):
            edges = np.array(brackets[way])
            starts = np.searchsorted(places, edges[:, 0]).tolist()
            stops = np.searchsorted(places, edges[:, 1], "right").tolist()
            for chosen, a, b in zip(candidates[way], starts, stops, strict=True):
                chosen.add(component.values[a:b], component.counts[a:b], int(below[a]), divisor)
    return [
        [_decide(chosen, target) for chosen, target in zip(parts, wanted, strict=True)]
        for parts, wanted in zip(candidates, targets, strict=True)
    ]


def _bracket(cells: NDArray[np.int64], cumulated: NDArray[np.float64], target: Fraction) -> tuple[int, int]:
    """First and last cell in which a quantile can lie."""
    near = float(target)
    first = int(np.searchsorted(cumulated, near * (1 - _MARGIN)))
    last = min(int(np.searchsorted(cumulated, near * (1 + _MARGIN))), cells.size - 1)
    return int(cells[min(first, last)]), int(cells[last])


def _cells(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Place of each value in a grid with a fixed number of cells an octave; ascending with the values."""
    bits = (values + 0.0).view(np.int64)
    ordered = np.where(bits < 0, np.iinfo(np.int64).min - bits, bits)
    return np.asarray(ordered >> _CELL_BITS, np.int64)


def _coarse(components: Iterable[Component], ways: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Occupied cells, ascending, and (ways, cells) their weights: a guide to where quantiles can lie."""
    cells = np.zeros(0, np.int64)
    weights = np.zeros((ways, 0))
    waiting: list[tuple[NDArray[np.int64], NDArray[np.float64]]] = []
    size = 0
    for component in components:
        places = _cells(component.values)
        first = np.flatnonzero(np.concatenate(([True], places[1:] != places[:-1])))
        sums = np.add.reduceat(component.counts, first)
        waiting.append((places[first], sums / np.array(component.divisors, np.float64)[:, np.newaxis]))
        size += first.size
        if size > max(_WAITING, cells.size):
            cells, weights = _add_weights([(cells, weights), *waiting])
            waiting, size = [], 0
    return _add_weights([(cells, weights), *waiting])


def _add_weights(
    parts: list[tuple[NDArray[np.int64], NDArray[np.float64]]],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """One table, ascending, of several."""
    cells, places = np.unique(np.concatenate([c for c, _ in parts]), return_inverse=True)
    weights = np.concatenate([w for _, w in parts], axis=1)
    return cells, np.array([np.bincount(places, way, minlength=cells.size) for way in weights], np.float64)


def _merged(tables: Sequence[_Table]) -> _Table:
    """One table, by divisor and value, in which equal ones are added up."""
    values, counts, divisors = (np.concatenate(column) for column in zip(*tables, strict=True))
    order = np.lexsort((values, divisors))
    values, counts, divisors = values[order], counts[order], divisors[order]
    new = (values[1:] != values[:-1]) | (divisors[1:] != divisors[:-1])
    first = np.flatnonzero(np.concatenate(([True], new)))
    return _Table(values[first], np.add.reduceat(counts, first), divisors[first])


def _decide(candidates: _Candidates, target: Fraction) -> float:
    """Bisect among the candidate values with exact comparisons."""
    table = candidates.table()
    values = np.unique(table.values)
    low, high = 0, values.size - 1
    while low < high:
        middle = (low + high) // 2
        if _reaches(candidates.below, table, float(values[middle]), target):
            high = middle
        else:
            low = middle + 1
    return float(values[low])


def _reaches(below: Mapping[int, int], table: _Table, value: float, target: Fraction) -> bool:
    """Whether the share of the mixture up to ``value`` is at least ``target``; exact."""
    counted = dict(below)
    first = np.flatnonzero(np.concatenate(([True], table.divisors[1:] != table.divisors[:-1])))
    up_to = np.add.reduceat(np.where(table.values <= value, table.counts, 0), first)
    for divisor, count in zip(table.divisors[first].tolist(), up_to.tolist(), strict=True):
        counted[divisor] += count
    shares = sum((count << _GUARD_BITS) // divisor for divisor, count in counted.items())
    wanted = target * (1 << _GUARD_BITS)
    if shares >= wanted:
        return True
    if shares + len(counted) <= wanted:
        return False
    return sum((Fraction(count, divisor) for divisor, count in counted.items()), Fraction(0)) >= target
