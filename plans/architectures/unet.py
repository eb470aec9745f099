"""nnU-Net's plain UNet on MONAI's DynUNet: two convolutions a stage, anisotropic strides and kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from ..optimizers import USUAL_OPTIMIZERS
from ..schema import Ints, Model
from .base import Architecture, Arguments, Recipe
from .stages import StageArguments, cumulative_strides, smallest_patch, stage_arguments, stage_features

if TYPE_CHECKING:
    from torch import nn

NNUNET_RECIPE = Recipe(
    optimizer=USUAL_OPTIMIZERS["sgd"],
    schedule="poly",
    epochs=1000,
    steps_per_epoch=250,
    precisions=("fp16", "bf16", "tf32", "fp32"),
    source=(
        "Isensee et al., nnU-Net, Nature Methods 18 (2021), and its 2.8.1 nnUNetTrainer: SGD 1e-2, Nesterov "
        "momentum 0.99, weight decay 3e-5, poly 0.9, 1000 epochs of 250 steps, fp16 autocast with "
        "gradient scaling"
    ),
)


class StagedUNet(Architecture):
    """What the plain and the residual-encoder UNet share."""

    deep_supervision = True
    checkpointing = True
    arguments_model: ClassVar[type[Model]] = StageArguments

    def topology(self, patch_size: Ints, spacing: tuple[float, ...] | None) -> dict[str, Any]:
        """nnU-Net's strides, kernels and channels for this patch; one too small for three stages is grown."""
        return stage_arguments(patch_size, spacing)

    def with_base_features(self, arguments: Arguments, base_features: int, dimensions: int) -> dict[str, Any]:
        """Other channels at full resolution (nnU-Net's ``UNet_base_num_features``), doubled as before."""
        features = stage_features(len(arguments["strides"]), dimensions, base_features)
        return {**arguments, "features": features}

    def divisors(self, arguments: Arguments, dimensions: int) -> Ints:
        """The product of the strides."""
        return cumulative_strides(self.validate_arguments(arguments, dimensions=dimensions).strides)[-1]

    def minimum_patch(self, arguments: Arguments, dimensions: int) -> Ints:
        """Twice the divisor on every axis that is divided, one voxel on the others."""
        return smallest_patch(self.divisors(arguments, dimensions))

    def recipe(self, dimensions: int) -> Recipe:
        """nnU-Net's own."""
        return NNUNET_RECIPE

    def deep_supervision_scales(self, arguments: Arguments, dimensions: int) -> tuple[Ints, ...]:
        """Every decoder resolution, that is all but the bottleneck's, as nnU-Net has them."""
        return cumulative_strides(self.validate_arguments(arguments, dimensions=dimensions).strides)[:-1]


class UNet(StagedUNet):
    """MONAI's DynUNet with nnU-Net's topology."""

    name = "unet"
    title = "UNet (nnU-Net)"

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
        """A DynUNet that returns its deep-supervision logits as a list."""
        from .dynunet import ListDynUNet

        stages: StageArguments = self.validate_arguments(arguments, dimensions=dimensions)
        return ListDynUNet(
            stages,
            dimensions=dimensions,
            in_channels=in_channels,
            out_channels=out_channels,
            deep_supervision=deep_supervision,
            checkpointing=checkpointing,
        )
