"""What networks share that halve some axes from stage to stage: arguments and the patches they take."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Annotated, Any, Self

from pydantic import Field, ValidationInfo, model_validator

from ..schema import Ints, Model
from .topology import Topology, nnunet_topology

MINIMUM_STAGES = 3
"""MONAI's DynUNet and nnU-Net's trainer both need at least three resolutions."""
MAXIMUM_STAGES = 24
"""Far more than trains: an axis of 33 million voxels halved down to 4. But the search asks for the topology
of patches as large as the data, and the planes of connectomics have over 16,000 voxels an axis (13 stages).
"""
BASE_FEATURES = 32
"""Channels at full resolution (nnU-Net's ``UNet_base_num_features``)."""
MAX_FEATURES = {2: 512, 3: 320}
"""Most channels of a stage, by dimensions (nnU-Net's ``UNet_max_features_2d`` and ``_3d``)."""

Stride = Annotated[int, Field(ge=1, le=4)]
Kernel = Annotated[int, Field(ge=1, le=7)]
Features = Annotated[int, Field(ge=1, le=2048)]


class StageArguments(Model):
    """Strides, kernels and channels by stage, full resolution first; the last stage is the bottleneck."""

    strides: tuple[tuple[Stride, ...], ...] = Field(min_length=MINIMUM_STAGES, max_length=MAXIMUM_STAGES)
    """Stride on entering a stage; 1 on all axes of the first."""
    kernels: tuple[tuple[Kernel, ...], ...]
    features: tuple[Features, ...]

    @model_validator(mode="after")
    def _consistent(self, info: ValidationInfo) -> Self:
        """One entry a stage, one number an axis; odd kernels; full resolution stays full."""
        dimensions = (info.context or {}).get("dimensions", len(self.strides[0]))
        stages = len(self.strides)
        if len(self.kernels) != stages or len(self.features) != stages:
            msg = (
                "strides, kernels and features must have one entry a stage, "
                f"got {stages}, {len(self.kernels)} and {len(self.features)}"
            )
            raise ValueError(msg)
        if any(len(axes) != dimensions for axes in (*self.strides, *self.kernels)):
            msg = f"every stride and kernel must have {dimensions} axes"
            raise ValueError(msg)
        if any(kernel % 2 == 0 for kernels in self.kernels for kernel in kernels):
            msg = f"kernels must be odd, got {self.kernels}"
            raise ValueError(msg)
        if math.prod(self.strides[0]) != 1:
            msg = f"the first stride must be 1 on every axis, got {self.strides[0]}"
            raise ValueError(msg)
        return self


class ResidualStageArguments(StageArguments):
    """Stages with their number of residual blocks."""

    blocks: tuple[Annotated[int, Field(ge=1, le=32)], ...]
    """Residual blocks of each encoder stage."""

    @model_validator(mode="after")
    def _blocks_by_stage(self) -> Self:
        """One number a stage."""
        if len(self.blocks) != len(self.strides):
            msg = f"blocks must have one entry a stage, got {len(self.blocks)} for {len(self.strides)}"
            raise ValueError(msg)
        return self


def stage_topology(patch_size: Ints, spacing: tuple[float, ...] | None) -> Topology:
    """nnU-Net's topology, for a patch grown (by doubling) until it has three resolutions."""
    spacing = spacing or (1.0,) * len(patch_size)
    topology = nnunet_topology(patch_size, spacing)
    while topology.stages < MINIMUM_STAGES:
        patch_size = tuple(2 * size for size in patch_size)
        topology = nnunet_topology(patch_size, spacing)
    return topology


def stage_arguments(patch_size: Ints, spacing: tuple[float, ...] | None) -> dict[str, Any]:
    """JSON-able :class:`StageArguments` for a patch, by nnU-Net's rules."""
    topology = stage_topology(patch_size, spacing)
    return {
        "strides": [list(stride) for stride in topology.strides],
        "kernels": [list(kernel) for kernel in topology.kernels],
        "features": stage_features(topology.stages, len(patch_size)),
    }


def stage_features(stages: int, dimensions: int, base: int = BASE_FEATURES) -> list[int]:
    """Channels by stage: doubled from stage to stage up to nnU-Net's most."""
    return [min(base * 2**stage, max(base, MAX_FEATURES[dimensions])) for stage in range(stages)]


def cumulative_strides(strides: Sequence[Sequence[int]]) -> tuple[Ints, ...]:
    """Per stage, the factor by which each axis is coarser than the patch."""
    return tuple(
        itertools.accumulate(
            (tuple(stride) for stride in strides),
            lambda fine, stride: tuple(a * b for a, b in zip(fine, stride, strict=True)),
        )
    )


def smallest_patch(divisors: Ints) -> Ints:
    """Two voxels left at the bottleneck on every axis that is divided: instance norm needs statistics."""
    return tuple(2 * divisor if divisor > 1 else 1 for divisor in divisors)
