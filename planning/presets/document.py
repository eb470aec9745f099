"""A preset in voxplan's terms: nnU-Net's patch, batch and network, with the memory that they really take.

``plan-experiment --preset`` calls :func:`preset_document`; ``--dataset-json`` goes in as ``dataset``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, prod
from typing import TYPE_CHECKING, Any

from voxplan.plans.architectures import Architecture, get_architecture
from voxplan.plans.schema import (
    ArchitectureChoice,
    DatasetPlan,
    ExperimentPlan,
    Hardware,
    InferenceChoice,
    Ints,
    LoaderChoice,
    MemoryPrediction,
    PlansDocument,
    Task,
)
from voxplan.profiling.fingerprint import Fingerprint

from ..dataset_plan import DataFacts, plan_dataset
from ..decisions import Decisions
from ..hardware import DEFAULT_MEMORY_FRACTION, Budget, budget
from ..nnunet_conversion import from_fingerprint
from ..nnunet_fingerprint import NnunetDataset
from ..overrides import PlanOverrides
from ..provenance import document_provenance
from ..rules.configurations import recommend
from ..rules.spacing import target_spacing, transpose_axes
from ..rules.workers import choose_cache, choose_workers
from ..training_choice import TrainingChoice, choose_training
from .nnunet_plans import Configuration, nnunet_configurations
from .settings import Preset, get_preset

if TYPE_CHECKING:
    from ..memory import MemoryEstimate

GIB = 1024**3
INFERENCE_BATCH = 4
"""Windows at once at most."""
READ_AS = "float32"
"""What nnU-Net reads every image as, so that its normalization never depends on the stored type."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Setting:
    """What all configurations of one document share."""

    preset: Preset
    target_gb: float
    dataset: DatasetPlan
    facts: DataFacts
    hardware: Hardware
    limit: Budget
    backward: Ints
    """Undoes nnU-Net's transposition: its axis ``backward[i]`` is axis ``i`` of ZYX."""

    @property
    def architecture(self) -> Architecture:
        return get_architecture(self.preset.architecture)

    @property
    def num_gpus(self) -> int:
        return max(1, len(self.hardware.gpus))


def preset_document(
    preset: str,
    fingerprint: Fingerprint,
    hardware: Hardware,
    *,
    dataset: NnunetDataset | None = None,
    target_gb: float | None = None,
    memory_fraction: float = DEFAULT_MEMORY_FRACTION,
    task: Task | None = None,
    options: Mapping[str, str] | None = None,
) -> PlansDocument:
    """nnU-Net's own plan of a preset as a voxplan document, one plan a configuration.

    The memory of each is traced and compared with the hardware's budget; ``fits`` says the result, and
    nothing is changed to make it fit. Sizes are turned back to ZYX. What voxplan cannot train stands in
    ``failures``: the cascade, and 2D plans along another axis than z.

    Args:
        preset: one of ``PRESETS``.
        fingerprint: voxplan's own, or nnU-Net's through ``nnunet_conversion.to_fingerprint``.
        hardware: detected or stated.
        dataset: nnU-Net's dataset.json where there is one; its channels, labels and ``numTraining`` win.
        target_gb: nnU-Net's ``-gpu_memory_target``.
        memory_fraction: share of the free memory that a plan may use.
        task: None takes it from the kind of labels. The patch is nnU-Net's for classes in any case.
        options: what the user asked for, for the provenance.

    Raises:
        ValueError: unknown preset, senseless target, or data without what nnU-Net plans by.
    """
    chosen = get_preset(preset)
    numbers, described = from_fingerprint(fingerprint)
    configurations = nnunet_configurations(preset, numbers, dataset or described, target_gb=target_gb)
    spacing = target_spacing(numbers.spacings, numbers.shapes_after_crop)
    forward, backward = transpose_axes(spacing)
    setting = _Setting(
        preset=chosen,
        target_gb=chosen.reference_gb if target_gb is None else target_gb,
        dataset=_as_nnunet_reads(fingerprint, task),
        facts=plan_dataset(fingerprint, task=task),
        hardware=hardware,
        limit=budget(hardware, memory_fraction),
        backward=backward,
    )
    plans: dict[str, ExperimentPlan] = {}
    failures: dict[str, str] = {}
    for name, configuration in configurations.items():
        key = f"{chosen.architecture}/{name}"
        reason = _untrainable(setting, name, configuration, forward)
        if reason is None:
            plans[key] = _plan(setting, name, configuration)
        else:
            failures[key] = reason
    return PlansDocument(
        provenance=document_provenance(fingerprint, options or {}),
        dataset=setting.dataset,
        hardware=hardware,
        plans=plans,
        failures=failures,
        recommended=recommend(tuple(plans), [name for name, plan in plans.items() if plan.memory.fits]),
    )


