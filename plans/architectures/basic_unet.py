"""MONAI's BasicUNet with its default channels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..schema import Ints, OptimizerChoice
from .base import Architecture, Arguments, Recipe

if TYPE_CHECKING:
    from torch import nn

FEATURES = (32, 32, 64, 128, 256, 32)
"""Channels of the five levels and after the last upsampling (MONAI's default)."""
DIVISOR = 16
"""Voxels. The network pads odd sizes, but MONAI recommends multiples of 16, so that all poolings are even."""

MONAI_RECIPE = Recipe(
    optimizer=OptimizerChoice(name="adamw", lr=1e-4, weight_decay=1e-2),
    schedule="cosine",
    epochs=1000,
    steps_per_epoch=250,
    precisions=("bf16", "fp16", "tf32", "fp32"),
    source=(
        "PyTorch Connectomics' defaults for MONAI's UNets (October 2025): AdamW 1e-4, cosine; weight decay "
        "1e-2 is AdamW's own default; length of training as in nnU-Net"
    ),
)


class BasicUNet(Architecture):
    """Five levels, two convolutions each, max-pooling on every axis."""

    name = "basic_unet"
    title = "BasicUNet (MONAI)"

    def topology(self, patch_size: Ints, spacing: tuple[float, ...] | None) -> dict[str, Any]:
        """No arguments: the network is fixed."""
        return {}

    def divisors(self, arguments: Arguments, dimensions: int) -> Ints:
        """16 on every axis."""
        return (DIVISOR,) * dimensions

    def minimum_patch(self, arguments: Arguments, dimensions: int) -> Ints:
        """32 in the plane and 16 along Z: thin EM stacks keep their slices, and voxels are left."""
        return (DIVISOR,) * (dimensions - 2) + (2 * DIVISOR,) * 2

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
        from monai.networks.nets.basic_unet import BasicUNet as Network

        self.validate_arguments(arguments, dimensions=dimensions)
        return Network(dimensions, in_channels, out_channels, features=FEATURES)
