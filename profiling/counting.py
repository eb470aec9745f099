"""Distinct values of one block and how often each occurs, and tables of them; see :mod:`.dense` for few bits.

Figures are nanoseconds a voxel on one core of an AMD EPYC with 512 KiB of second-level cache (numpy 2.4):
distinct float32 values by sorting 11, by ``bincount`` where they are whole 3.5.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_MAX_SPAN = 1 << 18
"""Span of whole numbers up to which counters are cheaper than sorting a chunk."""


def decode(ordinals: NDArray[np.intp], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Stored values that the counters at these places count."""
    if dtype.kind == "f":
        return (ordinals - (1 << 15)).astype(np.int16).view(dtype)
    if dtype.kind == "b":
        return ordinals.astype(np.uint8).view(dtype) if ordinals.size and ordinals.max() < 2 else ordinals > 0
    return (ordinals + int(np.iinfo(dtype).min)).astype(dtype)


def encode(values: NDArray[Any]) -> NDArray[np.int64]:
    """Places of the counters of stored values of at most 16 bits; the inverse of :func:`decode`."""
    if values.dtype.kind == "f":
        return values.view(np.int16).astype(np.int64) + (1 << 15)
    if values.dtype.kind == "b":
        return values.astype(np.int64)
    return values.astype(np.int64) - int(np.iinfo(values.dtype).min)


def places_in_use(counts: NDArray[np.int64]) -> NDArray[np.intp]:
    """Places of the counters that are not 0; of bools they are found five times faster than of numbers."""
    return np.flatnonzero(counts != 0)


def count_distinct(values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Distinct finite values, ascending, and how often each occurs; -0.0 counts as 0.0."""
    if not values.size:
        return values, np.zeros(0, np.int64)
    same = values == values[0]
    if 2 * np.count_nonzero(same) > values.size:
        others, found = count_distinct(values[~same])
        at = int(np.searchsorted(others, values[0]))
        commonest = values[:1] + values.dtype.type(0)
        return np.insert(others, at, commonest), np.insert(found, at, np.count_nonzero(same))
    low, high = values.min(), values.max()
    if values.dtype.kind == "f":
        near = bool(float(high) / 2 - float(low) / 2 < _MAX_SPAN / 2)
        whole = near and bool((np.rint(values) == values).all())
        if whole and abs(float(low)) < 2**23 and abs(float(high)) < 2**23:
            found = np.bincount((values - low).astype(np.int32))
            used = np.flatnonzero(found)
            return (used + int(low)).astype(values.dtype), found[used]
    elif int(high) - int(low) < _MAX_SPAN:
        found = np.bincount((values - low).astype(np.int32))
        used = np.flatnonzero(found)
        return used.astype(values.dtype) + low, found[used]
    ordered = np.sort(values)
    first = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    counts = np.diff(np.append(first, ordered.size))
    return ordered[first] + values.dtype.type(0), counts


def count_runs(values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """As :func:`count_distinct`, for contiguous integers that mostly equal their neighbour, as ids do."""
    if not values.size:
        return values, np.zeros(0, np.int64)
    starts = np.concatenate(([0], np.flatnonzero(values[1:] != values[:-1]) + 1))
    heads = values[starts]
    lengths = np.diff(np.append(starts, values.size))
    order = np.argsort(heads, kind="stable")
    return collapse(heads[order], lengths[order])


def collapse(ordered: NDArray[Any], counts: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Sum the counts of equal neighbours of an ascending array."""
    if not ordered.size:
        return ordered, counts.astype(np.int64)
    first = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    return ordered[first], np.add.reduceat(counts.astype(np.int64), first)


def merge_counts(
    parts: list[tuple[NDArray[Any], NDArray[np.int64]]],
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """One ascending table from several."""
    values = np.concatenate([v for v, _ in parts])
    counts = np.concatenate([c for _, c in parts])
    order = np.argsort(values, kind="stable")
    return collapse(values[order], counts[order])
