"""Counting 8- and 16-bit values, every one of which has its counter.

``np.bincount`` takes 1.1 ns a voxel where neighbours differ, and 2.3 where they are equal, since each
addition to a counter waits for the one before. So segments of nothing but background are counted as a whole,
equal neighbours go to different counters ("lanes"), and one pass tells foreground from the rest. Figures are
nanoseconds a voxel on one core of a Xeon with 2 MiB of second-level cache (numpy 2.4). On CT and MR volumes
of which 54 to 93 % are background, selecting the foreground and counting it and the whole apart took 1.5 to
2.4, this 0.8 to 1.4.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_CHUNK = 1 << 19
"""Values looked through for background at a time: they and what is made of them stay in the cache."""
_PIECE = 1 << 16
"""Values that one ``bincount`` takes; from 2^15 to 2^17 it made no difference."""
_SEGMENT = 16
"""Values of a segment: shorter ones leave less to count, but take longer to select."""
_WORTHWHILE = 4
"""Segments are selected where at least one in so many is nothing but background."""
_LANE_BITS = 2
_LANES = 1 << _LANE_BITS
"""Neighbours that have counters of their own; eight were no faster."""
_LANE = (np.arange(_PIECE) % _LANES).astype(np.uint16)
_NARROW = 1 << 16
"""Counters up to which a key has 16 bits, and lanes fit into the cache."""
_PAIRS = 1 << 17
"""Pairs of bytes that one ``bincount`` takes; twice as many were a tenth slower."""
_FEW = 8
"""Largest byte up to which comparing with each value (0.1 ns a voxel and value) beats ``bincount``."""


def count_dense(values: NDArray[Any], counts: NDArray[np.int64]) -> None:
    """Add the counts of contiguous 8- or 16-bit values, in the order of :func:`.counting.encode`."""
    if values.dtype.itemsize == 1:
        _count_bytes(values, counts)
    else:
        _count_words(_as_integers(values), None, counts, counts)


def count_divided(
    values: NDArray[Any], mask: NDArray[np.bool_], outside: NDArray[np.int64], inside: NDArray[np.int64]
) -> None:
    """As :func:`count_dense`, the values in a mask apart from the others.

    Args:
        values: contiguous, one-dimensional.
        mask: of the same size, contiguous.
        outside: counters of the values where the mask is False.
        inside: counters of the others.
    """
    _count_words(_as_integers(values), mask, outside, inside)


def _as_integers(values: NDArray[Any]) -> NDArray[Any]:
    """Integers in the order of the counters: bits of floats, bytes of bools."""
    kinds: dict[str, Any] = {"f": np.int16, "b": np.uint8}
    return values.view(kinds[values.dtype.kind]) if values.dtype.kind in kinds else values


def _count_words(
    values: NDArray[Any],
    mask: NDArray[np.bool_] | None,
    outside: NDArray[np.int64],
    inside: NDArray[np.int64],
) -> None:
    origin = -int(np.iinfo(values.dtype).min)
    for start in range(0, values.size, _CHUNK):
        part = values[start : start + _CHUNK]
        if part.dtype.itemsize == 1:
            part = part.astype(np.int16)
        within = None if mask is None else mask[start : start + _CHUNK]
        busy = _busy_segments(part, within)
        quiet = busy.size - int(np.count_nonzero(busy))
        if quiet * _WORTHWHILE >= max(1, busy.size):
            outside[int(part[0]) + origin] += _SEGMENT * quiet
            part = _select(part, busy)
            within = None if within is None else _select(within, busy)
        if part.size:
            _count_keys(part, within, origin, outside, inside)


def _busy_segments(values: NDArray[Any], mask: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
    """Whether each segment of 16-bit values holds others than the first of all, or some of the mask."""
    whole = values.size // _SEGMENT * _SEGMENT
    background = np.repeat(values[:1], 4).view(np.uint64)
    busy: NDArray[np.bool_] = (values[:whole].view(np.uint64) != background).view(np.uint32) != 0
    if mask is not None:
        busy |= (mask[:whole].view(np.uint64) != 0).view(np.uint16) != 0
    return busy


def _select(values: NDArray[Any], busy: NDArray[np.bool_]) -> NDArray[Any]:
    """The values of busy segments, and those after the last segment."""
    whole = busy.size * _SEGMENT
    segments = values[:whole].view(f"V{_SEGMENT * values.dtype.itemsize}")
    chosen = segments.compress(busy).view(values.dtype)
    return np.concatenate((chosen, values[whole:])) if whole < values.size else chosen


def _count_keys(
    values: NDArray[Any],
    mask: NDArray[np.bool_] | None,
    origin: int,
    outside: NDArray[np.int64],
    inside: NDArray[np.int64],
) -> None:
    """Count 16-bit integers by keys of value (from the smallest on), mask and lane."""
    low = values.min()
    span = int(values.max()) - int(low) + 1
    bins = span if mask is None else 2 * span
    narrow = bins * _LANES <= _NARROW
    table = np.zeros(bins * _LANES if narrow else bins, np.int64)
    step = _PIECE if narrow else _CHUNK
    for start in range(0, values.size, step):
        key: NDArray[Any] = (values[start : start + step] - low).view(np.uint16)
        if not narrow:
            key = key.astype(np.uint32)
        if mask is not None:
            key <<= 1
            key |= mask[start : start + step]
        if narrow:
            key <<= _LANE_BITS
            key |= _LANE[: key.size]
        found = np.bincount(key)
        table[: found.size] += found
    if narrow:
        table = table[0::_LANES] + table[1::_LANES] + table[2::_LANES] + table[3::_LANES]
    at = slice(int(low) + origin, int(low) + origin + span)
    if mask is None:
        outside[at] += table
    else:
        outside[at] += table[0::2]
        inside[at] += table[1::2]


def _count_bytes(values: NDArray[Any], counts: NDArray[np.int64]) -> None:
    """8-bit values, two at a time; a remainder of one alone."""
    raw = values.view(np.uint8)
    largest = int(raw.max()) if raw.size else 0
    if largest <= _FEW:
        found = np.zeros(256, np.int64)
        for value in range(1, largest + 1):
            found[value] = np.count_nonzero(raw == value)
        found[0] = raw.size - int(found.sum())
    else:
        found = _count_pairs(raw)
    counts += np.roll(found, 128) if values.dtype.kind == "i" else found


def _count_pairs(raw: NDArray[np.uint8]) -> NDArray[np.int64]:
    even = raw.size & ~1
    pairs = raw[:even].view(np.uint16)
    table = np.bincount(pairs[:_PAIRS], minlength=1 << 16)
    for start in range(_PAIRS, pairs.size, _PAIRS):
        found = np.bincount(pairs[start : start + _PAIRS])
        table[: found.size] += found
    square = table.reshape(256, 256)
    total: NDArray[np.int64] = square.sum(axis=0) + square.sum(axis=1)
    if even < raw.size:
        total[raw[even]] += 1
    return total
