"""What is to be estimated, in one frozen object: network, loss and step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from voxplan.plans.architectures import Architecture, get_architecture
from voxplan.plans.optimizers import USUAL_OPTIMIZERS
from voxplan.plans.schema import (
    ArchitectureChoice,
    ExperimentPlan,
    Ints,
    LossChoice,
    OptimizerChoice,
    Precision,
    Task,
)

from .events import Trace
from .validate import check_numbers, explain_failure, whole
from .workspace import DeviceModel, default_capability

if TYPE_CHECKING:
    from torch import nn

    from .step import Implementation, Loss, StepSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A training step (or a network's inference) whose memory is asked for."""

    architecture: Architecture | None
    """None for a callable."""
    build_callable: Callable[[], nn.Module] | None
    arguments: Mapping[str, Any]
    patch_size: Ints
    batch_size: int
    in_channels: int
    out_channels: int
    precision: Precision
    deep_supervision: bool
    optimizer: OptimizerChoice
    implementation: Implementation
    loss: LossChoice | Loss | None
    task: Task
    checkpointing: bool
    device: str
    compute_capability: tuple[int, int]
    num_gpus: int
    gradient_as_bucket_view: bool
    cudnn_benchmark: bool
    expandable_segments: bool

    @property
    def dimensions(self) -> int:
        """Spatial axes."""
        return len(self.patch_size)

    def at(self, patch_size: Ints, batch_size: int) -> Request:
        """The same with another patch and batch.

        Raises:
            ValueError: naming the argument that does not work.
        """
        edges = tuple(whole(edge) for edge in patch_size)
        return checked(replace(self, patch_size=edges, batch_size=whole(batch_size)))

    def device_model(self) -> DeviceModel:
        """The GPU's share of the memory."""
        return DeviceModel(
            compute_capability=self.compute_capability,
            precision=self.precision,
            cudnn_benchmark=self.cudnn_benchmark,
            num_gpus=self.num_gpus,
        )

    def build(self, *, deep_supervision: bool | None = None, checkpointing: bool | None = None) -> nn.Module:
        """The network on the current default device."""
        if self.architecture is None:
            assert self.build_callable is not None
            return self.build_callable()
        return self.architecture.build(
            self.arguments,
            dimensions=self.dimensions,
            in_channels=self.in_channels,
            out_channels=self.out_channels,
            deep_supervision=self.deep_supervision if deep_supervision is None else deep_supervision,
            checkpointing=self.checkpointing if checkpointing is None else checkpointing,
        )

    def make_loss(self, outputs: int) -> Loss:
        """The loss for a number of outputs."""
        from voxplan.plans.losses import build_loss

        if self.loss is not None and not isinstance(self.loss, LossChoice):
            return self.loss
        choice = self.loss
        if choice is None:
            weights = self._weights(outputs)
            name = "dice_ce" if self.task == "semantic" and self.out_channels > 1 else "bce"
            if name == "bce" and self.task == "semantic":
                name = "dice_bce"
            choice = LossChoice(name=name, deep_supervision_weights=weights)  # type: ignore[arg-type]
        loss: Loss = build_loss(choice, task=self.task, out_channels=self.out_channels, ignore_index=None)
        return loss

    def _weights(self, outputs: int) -> tuple[float, ...]:
        if self.architecture is not None and self.deep_supervision and outputs > 1:
            return self.architecture.deep_supervision_weights(self.arguments, self.dimensions)
        return tuple(1 / 2**scale for scale in range(outputs))

    def settings(self) -> StepSettings:
        """What a step needs to know besides network and loss."""
        from .step import StepSettings

        return StepSettings(
            patch_size=self.patch_size,
            batch_size=self.batch_size,
            in_channels=self.in_channels,
            out_channels=self.out_channels,
            precision=self.precision,
            optimizer=self.optimizer,
            implementation=self.implementation,
            num_gpus=self.num_gpus,
            gradient_as_bucket_view=self.gradient_as_bucket_view,
            binary_target=self._binary_target(),
        )

    def _binary_target(self) -> bool:
        if isinstance(self.loss, LossChoice):
            return self.loss.name != "dice_ce"
        return self.task != "semantic" or (self.loss is None and self.out_channels == 1)

    def trace(self, *, device: str = "meta") -> Trace:
        """Run the step and record its memory.

        Raises:
            NetworkFailedError: the network cannot run on the input.
        """
        from .step import trace_training

        try:
            return trace_training(self.build, self.make_loss, self.settings(), device=device)
        except Exception as error:
            raise explain_failure(
                error, patch_size=self.patch_size, batch_size=self.batch_size, in_channels=self.in_channels
            ) from error


