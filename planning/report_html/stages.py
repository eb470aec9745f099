"""The stages of a network, read off the network itself: every convolution is watched on meta tensors.

No architecture is asked for its name or its arguments, so a newly registered one is drawn like the others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from voxplan.plans.schema import DatasetPlan, ExperimentPlan, Ints

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One convolution as it ran."""

    size: Ints
    """Of its output, in voxels."""
    channels: int
    """Of its output."""
    kernel: Ints
    stride: Ints
    transposed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Consecutive convolutions at one resolution."""

    size: Ints
    channels: int
    """Of the last convolution that is no 1 x 1 x 1 expansion: what the next stage gets."""
    widest: int
    kernels: tuple[Ints, ...]
    """All kernels but single voxels, the most frequent first; single voxels where there is no other."""
    layers: int
    stride: Ints
    """How much coarser than the stage before; 1 on all axes for the first."""
    up: bool
    """Whether it is finer than the stage before."""


def network_stages(dataset: DatasetPlan, plan: ExperimentPlan) -> tuple[Stage, ...]:
    """From the input to the output, in the order in which they run."""
    return group_layers(watch(dataset, plan), plan.patch_size)


def watch(dataset: DatasetPlan, plan: ExperimentPlan) -> list[Layer]:
    """Every convolution of one forward pass without deep supervision."""
    import torch

    from voxplan.plans.architectures import get_architecture

    architecture = get_architecture(plan.architecture.name)
    with torch.device("meta"):
        network = architecture.build(
            plan.architecture.arguments,
            dimensions=plan.dimensions,
            in_channels=dataset.in_channels,
            out_channels=dataset.out_channels,
            deep_supervision=False,
        )
    layers: list[Layer] = []

    def note(module: nn.Module, inputs: Any, output: Tensor) -> None:
        layers.append(_layer(module, output))

    hooks = [
        module.register_forward_hook(note)
        for module in network.modules()
        if isinstance(module, torch.nn.modules.conv._ConvNd)
    ]
    network.eval()
    with torch.no_grad():
        network(torch.zeros(1, dataset.in_channels, *plan.patch_size, device="meta"))
    for hook in hooks:
        hook.remove()
    return layers


def _layer(module: Any, output: Tensor) -> Layer:
    return Layer(
        size=tuple(output.shape[2:]),
        channels=int(output.shape[1]),
        kernel=tuple(module.kernel_size),
        stride=tuple(module.stride),
        transposed=bool(module.transposed),
    )


def group_layers(layers: list[Layer], patch: Ints) -> tuple[Stage, ...]:
    """Runs of one resolution; an upsampled map that lacks a voxel at its edges counts as its padded self."""
    runs: list[list[Layer]] = []
    for layer in layers:
        if runs and _alike(runs[-1][-1].size, layer.size):
            runs[-1].append(layer)
        else:
            runs.append([layer])
    stages, before = [], tuple(patch)
    for run in runs:
        size = run[-1].size
        stages.append(_stage(run, before))
        before = size
    return tuple(stages)


def _alike(one: Ints, other: Ints) -> bool:
    """Whether two sizes are one resolution: MedNeXt's transposed convolutions yield 2n - 1, then pad."""
    if one == other:
        return True
    growing = all(a <= b <= a + 1 for a, b in zip(one, other, strict=True))
    return growing and any(a > 4 for a in one)


def _stage(run: list[Layer], before: Ints) -> Stage:
    size = run[-1].size
    counts: dict[Ints, int] = {}
    for layer in run:
        if math.prod(layer.kernel) > 1 and not layer.transposed:
            counts[layer.kernel] = counts.get(layer.kernel, 0) + 1
    kernels = tuple(sorted(counts, key=lambda kernel: -counts[kernel])) or ((1,) * len(size),)
    up = math.prod(size) > math.prod(before)
    pairs = list(zip(size, before, strict=True))
    stride = tuple(max(1, round(a / b if up else b / a)) for a, b in pairs)
    widest = max(layer.channels for layer in run)
    spatial = [layer.channels for layer in run if math.prod(layer.kernel) > 1]
    return Stage(
        size=size,
        channels=spatial[-1] if spatial else widest,
        widest=widest,
        kernels=kernels,
        layers=len(run),
        stride=stride,
        up=up,
    )
