"""What kept patch and batch from being larger, what stays unused for it, and what else was considered."""

from __future__ import annotations

from math import prod

from voxplan.plans.schema import Alternative, DecidedBy, Limit

from .decisions import Decisions
from .fitting import Fit
from .hardware import Budget
from .overrides import PlanOverrides
from .traced_memory import TracedMemory

GIB = 1024**3
ALTERNATIVES = 10
"""Candidates that a plan keeps, nearest to the chosen one."""
WORTH_SAYING = 0.1
"""Share of the budget that may stay unused without a word: one more sample or divisor is often that large."""
LIMITS: dict[Limit, str] = {
    "memory": "the next larger one exceeds the budget",
    "median shape": "it covers the median shape",
    "compute": "a CPU step should take seconds",
    "dataset share": "the batch may cover 5 % of the data set's voxels, and is at least 2 (nnU-Net)",
    "recipe": "no optimizer recipe holds beyond 512 samples",
    "user": "set by the user",
}
"""The whole list, in words."""
DECIDED_BY: dict[Limit, DecidedBy] = {
    "memory": "hardware",
    "compute": "hardware",
    "median shape": "data",
    "dataset share": "rule",
    "recipe": "rule",
    "user": "user",
}


def decide_size(
    fit: Fit, overrides: PlanOverrides, budget: Budget, decisions: Decisions, *, num_gpus: int
) -> None:
    """Decisions on patch, batch, accumulation, checkpointing and memory."""
    choice = fit.choice
    for field in ("patch_size", "batch_size", "accumulation", "checkpointing"):
        value = getattr(overrides, field)
        if value is not None:
            decisions.user(field, value)
    patch, batch = (_limit(fit, stop) for stop in (choice.patch_stop, choice.batch_stop))
    decisions.add(
        "patch_size",
        DECIDED_BY[choice.patch_stop],
        f"the {'largest' if choice.fits else 'smallest'} at batch {choice.attempt.batch_size}, of equal "
        f"extent on every axis, clipped to the median shape, on the architecture's divisors: {patch}",
    )
    on_cpu = budget.kind == "cpu"
    why = f"{'per step' if on_cpu else 'per GPU'}: {batch}"
    decisions.add("batch_size", DECIDED_BY[choice.batch_stop], f"{why}{_unused(fit, budget)}")
    why = "one training process on the CPU" if on_cpu else f"batch_size on each of {num_gpus} GPUs"
    decisions.add(
        "global_batch_size", "hardware", why if num_gpus != 1 or on_cpu else "batch_size on one GPU"
    )
    why = "no accumulation needed"
    if fit.accumulation > 1:
        why = f"batch 2 does not fit: {fit.accumulation} steps of batch {choice.batch_size} make one"
    decisions.add("accumulation", "hardware", why)
    decisions.add("checkpointing", "hardware", _why_checkpointing(fit))
    decisions.add("memory", "hardware", f"one step traced at this patch and batch; budget: {budget.why}")
    decisions.add("limits", "rule", f"patch: {patch}; batch: {batch}")


def _limit(fit: Fit, stop: Limit) -> str:
    """A limit in words; where not even the least that was tried fits, nothing larger is spoken of."""
    return LIMITS[stop] if fit.choice.fits or stop != "memory" else "even this one exceeds the budget"


def _why_checkpointing(fit: Fit) -> str:
    choice = fit.choice
    if not choice.attempt.checkpointing:
        return "it fits without" if choice.fits else "the architecture has none"
    if not choice.fits:
        return "it takes the least memory, and even so the plan does not fit"
    least = min(attempt.batch_size for attempt in choice.tried)
    what = "the patch that was set" if choice.patch_stop == "user" else "the smallest sensible patch"
    return f"without it not even batch {least} of {what} fits"


def _unused(fit: Fit, budget: Budget) -> str:
    """What stays unused where a rule, not the memory, ends the growth."""
    left = budget.bytes - fit.estimate.total
    if fit.choice.batch_stop == "memory" or left < WORTH_SAYING * budget.bytes:
        return ""
    return f"; {left / GIB:.1f} of {budget.bytes / GIB:.1f} GiB stay unused"


def user_excess(fit: Fit, overrides: PlanOverrides, budget: Budget) -> list[str]:
    """The warning that what the user demands does not fit, with the numbers; empty where it does."""
    if fit.estimate.total <= budget.bytes:
        return []
    settings = [
        f"{field}={','.join(map(str, value)) if isinstance(value, tuple) else value}"
        for field in ("patch_size", "batch_size", "checkpointing")
        if (value := getattr(overrides, field)) is not None
    ]
    return [
        f"DOES NOT FIT: with {' and '.join(settings)}, as the user set, a step needs "
        f"{fit.estimate.total / GIB:.1f} GiB; the budget is {budget.bytes / GIB:.1f} GiB"
    ]


def alternatives(fit: Fit, memory: TracedMemory) -> tuple[Alternative, ...]:
    """The chosen candidate and those around it, by size of the whole batch."""
    choice, budget = fit.choice, memory.budget.bytes
    chosen = (choice.candidate.patch, choice.batch_size, choice.attempt.checkpointing)
    totals = {**memory.totals, chosen: fit.estimate.total}
    reference = prod(choice.candidate.patch) * choice.batch_size
    nearest = sorted(totals, key=lambda key: (key != chosen, abs(prod(key[0]) * key[1] / reference - 1)))
    listed = []
    for patch, batch, checkpointing in sorted(nearest[:ALTERNATIVES], key=lambda key: prod(key[0]) * key[1]):
        key = (patch, batch, checkpointing)
        fits = totals[key] <= budget
        if key == chosen:
            verdict = "chosen" if fits else "chosen by the user, does not fit"
        elif not fits:
            verdict = "exceeds the budget"
        elif patch == chosen[0] and batch > chosen[1]:
            verdict = LIMITS[choice.batch_stop]
        else:
            verdict = "a larger one fits"
        how = (
            "" if checkpointing == chosen[2] else f", {'with' if checkpointing else 'without'} checkpointing"
        )
        listed.append(
            Alternative(
                patch_size=patch, batch_size=batch, total=totals[key], fits=fits, verdict=verdict + how
            )
        )
    return tuple(listed)
