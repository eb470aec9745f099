"""Memory of sliding-window inference on the GPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING, Any

from voxplan.plans.architectures import Architecture
from voxplan.plans.schema import ArchitectureChoice, ExperimentPlan, Ints, Precision

from .cache import cached
from .estimate import estimate_trace
from .events import Operation, Trace
from .prediction import MemoryEstimate
from .request import Request, make_request
from .validate import explain_failure

if TYPE_CHECKING:
    from torch import nn


def _with_volume(trace: Trace, volume: Ints | None, channels: int, in_channels: int) -> Trace:
    """The volume, the sum of logits (fp16, as nnU-Net) and the sum of weights, held throughout."""
    if volume is None:
        return trace
    voxels = prod(volume)
    sizes = [4 * in_channels * voxels, 2 * channels * voxels, 2 * voxels]
    blocks = range(len(trace.sizes), len(trace.sizes) + len(sizes))
    events = [(block, operation + 1) for block, operation in trace.events]
    first = next((i for i, (_, operation) in enumerate(events) if operation > 0), len(events))
    held = [(block, 0) for block in blocks]
    return Trace(
        operations=[Operation("volume", "setup", 0), *trace.operations],
        events=[*events[:first], *held, *events[first:]],
        sizes=[*trace.sizes, *sizes],
        shapes=[*trace.shapes, *[None] * len(sizes)],
        kinds=[*trace.kinds, *["activations"] * len(sizes)],  # type: ignore[list-item]
        convolutions=trace.convolutions,
    )


def _trace(request: Request) -> Trace:
    from .step import trace_inference

    try:
        return trace_inference(
            lambda: request.build(deep_supervision=False, checkpointing=False),
            window=request.patch_size,
            batch_size=request.batch_size,
            in_channels=request.in_channels,
            precision=request.precision,
        )
    except Exception as error:
        raise explain_failure(
            error,
            patch_size=request.patch_size,
            batch_size=request.batch_size,
            in_channels=request.in_channels,
        ) from error


def estimate_inference_memory(
    architecture: str | Architecture | ArchitectureChoice | ExperimentPlan | Callable[[], nn.Module],
    *,
    window: Ints | None = None,
    batch_size: int | None = None,
    volume: Ints | None = None,
    in_channels: int = 1,
    out_channels: int = 2,
    precision: Precision = "fp16",
    device: str = "cuda",
    compute_capability: tuple[int, int] | None = None,
    cudnn_benchmark: bool = False,
    expandable_segments: bool = False,
    **architecture_options: Any,
) -> MemoryEstimate:
    """Peak memory of running a network over windows of a volume, without gradients.

    Args:
        architecture: as in ``estimate_training_memory``.
        window: ZYX, or YX in 2D; a plan's own if None.
        batch_size: windows at once; a plan's own, else 1.
        volume: ZYX shape of the volume if it, the sum of logits and the sum of weights stay on the GPU (fp32,
            fp16 and fp16); None if they stay in main memory.
        in_channels: image channels.
        out_channels: channels of the network's output.
        precision: as in ``estimate_training_memory``.
        device: ``cuda`` or ``cpu``.
        compute_capability: of the GPU.
        cudnn_benchmark: ``torch.backends.cudnn.benchmark``.
        expandable_segments: the option of ``PYTORCH_CUDA_ALLOC_CONF``.
        architecture_options: arguments of a registered architecture.

    Raises:
        ValueError: naming the argument (the window is called ``patch_size``, as it is in training).
    """
    plan = getattr(architecture, "plan", architecture)
    if isinstance(plan, ExperimentPlan):
        window = window or plan.inference.window
        batch_size = batch_size or plan.inference.batch_size
    request = make_request(
        architecture,
        patch_size=window,
        batch_size=1 if batch_size is None else batch_size,
        in_channels=in_channels,
        out_channels=out_channels,
        precision=precision,
        deep_supervision=False,
        device=device,
        compute_capability=compute_capability,
        cudnn_benchmark=cudnn_benchmark,
        expandable_segments=expandable_segments,
        arguments=architecture_options,
    )
    request = replace(request, checkpointing=False, deep_supervision=False)

    def compute() -> MemoryEstimate:
        return estimate_trace(_with_volume(_trace(request), volume, out_channels, in_channels), request)

    return cached(request, "inference" + "".join(f"-{edge}" for edge in volume or ()), compute)
