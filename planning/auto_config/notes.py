"""The notes of a plan: what it was made from, in sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from voxplan.plans.schema import ExperimentPlan, Hardware

from ..dataset_plan import DataFacts
from ..gpus import GIB
from ..hardware import Budget
from ..rules.spacing import ANISOTROPY_THRESHOLD
from .networks import Network


def planning_notes(
    plan: ExperimentPlan,
    facts: DataFacts,
    hardware: Hardware,
    limit: Budget,
    network: Network,
    set_by_user: Mapping[str, Any],
) -> list[str]:
    """Budget, network, anisotropy, patch, batch, workers, overrides, advice on the schedule; in order."""
    decisions = plan.decisions
    notes = [
        f"budget: {limit.why}; predicted: {plan.memory.total / GIB:.1f} GiB for the whole process",
        f"traced network: {plan.architecture.name}",
        *_anisotropy(plan),
        f"patch {'x'.join(map(str, plan.patch_size))}: {decisions['patch_size'].why}",
        f"batch {plan.batch_size}: {decisions['batch_size'].why}",
    ]
    if plan.accumulation > 1:
        notes.append(f"accumulate {plan.accumulation} batches: {decisions['accumulation'].why}")
    each = f" for each of {len(hardware.gpus)} processes" if len(hardware.gpus) > 1 else ""
    notes.append(f"{plan.loader.workers} loader workers{each}: {decisions['workers'].why}")
    notes += [f"{name} is set by the user" for name in set_by_user if set_by_user[name] is not None]
    median = facts.plan.decisions.get("median_shape")
    if median is not None and median.by == "rule":
        notes.append(f"median_shape {facts.plan.median_shape} is {median.why}")
    own = f"the plan itself, as its authors train: {plan.schedule.name}"
    notes.append(f"scheduler (advice only, nothing is set): {network.scheduler}; {own}")
    return notes + list(hardware.notes)


def anisotropy(spacing: tuple[float, ...] | None) -> float:
    """Coarsest over finest spacing; 1 where none is known."""
    return 1.0 if spacing is None else max(spacing) / min(spacing)


def _anisotropy(plan: ExperimentPlan) -> list[str]:
    ratio = anisotropy(plan.spacing)
    if ratio <= ANISOTROPY_THRESHOLD or plan.spacing is None:
        return []
    axis = "zyx"[plan.spacing.index(max(plan.spacing))]
    return [
        f"anisotropic spacing: {axis} is {ratio:.1f} times coarser than the finest axis (above "
        f"{ANISOTROPY_THRESHOLD:g}); the patch has fewer voxels along it, for about equal physical extent"
    ]
