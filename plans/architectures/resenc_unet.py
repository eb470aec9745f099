"""nnU-Net's residual-encoder UNet (its ResEnc presets): many residual blocks down, a lean decoder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..schema import Ints
from .base import Arguments
from .stages import ResidualStageArguments
from .unet import StagedUNet

if TYPE_CHECKING:
    from torch import nn

ENCODER_BLOCKS = (1, 3, 4, 6)
"""Residual blocks of the first stages (nnU-Net's ``UNet_blocks_per_stage_encoder``); the last goes on."""


class ResEncUNet(StagedUNet):
    """Residual encoder, one convolution a stage in the decoder."""

    name = "resenc_unet"
    title = "Residual-encoder UNet (nnU-Net ResEnc)"
    smaller = "unet"
    arguments_model = ResidualStageArguments

    def topology(self, patch_size: Ints, spacing: tuple[float, ...] | None) -> dict[str, Any]:
        """The plain UNet's stages, and 1, 3, 4, 6, 6, ... residual blocks."""
        arguments = super().topology(patch_size, spacing)
        stages = len(arguments["strides"])
        blocks = [ENCODER_BLOCKS[min(stage, len(ENCODER_BLOCKS) - 1)] for stage in range(stages)]
        return {**arguments, "blocks": blocks}

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
        """The network of ``residual_unet.py``."""
        from .residual_unet import ResidualUNet

        stages: ResidualStageArguments = self.validate_arguments(arguments, dimensions=dimensions)
        return ResidualUNet(
            stages,
            dimensions=dimensions,
            in_channels=in_channels,
            out_channels=out_channels,
            deep_supervision=deep_supervision,
            checkpointing=checkpointing,
        )