def checked(request: Request) -> Request:
    """The request itself, if its numbers make sense.

    Raises:
        ValueError: naming the argument.
    """
    check_numbers(
        patch_size=request.patch_size,
        batch_size=request.batch_size,
        in_channels=request.in_channels,
        out_channels=request.out_channels,
        precision=request.precision,
        task=request.task,
        device=request.device,
        num_gpus=request.num_gpus,
        implementation=request.implementation,
        loss=request.loss,
        compute_capability=request.compute_capability,
    )
    if request.architecture is not None:
        request.architecture.validate(
            request.arguments, dimensions=request.dimensions, patch_size=request.patch_size
        )
    return request


def _optimizer(choice: str | OptimizerChoice) -> OptimizerChoice:
    if isinstance(choice, OptimizerChoice):
        return choice
    if choice not in USUAL_OPTIMIZERS:
        msg = f"optimizer must be one of {', '.join(USUAL_OPTIMIZERS)}, got {choice!r}"
        raise ValueError(msg)
    return USUAL_OPTIMIZERS[choice]


def make_request(
    architecture: str | Architecture | ArchitectureChoice | ExperimentPlan | Callable[[], nn.Module] | Any,
    *,
    patch_size: Ints | None,
    batch_size: int | None,
    in_channels: int = 1,
    out_channels: int = 2,
    precision: Precision = "fp16",
    deep_supervision: bool = True,
    optimizer: str | OptimizerChoice = "adamw",
    optimizer_implementation: Implementation | None = None,
    loss: LossChoice | Loss | None = None,
    task: Task = "semantic",
    checkpointing: bool = False,
    device: str = "cuda",
    compute_capability: tuple[int, int] | None = None,
    num_gpus: int = 1,
    gradient_as_bucket_view: bool = False,
    cudnn_benchmark: bool = False,
    expandable_segments: bool = False,
    arguments: Mapping[str, Any] | None = None,
) -> Request:
    """Check the arguments of an estimate and put them together; see ``estimate_training_memory``.

    Raises:
        ValueError: naming the argument.
    """
    plan = getattr(architecture, "plan", architecture)
    if isinstance(plan, ExperimentPlan):
        patch_size = patch_size or plan.patch_size
        batch_size = batch_size or plan.batch_size
        precision, checkpointing, loss = plan.precision, plan.checkpointing, plan.loss
        deep_supervision, optimizer = plan.deep_supervision, plan.optimizer
        architecture = plan.architecture
    if patch_size is None or batch_size is None:
        msg = "patch_size and batch_size are needed unless architecture is a plan"
        raise ValueError(msg)
    patch_size = tuple(whole(edge) for edge in patch_size)
    samples: int = whole(batch_size)
    found: Architecture | None = None
    build: Any = None
    if isinstance(architecture, ArchitectureChoice):
        found, arguments = get_architecture(architecture.name), architecture.arguments
    elif isinstance(architecture, str):
        found = get_architecture(architecture)
    elif isinstance(architecture, Architecture):
        found = architecture
    elif callable(architecture):
        build = architecture
    else:
        msg = (
            "architecture must be a registered name, a plan or a callable that builds a torch.nn.Module, "
            f"got {architecture!r}"
        )
        raise ValueError(msg)
    if arguments and found is None:
        msg = f"architecture options {sorted(arguments)} go with a registered name, not with a callable"
        raise ValueError(msg)
    check_numbers(
        patch_size=patch_size,
        batch_size=samples,
        in_channels=in_channels,
        out_channels=out_channels,
        precision=precision,
        task=task,
        device=device,
        num_gpus=num_gpus,
        implementation=optimizer_implementation or "foreach",
        loss=loss,
        compute_capability=compute_capability or default_capability(),
    )
    if found is not None:
        arguments = {**found.topology(patch_size, None), **(arguments or {})}
        found.validate_arguments(arguments, dimensions=len(patch_size))
        deep_supervision = deep_supervision and found.deep_supervision
        if checkpointing and not found.checkpointing:
            msg = f"checkpointing: {found.name} cannot checkpoint its activations"
            raise ValueError(msg)
    return checked(
        Request(
            architecture=found,
            build_callable=build,
            arguments=arguments or {},
            patch_size=patch_size,
            batch_size=samples,
            in_channels=in_channels,
            out_channels=out_channels,
            precision=precision,
            deep_supervision=deep_supervision,
            optimizer=_optimizer(optimizer),
            implementation=optimizer_implementation or ("foreach" if device == "cuda" else "single"),
            loss=loss,
            task=task,
            checkpointing=checkpointing,
            device=device,
            compute_capability=compute_capability or default_capability(),
            num_gpus=num_gpus,
            gradient_as_bucket_view=gradient_as_bucket_view,
            cudnn_benchmark=cudnn_benchmark,
            expandable_segments=expandable_segments,
        )
    )
