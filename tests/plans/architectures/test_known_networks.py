"""The networks against published numbers and against MONAI's own forward."""

from __future__ import annotations

import pytest
import torch
from monai.networks.nets.dynunet import DynUNet
from torch import nn

from voxplan.plans.architectures import get_architecture

CUBE = (128, 128, 128)
CONVOLUTIONS = (nn.Conv3d, nn.ConvTranspose3d)


def on_meta(name: str, out_channels: int, deep_supervision: bool = False) -> nn.Module:
    architecture = get_architecture(name)
    with torch.device("meta"):
        return architecture.build(
            architecture.topology(CUBE, (1.0, 1.0, 1.0)),
            dimensions=3,
            in_channels=1,
            out_channels=out_channels,
            deep_supervision=deep_supervision,
        )


def output_elements(network: nn.Module, kinds: tuple[type[nn.Module], ...]) -> int:
    """Elements of the outputs of all modules of some kinds, in one forward pass of a 128 cube."""
    total = 0

    def count(_module: nn.Module, _inputs: object, output: torch.Tensor) -> None:
        nonlocal total
        total += output.numel()

    for module in network.modules():
        if isinstance(module, kinds):
            module.register_forward_hook(count)
    network.eval()(torch.empty(1, 1, *CUBE, device="meta"))
    return total


@pytest.mark.parametrize(("classes", "elements"), [(3, 452_796_416), (105, 666_705_920)])
def test_plain_unet_has_nnunets_feature_maps(classes: int, elements: int) -> None:
    """nnU-Net's own proxy at 128 cubed: outputs of convolutions, transposed convolutions and the head."""
    assert output_elements(on_meta("unet", classes), CONVOLUTIONS) == elements


def test_residual_unet_has_nnunets_feature_maps() -> None:
    """nnU-Net's proxy counts a projection where a shortcut only pools, too: the last stage's."""
    assert output_elements(on_meta("resenc_unet", 3), CONVOLUTIONS) + 320 * 4**3 == 557_420_544


def test_residual_unet_has_the_published_size() -> None:
    """ResEnc M and L at six stages: 102.35 million parameters."""
    network = on_meta("resenc_unet", 2, deep_supervision=True)
    assert sum(parameter.numel() for parameter in network.parameters()) == pytest.approx(102.35e6, rel=1e-4)


@pytest.mark.parametrize(
    ("name", "millions"), [("mednext_s", 5.6), ("mednext_b", 10.5), ("mednext_m", 17.6), ("mednext_l", 61.8)]
)
def test_mednext_has_the_papers_size(name: str, millions: float) -> None:
    """Table 1 of the paper; MONAI's down blocks differ a little."""
    network = on_meta(name, 2, deep_supervision=True)
    assert sum(parameter.numel() for parameter in network.parameters()) == pytest.approx(
        1e6 * millions, rel=0.01
    )


def test_unet_computes_what_dynunet_computes() -> None:
    """The same weights in MONAI's DynUNet: its stacked heads are ours, upsampled by nearest neighbour."""
    architecture = get_architecture("unet")
    arguments = architecture.topology((8, 32, 32), (3.0, 1.0, 1.0))
    ours = architecture.build(arguments, dimensions=3, in_channels=1, out_channels=2, deep_supervision=True)
    assert arguments["strides"] == [[1, 1, 1], [1, 2, 2], [2, 2, 2], [1, 2, 2]]
    theirs = DynUNet(
        3,
        1,
        2,
        arguments["kernels"],
        arguments["strides"],
        arguments["strides"][1:],
        filters=arguments["features"],
        deep_supervision=True,
        deep_supr_num=len(arguments["strides"]) - 2,
        trans_bias=True,
    )
    missing = theirs.load_state_dict(ours.state_dict(), strict=False)
    assert missing.unexpected_keys == []
    assert all(key.startswith("skip_layers.") for key in missing.missing_keys)
    image = torch.randn(2, 1, 8, 32, 32)
    with torch.no_grad():
        stacked = theirs.train()(image).unbind(dim=1)
        listed = ours.train()(image)
        torch.testing.assert_close(ours.eval()(image), theirs.eval()(image))
    for one, other in zip(listed, stacked, strict=True):
        torch.testing.assert_close(nn.functional.interpolate(one, image.shape[2:]), other)


def test_a_unet_keeps_nothing_between_steps() -> None:
    """MONAI's DynUNet holds the last deep-supervision outputs; this one must not."""
    architecture = get_architecture("unet")
    arguments = architecture.topology((32, 32), None)
    network = architecture.build(
        arguments, dimensions=2, in_channels=1, out_channels=2, deep_supervision=True
    )
    before = {id(value) for value in vars(network).values()}
    network.train()(torch.randn(1, 1, 32, 32))
    assert {id(value) for value in vars(network).values()} == before
    assert not any(isinstance(value, torch.Tensor | list) for value in vars(network).values())


@pytest.mark.parametrize("patch", [(1, 1, 1), (1, 6, 6), (2, 512, 7)])
@pytest.mark.parametrize("name", ["unet", "resenc_unet", "monai_unet"])
def test_tiny_patches_get_three_stages(name: str, patch: tuple[int, ...]) -> None:
    architecture = get_architecture(name)
    arguments = architecture.topology(patch, None)
    minimum = architecture.minimum_patch(arguments, 3)
    with torch.device("meta"):
        network = architecture.build(arguments, dimensions=3, in_channels=1, out_channels=2)
    assert network(torch.empty(1, 1, *minimum, device="meta")).shape == (1, 2, *minimum)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"strides": [[1, 1], [2, 2]]}, "at least 3"),
        ({"strides": [[2, 2], [2, 2], [2, 2], [2, 2]]}, "first stride must be 1"),
        ({"kernels": [[3, 3], [3, 3], [3, 3], [2, 3]]}, "kernels must be odd"),
        ({"kernels": [[3, 3], [3, 3], [3, 3], [99, 3]]}, "less than or equal to 7"),
        ({"features": [32, 64, 128, 10**9]}, "less than or equal to 2048"),
        ({"features": [32, 64]}, "one entry a stage"),
        ({"strides": [[1, 1, 1], [2, 2, 2], [2, 2, 2], [2, 2, 2]]}, "must have 2 axes"),
        ({"strides": "os.system"}, "valid tuple"),
    ],
)
def test_wrong_stage_arguments_are_refused(change: dict[str, object], message: str) -> None:
    architecture = get_architecture("unet")
    arguments = {**architecture.topology((32, 32), None), **change}
    with pytest.raises(ValueError, match=message):
        architecture.validate_arguments(arguments, dimensions=2)


def test_wrong_arguments_of_the_others_are_refused() -> None:
    residual = get_architecture("resenc_unet")
    with pytest.raises(ValueError, match="blocks must have one entry a stage"):
        residual.validate_arguments({**residual.topology((32, 32), None), "blocks": [1]}, dimensions=2)
    monai = get_architecture("monai_unet")
    with pytest.raises(ValueError, match="one fewer than features"):
        monai.validate_arguments({**monai.topology((32, 32), None), "features": [8, 16]}, dimensions=2)
    with pytest.raises(ValueError, match="must have 3 axes"):
        monai.validate_arguments(monai.topology((32, 32), None), dimensions=3)
