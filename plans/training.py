"""The reference training loop: plain PyTorch, as nnU-Net trains, from a plan.

Nothing is printed: what happens is told to ``on_event``. When the device runs out of memory, the same batch
is run again in halves, with twice the accumulation: the optimizer sees the same samples.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from .build import GRADIENT_CLIP_NORM
from .inference import ValidationResult, autocast, effective_precision
from .schema import Precision

if TYPE_CHECKING:
    from .build import Plan

NON_FINITE_STEPS = 10
"""Steps in a row whose loss may be infinite or NaN before training is given up; fp16 recovers from a few."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepDone:
    """One optimizer step."""

    step: int
    """From 1."""
    loss: float
    """Mean over the samples of the step."""
    lr: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchHalved:
    """The device ran out of memory; the step is run again."""

    step: int
    batch_size: int
    """Samples at a time from now on."""
    accumulation: int
    """Backward passes a step from now on."""
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Validated:
    """A validation between steps."""

    step: int
    result: ValidationResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Validating:
    """A validation goes on; told by who validates, since it may take longer than many steps."""

    step: int
    case: int
    """Which held-out case comes next, from 0."""
    cases: int


Event = StepDone | BatchHalved | Validating | Validated


class TrainingError(RuntimeError):
    """Training cannot go on; says what to do."""


