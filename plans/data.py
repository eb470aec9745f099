"""The patch loader of a plan: random patches, read lazily, normalized, resampled and padded as planned.

What sample ``i`` is depends on the seed and on ``i`` alone: not on workers, ranks, batch order or earlier
samples. So a run can be repeated, resumed, or spread over processes (:class:`PatchSampler` deals the numbers
out).

Augmentation is light: each patch axis is mirrored with probability 1/2, all of them (in 2D: both), as in
nnU-Net. Label maps are mirrored before targets are made of them, so that affinities keep their direction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from voxplan.profiling.formats.base import CaseSource, FormatError, ReadOptions

from .case_grid import CaseGrid, Patch, Places
from .case_reader import CaseHeader, CaseReader
from .loading import PatchSampler, SampleError, make_loader
from .prepared import free_disk, free_ram, holdable_ram, is_on_disk, prepared_bytes
from .sampling import Triple, allowed_boxes, choose_origin, is_forced
from .schema import Fold, Split
from .targets import LabelError, class_order, make_target, region_order

if TYPE_CHECKING:
    from .build import Plan

__all__ = ["PatchDataset", "PatchSampler", "PatchSpot", "Sample", "make_dataset", "make_loader"]

Sample = dict[str, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchSpot:
    """Where one sample lies."""

    case: int
    box: int
    origin: Triple
    """First voxel on the target grid; outside the box where the patch is larger."""
    forced: bool
    """Centred on a foreground voxel."""
    mirrored: tuple[bool, bool, bool]
    """Axes that are mirrored, ZYX."""


class PatchDataset(Dataset[Sample]):
    """Patches of some cases: ``{"image": float32 (C, *patch), "target": (channels, *patch)}``.

    The target is int16 class indices ``(1, *patch)``, or uint8 zeros and ones a channel (overlapping regions,
    affinity, boundary). ``len()`` is an epoch of the plan's schedule on one GPU; any index from 0 on is a
    sample.
    """

    def __init__(
        self,
        plan: Plan,
        cases: Sequence[CaseSource],
        *,
        training: bool = True,
        seed: int = 0,
        fold: Fold = 0,
        read: ReadOptions = ReadOptions(),  # noqa: B008 - frozen
        cache_folder: Path | None = None,
    ) -> None:
        """Reads headers, no voxels.

        Args:
            plan: what to make of the cases.
            cases: all of them: the plan's split picks those (or those blocks) for training or validation.
            training: mirror, and take the split's training part; else its validation part.
            seed: of everything random.
            fold: which of the plan's splits; ``all``: nothing is held back, nor kept from either part.
            read: spacing and axes of files that do not state them.
            cache_folder: of the disk cache.

        Raises:
            FormatError: a case cannot be read as the plan needs it, or no case is left.
            ValueError: there is no such fold.
        """
        self.dataset = plan.dataset
        self.regions = plan.loss.name == "dice_bce"
        self.training = training
        self.seed = seed
        self.batch_size = plan.batch_size
        self.oversample = plan.loader.oversample_foreground
        self.dimensions = plan.dimensions
        flat = plan.dimensions == 2
        self.patch: Triple = (1, *plan.patch_size) if flat else tuple(plan.patch_size)  # type: ignore[assignment]
        self.reader = CaseReader(
            read,
            cache=plan.loader.cache,
            folder=cache_folder,
            object_ids=plan.dataset.object_ids,
            ignore=plan.dataset.ignore,
        )
        self.length = plan.schedule.steps_per_epoch * plan.accumulation * plan.batch_size
        split = _split(plan.dataset.splits, fold)
        target: tuple[float | None, float, float] | None = None
        if plan.spacing is not None:
            target = (None if flat else plan.spacing[0], plan.spacing[-2], plan.spacing[-1])
        self.cases: list[CaseGrid] = []
        self.warnings = _unknown_cases([case.id for case in cases], split)
        headers: list[CaseHeader] = []
        for case in cases:
            header = self.reader.header(case)
            boxes = allowed_boxes(case.id, header.shape, split, training=training)
            grid = CaseGrid(case, header, plan.dataset, target=target, boxes=boxes)
            if not grid.boxes:
                continue
            if case.label is None:
                msg = f"case {case.id}: has no label map, so nothing can be learned from it: leave it out"
                raise FormatError(msg, kind="empty")
            self.cases.append(grid)
            headers.append(header)
        if not self.cases:
            part = "training" if training else "validation"
            msg = f"fold {fold} of the plan has no {part} data among the {len(cases)} cases that were given"
            raise FormatError(msg, kind="empty")
        self._resolve_cache(headers, plan.devices)
        self._keep_resampled(plan.devices)
        self._places: dict[int, Places] = {}

    def __len__(self) -> int:
        return self.length

    @property
    def channel_names(self) -> tuple[str, ...]:
        """What the network's output channels stand for."""
        if self.dataset.task == "affinity":
            return tuple(f"affinity {','.join(map(str, offset))}" for offset in self.dataset.offsets)
        if self.dataset.task == "boundary":
            return ("boundary",)
        return region_order(self.dataset.classes) if self.regions else class_order(self.dataset.classes)

    def _resolve_cache(self, headers: Sequence[CaseHeader], processes: int) -> None:
        """The plan may have been made for a machine with more memory."""
        needed = sum(header.inflated_bytes for header in headers)
        if self.reader.cache != "ram" or needed <= holdable_ram(processes):
            return
        resampled = any(not grid.identity for grid in self.cases)
        on_disk = resampled or any(header.sequential for header in headers)
        instead = "nothing is cached"
        if self.reader.cache_elsewhere(on_disk=on_disk):
            instead = "they are cached on disk"
        self.warnings += (
            f"the plan caches in RAM, but its volumes take {needed / 2**30:.1f} GiB, more than is free here "
            f"for each of {processes} training processes: {instead}",
        )

    def _keep_resampled(self, processes: int) -> None:
        """Where the plan caches, keep cases that are resampled as they come out, as far as there is room."""
        cache = self.reader.cache
        if cache == "none":
            return
        room: int | None = None
        for grid in self.cases:
            if grid.identity:
                continue
            if cache == "ram" or not is_on_disk(grid, self.reader):
                if room is None:
                    room = free_ram(processes) if cache == "ram" else free_disk(self.reader)
                needed = prepared_bytes(grid)
                if needed > room:
                    continue
                room -= needed
            grid.keep = cache
        self.reader.close()

    def prepare(self) -> None:
        """Do everything that needs a pass over whole volumes now, once, instead of in every worker.

        Foreground voxels, mean and std of cases that the plan does not know, the range of values that are
        resampled, and the cache.
        """
        for index, grid in enumerate(self.cases):
            if self.reader.cache != "none":
                self.reader.warm([grid.source])
            grid.case_numbers(self.reader)
            if self.oversample > 0 or self.dataset.ignore is not None:
                self.places(index)
            if grid.keep is not None:
                for box in grid.boxes:
                    grid.prepared(self.reader, box)
                self.reader.release(grid.source)
            if grid.keep is None:
                for box in grid.boxes:
                    grid.value_range(self.reader, box)

    def held_bytes(self) -> int:
        """What a cache in memory takes in this process now."""
        if self.reader.cache != "ram":
            return 0
        return self.reader.held_bytes() + sum(grid.held_bytes() for grid in self.cases)

    def drop_cache(self) -> None:
        """From now on read every patch from its file."""
        self.reader.cache = "none"
        for grid in self.cases:
            grid.drop_prepared()
            self.reader.release(grid.source)

    def places(self, case: int) -> Places:
        """Voxels of a case that patches are centred on; found at first use."""
        if case not in self._places:
            groups = None
            if self.dataset.task == "semantic":
                groups = [values for values in self.dataset.classes.values() if 0 not in values]
            self._places[case] = self.cases[case].find_places(self.reader, groups, self.seed)
        return self._places[case]

    def locate(self, index: int) -> PatchSpot:
        """Where sample ``index`` lies, without reading it."""
        rng = np.random.default_rng((self.seed, index))
        case = int(rng.integers(len(self.cases)))
        grid = self.cases[case]
        mirrored = tuple(bool(value) for value in rng.integers(2, size=3))
        mirrored = mirrored if self.training else (False, False, False)
        sizes = np.array([box.voxels for box in grid.boxes], np.float64)
        box = int(rng.choice(len(sizes), p=sizes / sizes.sum()))
        centre, forced = None, False
        voxels: NDArray[np.int32] | None = None
        if is_forced(index, self.batch_size, self.oversample):
            classes = self.places(case).classes
            if classes:
                forced = True
                voxels = classes[int(rng.integers(len(classes)))]
        if voxels is None and self.dataset.ignore is not None:
            voxels = self.places(case).annotated
        if voxels is not None:
            centre = voxels[int(rng.integers(len(voxels)))]
            box = grid.box_of(centre)
        window = grid.window(grid.boxes[box])
        target = None if centre is None else grid.on_target(centre, window)
        origin = choose_origin(rng, window, self.patch, target)
        return PatchSpot(
            case=case,
            box=box,
            origin=origin,
            forced=forced,
            mirrored=(mirrored[0] and self.dimensions == 3, mirrored[1], mirrored[2]),
        )

    def __getitem__(self, index: int) -> Sample:
        """Sample ``index``.

        Raises:
            FormatError: a file cannot be read.
            LabelError: its labels are not those of the plan.
        """
        try:
            return self._sample(index)
        except (FormatError, LabelError) as error:
            if get_worker_info() is None:
                raise
            raise SampleError.of(error) from error

    def _sample(self, index: int) -> Sample:
        spot = self.locate(index)
        grid = self.cases[spot.case]
        patch = grid.read(self.reader, grid.boxes[spot.box], spot.origin, self.patch)
        axes = tuple(axis - 3 for axis in range(3) if spot.mirrored[axis])
        image = np.flip(patch.image, axes)
        target = self.make_target(patch, spot.case, axes)
        if self.dimensions == 2:
            image, target = image[:, 0], target[:, 0]
        # A mirrored axis of one voxel counts as contiguous but keeps a negative stride, which torch refuses.
        return {"image": torch.from_numpy(image.copy()), "target": torch.from_numpy(target.copy())}

    def make_target(self, patch: Patch, case: int, mirrored: tuple[int, ...] = ()) -> NDArray[Any]:
        """The target of a patch, ``(channels, z, y, x)``, with axes of the label map mirrored before."""
        assert patch.labels is not None
        valid = None if patch.valid is None else np.flip(patch.valid, mirrored)
        return make_target(
            np.flip(patch.labels, mirrored),
            self.dataset,
            regions=self.regions,
            case=self.cases[case].source.id,
            valid=valid,
        )


