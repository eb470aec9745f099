"""MONAI's residual UNet: channels 32 to 512, two residual units, strides that follow the spacing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import Field, ValidationInfo, model_validator

from ..schema import Ints, Model
from .base import Architecture, Arguments, Recipe
from .basic_unet import MONAI_RECIPE
from .stages import Features, Stride, cumulative_strides, smallest_patch, stage_topology

if TYPE_CHECKING:
    from torch import nn

FEATURES = (32, 64, 128, 256, 512)
"""Channels by level (PyTorch Connectomics' ``monai_unet``)."""
RESIDUAL_UNITS = 2


class UNetArguments(Model):
    """Channels by level and the strides between the levels."""

    features: tuple[Features, ...] = Field(min_length=2, max_length=12)
    strides: tuple[tuple[Stride, ...], ...]
    residual_units: Annotated[int, Field(ge=1, le=8)]

    @model_validator(mode="after")
    def _consistent(self, info: ValidationInfo) -> Self:
        """One stride fewer than levels, one number an axis."""
        if len(self.strides) != len(self.features) - 1:
            msg = f"strides must be one fewer than features, got {len(self.strides)} and {len(self.features)}"
            raise ValueError(msg)
        dimensions = (info.context or {}).get("dimensions", len(self.strides[0]))
        if any(len(stride) != dimensions for stride in self.strides):
            msg = f"every stride must have {dimensions} axes"
            raise ValueError(msg)
        return self


class MonaiUNet(Architecture):
    """MONAI's ``UNet``; the first level already strides, which makes it the leanest of all."""

    name = "monai_unet"
    title = "UNet (MONAI)"
    arguments_model = UNetArguments

    def topology(self, patch_size: Ints, spacing: tuple[float, ...] | None) -> dict[str, Any]:
        """nnU-Net's strides, at most four."""
        strides = stage_topology(patch_size, spacing).strides[1 : len(FEATURES)]
        return {
            "features": list(FEATURES[: len(strides) + 1]),
            "strides": [list(stride) for stride in strides],
            "residual_units": RESIDUAL_UNITS,
        }

    def with_base_features(self, arguments: Arguments, base_features: int, dimensions: int) -> dict[str, Any]:
        """Other channels at the first level, doubled at each further one."""
        levels = len(arguments["features"])
        return {**arguments, "features": [base_features * 2**level for level in range(levels)]}

    def divisors(self, arguments: Arguments, dimensions: int) -> Ints:
        """The product of the strides."""
        return cumulative_strides(self.validate_arguments(arguments, dimensions=dimensions).strides)[-1]

    def minimum_patch(self, arguments: Arguments, dimensions: int) -> Ints:
        """Twice the divisor on every axis that is divided, one voxel on the others."""
        return smallest_patch(self.divisors(arguments, dimensions))

    def recipe(self, dimensions: int) -> Recipe:
        """AdamW 1e-4 with a cosine."""
        return MONAI_RECIPE

    def build(
        self,
        arguments: Arguments,
        *,
        dimensions: int,
        in_channels: int,
        out_channels: int,
        deep_supervision: bool = False,
        checkpointing: bool = False,
    ) -> nn.Module:
        """MONAI's network itself."""
        from monai.networks.nets.unet import UNet as Network

        chosen: UNetArguments = self.validate_arguments(arguments, dimensions=dimensions)
        return Network(
            spatial_dims=dimensions,
            in_channels=in_channels,
            out_channels=out_channels,
            channels=chosen.features,
            strides=chosen.strides,  # type: ignore[arg-type]  # one stride an axis is allowed, not annotated
            num_res_units=chosen.residual_units,
        )
