"""The API: bytes of a training step, for any architecture, without a GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from voxplan.plans.architectures import Architecture
from voxplan.plans.schema import (
    ArchitectureChoice,
    ExperimentPlan,
    Ints,
    LossChoice,
    OptimizerChoice,
    Precision,
    Task,
)

from .allocator import Replay, replay
from .cache import cached
from .events import KINDS, Trace
from .prediction import MemoryEstimate, TimelinePoint
from .request import Request, make_request
from .workspace import is_matrix_product, process_base

if TYPE_CHECKING:
    from torch import nn

    from .step import Implementation, Loss

CPU_NOTE = (
    "CPU: live tensors plus the process itself; temporaries inside kernels (oneDNN) and what malloc keeps "
    "are not modelled"
)
CUDA_NOTE = "no GPU measurement stands behind this estimate yet; it describes eager execution"


def fill_workspaces(
    trace: Trace, request: Request
) -> tuple[list[tuple[int, int]], list[int], dict[str, str]]:
    """Events and sizes with what the device adds."""
    sizes = list(trace.sizes)
    if request.device == "cpu":
        return trace.events, sizes, {}
    model = request.device_model()
    for block, convolution in trace.convolutions.items():
        sizes[block] = model.convolution(convolution)
    events = trace.events
    first = next((i for i, (name, _, _) in enumerate(trace.operations) if is_matrix_product(name)), None)
    if first is not None:
        where = next((i for i, (_, operation) in enumerate(events) if operation >= first), len(events))
        events = [*events[:where], (len(sizes), first), *events[where:]]
        sizes.append(model.cublas())
    return events, sizes, dict(model.unmeasured)


def plain_replay(events: Sequence[tuple[int, int]], sizes: Sequence[int]) -> Replay:
    """Without a caching allocator, as on the CPU: what is live."""
    live, peak, where = 0, 0, 0
    allocated = []
    for index, (block, _) in enumerate(events):
        live += sizes[block] if block >= 0 else -sizes[~block]
        if live > peak:
            peak, where = live, index
        allocated.append(live)
    return Replay(peak, peak, where, tuple(allocated), tuple(allocated), tuple(sizes))


def peak_total(trace: Trace, request: Request) -> int:
    """Bytes of the process at its peak, and nothing else: what a search asks for again and again."""
    events, sizes, _ = fill_workspaces(trace, request)
    if request.device == "cpu":
        return plain_replay(events, sizes).peak_allocated + process_base()
    result = replay(events, sizes, expandable_segments=request.expandable_segments)
    return result.peak_reserved + request.device_model().context()


def estimate_trace(trace: Trace, request: Request) -> MemoryEstimate:
    """The estimate from a trace: workspaces filled in, the allocator replayed, the peak taken apart."""
    events, sizes, unmeasured = fill_workspaces(trace, request)
    if request.device == "cpu":
        result, context, notes = plain_replay(events, sizes), process_base(), (CPU_NOTE,)
    else:
        result = replay(events, sizes, expandable_segments=request.expandable_segments)
        model = request.device_model()
        context, notes = model.context(), (CUDA_NOTE,)
        unmeasured |= model.unmeasured
    kinds = [*trace.kinds, *["workspace"] * (len(sizes) - len(trace.kinds))]
    parts = dict.fromkeys(KINDS, 0)
    for block, _ in events[: result.peak_event + 1]:
        held, sign = (block, 1) if block >= 0 else (~block, -1)
        parts[kinds[held]] += sign * result.served[held]  # type: ignore[index]
    operations = trace.operations
    peak = operations[events[result.peak_event][1]] if events else None
    first = [
        value for value, (_, at) in zip(result.allocated, events, strict=True) if operations[at].step == 0
    ]
    timeline = tuple(
        TimelinePoint(operations[at].step, operations[at].phase, operations[at].name, allocated, reserved)
        for (_, at), allocated, reserved in zip(events, result.allocated, result.reserved, strict=True)
        if at >= 0 and operations[at].step == 1
    )
    return MemoryEstimate(
        **parts,
        allocated=result.peak_allocated,
        reserved=result.peak_reserved,
        context=context,
        total=result.peak_reserved + context,
        peak_operator=peak.name if peak else "",
        peak_phase=peak.phase if peak else "setup",
        first_step_allocated=max(first, default=0),
        device=request.device,
        timeline=timeline,
        unmeasured=unmeasured,
        notes=notes,
    )


def estimate_request(request: Request) -> MemoryEstimate:
    """The estimate of a request, from disk where it was made before."""
    return cached(request, "training", lambda: estimate_trace(request.trace(), request))


def estimate_training_memory(
    architecture: str | Architecture | ArchitectureChoice | ExperimentPlan | Callable[[], nn.Module],
    *,
    patch_size: Ints | None = None,
    batch_size: int | None = None,
    in_channels: int = 1,
    out_channels: int = 2,
    precision: Precision = "fp16",
    deep_supervision: bool = True,
    optimizer: str | OptimizerChoice = "adamw",
    loss: LossChoice | Loss | None = None,
    task: Task = "semantic",
    checkpointing: bool = False,
    device: str = "cuda",
    compute_capability: tuple[int, int] | None = None,
    num_gpus: int = 1,
    optimizer_implementation: Implementation | None = None,
    gradient_as_bucket_view: bool = False,
    cudnn_benchmark: bool = False,
    expandable_segments: bool = False,
    **architecture_options: Any,
) -> MemoryEstimate:
    """Peak memory of one eager training step.

    Args:
        architecture: a registered name; a plan; or a callable without arguments that builds a network, whose
            forward returns a tensor, a tuple or list of outputs at several scales, or heads stacked on
            dimension 1.
        patch_size: ZYX, or YX for a 2D network; a plan's own if None.
        batch_size: samples per GPU and step; a plan's own if None.
        in_channels: image channels.
        out_channels: channels of the network's output.
        precision: ``fp32``, ``tf32``, or autocast to ``fp16`` (with GradScaler) or ``bf16``.
        deep_supervision: train a registered architecture with its deep-supervision heads, if it has them.
        optimizer: ``adamw`` or ``sgd``, or a plan's choice.
        loss: a plan's choice, or a callable of (outputs, target); by default the task's own.
        task: what the targets are.
        checkpointing: gradient checkpointing; a registered architecture must offer it.
        device: ``cuda``, or ``cpu`` (fp32 only).
        compute_capability: of the GPU, e.g. (8, 6).
        num_gpus: of DistributedDataParallel.
        optimizer_implementation: ``foreach`` (torch's default on CUDA), ``fused`` or ``single``.
        gradient_as_bucket_view: DDP's option of that name.
        cudnn_benchmark: ``torch.backends.cudnn.benchmark``.
        expandable_segments: the option of ``PYTORCH_CUDA_ALLOC_CONF``.
        architecture_options: arguments of a registered architecture; by default what its own rule takes for
            the patch.

    Raises:
        ValueError: naming the argument.
    """
    request = make_request(
        architecture,
        patch_size=patch_size,
        batch_size=batch_size,
        in_channels=in_channels,
        out_channels=out_channels,
        precision=precision,
        deep_supervision=deep_supervision,
        optimizer=optimizer,
        optimizer_implementation=optimizer_implementation,
        loss=loss,
        task=task,
        checkpointing=checkpointing,
        device=device,
        compute_capability=compute_capability,
        num_gpus=num_gpus,
        gradient_as_bucket_view=gradient_as_bucket_view,
        cudnn_benchmark=cudnn_benchmark,
        expandable_segments=expandable_segments,
        arguments=architecture_options,
    )
    return estimate_request(request)