OUT_OF_MEMORY_WORDS = (
    "out of memory",
    "DefaultCPUAllocator",
    "can't allocate memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
"""How PyTorch says so where it raises no :class:`torch.OutOfMemoryError`. The libraries of CUDA allocate past
its allocator (pytorch/pytorch issue 128601).
"""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the device, or main memory, is full."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    # What CUDA itself says comes as an error of its own type since torch 2.8.
    plain = type(error) in (RuntimeError, getattr(torch, "AcceleratorError", RuntimeError))
    return plain and any(words in str(error) for words in OUT_OF_MEMORY_WORDS)


@dataclass(kw_only=True)
class TrainingState:
    """Everything that a checkpoint holds."""

    network: nn.Module
    optimizer: Optimizer
    scheduler: LRScheduler
    scaler: torch.amp.GradScaler | None
    """For fp16 only."""
    step: int = 0
    """Optimizer steps done."""
    batch_size: int
    """Samples at a time; the plan's, unless memory ran out."""


@dataclass(kw_only=True)
class TrainingResult:
    """What came of a run."""

    losses: list[float] = field(default_factory=list)
    validation: ValidationResult | None = None
    """The last one."""

    @property
    def window(self) -> int:
        """Losses that :meth:`smoothed` takes the mean of: a tenth, at least three, never more than half."""
        return max(1, min(len(self.losses) // 2, max(3, len(self.losses) // 10)))

    def smoothed(self, *, last: bool) -> float | None:
        """Mean of the first or the last losses, as many as :attr:`window`; no loss is in both."""
        if not self.losses:
            return None
        count = self.window
        part = self.losses[-count:] if last else self.losses[:count]
        return sum(part) / len(part)


def prepare_training(plan: Plan, device: torch.device | str) -> TrainingState:
    """Network, optimizer, schedule and, for fp16, gradient scaler on a device."""
    device = torch.device(device)
    network = plan.build_network(device=device)
    network.train()
    optimizer = plan.build_optimizer(network.parameters())
    scaled = plan.precision == "fp16" and device.type == "cuda"
    return TrainingState(
        network=network,
        optimizer=optimizer,
        scheduler=plan.build_scheduler(optimizer),
        scaler=torch.amp.GradScaler(device.type) if scaled else None,
        batch_size=plan.batch_size,
    )


def backward_step(
    network: nn.Module,
    loss_function: nn.Module,
    image: Tensor,
    target: Tensor,
    *,
    precision: Precision,
    scaler: torch.amp.GradScaler | None = None,
    weight: float = 1.0,
) -> Tensor:
    """Forward and loss under autocast, backward with ``weight``; gradients add up. The detached loss."""
    with autocast(image.device, precision):
        loss: Tensor = loss_function(network(image), target)
    weighted = loss * weight
    (weighted if scaler is None else scaler.scale(weighted)).backward()
    return loss.detach()


def optimizer_step(
    network: nn.Module, optimizer: Optimizer, *, scaler: torch.amp.GradScaler | None = None
) -> None:
    """Clip the gradients to nnU-Net's norm, step, and free them."""
    if scaler is not None:
        scaler.unscale_(optimizer)
    nn.utils.clip_grad_norm_(network.parameters(), GRADIENT_CLIP_NORM)
    if scaler is None:
        optimizer.step()
    else:
        scaler.step(optimizer)
        scaler.update()
    optimizer.zero_grad(set_to_none=True)


def training_step(
    network: nn.Module,
    loss_function: nn.Module,
    optimizer: Optimizer,
    image: Tensor,
    target: Tensor,
    *,
    precision: Precision,
    scaler: torch.amp.GradScaler | None = None,
) -> Tensor:
    """One whole step without accumulation: what a plan's memory is predicted for. The detached loss."""
    loss = backward_step(network, loss_function, image, target, precision=precision, scaler=scaler)
    optimizer_step(network, optimizer, scaler=scaler)
    return loss


def train(
    plan: Plan,
    loader: Iterable[dict[str, Tensor]],
    *,
    steps: int,
    device: torch.device | str,
    state: TrainingState | None = None,
    validate: Callable[[nn.Module], ValidationResult] | None = None,
    validate_every: int | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> TrainingResult:
    """Train for ``steps`` optimizer steps.

    Args:
        plan: precision, accumulation, loss.
        loader: batches of ``image`` and ``target``, at least ``steps`` times the plan's accumulation.
        steps: how many to do now, beyond those of ``state``.
        device: where.
        state: what to train on, and where it ends up; new from the plan if None.
        validate: measures the network after the last step, and every ``validate_every`` steps.
        validate_every: optimizer steps; None: only at the end.
        on_event: told of every step, validation and lack of memory.

    Raises:
        TrainingError: not even one sample fits, the loss stays NaN, or the loader ends early.
    """
    device = torch.device(device)
    state = state if state is not None else prepare_training(plan, device)
    precision = effective_precision(plan.precision, device)
    loss_function = plan.build_loss().to(device)
    tell = on_event if on_event is not None else lambda event: None
    result = TrainingResult()
    batches = iter(loader)
    bad = 0
    with _matmul_precision(precision):
        for done in range(1, steps + 1):
            started = time.perf_counter()
            samples = _next_batches(batches, plan.accumulation, steps)
            loss = _step(plan, state, loss_function, samples, device, precision, tell)
            result.losses.append(loss)
            bad = 0 if math.isfinite(loss) else bad + 1
            if bad == NON_FINITE_STEPS:
                msg = (
                    f"the loss was not finite for {bad} steps, up to step {state.step}: lower the learning "
                    f"rate ({plan.optimizer.lr:g}), or plan another precision than {precision}"
                )
                raise TrainingError(msg)
            lr = float(state.optimizer.param_groups[0]["lr"])
            state.scheduler.step()
            seconds = time.perf_counter() - started
            tell(StepDone(step=state.step, loss=loss, lr=lr, seconds=seconds))
            due = done == steps or (validate_every is not None and state.step % validate_every == 0)
            if validate is not None and due:
                result.validation = validate(state.network)
                tell(Validated(step=state.step, result=result.validation))
    return result


def _next_batches(
    batches: Iterator[dict[str, Tensor]], count: int, steps: int
) -> list[tuple[Tensor, Tensor]]:
    found = [(batch["image"], batch["target"]) for batch in islice(batches, count)]
    if len(found) < count:
        msg = f"the loader ended before {steps} steps of {count} batches each were done"
        raise TrainingError(msg)
    return found


def _step(
    plan: Plan,
    state: TrainingState,
    loss_function: nn.Module,
    samples: list[tuple[Tensor, Tensor]],
    device: torch.device,
    precision: Precision,
    tell: Callable[[Event], None],
) -> float:
    """One optimizer step on these batches, in smaller pieces where memory runs out. The mean loss."""
    while True:
        loss: float | None = None
        reason = ""
        try:
            loss = _accumulate(state, loss_function, samples, device, precision)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            reason = str(error).partition("\n")[0]
        if loss is not None:
            state.step += 1
            return loss
        # Only here, with the exception and the tensors of its frames gone, can memory be given back.
        _forget_broken_step(state, device)
        if device.type == "cuda":
            torch.cuda.empty_cache()
        if state.batch_size == 1:
            msg = (
                f"{device} ran out of memory with a single sample of {tuple(plan.patch_size)} ({reason}): "
                "plan again for this device, with a smaller patch or --memory-fraction"
            )
            raise TrainingError(msg)
        state.batch_size = max(1, state.batch_size // 2)
        pieces = plan.accumulation * math.ceil(plan.batch_size / state.batch_size)
        tell(
            BatchHalved(step=state.step + 1, batch_size=state.batch_size, accumulation=pieces, reason=reason)
        )


def _forget_broken_step(state: TrainingState, device: torch.device) -> None:
    """Gradients, and what an optimizer step that ran out of memory leaves half done.

    The first one makes the optimizer's state, parameter by parameter; a gradient scaler remembers whose
    gradients it has unscaled until it is updated.
    """
    state.optimizer.zero_grad(set_to_none=True)
    if state.step == 0:
        state.optimizer.state.clear()
    if state.scaler is not None:
        begun, state.scaler = state.scaler, torch.amp.GradScaler(device.type)
        state.scaler.load_state_dict(begun.state_dict())


def _accumulate(
    state: TrainingState,
    loss_function: nn.Module,
    samples: list[tuple[Tensor, Tensor]],
    device: torch.device,
    precision: Precision,
) -> float:
    total = sum(len(image) for image, _ in samples)
    mean = torch.zeros((), device=device)
    for image, target in samples:
        pieces = zip(image.split(state.batch_size), target.split(state.batch_size), strict=True)
        for image_piece, target_piece in pieces:
            weight = len(image_piece) / total
            loss = backward_step(
                state.network,
                loss_function,
                image_piece.to(device, non_blocking=True),
                target_piece.to(device, non_blocking=True),
                precision=precision,
                scaler=state.scaler,
                weight=weight,
            )
            mean += loss.float() * weight
    optimizer_step(state.network, state.optimizer, scaler=state.scaler)
    return float(mean)


@contextmanager
def _matmul_precision(precision: Precision) -> Iterator[None]:
    """TF32 in matrix products and convolutions unless the plan says fp32; put back afterwards."""
    before: tuple[Any, bool] = (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32)
    torch.set_float32_matmul_precision("highest" if precision == "fp32" else "high")
    torch.backends.cudnn.allow_tf32 = precision != "fp32"
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]
