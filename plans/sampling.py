"""Where patches come from: allowed boxes, foreground voxels, origins. Pure numpy; everything ZYX.

Rules as in nnU-Net's loader (2.8.1, ``training/dataloading/base_data_loader.py``): the case is drawn
uniformly; a forced foreground patch draws one of the case's classes uniformly, then one of its voxels, and is
centred there as far as the borders let it; any other patch is uniform over all positions, or, where voxels
may be ignored, centred on one that is not. A patch larger than its box is centred on it.
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
ADDED_VOXELS = 2**22
"""Voxels that are looked at together; each that counts takes a few words of 64 bits meanwhile."""


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

    def __init__(
        self,
        groups: Sequence[tuple[int, ...]] | None,
        shape: Triple,
        seed: int,
        *,
        ignore: int | None = None,
    ) -> None:
        """``groups``: label values of each class; None: one class of all values above 0, but ``ignore``.

        With ``ignore``, voxels of all other values are sampled too; see :meth:`annotated`.
        """
        self._groups = groups
        self._ignore = ignore
        self._shape = shape
        self._seed = seed
        self._classes = 1 if groups is None else len(groups)
        limit = max(FEWEST_LOCATIONS, LOCATIONS * min(self._classes, FULL_CLASSES) // max(1, self._classes))
        annotated = 0 if ignore is None else 1
        self._limits = [limit] * self._classes + [LOCATIONS] * annotated
        self._indices = [np.empty(0, np.int64) for _ in self._limits]
        self._ranks = [np.empty(0, np.uint64) for _ in self._limits]

    def add(self, labels: NDArray[Any], origin: Triple) -> None:
        """A block ``(z, y, x)`` whose first voxel stands at ``origin``."""
        planes = max(1, ADDED_VOXELS // max(1, labels[0].size))
        for start in range(0, len(labels), planes):
            part = labels[start : start + planes]
            for group in range(len(self._limits)):
                z, y, x = np.nonzero(self._mask(part, group))
                if not z.size:
                    continue
                _, height, width = self._shape
                row = (z + origin[0] + start) * height + (y + origin[1])
                self._keep(group, row * width + (x + origin[2]))

    def _mask(self, labels: NDArray[Any], group: int) -> NDArray[np.bool_]:
        mask: NDArray[np.bool_]
        if group == self._classes:
            mask = labels != self._ignore
        elif self._groups is not None:
            mask = np.isin(labels, self._groups[group])
        elif self._ignore is None:
            mask = labels > 0
        else:
            mask = (labels > 0) & (labels != self._ignore)
        return mask

    def _keep(self, group: int, indices: NDArray[np.int64]) -> None:
        ranks = _rank(indices, self._seed)
        limit = self._limits[group]
        if len(self._indices[group]) == limit:
            better = ranks < self._ranks[group].max()
            indices, ranks = indices[better], ranks[better]
        indices = np.concatenate([self._indices[group], indices])
        ranks = np.concatenate([self._ranks[group], ranks])
        if len(indices) > limit:
            lowest = np.argpartition(ranks, limit - 1)[:limit]
            indices, ranks = indices[lowest], ranks[lowest]
        self._indices[group], self._ranks[group] = indices, ranks

    def locations(self) -> tuple[NDArray[np.int32], ...]:
        """Per class with voxels, their ZYX indices ``(n, 3)``, in the order of the volume."""
        return tuple(self._places(indices) for indices in self._indices[: self._classes] if indices.size)

    def annotated(self) -> NDArray[np.int32] | None:
        """Voxels of all values but ``ignore``, likewise; None where nothing is ignored, or everything is."""
        if self._ignore is None or not self._indices[self._classes].size:
            return None
        return self._places(self._indices[self._classes])

    def _places(self, indices: NDArray[np.int64]) -> NDArray[np.int32]:
        return np.stack(np.unravel_index(np.sort(indices), self._shape), axis=1).astype(np.int32)


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
