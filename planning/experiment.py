"""One plan: one architecture at one resolution, every value with its decision. Sizes are ZYX (YX in 2D)."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod

from voxplan.plans.architectures.base import Architecture
from voxplan.plans.schema import (
    ArchitectureChoice,
    ExperimentPlan,
    Hardware,
    Ints,
    LoaderChoice,
    MemoryPrediction,
)

from .dataset_plan import DataFacts
from .decisions import Decisions
from .fitting import Fit, fit_plan
from .hardware import Budget
from .inference_choice import choose_inference
from .limits import alternatives, decide_size, user_excess
from .overrides import PlanOverrides
from .rules.compute import sample_limit
from .rules.workers import choose_cache, choose_workers
from .search import PatchSpace
from .traced_memory import Models, TracedMemory
from .training_choice import TrainingChoice, choose_training

PADDING_FACTOR = 2.0
"""Patch edge over median edge from which padding is worth a warning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """What to plan, and for what."""

    architecture: Architecture
    configuration: str
    facts: DataFacts
    hardware: Hardware
    budget: Budget
    overrides: PlanOverrides
    models: Models = field(default_factory=dict)
    """Networks measured already; more are added."""

    @property
    def dimensions(self) -> int:
        """Axes of the patch."""
        return 2 if self.configuration == "2d" else 3

    @property
    def spacing(self) -> tuple[float, ...] | None:
        """Target spacing of the patch axes."""
        spacing = self.facts.plan.target_spacing
        return None if spacing is None else spacing[-self.dimensions :]

    @property
    def median_shape(self) -> Ints:
        """Median shape of the patch axes."""
        return self.facts.plan.median_shape[-self.dimensions :]

    @property
    def num_gpus(self) -> int:
        """Training processes."""
        return max(1, len(self.hardware.gpus))


def plan_experiment(assignment: Assignment) -> ExperimentPlan:
    """Choose everything for one network.

    Raises:
        DoesNotFitError: no patch fits the budget, by no fallback that keeps the architecture.
        ValueError: an override that cannot be.
    """
    decisions = Decisions()
    dataset, architecture = assignment.facts.plan, assignment.architecture
    training = choose_training(
        architecture,
        assignment.dimensions,
        assignment.facts.task,
        assignment.budget,
        assignment.overrides,
        decisions,
    )
    memory = TracedMemory(
        architecture=architecture,
        dimensions=assignment.dimensions,
        in_channels=dataset.in_channels,
        out_channels=dataset.out_channels,
        task=dataset.task,
        training=training,
        budget=assignment.budget,
        num_gpus=assignment.num_gpus,
        models=assignment.models,
    )
    limit = sample_limit(assignment.budget.kind)
    space = PatchSpace(
        architecture,
        assignment.spacing,
        assignment.median_shape,
        most_voxels=limit,
        base_features=assignment.overrides.base_features,
    )
    fit = fit_plan(space, memory, assignment.overrides, assignment.facts.voxels)
    return _assemble(assignment, training, memory, fit, decisions)


def _assemble(
    assignment: Assignment, training: TrainingChoice, memory: TracedMemory, fit: Fit, decisions: Decisions
) -> ExperimentPlan:
    choice, dataset = fit.choice, assignment.facts.plan
    warnings = list(user_excess(fit, assignment.overrides, assignment.budget))
    decide_size(fit, assignment.overrides, assignment.budget, decisions, num_gpus=assignment.num_gpus)
    _decide_data(assignment, decisions)
    loader = _loader(assignment, fit, decisions, warnings)
    inference, excess = choose_inference(choice, memory, assignment.overrides, decisions)
    warnings += excess
    arguments = choice.candidate.arguments
    return ExperimentPlan(
        architecture=ArchitectureChoice(name=assignment.architecture.name, arguments=arguments),
        dimensions=2 if assignment.dimensions == 2 else 3,
        spacing=assignment.spacing,
        median_shape=assignment.median_shape,
        patch_size=choice.candidate.patch,
        batch_size=choice.batch_size,
        global_batch_size=choice.batch_size * assignment.num_gpus,
        accumulation=fit.accumulation,
        precision=training.precision,
        checkpointing=choice.attempt.checkpointing,
        deep_supervision=training.deep_supervision,
        loss=training.loss_for(assignment.architecture, arguments, assignment.dimensions),
        optimizer=training.optimizer,
        schedule=training.schedule,
        loader=loader,
        inference=inference,
        memory=_memory(assignment, fit),
        limits={"patch_size": choice.patch_stop, "batch_size": choice.batch_stop},
        alternatives=alternatives(fit, memory),
        decisions=decisions.as_dict(),
        warnings=tuple(dict.fromkeys((*warnings, *_shape_warnings(assignment, fit, dataset.median_shape)))),
    )