def _as_nnunet_reads(fingerprint: Fingerprint, task: Task | None) -> DatasetPlan:
    """The shared part with nnU-Net's normalization: by channel name alone, never by the stored type."""
    cases = tuple(case.model_copy(update={"dtype": READ_AS}) for case in fingerprint.cases)
    return plan_dataset(fingerprint.model_copy(update={"cases": cases}), task=task).plan


def _untrainable(
    setting: _Setting, name: str, configuration: Configuration, forward: Sequence[int]
) -> str | None:
    """Why voxplan cannot train a configuration; None where it can."""
    if "inherits_from" in configuration:
        return (
            "the cascade takes the low-resolution prediction as input: only nnU-Net trains it, see --export"
        )
    if name == "2d" and forward[0] != 0:
        axis = "zyx"[forward[0]]
        return (
            f"nnU-Net slices along {axis}, the coarsest axis, and voxplan's 2D plans along z: only nnU-Net "
            "trains it, see --export"
        )
    patch, arguments = _network(setting, configuration)
    try:
        setting.architecture.validate(arguments, dimensions=len(patch), patch_size=patch)
    except ValueError as error:
        return str(error)
    return None


def _network(setting: _Setting, configuration: Configuration) -> tuple[Ints, dict[str, Any]]:
    """Patch and arguments in ZYX."""
    order = _order(setting, configuration)
    patch = _turned(configuration["patch_size"], order)
    return patch, _arguments(configuration["architecture"]["arch_kwargs"], order)


def _order(setting: _Setting, configuration: Configuration) -> Ints:
    """Where each axis of ZYX (YX in 2D) stands in nnU-Net's order."""
    dimensions = len(configuration["patch_size"])
    return tuple(range(dimensions)) if dimensions == 2 else setting.backward


def _plan(setting: _Setting, name: str, configuration: Configuration) -> ExperimentPlan:
    """One configuration that voxplan can train."""
    order = _order(setting, configuration)
    patch, arguments = _network(setting, configuration)
    dimensions = len(patch)
    decisions = Decisions()
    training = choose_training(
        setting.architecture, dimensions, setting.facts.task, setting.limit, PlanOverrides(), decisions
    )
    loss = training.loss_for(setting.architecture, arguments, dimensions)
    loss = loss.model_copy(update={"batch_dice": configuration["batch_dice"]})
    batch = ceil(configuration["batch_size"] / setting.num_gpus)
    warnings: list[str] = []
    estimate = _estimate(setting, patch, batch, training, arguments)
    fits = estimate.total <= setting.limit.bytes
    if not fits:
        warnings.append(
            f"DOES NOT FIT: nnU-Net's {setting.preset.name} plan for {setting.target_gb:g} GB takes "
            f"{estimate.total / GIB:.1f} GiB in a traced step; the budget is "
            f"{setting.limit.bytes / GIB:.1f} GiB"
        )
    loader = _loader(setting, patch, batch, decisions, warnings)
    _decide(setting, name, decisions)
    if batch * setting.num_gpus != configuration["batch_size"]:
        warnings.append(
            f"nnU-Net's batch of {configuration['batch_size']} over all GPUs becomes {batch} on each of "
            f"{setting.num_gpus}"
        )
    return ExperimentPlan(
        architecture=ArchitectureChoice(name=setting.preset.architecture, arguments=arguments),
        dimensions=2 if dimensions == 2 else 3,
        spacing=_turned(configuration["spacing"], order),
        median_shape=tuple(
            max(1, round(size)) for size in _turned(configuration["median_image_size_in_voxels"], order)
        ),
        patch_size=patch,
        batch_size=batch,
        global_batch_size=batch * setting.num_gpus,
        precision=training.precision,
        deep_supervision=training.deep_supervision,
        loss=loss,
        optimizer=training.optimizer,
        schedule=training.schedule,
        loader=loader,
        inference=InferenceChoice(
            window=patch,
            batch_size=min(INFERENCE_BATCH, batch),
            memory=_inference_memory(setting, patch, min(INFERENCE_BATCH, batch), training, arguments),
        ),
        memory=MemoryPrediction(
            allocated=estimate.allocated,
            reserved=estimate.reserved,
            context=estimate.context,
            total=estimate.total,
            parts=estimate.parts,
            budget=setting.limit.bytes,
            fits=fits,
            device=setting.limit.device,
        ),
        decisions=decisions.as_dict(),
        warnings=tuple(warnings),
    )


