"""The allocator's model against torch's constants, examples by hand, and what must always hold."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from voxplan.planning.memory import allocator
from voxplan.planning.memory.allocator import Allocator, Block, OutOfMemoryError, replay

MIB = 2**20


def test_constants_are_torchs() -> None:
    header = Path(torch.__file__).parent.joinpath("include/c10/core/AllocatorConfig.h").read_text()
    theirs = {name: int(value) for name, value in re.findall(r"constexpr size_t (k\w+) = (\d+);", header)}
    assert theirs["kMinBlockSize"] == allocator.MIN_BLOCK
    assert theirs["kSmallSize"] == allocator.SMALL_SIZE
    assert theirs["kSmallBuffer"] == allocator.SMALL_BUFFER
    assert theirs["kMinLargeAlloc"] == allocator.MIN_LARGE_ALLOC
    assert theirs["kRoundLarge"] == allocator.ROUND_LARGE


@pytest.mark.parametrize(
    ("size", "allocated", "reserved"),
    [
        (1, 512, 2 * MIB),
        (512, 512, 2 * MIB),
        (513, 1024, 2 * MIB),
        (MIB, MIB, 2 * MIB),  # the largest small one
        (MIB + 1, MIB + 512, 20 * MIB),  # the smallest large one
        (10 * MIB - 1, 10 * MIB, 10 * MIB),  # rounded first, so no longer under 10 MiB
        (10 * MIB, 10 * MIB, 10 * MIB),
        (11 * MIB, 12 * MIB, 12 * MIB),  # 1 MiB left over is not more than 1 MiB: not split off
        (11 * MIB - 512, 11 * MIB - 512, 12 * MIB),  # more than 1 MiB left over: split off
        (19 * MIB, 20 * MIB, 20 * MIB),
    ],
)
def test_one_request(size: int, allocated: int, reserved: int) -> None:
    result = replay([(0, 0)], [size])
    assert (result.peak_allocated, result.peak_reserved) == (allocated, reserved)


def test_small_requests_share_a_segment() -> None:
    result = replay([(block, 0) for block in range(5)], [MIB // 2] * 5)
    assert result.allocated[-1] == 5 * MIB // 2
    assert result.reserved == (2 * MIB,) * 4 + (4 * MIB,)


def test_best_fit_takes_the_smallest_hole() -> None:
    # Holes of 40 and 30 MiB; 29.5 MiB goes into the second, and 40 MiB into the first.
    sizes = [40 * MIB, 30 * MIB, 29 * MIB + MIB // 2, 40 * MIB]
    result = replay([(0, 0), (1, 0), (~0, 0), (~1, 0), (2, 0), (3, 0)], sizes)
    assert result.peak_reserved == 70 * MIB
    # Half a MiB is too little to split off, so the third block takes the whole hole.
    assert result.served == (40 * MIB, 30 * MIB, 30 * MIB, 40 * MIB)


def test_free_neighbours_merge() -> None:
    # One segment of 60 MiB split in three; all freed, it serves 60 MiB again.
    sizes = [60 * MIB, 20 * MIB, 20 * MIB, 20 * MIB, 60 * MIB]
    events = [(0, 0), (~0, 0), (1, 0), (2, 0), (3, 0), (~1, 0), (~3, 0), (~2, 0), (4, 0)]
    assert replay(events, sizes).peak_reserved == 60 * MIB


def test_fragmentation_costs_and_expandable_segments_spare_it() -> None:
    # A 40 MiB hole cannot serve 60 MiB: 40 + 60 are reserved. A growing segment adds 20 MiB to the hole.
    events, sizes = [(0, 0), (~0, 0), (1, 0)], [40 * MIB, 60 * MIB]
    assert replay(events, sizes).peak_reserved == 100 * MIB
    assert replay(events, sizes, expandable_segments=True).peak_reserved == 60 * MIB


def test_under_a_limit_cached_segments_are_given_back() -> None:
    events, sizes = [(0, 0), (~0, 0), (1, 0)], [40 * MIB, 60 * MIB]
    assert replay(events, sizes, limit=60 * MIB).reserved == (40 * MIB, 40 * MIB, 60 * MIB)
    with pytest.raises(OutOfMemoryError, match="allowed"):
        replay(events, sizes, limit=59 * MIB)


@settings(max_examples=120, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 48 * MIB) | st.integers(1, 4096), min_size=1, max_size=40),
    choices=st.lists(st.integers(0, 10**6), min_size=40, max_size=40),
    expandable=st.booleans(),
)
def test_what_always_holds(sizes: list[int], choices: list[int], expandable: bool) -> None:
    model = Allocator(expandable_segments=expandable)
    held: list[tuple[int, Block]] = []
    for size, choice in zip(sizes, choices, strict=False):
        block = model.allocate(size)
        assert block.size >= size
        held.append((size, block))
        if choice % 3 == 0:
            model.release(held.pop(choice % len(held))[1])
        assert model.reserved >= model.allocated
        assert model.allocated == sum(block.size for _, block in held)
        spans = sorted((block.start, block.start + block.size) for _, block in held)
        assert all(stop <= start for (_, stop), (start, _) in pairwise(spans))
    before = model.reserved
    for _, block in held:
        model.release(block)
    assert model.allocated == 0
    assert model.reserved == before
    model.give_back()
    assert model.reserved == 0
