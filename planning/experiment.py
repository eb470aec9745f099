"""One plan: one architecture at one resolution, every value with its decision. Sizes are ZYX (YX in 2D)."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from voxplan.plans.architectures.base import Architecture
from voxplan.plans.schema import (
    Alternative,
    ArchitectureChoice,
    ExperimentPlan,
    Hardware,
    InferenceChoice,
    Ints,
    LoaderChoice,
    MemoryPrediction,
)

from .dataset_plan import DataFacts
from .decisions import Decisions
from .fitting import Fit, fit_plan
from .hardware import Budget
from .overrides import PlanOverrides
from .rules.compute import sample_limit
from .rules.workers import choose_cache, choose_workers
from .search import PatchSpace
from .traced_memory import TracedMemory
from .training_choice import TrainingChoice, choose_training

GIB = 1024**3
ALTERNATIVES = 10
"""Candidates that a plan keeps, nearest to the chosen one."""
INFERENCE_BATCH = 4
"""Windows at once at most; more does not speed up a GPU that a training batch already fills."""
PADDING_FACTOR = 2.0
"""Patch edge over median edge from which padding is worth a warning."""
STOPS = {
    "memory": "the next larger one exceeds the budget",
    "median shape": "it covers the median shape",
    "compute": "a CPU step should take seconds",
    "dataset share": "the batch may cover 5 % of the data set's voxels, and is at least 2 (nnU-Net)",
    "recipe": "no optimizer recipe holds beyond 512 samples",
    "user": "set by the user",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """What to plan, and for what."""

    architecture: Architecture
    configuration: str
    facts: DataFacts
    hardware: Hardware
    budget: Budget
    overrides: PlanOverrides

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
    )
    limit = sample_limit(assignment.budget.kind)
    space = PatchSpace(architecture, assignment.spacing, assignment.median_shape, limit)
    fit = fit_plan(space, memory, assignment.overrides, assignment.facts.voxels)
    return _assemble(assignment, training, memory, fit, decisions)


def _assemble(
    assignment: Assignment, training: TrainingChoice, memory: TracedMemory, fit: Fit, decisions: Decisions
) -> ExperimentPlan:
    choice, dataset = fit.choice, assignment.facts.plan
    warnings = list(_fit_warnings(assignment, fit))
    _decide_size(assignment, fit, decisions)
    loader = _loader(assignment, fit, decisions, warnings)
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
        inference=_inference(assignment, fit, memory, decisions),
        memory=_memory(assignment, fit),
        alternatives=_alternatives(fit, memory),
        decisions=decisions.as_dict(),
        warnings=tuple(dict.fromkeys((*warnings, *_shape_warnings(assignment, fit, dataset.median_shape)))),
    )


def _decide_size(assignment: Assignment, fit: Fit, decisions: Decisions) -> None:
    choice, overrides, budget = fit.choice, assignment.overrides, assignment.budget
    for field in ("patch_size", "batch_size", "accumulation", "checkpointing"):
        value = getattr(overrides, field)
        if value is not None:
            decisions.user(field, value)
    extent = "equal physical extent on every axis" if assignment.spacing else "equal voxels on every axis"
    by = {
        "memory": "hardware",
        "compute": "hardware",
        "median shape": "data",
        "dataset share": "rule",
        "recipe": "rule",
        "user": "user",
    }
    decisions.add(
        "patch_size",
        by[choice.patch_stop],  # type: ignore[arg-type]
        f"the largest at batch {choice.attempt.batch_size}, of {extent}, clipped to the median shape, on the "
        f"architecture's divisors: {STOPS[choice.patch_stop]}",
    )
    decisions.add("batch_size", by[choice.batch_stop], f"per GPU: {STOPS[choice.batch_stop]}")  # type: ignore[arg-type]
    decisions.add("global_batch_size", "hardware", f"batch_size on each of {assignment.num_gpus} devices")
    why = "no accumulation needed"
    if fit.accumulation > 1:
        why = f"batch 2 does not fit: {fit.accumulation} steps of batch {choice.batch_size} make one"
    decisions.add("accumulation", "hardware", why)
    why = "it fits without"
    if choice.attempt.checkpointing:
        why = "without it not even batch 1 of the smallest sensible patch fits"
    decisions.add("checkpointing", "hardware", why)
    decisions.add("compile", "rule", "estimates are for eager execution")
    title = assignment.architecture.title
    decisions.add("architecture", "rule", f"{title}: topology from patch and spacing where it has a choice")
    decisions.add(
        "dimensions", "data", f"{assignment.configuration} of a median shape {assignment.median_shape}"
    )
    decisions.add("spacing", "data", "the data set's target spacing on the patch axes")
    decisions.add("median_shape", "data", "the data set's median shape on the patch axes")
    decisions.add("memory", "hardware", f"one step traced at this patch and batch; budget: {budget.why}")


def _fit_warnings(assignment: Assignment, fit: Fit) -> list[str]:
    budget = assignment.budget.bytes
    if fit.estimate.total <= budget:
        return []
    settings = [
        f"{field}={','.join(map(str, value)) if isinstance(value, tuple) else value}"
        for field in ("patch_size", "batch_size", "checkpointing")
        if (value := getattr(assignment.overrides, field)) is not None
    ]
    return [
        f"DOES NOT FIT: with {' and '.join(settings) or 'these settings'}, as the user set, a step needs "
        f"{fit.estimate.total / GIB:.1f} GiB; the budget is {budget / GIB:.1f} GiB"
    ]


def _shape_warnings(assignment: Assignment, fit: Fit, median_shape: Ints) -> list[str]:
    patch, median = fit.choice.candidate.patch, assignment.median_shape
    warnings = []
    if any(size >= PADDING_FACTOR * edge for size, edge in zip(patch, median, strict=True)):
        warnings.append(
            f"the patch {patch} is mostly padding on an axis of the median shape {median}: "
            f"{assignment.architecture.name} cannot take less"
        )
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
    )
    for field in ("workers", "cache", "oversample_foreground"):
        value = getattr(overrides, field)
        if value is not None:
            decisions.user(field, value)
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


def _inference(
    assignment: Assignment, fit: Fit, memory: TracedMemory, decisions: Decisions
) -> InferenceChoice:
    overrides = assignment.overrides
    window = fit.choice.candidate.patch
    if overrides.inference_window is not None:
        window = overrides.inference_window
        assignment.architecture.validate(
            fit.choice.candidate.arguments, dimensions=assignment.dimensions, patch_size=window
        )
        decisions.user("inference_window", window)
    batch_size = overrides.inference_batch_size or min(INFERENCE_BATCH, fit.choice.batch_size)
    if overrides.inference_batch_size is not None:
        decisions.user("inference_batch_size", batch_size)
    overlap = 0.5 if overrides.inference_overlap is None else overrides.inference_overlap
    if overrides.inference_overlap is not None:
        decisions.user("inference_overlap", overlap)
    decisions.add("inference", "rule", "the patch as window, half overlapping, as nnU-Net predicts")
    return InferenceChoice(
        window=window,
        overlap=overlap,
        batch_size=batch_size,
        memory=memory.inference(fit.choice.candidate, window, batch_size),
    )


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


def _alternatives(fit: Fit, memory: TracedMemory) -> tuple[Alternative, ...]:
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
            verdict = STOPS[choice.batch_stop]
        else:
            verdict = "a larger one fits"
        how = ", with checkpointing" if checkpointing and not chosen[2] else ""
        listed.append(
            Alternative(
                patch_size=patch, batch_size=batch, total=totals[key], fits=fits, verdict=verdict + how
            )
        )
    return tuple(listed)