def _decide_data(assignment: Assignment, decisions: Decisions) -> None:
    """Decisions that size and budget have no part in, and those that follow from the search as a whole."""
    title = assignment.architecture.title
    decisions.add("compile", "rule", "estimates are for eager execution")
    if assignment.overrides.base_features is not None:
        decisions.user("base_features", assignment.overrides.base_features)
    decisions.add("architecture", "rule", f"{title}: topology from patch and spacing where it has a choice")
    decisions.add(
        "dimensions", "data", f"{assignment.configuration} of a median shape {assignment.median_shape}"
    )
    extent = "equal physical extent" if assignment.spacing else "equal voxels, for want of a spacing,"
    decisions.add("spacing", "data", f"the data set's target spacing on the patch axes; patches of {extent}")
    decisions.add("median_shape", "data", "the data set's median shape on the patch axes")


def _shape_warnings(assignment: Assignment, fit: Fit, median_shape: Ints) -> list[str]:
    patch, median = fit.choice.candidate.patch, assignment.median_shape
    warnings = []
    if any(size >= PADDING_FACTOR * edge for size, edge in zip(patch, median, strict=True)):
        by_user = fit.choice.patch_stop == "user"
        why = "set by the user" if by_user else f"{assignment.architecture.name} cannot take less"
        warnings.append(f"the patch {patch} is mostly padding on an axis of the median shape {median}: {why}")
    transposed = assignment.facts.plan.transpose[0]
    if assignment.dimensions == 2 and median_shape[0] > 1 and transposed != 0:
        axis = "zyx"[transposed]
        warnings.append(f"the 2D planes are y-x, but the coarsest axis is {axis}: prefer the 3D plan")
    return warnings


def _loader(assignment: Assignment, fit: Fit, decisions: Decisions, warnings: list[str]) -> LoaderChoice:
    overrides, hardware, facts = assignment.overrides, assignment.hardware, assignment.facts
    target = 2 if facts.plan.task == "semantic" and not facts.task.regions else facts.plan.out_channels
    voxel_bytes = 4 * facts.plan.in_channels + target
    on_cpu = assignment.budget.kind == "cpu"
    workers = choose_workers(
        cores=hardware.cores,
        ram_available=hardware.ram_available,
        shared_memory=hardware.shared_memory,
        batch_bytes=fit.choice.batch_size * prod(fit.choice.candidate.patch) * voxel_bytes,
        processes=assignment.num_gpus,
        on_cpu=on_cpu,
    )
    cache, decision = choose_cache(
        dataset_bytes=facts.uncompressed_bytes,
        compressed_streams=facts.compressed_streams,
        ram_available=hardware.ram_available,
        processes=assignment.num_gpus,
    )
    for name in ("workers", "cache", "oversample_foreground"):
        value = getattr(overrides, name)
        if value is not None:
            decisions.user(name, value)
    decisions.put("workers", workers.decision)
    decisions.put("cache", decision)
    decisions.add(
        "loader", "hardware", "workers and cache, each with its own decision; pinned memory for GPUs"
    )
    decisions.add("oversample_foreground", "rule", "a third of the patches show foreground, as in nnU-Net")
    if overrides.workers is None:
        warnings += workers.warnings
    choice = LoaderChoice(
        workers=workers.workers if overrides.workers is None else overrides.workers,
        cache=cache if overrides.cache is None else overrides.cache,
        pin_memory=not on_cpu,
    )
    if overrides.oversample_foreground is not None:
        choice = choice.model_copy(update={"oversample_foreground": overrides.oversample_foreground})
    return choice


def _memory(assignment: Assignment, fit: Fit) -> MemoryPrediction:
    estimate, budget = fit.estimate, assignment.budget
    return MemoryPrediction(
        allocated=estimate.allocated,
        reserved=estimate.reserved,
        context=estimate.context,
        total=estimate.total,
        parts=estimate.parts,
        budget=budget.bytes,
        fits=estimate.total <= budget.bytes,
        device=budget.device,
    )