def _turned(values: Sequence[Any], order: Ints) -> tuple[Any, ...]:
    """nnU-Net's axes in ZYX."""
    return tuple(values[axis] for axis in order)


def _arguments(arch_kwargs: Mapping[str, Any], order: Ints) -> dict[str, Any]:
    """Arguments of voxplan's network, JSON-able."""
    arguments = {
        "strides": [list(_turned(stride, order)) for stride in arch_kwargs["strides"]],
        "kernels": [list(_turned(kernel, order)) for kernel in arch_kwargs["kernel_sizes"]],
        "features": list(arch_kwargs["features_per_stage"]),
    }
    if "n_blocks_per_stage" in arch_kwargs:
        arguments["blocks"] = list(arch_kwargs["n_blocks_per_stage"])
    return arguments


def _estimate(
    setting: _Setting, patch: Ints, batch: int, training: TrainingChoice, arguments: Mapping[str, Any]
) -> MemoryEstimate:
    from ..memory import estimate_training_memory

    return estimate_training_memory(
        setting.preset.architecture,
        patch_size=patch,
        batch_size=batch,
        in_channels=setting.dataset.in_channels,
        out_channels=setting.dataset.out_channels,
        precision=training.precision,
        deep_supervision=training.deep_supervision,
        optimizer=training.optimizer,
        loss=training.loss_for(setting.architecture, arguments, len(patch)),
        task=setting.dataset.task,
        device=setting.limit.kind,
        compute_capability=setting.limit.compute_capability,
        num_gpus=setting.num_gpus,
        **arguments,
    )


def _inference_memory(
    setting: _Setting, patch: Ints, batch: int, training: TrainingChoice, arguments: Mapping[str, Any]
) -> int:
    from ..memory import estimate_inference_memory

    return estimate_inference_memory(
        setting.preset.architecture,
        window=patch,
        batch_size=batch,
        in_channels=setting.dataset.in_channels,
        out_channels=setting.dataset.out_channels,
        precision=training.precision,
        device=setting.limit.kind,
        compute_capability=setting.limit.compute_capability,
        **arguments,
    ).total


def _loader(
    setting: _Setting, patch: Ints, batch: int, decisions: Decisions, warnings: list[str]
) -> LoaderChoice:
    hardware, on_cpu = setting.hardware, setting.limit.kind == "cpu"
    workers = choose_workers(
        cores=hardware.cores,
        ram_available=hardware.ram_available,
        shared_memory=hardware.shared_memory,
        batch_bytes=batch * prod(patch) * (4 * setting.dataset.in_channels + 2),
        processes=setting.num_gpus,
        on_cpu=on_cpu,
    )
    cache, decision = choose_cache(
        dataset_bytes=setting.facts.uncompressed_bytes,
        compressed_streams=setting.facts.compressed_streams,
        ram_available=hardware.ram_available,
    )
    decisions.put("workers", workers.decision)
    decisions.put("cache", decision)
    warnings += workers.warnings
    return LoaderChoice(workers=workers.workers, cache=cache, pin_memory=not on_cpu)


def _decide(setting: _Setting, name: str, decisions: Decisions) -> None:
    """Every value that the preset brings, with its source."""
    planner = f"nnU-Net 2.8.1's {setting.preset.planner}, {name}, at its target of {setting.target_gb:g} GB"
    reasons = {
        "architecture": f"{planner}: its network, with its strides, kernels, features and blocks",
        "dimensions": planner,
        "spacing": f"{planner}: target spacing by its rule",
        "median_shape": f"{planner}: median of the resampled shapes",
        "patch_size": f"{planner}: largest patch by its count of feature-map elements",
        "batch_size": f"{planner}: its global batch over {setting.num_gpus} devices",
        "global_batch_size": planner,
        "accumulation": "nnU-Net accumulates no gradients",
        "checkpointing": "nnU-Net has no gradient checkpointing",
        "compile": "estimates are for eager execution; nnU-Net itself compiles by default",
        "batch_dice": f"{planner}: over the batch in 2D, and where a low-resolution stage exists",
        "inference": "the patch as window, half overlapping, as nnU-Net predicts",
        "loader": "workers and cache, each with its own decision; pinned memory for GPUs",
        "oversample_foreground": "a third of the patches show foreground, as in nnU-Net",
    }
    for field, why in reasons.items():
        decisions.add(field, "rule", why)
    decisions.add("memory", "hardware", f"one step traced; budget: {setting.limit.why}")
