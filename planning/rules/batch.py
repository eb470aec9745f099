"""The batch, once the patch stands: until memory or the data set's share stops it. Pure numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal

from .patch import MINIMUM_BATCH, batch_cap

Stop = Literal["memory", "dataset share", "compute", "recipe", "user"]

LARGEST_BATCH = 512
"""Samples a GPU and step; beyond it only 2D patches of a few voxels would go, and no optimizer recipe
holds.
"""


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


def largest_batch(fits: Callable[[int], bool], start: int, limit: int) -> int:
    """The largest batch from ``start`` (which fits) to ``limit`` that fits, by doubling and bisection."""
    good, bad = start, limit + 1
    step = start
    while good < limit and bad == limit + 1:
        step *= 2
        trial = min(step, limit)
        if fits(trial):
            good = trial
        else:
            bad = trial
    while bad - good > 1:
        middle = (good + bad) // 2
        if fits(middle):
            good = middle
        else:
            bad = middle
    return good


def choose_batch(
    fits: Callable[[int], bool],
    *,
    start: int,
    dataset_voxels: float,
    patch_size: Sequence[int],
    gpus: int = 1,
    step_voxels: int | None = None,
) -> BatchChoice:
    """Grow the batch per GPU from ``start``, which fits, until something stops it.

    Args:
        fits: whether a batch stays within the memory budget; monotone.
        start: the batch that the patch was chosen at.
        dataset_voxels: of the training set at the target spacing.
        patch_size: any number of axes.
        gpus: training processes that share the global batch.
        step_voxels: what one step may compute on a CPU; None on GPUs.
    """
    share = per_gpu_cap(dataset_voxels, patch_size, gpus)
    compute = compute_cap(patch_size, step_voxels)
    if not fits(start + 1):
        return BatchChoice(batch_size=start, stopped_by="memory")
    limits: dict[Stop, int] = {"dataset share": share, "recipe": LARGEST_BATCH}
    if compute is not None:
        limits["compute"] = compute
    by = min(limits, key=lambda stop: limits[stop])
    limit = limits[by]
    if limit <= start:
        return BatchChoice(batch_size=start, stopped_by=by)
    batch = largest_batch(fits, start, limit)
    return BatchChoice(batch_size=batch, stopped_by="memory" if batch < limit else by)
