"""The one planner: a fingerprint and a machine in, a plans document out; it never branches on a name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from voxplan.plans.architectures import ARCHITECTURES, get_architecture
from voxplan.plans.schema import Decision, ExperimentPlan, Hardware, PlansDocument, Task
from voxplan.profiling.fingerprint import Fingerprint
from voxplan.profiling.formats.base import Unit

from .dataset_plan import DataFacts, plan_dataset
from .experiment import Assignment, plan_experiment
from .fitting import DoesNotFitError
from .hardware import DEFAULT_MEMORY_FRACTION, Budget, budget
from .overrides import Overrides, collect_overrides
from .provenance import document_provenance
from .rules.configurations import CONFIGURATIONS, configurations, recommend
from .traced_memory import Models

DEFAULT_ARCHITECTURES = ("unet", "mednext_s")


def make_plans(
    fingerprint: Fingerprint,
    hardware: Hardware,
    *,
    architectures: Sequence[str] = DEFAULT_ARCHITECTURES,
    only: Sequence[str] | None = None,
    task: Task | None = None,
    memory_fraction: float = DEFAULT_MEMORY_FRACTION,
    overrides: Mapping[str, Any] | None = None,
    spacing: tuple[float, float, float] | None = None,
    unit: Unit | None = None,
    options: Mapping[str, str] | None = None,
    models: Models | None = None,
) -> PlansDocument:
    """Plans for all architectures at all resolutions that suit the data.

    Args:
        fingerprint: what the data is.
        hardware: detected or stated.
        architectures: registered names.
        only: configurations to plan, of those that suit the data: ``3d_fullres``, ``2d``; None for all.
        task: None takes it from the kind of labels.
        memory_fraction: share of the free memory that a plan may use.
        overrides: see :mod:`voxplan.planning.overrides`.
        spacing: ZYX, in place of what the files say.
        unit: of ``spacing``.
        options: what the user asked for, for the provenance.
        models: networks measured already, to which more are added: for planning one data set for several
            machines, or several like ones.

    Returns:
        The document; an architecture without a plan stands in ``failures`` with what it would need.

    Raises:
        ValueError: nothing to plan for, an unknown name, or an override that cannot be.
    """
    chosen = tuple(dict.fromkeys(architectures))
    for name in chosen:
        get_architecture(name)
    for configuration in only or ():
        if configuration not in CONFIGURATIONS:
            msg = f"configuration {configuration!r} is unknown; known ones: {', '.join(CONFIGURATIONS)}"
            raise ValueError(msg)
    measured: Models = {} if models is None else models
    settings = collect_overrides(overrides, ARCHITECTURES)
    facts = plan_dataset(fingerprint, task=task, spacing=spacing, unit=unit, overrides=settings.dataset)
    limit = budget(hardware, memory_fraction)
    plans: dict[str, ExperimentPlan] = {}
    failures: dict[str, str] = {}
    for name in chosen:
        made, failed = plan_architecture(
            name, facts, hardware, limit, settings, measured, without=chosen, only=only or CONFIGURATIONS
        )
        plans |= made
        failures |= failed
    fitting = [name for name, plan in plans.items() if plan.memory.fits]
    return PlansDocument(
        provenance=document_provenance(fingerprint, options or {}),
        dataset=facts.plan,
        hardware=hardware,
        plans=plans,
        failures=failures,
        recommended=recommend(tuple(plans), fitting),
    )


def plan_architecture(
    name: str,
    facts: DataFacts,
    hardware: Hardware,
    limit: Budget,
    settings: Overrides,
    models: Models,
    *,
    without: Sequence[str] = (),
    only: Sequence[str] = CONFIGURATIONS,
) -> tuple[dict[str, ExperimentPlan], dict[str, str]]:
    """Plans of one architecture by name, and what failed by name.

    Where it does not fit, the next smaller variant is planned in its place, unless it stands in ``without``
    (because it is planned anyway). ``only`` names the configurations that are asked for.
    """
    plans: dict[str, ExperimentPlan] = {}
    failures: dict[str, str] = {}
    architecture = get_architecture(name)
    wanted = configurations(facts.plan.median_shape[0], architecture.dimensions, facts.plan.offsets)
    if not wanted:
        dimensions = ", ".join(f"{count}D" for count in architecture.dimensions)
        failures[name] = f"has only {dimensions} networks, which do not suit this data and task"
    asked = [configuration for configuration in wanted if configuration in only]
    if wanted and not asked:
        failures[name] = f"no plan of {' or '.join(only)}: this data and task get {' and '.join(wanted)}"
    for configuration in asked:
        variant: str | None = name
        reasons: list[str] = []
        while variant is not None:
            assignment = Assignment(
                architecture=get_architecture(variant),
                configuration=configuration,
                facts=facts,
                hardware=hardware,
                budget=limit,
                overrides=settings.for_plan(variant, configuration),
                models=models,
            )
            try:
                plan = plan_experiment(assignment)
            except DoesNotFitError as error:
                reasons.append(f"{variant} {error}")
                variant = assignment.architecture.smaller
                if variant in without:
                    reasons.append(f"the next smaller one, {variant}, is planned anyway")
                    variant = None
                continue
            except ValueError as error:
                reasons.append(str(error))
                variant = None
                continue
            plans[f"{variant}/{configuration}"] = _as_fallback(plan, reasons) if reasons else plan
            break
        if reasons:
            failures[f"{name}/{configuration}"] = "; ".join(
                (*reasons, *((f"{variant} is planned instead",) if variant else ()))
            )
    return plans, failures


def _as_fallback(plan: ExperimentPlan, reasons: Sequence[str]) -> ExperimentPlan:
    why = f"a smaller variant than was asked for: {'; '.join(reasons)}"
    decisions = {**plan.decisions, "architecture": Decision(by="hardware", why=why)}
    return plan.model_copy(update={"decisions": decisions, "warnings": (*plan.warnings, why)})
