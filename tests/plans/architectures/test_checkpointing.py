"""Gradient checkpointing changes what is kept, never what is computed."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from voxplan.plans.architectures import ARCHITECTURES, Architecture, get_architecture

NAMES = [name for name in ARCHITECTURES if ARCHITECTURES[name].checkpointing]
LARGER_VARIANTS = {name for name in NAMES if name.startswith("mednext_")} - {"mednext_s"}
"""The same code again."""


def build(architecture: Architecture, checkpointing: bool) -> nn.Module:
    torch.manual_seed(0)
    return architecture.build(
        architecture.topology((32, 32), None),
        dimensions=2,
        in_channels=1,
        out_channels=2,
        deep_supervision=True,
        checkpointing=checkpointing,
    )


def saved_bytes(network: nn.Module, image: torch.Tensor) -> tuple[list[torch.Tensor], int]:
    """Training outputs, and the bytes that forward keeps for backward beside the parameters."""
    parameters = {parameter.data_ptr() for parameter in network.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in parameters:
            kept[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        outputs = network(image)
    return outputs, sum(kept.values())


@pytest.mark.parametrize("name", sorted(set(NAMES) - LARGER_VARIANTS))
def test_same_outputs_and_gradients_from_fewer_bytes(name: str) -> None:
    architecture = get_architecture(name)
    image = torch.randn(1, 1, 32, 32)
    plain, checkpointed = build(architecture, False), build(architecture, True)
    assert list(plain.state_dict()) == list(checkpointed.state_dict())
    results = []
    for network in (plain, checkpointed):
        outputs, kept = saved_bytes(network.train(), image)
        torch.stack([output.square().mean() for output in outputs]).sum().backward()
        results.append((outputs, kept))
    for first, second in zip(results[0][0], results[1][0], strict=True):
        assert torch.equal(first, second)
    for first, second in zip(plain.parameters(), checkpointed.parameters(), strict=True):
        torch.testing.assert_close(second.grad, first.grad)
    assert results[1][1] < 0.6 * results[0][1]


def test_evaluation_without_gradients_runs_plainly() -> None:
    network = build(get_architecture("unet"), True).eval()
    with torch.inference_mode():
        assert network(torch.randn(1, 1, 32, 32)).shape == (1, 2, 32, 32)


@pytest.mark.parametrize("name", sorted(set(ARCHITECTURES) - set(NAMES)))
def test_the_others_say_that_they_have_none(name: str) -> None:
    assert not get_architecture(name).checkpointing