def _split(splits: Sequence[Split], fold: Fold) -> Split | None:
    if fold == "all" or (not splits and fold == 0):
        return None
    if not 0 <= fold < len(splits):
        msg = (
            f"fold must be between 0 and {len(splits) - 1}, or 'all', got {fold!r}: the plan has "
            f"{len(splits)} folds"
        )
        raise ValueError(msg)
    return splits[fold]


def _unknown_cases(ids: Sequence[str], split: Split | None) -> tuple[str, ...]:
    """A warning where the split does not know some of the cases."""
    if split is None:
        return ()
    known = {*split.train, *split.validation}
    known |= {block.case for block in (*split.train_blocks, *split.validation_blocks)}
    unknown = [case for case in ids if case not in known]
    if not unknown:
        return ()
    return (
        f"{len(unknown)} cases are not in the plan's splits (first: {unknown[0]}): they are trained on, and "
        "never validated",
    )


def make_dataset(
    plan: Plan,
    cases: Sequence[CaseSource],
    *,
    training: bool = True,
    seed: int = 0,
    fold: Fold = 0,
    read: ReadOptions = ReadOptions(),  # noqa: B008 - frozen
    cache_folder: Path | None = None,
) -> PatchDataset:
    """Patches of these cases as the plan says; see :class:`PatchDataset`."""
    return PatchDataset(
        plan, cases, training=training, seed=seed, fold=fold, read=read, cache_folder=cache_folder
    )
