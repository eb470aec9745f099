"""nnU-Net's stand-in for memory: the number of elements that its convolutions write in one forward pass.

Counted for one sample from strides, features and blocks alone, without building a network, deep supervision
off. It knows nothing of dtype, optimizer, workspace or framework: bytes come from ``planning.memory``.
Source: nnU-Net 2.8.1's ``static_estimate_VRAM_usage`` (``default_experiment_planner.py`` lines 94 to 111),
applied to its two networks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from voxplan.plans.schema import Ints

BASE_FEATURES = 32
"""Channels of the first stage."""
MAXIMUM_FEATURES = {2: 512, 3: 320}
"""Channels of the deepest stages, by number of axes."""
PLAIN_CONVOLUTIONS = 2
"""Convolutions a stage of the plain UNet, encoder and decoder."""
RESIDUAL_BLOCKS = (1, 3, 4, 6)
"""Encoder blocks a stage of the residual UNet; the last number holds for all deeper stages."""
RESIDUAL_DECODER_CONVOLUTIONS = 1


def features_per_stage(stages: int, dimensions: int) -> Ints:
    """Channels of each stage: doubled from 32 up to 512 in 2D and 320 in 3D."""
    return tuple(min(MAXIMUM_FEATURES[dimensions], BASE_FEATURES * 2**stage) for stage in range(stages))


def residual_blocks(stages: int) -> Ints:
    """Encoder blocks of each stage of the residual UNet."""
    return tuple(RESIDUAL_BLOCKS[min(stage, len(RESIDUAL_BLOCKS) - 1)] for stage in range(stages))


def _stage_sizes(patch_size: Sequence[int], strides: Sequence[Ints]) -> list[int]:
    """Voxels of each stage, full resolution first."""
    size, voxels = list(patch_size), []
    for stride in strides:
        size = [edge // step for edge, step in zip(size, stride, strict=True)]
        voxels.append(math.prod(size))
    return voxels


def _decoder_elements(voxels: Sequence[int], features: Ints, classes: int, convolutions: Ints) -> int:
    """Per stage the transposed convolution and its convolutions; the segmentation of the finest one."""
    per_stage = (
        size * width * (1 + count)
        for size, width, count in zip(voxels[:-1], features[:-1], reversed(convolutions), strict=True)
    )
    return sum(per_stage) + voxels[0] * classes


def plain_unet_elements(
    patch_size: Sequence[int],
    strides: Sequence[Ints],
    features: Ints,
    classes: int,
    convolutions: Ints | None = None,
    decoder_convolutions: Ints | None = None,
) -> int:
    """Elements of the plain UNet; ``convolutions`` and the decoder's (deepest first) default to 2 a stage."""
    encoder = convolutions or (PLAIN_CONVOLUTIONS,) * len(strides)
    decoder = decoder_convolutions or (PLAIN_CONVOLUTIONS,) * (len(strides) - 1)
    voxels = _stage_sizes(patch_size, strides)
    written = sum(size * width * count for size, width, count in zip(voxels, features, encoder, strict=True))
    return written + _decoder_elements(voxels, features, classes, decoder)


def residual_unet_elements(
    patch_size: Sequence[int],
    strides: Sequence[Ints],
    features: Ints,
    classes: int,
    blocks: Ints | None = None,
    decoder_convolutions: Ints | None = None,
) -> int:
    """Elements of the residual encoder UNet.

    A stem convolution; per stage blocks of two convolutions; one more, on the shortcut, in every block that
    changes resolution or width.
    """
    encoder = blocks or residual_blocks(len(strides))
    decoder = decoder_convolutions or (RESIDUAL_DECODER_CONVOLUTIONS,) * (len(strides) - 1)
    voxels = _stage_sizes(patch_size, strides)
    written = math.prod(patch_size) * features[0]
    incoming = features[0]
    for size, width, count, stride in zip(voxels, features, encoder, strides, strict=True):
        projected = width != incoming or any(step != 1 for step in stride)
        written += size * width * (2 * count + projected)
        incoming = width
    return written + _decoder_elements(voxels, features, classes, decoder)
