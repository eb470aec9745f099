"""A plan at another batch: everything that follows from the batch, computed again."""

from __future__ import annotations

from math import ceil, prod

from voxplan.plans.schema import (
    Alternative,
    Decision,
    ExperimentPlan,
    Limit,
    MemoryPrediction,
    PlansDocument,
)
from voxplan.plans.workers_here import batch_bytes

from .limits import LIMITS
from .rules.batch import LARGEST_BATCH, compute_cap, per_gpu_cap
from .rules.compute import step_limit
from .rules.patch import MINIMUM_BATCH
from .rules.workers import WorkerChoice, choose_workers


def largest_allowed(plan: ExperimentPlan, document: PlansDocument) -> tuple[int, Limit]:
    """The batch per GPU that the rules besides memory allow, and the rule; at least the plan's own."""
    kind = "cpu" if plan.memory.device == "cpu" else "cuda"
    gpus = plan.global_batch_size // plan.batch_size
    limits: dict[Limit, int] = {"recipe": LARGEST_BATCH}
    if document.dataset.training_voxels is not None:
        limits["dataset share"] = per_gpu_cap(document.dataset.training_voxels, plan.patch_size, gpus)
    compute = compute_cap(plan.patch_size, step_limit("cpu" if kind == "cpu" else "cuda"))
    if compute is not None:
        limits["compute"] = compute
    rule = min(limits, key=lambda limit: limits[limit])
    return max(limits[rule], plan.batch_size), rule


def with_batch(
    document: PlansDocument, plan: ExperimentPlan, batch: int, limit: Limit, decision: Decision
) -> ExperimentPlan:
    """The plan at another batch per GPU, re-estimated; memory, loader, accumulation and window follow.

    Args:
        document: of the plan.
        plan: as it was.
        batch: samples per GPU and step.
        limit: what keeps it from being larger.
        decision: why this batch.
    """
    gpus = plan.global_batch_size // plan.batch_size
    changed = plan.model_copy(update={"batch_size": batch, "global_batch_size": batch * gpus})
    memory = _memory(document, changed, gpus)
    chosen_by_user = {name for name, made in plan.decisions.items() if made.by == "user"}
    accumulation = plan.accumulation
    if "accumulation" not in chosen_by_user:
        accumulation = ceil(MINIMUM_BATCH / (batch * gpus))
    decisions = {**plan.decisions, "batch_size": decision}
    if "accumulation" not in chosen_by_user:
        decisions["accumulation"] = _why_accumulation(accumulation, batch)
    if "patch_size" in plan.limits:
        why = f"patch: {LIMITS[plan.limits['patch_size']]}; batch: {LIMITS[limit]}"
        decisions["limits"] = Decision(by="rule", why=why)
    loader = plan.loader
    if "workers" not in chosen_by_user:
        workers = _workers(document, changed, gpus)
        loader = loader.model_copy(update={"workers": workers.workers})
        decisions["workers"] = workers.decision
    inference = plan.inference
    if inference.batch_size > batch and "inference_batch_size" not in chosen_by_user:
        inference = inference.model_copy(update={"batch_size": batch})
        inference = inference.model_copy(update={"memory": _inference(document, changed, batch)})
    return changed.model_copy(
        update={
            "accumulation": accumulation,
            "memory": memory,
            "loader": loader,
            "inference": inference,
            "limits": {**plan.limits, "batch_size": limit},
            "alternatives": _alternatives(plan, batch, memory),
            "decisions": decisions,
        }
    )


def _why_accumulation(accumulation: int, batch: int) -> Decision:
    why = f"{accumulation} steps of batch {batch} make one" if accumulation > 1 else "no accumulation needed"
    return Decision(by="hardware", why=why)


def _workers(document: PlansDocument, plan: ExperimentPlan, gpus: int) -> WorkerChoice:
    hardware = document.hardware
    return choose_workers(
        cores=hardware.cores,
        ram_available=hardware.ram_available,
        shared_memory=hardware.shared_memory,
        batch_bytes=batch_bytes(plan, document.dataset),
        processes=gpus,
        on_cpu=plan.memory.device == "cpu",
    )


def _capability(document: PlansDocument) -> tuple[int, int] | None:
    known = [gpu.compute_capability for gpu in document.hardware.gpus]
    found = [capability for capability in known if capability is not None]
    return min(found) if found and len(found) == len(known) else None


def _memory(document: PlansDocument, plan: ExperimentPlan, gpus: int) -> MemoryPrediction:
    from .memory import estimate_training_memory

    estimate = estimate_training_memory(
        plan,
        in_channels=document.dataset.in_channels,
        out_channels=document.dataset.out_channels,
        task=document.dataset.task,
        device="cpu" if plan.memory.device == "cpu" else "cuda",
        compute_capability=_capability(document),
        num_gpus=gpus,
    )
    return plan.memory.model_copy(
        update={
            "allocated": estimate.allocated,
            "reserved": estimate.reserved,
            "context": estimate.context,
            "total": estimate.total,
            "parts": estimate.parts,
            "fits": estimate.total <= plan.memory.budget,
            "measured": None,
        }
    )


def _inference(document: PlansDocument, plan: ExperimentPlan, batch: int) -> int:
    from .memory import estimate_inference_memory

    return estimate_inference_memory(
        plan.architecture.name,
        window=plan.inference.window,
        batch_size=batch,
        in_channels=document.dataset.in_channels,
        out_channels=document.dataset.out_channels,
        precision=plan.precision,
        device="cpu" if plan.memory.device == "cpu" else "cuda",
        compute_capability=_capability(document),
        **plan.architecture.arguments,
    ).total


def _alternatives(plan: ExperimentPlan, batch: int, memory: MemoryPrediction) -> tuple[Alternative, ...]:
    """The old choice as one of them, the new one in its place by size."""
    listed = [
        candidate.model_copy(update={"verdict": "chosen by the prediction"})
        if candidate.verdict == "chosen"
        else candidate
        for candidate in plan.alternatives
        if (candidate.patch_size, candidate.batch_size) != (plan.patch_size, batch)
    ]
    chosen = Alternative(
        patch_size=plan.patch_size, batch_size=batch, total=memory.total, fits=True, verdict="chosen"
    )
    return tuple(
        sorted((*listed, chosen), key=lambda candidate: prod(candidate.patch_size) * candidate.batch_size)
    )
