"""A model of PyTorch's CUDA caching allocator: replayed over a trace, it tells what is reserved.

Constants and rules as in ``c10/cuda/CUDACachingAllocator.cpp`` and ``c10/core/AllocatorConfig.h`` (torch
2.13) with the default ``PYTORCH_CUDA_ALLOC_CONF``: one stream, no ``max_split_size_mb``, no rounding to
powers of two.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass

MIN_BLOCK = 512
"""``kMinBlockSize``: every request is rounded up to a multiple of it."""
SMALL_SIZE = 2**20
"""``kSmallSize``: the largest request that the small pool serves."""
SMALL_BUFFER = 2 * 2**20
"""``kSmallBuffer``: segment of the small pool."""
LARGE_BUFFER = 20 * 2**20
"""``kLargeBuffer``: segment of the large pool for requests under ``MIN_LARGE_ALLOC``."""
MIN_LARGE_ALLOC = 10 * 2**20
"""``kMinLargeAlloc``: from here on a segment is made for the request."""
ROUND_LARGE = 2 * 2**20
"""``kRoundLarge``: such segments are rounded up to a multiple of it."""


class OutOfMemoryError(RuntimeError):
    """The replay needed more than its limit, as the GPU would."""


class Block:
    """A piece of a segment; ``before`` and ``after`` are its neighbours there."""

    __slots__ = ("after", "before", "free", "size", "small", "start")

    def __init__(self, start: int, size: int, small: bool) -> None:
        self.start, self.size, self.small = start, size, small
        self.free = True
        self.before: Block | None = None
        self.after: Block | None = None


def round_size(size: int) -> int:
    """Bytes that a request takes."""
    return max(MIN_BLOCK, -(-size // MIN_BLOCK) * MIN_BLOCK)


def segment_size(size: int) -> int:
    """Bytes that are asked from the driver for a rounded request that no cached block can serve."""
    if size <= SMALL_SIZE:
        return SMALL_BUFFER
    if size < MIN_LARGE_ALLOC:
        return LARGE_BUFFER
    return -(-size // ROUND_LARGE) * ROUND_LARGE


class Allocator:
    """Serves requests as the caching allocator would, and counts.

    Args:
        expandable_segments: as that option of ``PYTORCH_CUDA_ALLOC_CONF``: one growing segment a pool.
        limit: bytes that may be reserved; cached segments are then given back before giving up.
    """

    def __init__(self, *, expandable_segments: bool = False, limit: int | None = None) -> None:
        self.expandable_segments, self.limit = expandable_segments, limit
        self.allocated = self.reserved = 0
        self.peak_allocated = self.peak_reserved = 0
        self._free: dict[bool, list[tuple[int, int]]] = {True: [], False: []}
        self._by_start: dict[int, Block] = {}
        self._next = {True: 0, False: 1 << 60}
        """Addresses: the pools lie apart; segments never touch unless they are expandable."""
        self._last: dict[bool, Block | None] = {True: None, False: None}

    def allocate(self, size: int) -> Block:
        """A block of at least ``size`` bytes.

        Raises:
            OutOfMemoryError: it does not fit into ``limit``.
        """
        wanted = round_size(size)
        small = wanted <= SMALL_SIZE
        pool = self._free[small]
        found = bisect_left(pool, (wanted, -1))
        block = self._by_start[pool.pop(found)[1]] if found < len(pool) else self._grow(wanted, small)
        remaining = block.size - wanted
        if remaining >= MIN_BLOCK if small or self.expandable_segments else remaining > SMALL_SIZE:
            self._split(block, wanted)
        block.free = False
        self.allocated += block.size
        self.peak_allocated = max(self.peak_allocated, self.allocated)
        return block

    def release(self, block: Block) -> None:
        """Give a block back to its pool, merged with free neighbours."""
        self.allocated -= block.size
        block.free = True
        for neighbour in (block.before, block.after):
            if neighbour is not None and neighbour.free:
                self._take(neighbour)
                block = self._join(block, neighbour)
        insort(self._free[block.small], (block.size, block.start))

    def give_back(self) -> None:
        """Return every segment that is wholly free to the driver (``empty_cache``)."""
        for small, pool in self._free.items():
            kept = []
            for size, start in pool:
                block = self._by_start[start]
                alone = block.before is None and block.after is None
                if alone or (self.expandable_segments and block.after is None):
                    self._drop(block, small)
                else:
                    kept.append((size, start))
            pool[:] = kept

    def _drop(self, block: Block, small: bool) -> None:
        self.reserved -= block.size
        del self._by_start[block.start]
        if block.before is not None:
            block.before.after = None
        if self._last[small] is block:
            self._last[small] = block.before
            if self.expandable_segments:
                self._next[small] = block.start

    def _grow(self, wanted: int, small: bool) -> Block:
        page = SMALL_BUFFER if small else LARGE_BUFFER
        last = self._last[small]
        tail = last if self.expandable_segments and last is not None and last.free else None
        if self.expandable_segments:
            need = -(-(wanted - (tail.size if tail else 0)) // page) * page
        else:
            need = segment_size(wanted)
        if self.limit is not None and self.reserved + need > self.limit:
            self.give_back()
            if tail is not None and tail.start not in self._by_start:
                return self._grow(wanted, small)
            if self.reserved + need > self.limit:
                msg = f"{self.reserved + need} bytes needed, {self.limit} allowed"
                raise OutOfMemoryError(msg)
        self.reserved += need
        self.peak_reserved = max(self.peak_reserved, self.reserved)
        start = self._next[small]
        self._next[small] = start + need
        if tail is not None:
            self._take(tail)
            tail.size += need
            return tail
        block = Block(start, need, small)
        self._by_start[start] = block
        if self.expandable_segments:
            last = self._last[small]
            block.before = last
            if last is not None:
                last.after = block
        self._last[small] = block
        return block

    def _split(self, block: Block, wanted: int) -> None:
        rest = Block(block.start + wanted, block.size - wanted, block.small)
        block.size = wanted
        rest.before, rest.after = block, block.after
        if rest.after is not None:
            rest.after.before = rest
        block.after = rest
        self._by_start[rest.start] = rest
        if self._last[block.small] is block:
            self._last[block.small] = rest
        insort(self._free[block.small], (rest.size, rest.start))

    def _take(self, block: Block) -> None:
        pool = self._free[block.small]
        del pool[bisect_left(pool, (block.size, block.start))]

    def _join(self, one: Block, other: Block) -> Block:
        first, second = (one, other) if one.start < other.start else (other, one)
        first.size += second.size
        first.after = second.after
        if second.after is not None:
            second.after.before = first
        del self._by_start[second.start]
        if self._last[first.small] is second:
            self._last[first.small] = first
        first.free = True
        return first


@dataclass(frozen=True, slots=True)
class Replay:
    """Bytes over the events of a trace."""

    peak_allocated: int
    peak_reserved: int
    peak_event: int
    """Index of the event at which the allocated bytes are at their peak first."""
    allocated: tuple[int, ...]
    """After each event."""
    reserved: tuple[int, ...]
    served: tuple[int, ...]
    """Bytes that each block took: its size rounded up, plus what was too little to split off."""


def replay(
    events: Sequence[tuple[int, int]],
    sizes: Sequence[int],
    *,
    expandable_segments: bool = False,
    limit: int | None = None,
) -> Replay:
    """Serve a trace's events, in order.

    Args:
        events: ``(block, operation)`` for an allocation, ``(~block, operation)`` for its release.
        sizes: bytes of each block; blocks of no bytes take nothing.
        expandable_segments: see :class:`Allocator`.
        limit: see :class:`Allocator`.

    Raises:
        OutOfMemoryError: the events need more than ``limit``.
    """
    allocator = Allocator(expandable_segments=expandable_segments, limit=limit)
    held: dict[int, Block] = {}
    allocated: list[int] = []
    reserved: list[int] = []
    served = [0] * len(sizes)
    peak, where = 0, 0
    for index, (block, _) in enumerate(events):
        if block >= 0:
            if sizes[block] > 0:
                held[block] = allocator.allocate(sizes[block])
                served[block] = held[block].size
        elif ~block in held:
            allocator.release(held.pop(~block))
        if allocator.allocated > peak:
            peak, where = allocator.allocated, index
        allocated.append(allocator.allocated)
        reserved.append(allocator.reserved)
    return Replay(peak, allocator.peak_reserved, where, tuple(allocated), tuple(reserved), tuple(served))
