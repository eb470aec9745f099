"""Predicted against measured: the planned step must run, the next larger one not; ``fit`` makes it so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from voxplan.plans.schema import DatasetPlan, Decision, ExperimentPlan, Limit, PlansDocument

from .planned_step import StepOutcome
from .rebatching import largest_allowed, with_batch
from .step_runner import StepRunner, runner_for

GIB = 1024**3


def verify_document(
    document: PlansDocument, *, fit: bool = False, runner: StepRunner | None = None
) -> PlansDocument:
    """The document with ``memory.measured`` filled in for every plan, and with ``fit`` the batch adapted.

    Every plan's step runs at its budget. Where memory limits the batch, one sample more runs too, and should
    not fit. With ``fit`` the batch becomes the largest that runs, within the plan's other limits; a batch
    that the user has set stays.

    Args:
        document: the plans.
        fit: whether the batch is adapted to what was measured.
        runner: where to run; None for this machine.

    Raises:
        NoGpuError: the plans are for a GPU and there is none.
        VerificationError: the GPU here is too small for the budget, or a step failed otherwise.
    """
    where = runner or runner_for(document.plans)
    plans = {name: _verified(document, plan, where, fit=fit) for name, plan in document.plans.items()}
    return document.model_copy(update={"plans": plans})


def _verified(
    document: PlansDocument, plan: ExperimentPlan, runner: StepRunner, *, fit: bool
) -> ExperimentPlan:
    trials = _Trials(plan, document.dataset, runner)
    limit = plan.limits.get("batch_size")
    batch = plan.batch_size
    if fit and limit not in (None, "user"):
        most, rule = largest_allowed(plan, document)
        batch = largest_running(trials.runs, batch, most)
        limit = rule if batch == most else "memory"
    if batch and limit == "memory":
        trials.runs(batch + 1)
    if batch not in (0, plan.batch_size):
        plan = _adapted(document, plan, batch, limit or "memory", trials)
    return _reported(plan, trials, fit=fit)


def largest_running(runs: Callable[[int], bool], start: int, most: int) -> int:
    """The largest batch up to ``most`` that runs, looked for from ``start`` outwards; 0 if none does."""
    good, bad = 0, most + 1
    trial, step = min(start, most), 1
    while bad - good > 1:
        if runs(trial):
            good = trial
        else:
            bad = trial
        if good == 0:
            trial = bad // 2
        elif bad > most:
            trial = min(good + step, most)
            step *= 2
        else:
            trial = (good + bad) // 2
    return good


class _Trials:
    """Steps of one plan at several batches, each run once."""

    def __init__(self, plan: ExperimentPlan, dataset: DatasetPlan, runner: StepRunner) -> None:
        self.plan, self.dataset, self.runner = plan, dataset, runner
        self.outcomes: dict[int, StepOutcome] = {}

    def at(self, batch: int) -> StepOutcome:
        if batch not in self.outcomes:
            experiment = self.plan.model_copy(update={"batch_size": batch, "global_batch_size": batch})
            self.outcomes[batch] = self.runner.run(experiment, self.dataset)
        return self.outcomes[batch]

    def runs(self, batch: int) -> bool:
        return self.at(batch).ran


def _adapted(
    document: PlansDocument, plan: ExperimentPlan, batch: int, limit: Limit, trials: _Trials
) -> ExperimentPlan:
    budget = plan.memory.budget / GIB
    why = (
        f"measured on {trials.runner.device} under {budget:.1f} GiB: {batch} runs"
        f"{f', {batch + 1} does not' if limit == 'memory' else ''} (predicted {plan.batch_size})"
    )
    return with_batch(document, plan, batch, limit, Decision(by="hardware", why=why))


def _reported(plan: ExperimentPlan, trials: _Trials, *, fit: bool) -> ExperimentPlan:
    """The plan with what was measured, and warnings where it contradicts the prediction."""
    batch = plan.batch_size
    outcome = trials.at(batch)
    measured = {"batch_size": batch, "allocated": outcome.allocated, "reserved": outcome.reserved}
    if outcome.process is not None:
        measured["process"] = outcome.process
    measured["out_of_memory"] = int(not outcome.ran)
    following = trials.outcomes.get(batch + 1)
    if following is not None:
        measured |= {"next_batch_size": batch + 1, "next_out_of_memory": int(not following.ran)}
    memory = plan.memory.model_copy(update={"measured": measured, "fits": outcome.ran})
    warnings = list(plan.warnings)
    remedy = "plan with a smaller --memory-fraction" if fit else "--fit finds a batch that runs"
    if not outcome.ran:
        warnings.append(f"VERIFIED: out of memory at batch {batch} ({outcome.reason}); {remedy}")
    elif following is not None and following.ran:
        warnings.append(f"VERIFIED: batch {batch + 1} runs as well; --fit takes it")
    if plan.global_batch_size > batch:
        warnings.append("verified on one GPU: DistributedDataParallel's own memory was not measured")
    return plan.model_copy(update={"memory": memory, "warnings": tuple(dict.fromkeys(warnings))})


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Predicted and measured bytes of one plan, like with like."""

    predicted: int
    measured: int
    what: str
    """``process``, or ``reserved`` where the driver does not tell what the process holds."""


def compare(plan: ExperimentPlan) -> Comparison | None:
    """Predicted beside measured; None where nothing was measured, or the step did not run."""
    measured = plan.memory.measured
    if not measured or measured.get("out_of_memory") or not measured["reserved"]:
        return None
    if "process" in measured:
        return Comparison(predicted=plan.memory.total, measured=measured["process"], what="process")
    return Comparison(predicted=plan.memory.reserved, measured=measured["reserved"], what="reserved")
