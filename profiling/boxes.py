"""Bounding boxes that grow block by block, looking only at what lies outside of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .blocks import Box
from .formats.base import Region

Mask = Callable[[Region], NDArray[np.bool_]]
"""Which voxels of a part of the block (in its own coordinates) belong into the box."""


_ROWS = 64
"""Rows of a plane that are looked at together for its first voxel."""


def whole(shape: tuple[int, int, int]) -> Box:
    """The box of a whole volume."""
    return ((0, shape[0]), (0, shape[1]), (0, shape[2]))


def voxels_in(box: Box) -> int:
    """Voxels of a box."""
    return math.prod(high - low for low, high in box)


def union(first: Box | None, second: Box | None) -> Box | None:
    """Smallest box that holds both."""
    if first is None or second is None:
        return first or second
    return _box([[min(a[0], b[0]), max(a[1], b[1])] for a, b in zip(first, second, strict=True)])


def intersection(first: Box | None, second: Box | None) -> Box | None:
    """What two boxes share; None if nothing."""
    if first is None or second is None:
        return None
    shared = [[max(a[0], b[0]), min(a[1], b[1])] for a, b in zip(first, second, strict=True)]
    return _box(shared) if all(low < high for low, high in shared) else None


def contains(outer: Box, inner: Box | None) -> bool:
    """Whether a box lies in another; None lies in every box."""
    return inner is None or all(a[0] <= b[0] and b[1] <= a[1] for a, b in zip(outer, inner, strict=True))


def within(box: Box, region: Region) -> Region:
    """The part of a region that lies in a box, in coordinates of the region; empty slices if nothing does."""
    parts = []
    for (low, high), bounds in zip(box, region, strict=True):
        start = min(max(low, bounds.start), bounds.stop)
        parts.append(slice(start - bounds.start, max(start, min(high, bounds.stop)) - bounds.start))
    return (parts[0], parts[1], parts[2])


def grow(box: Box | None, region: Region, mask: Mask) -> Box | None:
    """The box, enlarged by those voxels of a block that lie outside of it.

    Args:
        box: so far; None if empty.
        region: where the block lies in the volume.
        mask: asked only for parts outside the box.
    """
    shape = [bounds.stop - bounds.start for bounds in region]
    if box is None:
        found = mask((slice(0, shape[0]), slice(0, shape[1]), slice(0, shape[2])))
        if not found.any():
            return None
        spans = [_span(found, axis) for axis in range(3)]
        return _box([[a + r.start, b + r.start] for (a, b), r in zip(spans, region, strict=True)])
    bounds = [list(side) for side in box]
    for axis in range(3):
        start = region[axis].start
        below = (0, min(shape[axis], bounds[axis][0] - start))
        above = (max(0, bounds[axis][1] - start), shape[axis])
        for low, high in (below, above):
            span = _outside_span(mask, shape, axis, low, high)
            if span is not None:
                bounds[axis] = [
                    min(bounds[axis][0], span[0] + start),
                    max(bounds[axis][1], span[1] + start),
                ]
    return _box(bounds)


def _outside_span(mask: Mask, shape: list[int], axis: int, low: int, high: int) -> tuple[int, int] | None:
    """First and one past the last occupied plane of a strip; None if it is empty."""
    if low >= high:
        return None
    if axis == 0:
        planes = range(low, high)
        first = next((z for z in planes if _occupied(mask, shape, z)), None)
        if first is None:
            return None
        return first, next(z for z in reversed(planes) if _occupied(mask, shape, z)) + 1
    found = mask(_strip(shape, axis, low, high))
    if not found.any():
        return None
    first, after = _span(found, axis)
    return first + low, after + low


def _occupied(mask: Mask, shape: list[int], plane: int) -> bool:
    """Whether a plane of a block holds a voxel: most do in the first rows that are looked at."""
    middle = shape[1] // 2
    return any(
        bool(mask((slice(plane, plane + 1), slice(low, low + _ROWS), slice(0, shape[2]))).any())
        for low in sorted(range(0, shape[1], _ROWS), key=lambda row: abs(row - middle))
    )


def _strip(shape: list[int], axis: int, low: int, high: int) -> Region:
    parts = [slice(0, size) for size in shape]
    parts[axis] = slice(low, high)
    return (parts[0], parts[1], parts[2])


def _span(found: NDArray[np.bool_], axis: int) -> tuple[int, int]:
    used = np.flatnonzero(found.any(axis=tuple(a for a in range(3) if a != axis)))
    return int(used[0]), int(used[-1]) + 1


def _box(bounds: list[list[Any]]) -> Box:
    (z0, z1), (y0, y1), (x0, x1) = bounds
    return ((int(z0), int(z1)), (int(y0), int(y1)), (int(x0), int(x1)))
