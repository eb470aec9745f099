"""One training step as training runs it, on any device: what is traced, and what the consistency test runs.

Forward and loss under autocast, backward, unscaling where fp16, clipping of the gradient norm, optimizer
step. What PyTorch refuses on meta tensors (GradScaler, fused optimizers, clipping by foreach) is played with
the same tensors that its CUDA code makes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from voxplan.plans.schema import Ints, OptimizerChoice, Precision

from .autocast import play_autocast, play_recomputation
from .events import Trace
from .tracker import Tracker
from .uncollected import uncollected
from .uninitialized import uninitialized

Implementation = Literal["foreach", "fused", "single"]
Loss = Callable[[Any, Tensor], Tensor]

CLIP_NORM = 12.0
"""nnU-Net's limit of the gradient norm (nnUNetTrainer.train_step)."""
BUCKET_BYTES = 25 * 2**20
"""``bucket_cap_mb`` of DistributedDataParallel."""
FIRST_BUCKET_BYTES = 2**20
"""``dist._DEFAULT_FIRST_BUCKET_BYTES``."""
AUTOCAST: dict[str, torch.dtype | None] = {
    "fp32": None,
    "tf32": None,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSettings:
    """Everything about a training step but the network and the loss."""

    patch_size: Ints
    batch_size: int
    in_channels: int
    out_channels: int
    precision: Precision
    optimizer: OptimizerChoice
    implementation: Implementation = "foreach"
    binary_target: bool = False
    """Zeros and ones per channel instead of class indices."""
    num_gpus: int = 1
    gradient_as_bucket_view: bool = False


def outputs_of(result: Any, dimensions: int) -> list[Tensor]:
    """The logits at each scale, full resolution first.

    A tensor, a tuple or list of tensors, or heads stacked on dimension 1 as MONAI's DynUNet does.
    """
    if isinstance(result, Tensor):
        return list(result.unbind(1)) if result.dim() == dimensions + 3 else [result]
    if isinstance(result, list | tuple) and all(isinstance(item, Tensor) for item in result):
        return list(result)
    msg = f"the network returned {type(result).__name__}; expected a tensor, or a list or tuple of tensors"
    raise TypeError(msg)


def make_target(settings: StepSettings, device: str) -> Tensor:
    """What the loss compares with: class indices, or one channel an affinity."""
    channels = settings.out_channels if settings.binary_target else 1
    dtype = torch.uint8 if settings.binary_target else torch.int16
    return torch.zeros(settings.batch_size, channels, *settings.patch_size, dtype=dtype, device=device)


class _Scaler:
    """GradScaler's tensors: the scale, its tracker, what unscaling makes."""

    def __init__(self, device: str) -> None:
        self.scale = torch.full((), 65536.0, device=device)
        self.growth = torch.full((), 0, dtype=torch.int32, device=device)

    def unscale(self) -> tuple[Tensor, Tensor]:
        found = torch.full((), 0.0, device=self.scale.device)
        return self.scale.double().reciprocal().float(), found


class _Fused(torch.optim.Optimizer):
    """The state of a fused optimizer, whose kernel works in place without temporaries."""

    def __init__(self, parameters: Iterable[Tensor], tensors: int, *, counter: bool) -> None:
        super().__init__(parameters, {})
        self._tensors, self._counter = tensors, counter

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Make the state where it is missing."""
        for parameter in self.param_groups[0]["params"]:
            state = self.state[parameter]
            if parameter.grad is None or state:
                continue
            if self._counter:
                state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
            for index in range(self._tensors):
                state[f"state{index}"] = torch.zeros_like(parameter)


def make_optimizer(
    choice: OptimizerChoice, parameters: Sequence[Tensor], implementation: Implementation
) -> torch.optim.Optimizer:
    """The optimizer that a plan names; ``fused`` is played, since PyTorch refuses it on meta tensors."""
    if implementation == "fused":
        adamw = choice.name == "adamw"
        return _Fused(parameters, 2 if adamw else int(choice.momentum > 0), counter=adamw)
    foreach = implementation == "foreach"
    if choice.name == "adamw":
        return torch.optim.AdamW(
            parameters,
            lr=choice.lr,
            betas=choice.betas,
            eps=choice.eps,
            weight_decay=choice.weight_decay,
            foreach=foreach,
        )
    return torch.optim.SGD(
        parameters,
        lr=choice.lr,
        momentum=choice.momentum,
        nesterov=choice.nesterov,
        weight_decay=choice.weight_decay,
        foreach=foreach,
    )


@torch.no_grad()
def clip_gradients(gradients: list[Tensor]) -> None:
    """``clip_grad_norm_`` by foreach kernels, which PyTorch refuses on meta tensors."""
    norms = torch.ops.aten._foreach_norm.Scalar(gradients, 2.0)
    total = torch.linalg.vector_norm(torch.stack(norms), 2.0)
    coefficient = torch.clamp(CLIP_NORM / (total + 1e-6), max=1.0)
    torch.ops.aten._foreach_mul_.Tensor(gradients, coefficient)


def make_buckets(parameters: Sequence[Tensor], device: str) -> list[Tensor]:
    """The flat buffers that DistributedDataParallel holds beside the gradients."""
    buckets, size, limit = [], 0, FIRST_BUCKET_BYTES
    for parameter in reversed(parameters):
        size += parameter.numel() * parameter.element_size()
        if size >= limit:
            buckets.append(torch.empty(size, dtype=torch.uint8, device=device))
            size, limit = 0, BUCKET_BYTES
    if size:
        buckets.append(torch.empty(size, dtype=torch.uint8, device=device))
    return buckets


def _run_step(
    tracker: Tracker,
    step: int,
    network: nn.Module,
    make_loss: Callable[[int], Loss],
    optimizer: torch.optim.Optimizer,
    scaler: _Scaler | None,
    settings: StepSettings,
    device: str,
) -> None:
    dtype = AUTOCAST[settings.precision]
    tracker.begin("forward", step)
    source = torch.zeros(settings.batch_size, settings.in_channels, *settings.patch_size, device=device)
    target = make_target(settings, device)
    with play_autocast(dtype):
        outputs = outputs_of(network(source), len(settings.patch_size))
        tracker.begin("loss", step)
        loss = make_loss(len(outputs))(outputs if len(outputs) > 1 else outputs[0], target)
        del outputs
    if scaler is not None:
        loss = loss * scaler.scale
    tracker.begin("backward", step)
    with play_recomputation(dtype):
        loss.backward()
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    for gradient in gradients:
        tracker.label(gradient, "gradients")
    tracker.begin("optimizer", step)
    unscaled = scaler.unscale() if scaler is not None else None
    clip_gradients(gradients)
    optimizer.step()
    del unscaled
    for state in optimizer.state.values():
        for value in state.values():
            if isinstance(value, Tensor):
                tracker.label(value, "optimizer")
    optimizer.zero_grad(set_to_none=True)


def trace_training(
    build: Callable[[], nn.Module],
    make_loss: Callable[[int], Loss],
    settings: StepSettings,
    *,
    device: str = "meta",
) -> Trace:
    """Run two training steps, the first and the one that stands for all that follow, and record their memory.

    Args:
        build: makes the network; called with the device as default device.
        make_loss: the loss for so many outputs, called with the outputs (one tensor if one) and the target.
        settings: the step.
        device: ``meta``, or ``cpu`` to run it for real.
    """
    with torch.device(device), uninitialized():
        network = build()
    network.train()
    tracker = Tracker(device)
    parameters = list(network.parameters())
    for tensor in (*parameters, *network.buffers()):
        tracker.follow(tensor, "parameters")
    optimizer = make_optimizer(settings.optimizer, parameters, settings.implementation)
    with uncollected(), tracker:
        scaler = _Scaler(device) if settings.precision == "fp16" else None
        buckets: list[Tensor] = []
        if settings.num_gpus > 1 and not settings.gradient_as_bucket_view:
            buckets = make_buckets(parameters, device)
            for bucket in buckets:
                tracker.label(bucket, "gradients")
        for step in range(2):
            _run_step(tracker, step, network, make_loss, optimizer, scaler, settings, device)
    return tracker.trace


def trace_inference(
    build: Callable[[], nn.Module],
    *,
    window: Ints,
    batch_size: int,
    in_channels: int,
    precision: Precision,
    device: str = "meta",
) -> Trace:
    """Run the network twice on a batch of windows, without gradients, and record its memory."""
    with torch.device(device), uninitialized():
        network = build()
    network.eval()
    tracker = Tracker(device)
    for tensor in (*network.parameters(), *network.buffers()):
        tracker.follow(tensor, "parameters")
    with uncollected(), tracker, torch.no_grad():
        for step in range(2):
            tracker.begin("forward", step)
            source = torch.zeros(batch_size, in_channels, *window, device=device)
            with play_autocast(AUTOCAST[precision]):
                result = network(source)
            del source, result
    return tracker.trace
