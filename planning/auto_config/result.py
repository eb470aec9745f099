"""What :class:`~voxplan.planning.auto_config.AutoConfigPlanner` answers."""

from __future__ import annotations

from dataclasses import dataclass, field

from voxplan.plans.schema import DatasetPlan, ExperimentPlan, Hardware


@dataclass(slots=True, kw_only=True)
class AutoPlanResult:
    """A plan in the documented words. GB is 1024**3 bytes; sizes are ZYX."""

    patch_size: list[int]
    batch_size: int
    """Samples per GPU and step."""
    num_workers: int
    """Loader workers per training process."""
    base_features: int
    max_features: int
    precision: str
    """Lightning's name: ``16-mixed``, ``bf16-mixed``, ``32-true``."""
    accumulate_grad_batches: int
    lr: float
    gpu_memory_per_sample_gb: float
    """``estimated_gpu_memory_gb / batch_size``; 0 on a CPU."""
    estimated_gpu_memory_gb: float
    """Predicted peak of the process as the driver shows it; 0 on a CPU."""
    available_gpu_memory_gb: float
    """Free memory of the smallest GPU; 0 on a CPU."""
    auto_planned: bool = True
    planning_notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class PlannedResult(AutoPlanResult):
    """The same with the plan that it was read from."""

    plan: ExperimentPlan = field(repr=False)
    """The plan itself, with every decision; with ``dataset``, training can start from it."""
    dataset: DatasetPlan = field(repr=False)
    hardware: Hardware = field(repr=False)
    """The machine that it was planned for."""
