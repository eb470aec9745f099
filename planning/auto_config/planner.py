"""The documented planner, which asks the one planner. Sizes are ZYX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from voxplan.plans.architectures import get_architecture
from voxplan.plans.build import LIGHTNING_PRECISIONS
from voxplan.plans.schema import Decision, ExperimentPlan, Hardware

from ..dataset_plan import DataFacts
from ..experiment import Assignment, plan_experiment
from ..gpus import GIB
from ..hardware import Budget, budget, detect_hardware
from ..overrides import PlanOverrides
from .facts import checked_shape, checked_spacing, stated_facts
from .networks import CUSTOM, Network, architecture_of, find_network
from .notes import planning_notes
from .result import AutoPlanResult, PlannedResult
from .settings import check_override_names, plan_overrides
from .workers import decide_workers, with_cores_for, workers_for

MEMORY_FRACTION = 0.85
"""Share of the free memory that a plan may use, as documented."""
CONFIGURATION = "3d_fullres"
SINGLE_SAMPLE_ACCUMULATION = 4
"""Steps that make one where the batch is 1, as documented; the estimate does not depend on it."""


class AutoConfigPlanner:
    """Patch, batch and training settings of one architecture on the GPUs at hand.

    Args:
        architecture: ``mednext``, ``mednext_custom``, ``monai_basic_unet3d`` or ``monai_unet``.
        target_spacing: ZYX, in any unit: without a data set only the ratios count. None: isotropic.
        median_shape: ZYX voxels at that spacing, which no patch exceeds (beyond padding). None: 128 cubed.
        manual_overrides: ``patch_size, batch_size, num_workers, precision, accumulate_grad_batches, lr``;
            applied before anything is estimated.
        hardware: the machine; detected if None. For one that is not here, see
            :func:`voxplan.planning.hardware.state_hardware`.
        facts: of a profiled data set, in place of ``target_spacing`` and ``median_shape``.

    Raises:
        ValueError: an unknown architecture or override, with the known ones; or a value that cannot be.
    """

    def __init__(
        self,
        architecture: str = "mednext",
        target_spacing: Sequence[float] | None = None,
        median_shape: Sequence[int] | None = None,
        manual_overrides: Mapping[str, Any] | None = None,
        *,
        hardware: Hardware | None = None,
        facts: DataFacts | None = None,
    ) -> None:
        self.network: Network = find_network(architecture)
        self.architecture = architecture
        self.target_spacing = None if target_spacing is None else list(checked_spacing(target_spacing))
        self.median_shape = None if median_shape is None else list(checked_shape(median_shape))
        self.manual_overrides = dict(manual_overrides or {})
        check_override_names(self.manual_overrides)
        if facts is not None and (target_spacing is not None or median_shape is not None):
            msg = "facts of a profile stand in place of target_spacing and median_shape: give one of them"
            raise ValueError(msg)
        self._hardware = hardware
        self._facts = facts

    @property
    def has_deep_supervision(self) -> bool:
        """Whether the architecture has outputs for it."""
        return get_architecture(self.network.registered).deep_supervision

    def plan(
        self,
        in_channels: int = 1,
        out_channels: int = 2,
        deep_supervision: bool = False,
        use_mixed_precision: bool = True,
    ) -> PlannedResult:
        """The plan, within 85 % of the free memory of the smallest GPU (of the main memory without one).

        Args:
            in_channels: image channels; those of ``facts`` where the planner has them.
            out_channels: classes, background included; 1 is a binary map.
            deep_supervision: train with auxiliary heads.
            use_mixed_precision: False trains in fp32; True in what the architecture's authors use and the
                GPU can.

        Raises:
            DoesNotFitError: not even the smallest sensible patch fits; says what would be needed.
            ValueError: an override that cannot be.
        """
        if deep_supervision and not self.has_deep_supervision:
            msg = f"deep_supervision: {self.architecture} has no outputs for it; set it to False"
            raise ValueError(msg)
        facts = self._facts or stated_facts(
            in_channels=in_channels,
            out_channels=out_channels,
            target_spacing=self.target_spacing,
            median_shape=self.median_shape,
        )
        hardware = self._hardware or detect_hardware()
        limit = budget(hardware, MEMORY_FRACTION)
        overrides = self._overrides(hardware, deep_supervision, use_mixed_precision)
        plan = plan_experiment(
            Assignment(
                architecture=architecture_of(self.network, free_patch=overrides.patch_size is not None),
                configuration=CONFIGURATION,
                facts=facts,
                hardware=with_cores_for(hardware),
                budget=limit,
                overrides=overrides,
            )
        )
        plan = _accumulated(plan, overrides)
        if self.manual_overrides.get("num_workers") is None:
            plan = _decided(plan, "workers", decide_workers(plan, hardware))
        return self._result(plan, facts, hardware, limit)

    def print_plan(self, result: AutoPlanResult) -> None:
        """Print a plan as a short table, its notes and its warnings."""
        from .report import print_result

        print_result(self.architecture, result)

    def _overrides(self, hardware: Hardware, deep_supervision: bool, mixed: bool) -> PlanOverrides:
        overrides = plan_overrides(self.manual_overrides, deep_supervision=deep_supervision)
        changes: dict[str, Any] = {}
        if not mixed and overrides.precision is None:
            changes["precision"] = "fp32"
        if not hardware.gpus and overrides.workers is None:
            changes["workers"] = workers_for(0, hardware.cores)
        return overrides.model_copy(update=changes)

    def _result(
        self, plan: ExperimentPlan, facts: DataFacts, hardware: Hardware, limit: Budget
    ) -> PlannedResult:
        on_gpu = limit.kind == "cuda"
        needed = plan.memory.total / GIB if on_gpu else 0.0
        set_by_user = {name: self.manual_overrides[name] for name in self.manual_overrides}
        stated = set_by_user.get("precision")
        return PlannedResult(
            patch_size=list(plan.patch_size),
            batch_size=plan.batch_size,
            num_workers=plan.loader.workers,
            base_features=self.network.base_features,
            max_features=self.network.max_features,
            precision=LIGHTNING_PRECISIONS[plan.precision] if stated is None else str(stated),
            accumulate_grad_batches=plan.accumulation,
            lr=plan.optimizer.lr,
            gpu_memory_per_sample_gb=needed / plan.batch_size,
            estimated_gpu_memory_gb=needed,
            available_gpu_memory_gb=min((gpu.free_memory for gpu in hardware.gpus), default=0) / GIB,
            planning_notes=planning_notes(plan, facts, hardware, limit, self.network, set_by_user),
            warnings=_warnings(plan, facts, on_gpu, self.architecture),
            plan=plan,
            dataset=facts.plan,
            hardware=hardware,
        )


def _accumulated(plan: ExperimentPlan, overrides: PlanOverrides) -> ExperimentPlan:
    """Four steps make one where a step has a single sample, unless the user says otherwise."""
    if plan.batch_size > 1 or overrides.accumulation is not None:
        return plan
    why = f"batch 1: {SINGLE_SAMPLE_ACCUMULATION} steps make one"
    plan = plan.model_copy(update={"accumulation": SINGLE_SAMPLE_ACCUMULATION})
    return _decided(plan, "accumulation", Decision(by="rule", why=why))


def _decided(plan: ExperimentPlan, field: str, decision: Decision) -> ExperimentPlan:
    return plan.model_copy(update={"decisions": {**plan.decisions, field: decision}})


def _warnings(plan: ExperimentPlan, facts: DataFacts, on_gpu: bool, architecture: str) -> list[str]:
    found = [*facts.plan.warnings, *plan.warnings]
    if architecture == CUSTOM:
        found.append(
            f"{CUSTOM} is planned as MedNeXt-S: other widths, depths or kernels need other memory "
            "(plan-experiment plans mednext_b, mednext_m and mednext_l)"
        )
    if not on_gpu:
        found.insert(0, "no GPU: planned for the CPU, with a small patch and without mixed precision")
    if plan.checkpointing:
        found.append("it fits only with gradient checkpointing: switch it on in the training as well")
    return list(dict.fromkeys(found))
