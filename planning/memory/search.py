"""The largest batch or patch that fits a budget: two traces, a bisection, one trace to confirm."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from voxplan.plans.schema import Ints

from .model import MemoryModel
from .prediction import MemoryEstimate

MAX_BATCH = 4096
"""No search looks beyond it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """What fits, with the estimate that confirmed it."""

    patch_size: Ints
    batch_size: int
    estimate: MemoryEstimate


class DoesNotFitError(ValueError):
    """Even the smallest candidate needs more than the budget; ``needed`` bytes."""

    def __init__(self, message: str, needed: int) -> None:
        super().__init__(message)
        self.needed = needed


def _last_that_fits(count: int, fits: Callable[[int], bool]) -> int:
    """The last index below ``count`` that fits, -1 if none, where larger ones need more.

    Allocators round, so that more may need less by a little: the answer fits, and its neighbour does not.
    """
    low, high = -1, count
    while high - low > 1:
        middle = (low + high) // 2
        if fits(middle):
            low = middle
        else:
            high = middle
    return low


def _confirmed(model: MemoryModel, candidates: list[tuple[Ints, int]], index: int, budget: int) -> Fit:
    """The candidate, or the next smaller one whose own trace fits."""
    smallest = 0
    for patch_size, batch_size in reversed(candidates[: index + 1]):
        estimate = model.confirm(patch_size, batch_size)
        smallest = estimate.total
        if estimate.total <= budget:
            return Fit(patch_size=patch_size, batch_size=batch_size, estimate=estimate)
    needed = smallest or model.total(*candidates[0])
    patch_size, batch_size = candidates[0]
    msg = (
        f"patch_size {patch_size} at batch_size {batch_size} needs {needed} bytes "
        f"({needed / 2**30:.1f} GiB), the budget is {budget} ({budget / 2**30:.1f} GiB)"
    )
    raise DoesNotFitError(msg, needed)


def largest_batch(model: MemoryModel, patch_size: Ints, budget: int, *, maximum: int = MAX_BATCH) -> Fit:
    """The largest batch of this patch whose process takes at most ``budget`` bytes.

    Raises:
        DoesNotFitError: not even a batch of 1 fits.
        ValueError: naming the argument that does not work.
    """
    high = 1
    while high < maximum and model.total(patch_size, high) <= budget:
        high = min(2 * high, maximum)
    candidates = [(tuple(patch_size), batch) for batch in range(1, high + 1)]
    index = _last_that_fits(len(candidates), lambda at: model.total(*candidates[at]) <= budget)
    return _confirmed(model, candidates, index, budget)


def largest_patch(
    model: MemoryModel, budget: int, *, batch_size: int, step: Ints, maximum: Ints, minimum: Ints
) -> Fit:
    """The largest patch that fits ``budget`` bytes, grown by ``step`` from ``minimum`` to ``maximum``.

    Args:
        model: of the network.
        budget: bytes of the process.
        batch_size: samples per step.
        step: per axis, what a patch grows by: the network's divisors.
        maximum: per axis, the largest patch that makes sense.
        minimum: per axis, the smallest.

    Raises:
        DoesNotFitError: not even ``minimum`` fits.
        ValueError: naming the argument that does not work.
    """
    candidates = [(patch, batch_size) for patch in _growing(minimum, maximum, step)]
    index = _last_that_fits(len(candidates), lambda at: model.total(*candidates[at]) <= budget)
    return _confirmed(model, candidates, index, budget)


def _growing(minimum: Ints, maximum: Ints, step: Ints) -> list[Ints]:
    """Patches from the smallest to the largest; the axis that is furthest behind its share grows next."""
    if any(least > most for least, most in zip(minimum, maximum, strict=True)):
        msg = f"minimum {minimum} must not exceed maximum {maximum}"
        raise ValueError(msg)
    patch = list(minimum)
    patches: list[Ints] = [tuple(patch)]
    while True:
        open_axes = [axis for axis in range(len(patch)) if patch[axis] + step[axis] <= maximum[axis]]
        if not open_axes:
            return patches
        axis = min(open_axes, key=lambda at: patch[at] / maximum[at])
        patch[axis] += step[axis]
        patches.append(tuple(patch))
