"""Where patches come from: allowed boxes, foreground voxels, origins. Pure numpy; everything ZYX.

Rules as in nnU-Net's loader (2.8.1, ``training/dataloading/base_data_loader.py``): the case is drawn
uniformly; a forced foreground patch draws one of the case's classes uniformly, then one of its voxels, and is
centred there as far as the borders let it; any other patch is uniform over all positions. A patch larger than
its box is centred on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxplan.profiling.formats.base import Region

from .schema import SpatialBlock, Split

Triple = tuple[int, int, int]

LOCATIONS = 10_000
"""Foreground voxels kept a class and case, as in nnU-Net; shared among more classes than ``FULL_CLASSES``."""
FULL_CLASSES = 10
"""Classes that get the full number of locations."""
FEWEST_LOCATIONS = 100
"""Kept a class, however many classes there are."""


@dataclass(frozen=True, slots=True)
class Box:
    """Half-open bounds of stored voxels of one case; patches stay inside."""

    start: Triple
    stop: Triple

    @property
    def voxels(self) -> int:
        """How many voxels it has."""
        return int(np.prod([stop - start for start, stop in zip(self.start, self.stop, strict=True)]))


def allowed_boxes(case: str, shape: Triple, split: Split | None, *, training: bool) -> tuple[Box, ...]:
    """Where one part of a split allows patches of a case; nothing where the case belongs to the other part.

    Without a split everything is allowed. A case that the split does not know may be trained on (it was not
    held out), but not validated.
    """
    whole = Box((0, 0, 0), shape)
    if split is None:
        return (whole,)
    own, other = (split.train, split.validation) if training else (split.validation, split.train)
    own_blocks = split.train_blocks if training else split.validation_blocks
    other_blocks = split.validation_blocks if training else split.train_blocks
    blocks = [block for block in own_blocks if block.case == case]
    if blocks:
        return tuple(_block_box(block, shape) for block in blocks)
    if case in own:
        return (whole,)
    held_back = case in other or any(block.case == case for block in other_blocks)
    return (whole,) if training and not held_back else ()


def _block_box(block: SpatialBlock, shape: Triple) -> Box:
    if block.axis not in (0, 1, 2) or not 0 <= block.start < block.stop <= shape[block.axis]:
        msg = (
            f"case {block.case}: the split's block from {block.start} to {block.stop} on axis {block.axis} "
            f"is not inside the volume of shape {shape} (ZYX): the plan was made from other data"
        )
        raise ValueError(msg)
    start, stop = [0, 0, 0], list(shape)
    start[block.axis], stop[block.axis] = block.start, block.stop
    return Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))


def scan_regions(box: Box, block: Triple, voxel_bytes: int, budget: int) -> Iterator[Region]:
    """Regions that cover a box in ascending order, whole blocks of storage, each within ``budget`` bytes.

    Planes are kept whole as long as one row of blocks fits; a single block may exceed the budget.
    """
    sizes = [stop - start for start, stop in zip(box.start, box.stop, strict=True)]
    steps = list(sizes)
    for axis in range(3):
        others = int(np.prod([steps[other] for other in range(3) if other != axis])) * voxel_bytes
        fitting = max(1, budget // max(1, others))
        steps[axis] = min(sizes[axis], max(block[axis], fitting // block[axis] * block[axis]))
        if steps[axis] * others <= budget:
            break
    ranges = [
        [(low, min(low + step, stop)) for low in range(start, stop, step)]
        for start, stop, step in zip(box.start, box.stop, steps, strict=True)
    ]
    for z in ranges[0]:
        for y in ranges[1]:
            for x in ranges[2]:
                yield slice(*z), slice(*y), slice(*x)


class LocationReservoir:
    """A uniform sample of the voxels of each class, from blocks in any order, in bounded memory.

    Every voxel has a pseudo-random rank that depends on its place and the seed alone; those of lowest rank
    stay. So the sample depends neither on block sizes nor on their order.
    """

    def __init__(self, groups: Sequence[tuple[int, ...]] | None, shape: Triple, seed: int) -> None:
        """``groups``: label values of each class; None: one class of all values above 0."""
        self._groups = groups
        self._shape = shape
        self._seed = seed
        count = 1 if groups is None else len(groups)
        self._limit = max(FEWEST_LOCATIONS, LOCATIONS * min(count, FULL_CLASSES) // max(1, count))
        self._indices = [np.empty(0, np.int64) for _ in range(count)]
        self._ranks = [np.empty(0, np.uint64) for _ in range(count)]

    def add(self, labels: NDArray[Any], origin: Triple) -> None:
        """A block ``(z, y, x)`` whose first voxel stands at ``origin``."""
        for group in range(len(self._indices)):
            mask = labels > 0 if self._groups is None else np.isin(labels, self._groups[group])
            z, y, x = np.nonzero(mask)
            if not z.size:
                continue
            _, height, width = self._shape
            indices = ((z + origin[0]) * height + (y + origin[1])) * width + (x + origin[2])
            self._keep(group, indices)

    def _keep(self, group: int, indices: NDArray[np.int64]) -> None:
        ranks = _rank(indices, self._seed)
        if len(self._indices[group]) == self._limit:
            better = ranks < self._ranks[group].max()
            indices, ranks = indices[better], ranks[better]
        indices = np.concatenate([self._indices[group], indices])
        ranks = np.concatenate([self._ranks[group], ranks])
        if len(indices) > self._limit:
            lowest = np.argpartition(ranks, self._limit - 1)[: self._limit]
            indices, ranks = indices[lowest], ranks[lowest]
        self._indices[group], self._ranks[group] = indices, ranks

    def locations(self) -> tuple[NDArray[np.int32], ...]:
        """Per class with voxels, their ZYX indices ``(n, 3)``, in the order of the volume."""
        found = [np.sort(indices) for indices in self._indices if indices.size]
        return tuple(
            np.stack(np.unravel_index(indices, self._shape), axis=1).astype(np.int32) for indices in found
        )


def _rank(indices: NDArray[np.int64], seed: int) -> NDArray[np.uint64]:
    """SplitMix64 (Steele, Lea, Flood 2014): a well-mixed word for each index."""
    word = indices.astype(np.uint64) + np.uint64((seed * 0x9E3779B97F4A7C15 + 0x9E3779B97F4A7C15) % 2**64)
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return word ^ (word >> np.uint64(31))


def is_forced(index: int, batch_size: int, share: float) -> bool:
    """Whether the sample with this running index is centred on foreground.

    In a batch of two and more the last ``share`` of the samples are, rounded as nnU-Net rounds (at batch 2
    one of two); with batch 1, ``share`` of all steps, evenly spread.
    """
    if batch_size == 1:
        return int((index + 1) * share) > int(index * share)
    return index % batch_size >= round(batch_size * (1 - share))


def choose_origin(
    rng: np.random.Generator,
    window: Sequence[tuple[int, int]],
    patch: Sequence[int],
    centre: Sequence[int] | None = None,
) -> Triple:
    """First voxel of a patch in a window (half-open per axis); outside it only where the patch is larger."""
    origin = []
    for axis, ((start, stop), size) in enumerate(zip(window, patch, strict=True)):
        room = stop - start - size
        if room <= 0:
            origin.append(start - (-room) // 2)
        elif centre is None:
            origin.append(int(rng.integers(start, start + room + 1)))
        else:
            origin.append(min(max(int(centre[axis]) - size // 2, start), start + room))
    return origin[0], origin[1], origin[2]
