"""Cross-validation splits: five folds by case, or blocks inside the volumes where cases are few. Pure
numbers.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from voxplan.plans.schema import Decision, SpatialBlock, Split

FOLDS = 5
"""nnU-Net's number of folds."""
SEED = 12345
"""nnU-Net's seed: ``KFold(n_splits=5, shuffle=True, random_state=12345)`` on the sorted case ids."""
MINIMUM_BLOCK = 8
"""Voxels along the split axis below which a validation block is no use; shorter axes get fewer folds."""


def case_folds(ids: Sequence[str], folds: int = FOLDS, seed: int = SEED) -> tuple[Split, ...]:
    """Folds by whole cases, the same as nnU-Net's for the same ids.

    The sorted ids are shuffled by a Mersenne twister; the first ``len(ids) % folds`` folds get one case more.

    Raises:
        ValueError: fewer cases than folds.
    """
    if len(ids) < folds:
        msg = f"{folds} folds need at least {folds} cases, got {len(ids)}"
        raise ValueError(msg)
    names = sorted(ids)
    order = np.arange(len(names))
    np.random.RandomState(seed).shuffle(order)
    sizes = [len(names) // folds + (fold < len(names) % folds) for fold in range(folds)]
    starts = np.concatenate([[0], np.cumsum(sizes)])
    splits = []
    for start, stop in itertools.pairwise(starts):
        held_out = {int(index) for index in order[start:stop]}
        splits.append(
            Split(
                train=tuple(name for index, name in enumerate(names) if index not in held_out),
                validation=tuple(name for index, name in enumerate(names) if index in held_out),
            )
        )
    return tuple(splits)


def longest_axis(shape: Sequence[int]) -> int:
    """The axis with most voxels; of equal ones the first."""
    return max(range(len(shape)), key=lambda axis: (shape[axis], -axis))


def spatial_folds(shapes: Mapping[str, Sequence[int]], folds: int = FOLDS) -> tuple[Split, ...]:
    """Folds inside the volumes: each case is cut into equal blocks along its longest axis.

    Fold ``k`` validates on block ``k`` of every case and trains on what lies before and after it. Axes too
    short for blocks of :data:`MINIMUM_BLOCK` voxels give fewer folds, at least two; a volume of one voxel
    along its longest axis cannot be split and stands on both sides.
    """
    shortest = min(max(shape) for shape in shapes.values())
    count = max(2, min(folds, shortest // MINIMUM_BLOCK))
    splits = []
    for fold in range(count):
        train: list[SpatialBlock] = []
        validation: list[SpatialBlock] = []
        for case in sorted(shapes):
            axis = longest_axis(shapes[case])
            length = shapes[case][axis]
            if length < count:
                whole = SpatialBlock(case=case, axis=axis, start=0, stop=length)
                train.append(whole)
                validation.append(whole)
                continue
            start, stop = length * fold // count, length * (fold + 1) // count
            validation.append(SpatialBlock(case=case, axis=axis, start=start, stop=stop))
            train += [
                SpatialBlock(case=case, axis=axis, start=low, stop=high)
                for low, high in ((0, start), (stop, length))
                if high > low
            ]
        splits.append(Split(train_blocks=tuple(train), validation_blocks=tuple(validation)))
    return tuple(splits)


def choose_splits(shapes: Mapping[str, Sequence[int]]) -> tuple[tuple[Split, ...], Decision]:
    """Splits of the cases (id to ZYX shape as stored), and why."""
    if len(shapes) >= FOLDS:
        why = f"{len(shapes)} cases: five folds by case, shuffled as nnU-Net does (seed {SEED})"
        return case_folds(tuple(shapes)), Decision(by="rule", why=why)
    splits = spatial_folds(shapes)
    count = f"{len(shapes)} case{'s' if len(shapes) != 1 else ''}"
    why = f"{count}, fewer than five: {len(splits)} blocks along each volume's longest axis"
    return splits, Decision(by="rule", why=why)
