"""The residual-encoder UNet as a torch module; no library among the dependencies has it.

Written from the description of nnU-Net's ResEnc presets (Isensee et al., nnU-Net Revisited, MICCAI 2024): a
stem convolution, stages of residual blocks whose shortcut average-pools and projects ("ResNet-D"), transposed
convolutions up, one convolution a decoder stage, a head at every decoder resolution.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.layers.factories import Conv, Norm, Pool
from torch import Tensor, nn

from .checkpointing import run
from .stages import ResidualStageArguments

SLOPE = 0.01
"""Negative slope of LeakyReLU, which the initialization assumes too (nnU-Net)."""


def _convolution(
    dimensions: int, inputs: int, outputs: int, kernel: Sequence[int], stride: Sequence[int], *, last: bool
) -> nn.Sequential:
    """Convolution, instance norm and, unless ``last``, LeakyReLU."""
    padding = tuple(size // 2 for size in kernel)
    layers: list[nn.Module] = [
        Conv[Conv.CONV, dimensions](inputs, outputs, tuple(kernel), tuple(stride), padding, bias=True),
        Norm[Norm.INSTANCE, dimensions](outputs, eps=1e-5, affine=True),
    ]
    if not last:
        layers.append(nn.LeakyReLU(SLOPE, inplace=True))
    return nn.Sequential(*layers)


class ResidualBlock(nn.Module):
    """Two convolutions around a shortcut that average-pools where it strides and projects where it widens."""

    def __init__(
        self, dimensions: int, inputs: int, outputs: int, kernel: Sequence[int], stride: Sequence[int]
    ) -> None:
        super().__init__()
        ones = (1,) * dimensions
        self.conv1 = _convolution(dimensions, inputs, outputs, kernel, stride, last=False)
        self.conv2 = _convolution(dimensions, outputs, outputs, kernel, ones, last=True)
        shortcut: list[nn.Module] = []
        if tuple(stride) != ones:
            shortcut.append(Pool[Pool.AVG, dimensions](tuple(stride), tuple(stride)))
        if inputs != outputs:
            shortcut.append(Conv[Conv.CONV, dimensions](inputs, outputs, 1, bias=False))
            shortcut.append(Norm[Norm.INSTANCE, dimensions](outputs, eps=1e-5, affine=True))
        self.shortcut = nn.Sequential(*shortcut)
        self.activation = nn.LeakyReLU(SLOPE, inplace=True)

    def forward(self, features: Tensor) -> Tensor:
        """``(batch, inputs, *shape)`` to ``(batch, outputs, *shape / stride)``."""
        shortcut = self.shortcut(features)
        output: Tensor = self.activation(self.conv2(self.conv1(features)) + shortcut)
        return output


class DecoderStage(nn.Module):
    """Transposed convolution up, the encoder's features beside it, one convolution."""

    def __init__(
        self, dimensions: int, inputs: int, outputs: int, kernel: Sequence[int], stride: Sequence[int]
    ) -> None:
        super().__init__()
        up = Conv[Conv.CONVTRANS, dimensions]
        self.up = up(inputs, outputs, tuple(stride), tuple(stride), bias=True)
        self.conv = _convolution(dimensions, 2 * outputs, outputs, kernel, (1,) * dimensions, last=False)

    def forward(self, features: Tensor, skip: Tensor) -> Tensor:
        """Coarse features and the encoder's at the finer scale to features at the finer scale."""
        output: Tensor = self.conv(torch.cat((self.up(features), skip), dim=1))
        return output


def _initialize(module: nn.Module) -> None:
    """He initialization; the last norm of a residual block starts at 0, so that blocks start as shortcuts."""
    if isinstance(module, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
        nn.init.kaiming_normal_(module.weight, a=SLOPE)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, ResidualBlock):
        nn.init.zeros_(module.conv2.get_parameter("1.weight"))


class ResidualUNet(nn.Module):
    """Residual encoder and plain decoder; see the file's head."""

    def __init__(
        self,
        stages: ResidualStageArguments,
        *,
        dimensions: int,
        in_channels: int,
        out_channels: int,
        deep_supervision: bool,
        checkpointing: bool,
    ) -> None:
        super().__init__()
        self.deep_supervision = deep_supervision
        self.checkpointing = checkpointing
        features, ones = stages.features, (1,) * dimensions
        self.stem = _convolution(dimensions, in_channels, features[0], stages.kernels[0], ones, last=False)
        self.encoder = nn.ModuleList()
        inputs = features[0]
        for outputs, kernel, stride, blocks in zip(
            features, stages.kernels, stages.strides, stages.blocks, strict=True
        ):
            first = ResidualBlock(dimensions, inputs, outputs, kernel, stride)
            others = (ResidualBlock(dimensions, outputs, outputs, kernel, ones) for _ in range(blocks - 1))
            self.encoder.append(nn.ModuleList([first, *others]))
            inputs = outputs
        fine_levels = range(len(features) - 1)
        self.decoder = nn.ModuleList(
            DecoderStage(dimensions, features[i + 1], features[i], stages.kernels[i], stages.strides[i + 1])
            for i in fine_levels
        )
        supervised = fine_levels if deep_supervision else range(1)
        self.heads = nn.ModuleList(
            Conv[Conv.CONV, dimensions](features[i], out_channels, 1, bias=True) for i in supervised
        )
        self.apply(_initialize)

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        """Logits of ``(batch, channels, *patch)``; in training with deep supervision a list, finest first."""
        features = run(self.stem, image, checkpointing=self.checkpointing)
        skips: list[Tensor] = []
        for stage in self.encoder:
            assert isinstance(stage, nn.ModuleList)
            for block in stage:
                features = run(block, features, checkpointing=self.checkpointing)
            skips.append(features)
        features = skips.pop()
        logits: list[Tensor] = []
        for level in reversed(range(len(self.decoder))):
            features = run(self.decoder[level], features, skips.pop(), checkpointing=self.checkpointing)
            if level == 0 or (self.training and self.deep_supervision):
                logits.append(self.heads[level](features))
        logits.reverse()
        return logits if self.training and self.deep_supervision else logits[0]
