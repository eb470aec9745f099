"""The proxy against nnU-Net's documented numbers and against real convolutions."""

from __future__ import annotations

import itertools

import pytest

from voxplan.planning.rules.proxy import (
    features_per_stage,
    plain_unet_elements,
    residual_blocks,
    residual_unet_elements,
)
from voxplan.plans.architectures.topology import nnunet_topology

CUBE = (128, 128, 128)


def cube(classes: int, *, residual: bool = False) -> int:
    topology = nnunet_topology(CUBE, (1.0, 1.0, 1.0))
    count = residual_unet_elements if residual else plain_unet_elements
    return count(CUBE, topology.strides, features_per_stage(topology.stages, 3), classes)


def test_numbers_that_nnunet_itself_computes_at_128_cubed() -> None:
    assert cube(3) == 452_796_416
    assert cube(105) == 666_705_920
    assert cube(3, residual=True) == 557_420_544


def test_features_double_up_to_the_cap() -> None:
    assert features_per_stage(6, 3) == (32, 64, 128, 256, 320, 320)
    assert features_per_stage(7, 2) == (32, 64, 128, 256, 512, 512, 512)


def test_blocks_of_the_residual_encoder() -> None:
    assert residual_blocks(7) == (1, 3, 4, 6, 6, 6, 6)
    assert residual_blocks(2) == (1, 3)


@pytest.mark.parametrize(
    ("patch", "spacing"),
    [((64, 64, 64), (1.0, 1.0, 1.0)), ((16, 96, 64), (5.0, 1.0, 1.0)), ((96, 160), (1.0, 1.0))],
)
def test_it_is_what_the_convolutions_of_the_plain_unet_write(
    patch: tuple[int, ...], spacing: tuple[float, ...]
) -> None:
    """Counted by hooks on MONAI's DynUNet of the same topology, on torch's meta device."""
    import torch
    from monai.networks.nets.dynunet import DynUNet

    topology = nnunet_topology(patch, spacing)
    features = features_per_stage(topology.stages, len(patch))
    with torch.device("meta"):
        network = DynUNet(
            len(patch),
            1,
            4,
            kernel_size=[list(kernel) for kernel in topology.kernels],
            strides=[list(stride) for stride in topology.strides],
            upsample_kernel_size=[list(stride) for stride in topology.strides[1:]],
            filters=list(features),
        )
        image = torch.empty(1, 1, *patch)
    written = 0

    def count(module: torch.nn.Module, inputs: object, output: torch.Tensor) -> None:
        nonlocal written
        written += output.numel()

    convolutions = (torch.nn.Conv2d, torch.nn.Conv3d, torch.nn.ConvTranspose2d, torch.nn.ConvTranspose3d)
    for module in network.modules():
        if isinstance(module, convolutions):
            module.register_forward_hook(count)
    network(image)
    assert written == plain_unet_elements(topology.patch_size, topology.strides, features, 4)


def test_blocks_that_change_resolution_or_width_pay_for_their_shortcut() -> None:
    """By hand: stages of 8 and 4 pixels squared, 32 and 64 channels, blocks 1 and 2, 2 classes."""
    strides = ((1, 1), (2, 2))
    stem, first = 64 * 32, 2 * 64 * 32
    second = (2 * 2 + 1) * 16 * 64
    decoder = 64 * 32 + 64 * 32 + 64 * 2
    assert (
        residual_unet_elements((8, 8), strides, (32, 64), 2, blocks=(1, 2)) == stem + first + second + decoder
    )


def test_more_of_anything_writes_more() -> None:
    sizes = [(32 * step,) * 3 for step in range(1, 6)]
    topology = nnunet_topology((160,) * 3, (1.0,) * 3)
    features = features_per_stage(topology.stages, 3)
    counts = [plain_unet_elements(size, topology.strides, features, 2) for size in sizes]
    assert all(smaller < larger for smaller, larger in itertools.pairwise(counts))


def test_one_strided_axis_is_enough_for_a_shortcut() -> None:
    """By hand: 8 x 8, then 8 x 4 of the same width, one block each, 2 classes."""
    stem, first = 64 * 32, 2 * 64 * 32
    second = (2 + 1) * 32 * 32
    decoder = 64 * 32 + 64 * 32 + 64 * 2
    count = residual_unet_elements((8, 8), ((1, 1), (1, 2)), (32, 32), 2, blocks=(1, 1))
    assert count == stem + first + second + decoder
