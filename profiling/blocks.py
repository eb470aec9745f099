"""How a volume is cut into blocks that fit into memory and agree with how it is stored."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import overload

from .formats.base import Region, VolumeHeader

Extent = tuple[int, int, int]
Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
"""Half-open ZYX bounds."""

BLOCK_VOXELS = 1 << 19
"""Voxels of a block where memory allows more: 1 MiB of 16 bits, so that later passes find it in the cache."""
COPIES = 3
"""Times a block may lie in memory while it is read and counted: compressed or raw, decoded, selected."""
VOXEL_SHARE = 0.5
"""Share of a worker's memory that blocks may take; interpreter, libraries and counters need the rest."""


class BlockTooLargeError(ValueError):
    """What must be read at once exceeds the memory of a worker; the text says both in MiB."""


def plan_blocks(headers: Sequence[VolumeHeader], bytes_per_voxel: int, memory: int) -> Extent:
    """Extent of the blocks in which volumes of one shape are read in lockstep.

    Args:
        headers: the volumes, of equal shape.
        bytes_per_voxel: of all that is read of one place.
        memory: bytes that a worker may use in all.

    Raises:
        BlockTooLargeError: a single chunk, plane or strip exceeds the memory.
    """
    shape = headers[0].shape
    _require_decodable(headers, memory)
    sequential = any(header.sequential for header in headers)
    available = int(memory * VOXEL_SHARE) // (COPIES * bytes_per_voxel)
    granule = _common_granule(headers, sequential)
    if math.prod(granule) > available:
        granule = _largest_granule(headers, sequential)
    if math.prod(granule) > available:
        needed = math.prod(granule) * COPIES * bytes_per_voxel / VOXEL_SHARE
        msg = (
            f"its smallest readable part of {' x '.join(map(str, granule))} voxels needs "
            f"{needed / 2**20:,.0f} MiB, more than the {memory / 2**20:,.0f} MiB of a worker; "
            f"allow more with --memory-per-worker"
        )
        raise BlockTooLargeError(msg)
    return _grown(granule, shape, min(available, max(BLOCK_VOXELS, math.prod(granule))))


def _require_decodable(headers: Sequence[VolumeHeader], memory: int) -> None:
    """A chunk may be far larger than its volume: it is decoded whole all the same."""
    largest = max(header.decoded_bytes for header in headers)
    if largest > memory * VOXEL_SHARE:
        msg = (
            f"one of its chunks, tiles or strips decodes to {largest / 2**20:,.0f} MiB, and a worker of "
            f"{memory / 2**20:,.0f} MiB has room for {memory * VOXEL_SHARE / 2**20:,.0f}; "
            f"allow more with --memory-per-worker"
        )
        raise BlockTooLargeError(msg)


def _common_granule(headers: Sequence[VolumeHeader], sequential: bool) -> Extent:
    """Smallest extent that is whole in the storage of every volume."""
    shape = headers[0].shape
    axes = [min(math.lcm(*(h.block[axis] for h in headers)), shape[axis]) for axis in range(3)]
    return (axes[0], shape[1], shape[2]) if sequential else (axes[0], axes[1], axes[2])


def _largest_granule(headers: Sequence[VolumeHeader], sequential: bool) -> Extent:
    """The largest storage unit among the volumes, where a common multiple would be too large."""
    shape = headers[0].shape
    if sequential:
        return (1, shape[1], shape[2])
    block = max((header.block for header in headers), key=math.prod)
    return (min(block[0], shape[0]), min(block[1], shape[1]), min(block[2], shape[2]))


def _grown(granule: Extent, shape: Extent, voxels: int) -> Extent:
    """As many granules as fit, the fastest axis first."""
    extent = list(granule)
    for axis in (2, 1, 0):
        times = voxels // max(1, math.prod(extent))
        extent[axis] = min(shape[axis], extent[axis] * max(1, times))
    return (extent[0], extent[1], extent[2])


class BlockGrid(Sequence[Region]):
    """All blocks of a volume in ascending order, each made when it is asked for.

    As a list, the blocks of some terabytes would take more memory than a worker has.
    """

    def __init__(self, shape: Extent, extent: Extent) -> None:
        self._shape, self._extent = shape, extent
        self._counts = tuple(-(-n // step) for n, step in zip(shape, extent, strict=True))

    def __len__(self) -> int:
        return math.prod(self._counts)

    @overload
    def __getitem__(self, index: int) -> Region: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Region]: ...
    def __getitem__(self, index: int | slice) -> Region | Sequence[Region]:
        if isinstance(index, slice):
            return _Blocks(self, range(len(self))[index])
        number = range(len(self))[index]
        rest, x = divmod(number, self._counts[2])
        z, y = divmod(rest, self._counts[1])
        steps = zip((z, y, x), self._extent, self._shape, strict=True)
        along = [slice(at * step, min((at + 1) * step, length)) for at, step, length in steps]
        return along[0], along[1], along[2]


class _Blocks(Sequence[Region]):
    """Some blocks of a grid."""

    def __init__(self, grid: BlockGrid, numbers: range) -> None:
        self._grid, self._numbers = grid, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> Region: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Region]: ...
    def __getitem__(self, index: int | slice) -> Region | Sequence[Region]:
        if isinstance(index, slice):
            return _Blocks(self._grid, self._numbers[index])
        return self._grid[self._numbers[index]]


def iterate_blocks(shape: Extent, extent: Extent, box: Box | None = None) -> Iterator[Region]:
    """Regions in ascending order that cover a volume, or those of them that touch a box."""
    box = box or ((0, shape[0]), (0, shape[1]), (0, shape[2]))
    starts = [range(low // step * step, high, step) for (low, high), step in zip(box, extent, strict=True)]
    for z in starts[0]:
        for y in starts[1]:
            for x in starts[2]:
                yield (
                    slice(z, min(z + extent[0], shape[0])),
                    slice(y, min(y + extent[1], shape[1])),
                    slice(x, min(x + extent[2], shape[2])),
                )
