"""Patch, batch and fallbacks of one network within its budget.

In order: the largest patch at batch 2; batch 1 with accumulation; gradient checkpointing, again at batch 2
and then 1. A smaller variant is the planner's business. What the user demands is never changed, and is
planned even where it does not fit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

from .overrides import PlanOverrides
from .rules.batch import Stop as BatchStop
from .rules.batch import choose_batch
from .rules.compute import step_limit
from .rules.patch import MINIMUM_BATCH
from .search import Candidate, PatchSpace, largest_patch
from .search import Stop as PatchStop
from .traced_memory import TracedMemory

if TYPE_CHECKING:
    from .memory import MemoryEstimate


class DoesNotFitError(ValueError):
    """No plan within the budget, by no fallback."""

    def __init__(self, message: str, needed: int) -> None:
        super().__init__(message)
        self.needed = needed
        """Bytes that the least demanding step would take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One way to make it fit."""

    batch_size: int
    checkpointing: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Patch and batch by the quick prediction, and what stopped each."""

    attempt: Attempt
    candidate: Candidate
    batch_size: int
    patch_stop: PatchStop
    batch_stop: BatchStop
    fits: bool
    tried: tuple[Attempt, ...]
    """Attempts before this one, none of which fitted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """The choice, confirmed by a full trace."""

    choice: Choice
    accumulation: int
    estimate: MemoryEstimate


def attempts(overrides: PlanOverrides, can_checkpoint: bool) -> Iterator[Attempt]:
    """Fallbacks in order, as far as the user leaves them open."""
    asked = overrides.checkpointing
    for checkpointing in (False, True) if asked is None and can_checkpoint else (bool(asked),):
        batches = (MINIMUM_BATCH, 1) if overrides.batch_size is None else (overrides.batch_size,)
        for batch_size in batches:
            yield Attempt(batch_size=batch_size, checkpointing=checkpointing)


def fit_plan(space: PatchSpace, memory: TracedMemory, overrides: PlanOverrides, dataset_voxels: int) -> Fit:
    """The best patch and batch within the budget.

    Raises:
        DoesNotFitError: nothing fits, and the user has demanded neither patch nor batch.
        ValueError: a demand that the architecture cannot meet.
    """
    if overrides.checkpointing and not space.architecture.checkpointing:
        msg = f"override checkpointing=true: {space.architecture.name} has no gradient checkpointing"
        raise ValueError(msg)
    while True:
        choice = _choose(space, memory, overrides, dataset_voxels)
        estimate = memory.confirm(
            choice.candidate, choice.batch_size, checkpointing=choice.attempt.checkpointing
        )
        if estimate.total <= memory.budget.bytes or not choice.fits:
            break
    accumulation = overrides.accumulation or 1
    if overrides.accumulation is None and overrides.batch_size is None:
        accumulation = ceil(MINIMUM_BATCH / (choice.batch_size * memory.num_gpus))
    return Fit(choice=choice, accumulation=accumulation, estimate=estimate)


def _choose(space: PatchSpace, memory: TracedMemory, overrides: PlanOverrides, dataset_voxels: int) -> Choice:
    demanded = None if overrides.patch_size is None else space.exact(overrides.patch_size)
    tried: list[Attempt] = []
    for attempt in attempts(overrides, space.architecture.checkpointing):
        found = _patch(space, memory, attempt, demanded)
        if found is not None:
            candidate, patch_stop = found
            return _with_batch(memory, overrides, dataset_voxels, attempt, candidate, patch_stop, tried)
        tried.append(attempt)
    last = tried[-1]
    smallest = demanded or next(iter(space.ladder()), None)
    if smallest is None:
        msg = f"{space.architecture.name} has no patch for a median shape of {space.median_shape}"
        raise ValueError(msg)
    if demanded is None and overrides.batch_size is None:
        needed = memory.total(smallest, last.batch_size, checkpointing=last.checkpointing)
        how = ", gradient checkpointing" if last.checkpointing else ""
        msg = (
            f"needs {needed / 1024**3:.1f} GiB for its smallest sensible patch {smallest.patch} at batch "
            f"{last.batch_size}{how}; the budget is {memory.budget.bytes / 1024**3:.1f} GiB"
        )
        raise DoesNotFitError(msg, needed)
    return Choice(
        attempt=last,
        candidate=smallest,
        batch_size=last.batch_size,
        patch_stop="memory" if demanded is None else "user",
        batch_stop="memory" if overrides.batch_size is None else "user",
        fits=False,
        tried=tuple(tried[:-1]),
    )


def _patch(
    space: PatchSpace, memory: TracedMemory, attempt: Attempt, demanded: Candidate | None
) -> tuple[Candidate, PatchStop] | None:
    def load(candidate: Candidate) -> float:
        return memory.load(candidate, attempt.batch_size, checkpointing=attempt.checkpointing)

    def rough(candidate: Candidate) -> float:
        return memory.rough_load(candidate, attempt.batch_size, checkpointing=attempt.checkpointing)

    if demanded is not None:
        return (demanded, "user") if load(demanded) <= 1 else None
    found = largest_patch(space, rough)
    if found is not None and load(found[0]) > 1:
        found = largest_patch(space, load)
    return found


def _with_batch(
    memory: TracedMemory,
    overrides: PlanOverrides,
    dataset_voxels: int,
    attempt: Attempt,
    candidate: Candidate,
    patch_stop: PatchStop,
    tried: list[Attempt],
) -> Choice:
    batch_size = attempt.batch_size
    batch_stop: BatchStop = "user"
    if overrides.batch_size is None:
        grown = choose_batch(
            lambda batch: memory.load(candidate, batch, checkpointing=attempt.checkpointing),
            start=attempt.batch_size,
            dataset_voxels=dataset_voxels,
            patch_size=candidate.patch,
            gpus=memory.num_gpus,
            step_voxels=step_limit(memory.budget.kind),
        )
        batch_size, batch_stop = grown.batch_size, grown.stopped_by
    memory.total(candidate, batch_size + 1, checkpointing=attempt.checkpointing)  # for the alternatives
    return Choice(
        attempt=attempt,
        candidate=candidate,
        batch_size=batch_size,
        patch_stop=patch_stop,
        batch_stop=batch_stop,
        fits=True,
        tried=tuple(tried),
    )
