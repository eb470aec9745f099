"""MONAI's DynUNet with a forward of its own: deep-supervision logits as a list, each at its own scale.

MONAI upsamples all of them to full resolution and stacks them, which with many classes costs more memory than
the network; it also computes the heads in evaluation and keeps their outputs alive between steps.
"""

from __future__ import annotations

from monai.networks.nets.dynunet import DynUNet
from torch import Tensor

from .checkpointing import run
from .stages import StageArguments


class ListDynUNet(DynUNet):
    """DynUNet whose training forward returns ``[full, half, ...]`` with deep supervision.

    Blocks, initialization and parameters are MONAI's; transposed convolutions have a bias as in nnU-Net.
    Instance norm is affine with eps 1e-5, the non-linearity LeakyReLU 0.01 in place.
    """

    def __init__(
        self,
        stages: StageArguments,
        *,
        dimensions: int,
        in_channels: int,
        out_channels: int,
        deep_supervision: bool,
        checkpointing: bool,
    ) -> None:
        super().__init__(
            spatial_dims=dimensions,
            in_channels=in_channels,
            out_channels=out_channels,
            kernel_size=stages.kernels,
            strides=stages.strides,
            upsample_kernel_size=stages.strides[1:],
            filters=stages.features,
            norm_name=("INSTANCE", {"affine": True, "eps": 1e-5}),
            act_name=("leakyrelu", {"inplace": True, "negative_slope": 0.01}),
            deep_supervision=deep_supervision,
            deep_supr_num=len(stages.strides) - 2,
            trans_bias=True,
        )
        self.checkpointing = checkpointing
        del self.skip_layers  # a second registration of the same modules: doubled keys in checkpoints
        del self.heads

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Logits of ``(batch, channels, *patch)``; in training with deep supervision a list, finest first."""
        supervised = self.training and self.deep_supervision
        skips: list[Tensor] = []
        features = x
        for block in (self.input_block, *self.downsamples):
            features = run(block, features, checkpointing=self.checkpointing)
            skips.append(features)
        features = run(self.bottleneck, features, checkpointing=self.checkpointing)
        logits: list[Tensor] = []
        for block in self.upsamples:
            features = run(block, features, skips.pop(), checkpointing=self.checkpointing)
            if supervised and skips:
                logits.append(self.deep_supervision_heads[len(skips) - 1](features))
        full: Tensor = self.output_block(features)
        return [full, *reversed(logits)] if supervised else full
