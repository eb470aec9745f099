"""The batch, once the patch stands: until memory or the data set's share stops it. Pure numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import floor, prod
from typing import Literal

from .patch import MINIMUM_BATCH, batch_cap

Stop = Literal["memory", "dataset share", "compute", "recipe", "user"]
Load = Callable[[int], float]

LARGEST_BATCH = 512
"""Samples a GPU and step; beyond it only 2D patches of a few voxels would go, and no optimizer recipe
holds.
"""
STRAIGHT_TRIALS = 8
"""Batches tried along the line before plain bisection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchChoice:
    """Samples per GPU and step, and what stopped it."""

    batch_size: int
    stopped_by: Stop


def per_gpu_cap(dataset_voxels: float, patch_size: Sequence[int], gpus: int) -> int:
    """Largest batch per GPU that keeps the global batch within 5 % of the data set; at least 2 (nnU-Net)."""
    return max(MINIMUM_BATCH, batch_cap(dataset_voxels, patch_size) // gpus)


def compute_cap(patch_size: Sequence[int], step_voxels: int | None) -> int | None:
    """Largest batch that keeps a step within ``step_voxels``, at least 1; None without such a limit."""
    return None if step_voxels is None else max(1, step_voxels // prod(patch_size))


def largest_batch(load: Load, start: int, limit: int) -> int:
    """The largest batch from ``start`` (which fits) to ``limit`` that fits.

    Load is nearly affine in the batch, so the next trial is read off the line through the last two; where the
    line misleads, doubling and bisection find it all the same.
    """
    good, bad = start, limit + 1
    known = {start: load(start)}
    trial = min(2 * start, limit)
    while bad - good > 1:
        known[trial] = load(trial)
        if known[trial] <= 1:
            good = trial
        else:
            bad = trial
        high = bad - 1 if bad <= limit else min(limit, 8 * good)
        trial = min(max(_crossing(known), good + 1), high)
        if len(known) > STRAIGHT_TRIALS:
            trial = (good + bad) // 2
    return good


def _crossing(known: Mapping[int, float]) -> int:
    """Where the line through the two trials nearest to a load of 1 reaches it."""
    one, other = sorted(known, key=lambda batch: abs(known[batch] - 1))[:2]
    slope = (known[other] - known[one]) / (other - one)
    return one if slope <= 0 else floor(one + (1 - known[one]) / slope)


def choose_batch(
    load: Load,
    *,
    start: int,
    dataset_voxels: float,
    patch_size: Sequence[int],
    gpus: int = 1,
    step_voxels: int | None = None,
) -> BatchChoice:
    """Grow the batch per GPU from ``start``, which fits, until something stops it.

    Args:
        load: predicted memory of a batch over the budget; does not fall.
        start: the batch that the patch was chosen at.
        dataset_voxels: of the training set at the target spacing.
        patch_size: any number of axes.
        gpus: training processes that share the global batch.
        step_voxels: what one step may compute on a CPU; None on GPUs.
    """
    share = per_gpu_cap(dataset_voxels, patch_size, gpus)
    compute = compute_cap(patch_size, step_voxels)
    if load(start + 1) > 1:
        return BatchChoice(batch_size=start, stopped_by="memory")
    limits: dict[Stop, int] = {"dataset share": share, "recipe": LARGEST_BATCH}
    if compute is not None:
        limits["compute"] = compute
    by = min(limits, key=lambda stop: limits[stop])
    limit = limits[by]
    if limit <= start:
        return BatchChoice(batch_size=start, stopped_by=by)
    batch = largest_batch(load, start, limit)
    return BatchChoice(batch_size=batch, stopped_by="memory" if batch < limit else by)
