"""Estimates against numbers worked out by hand, and errors that name their argument."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from voxplan.planning.memory import NetworkFailedError, estimate_inference_memory, estimate_training_memory
from voxplan.planning.memory.workspace import constants

MIB = 2**20
EDGE = 32
VOXELS = EDGE**3
"""Of one channel; in fp32 128 KiB, a multiple of 512 B."""


def _one_layer() -> nn.Module:
    return nn.Conv3d(1, 2, 1, bias=False)


def _sum(outputs: Tensor, target: Tensor) -> Tensor:
    return outputs.sum()


def _estimate(architecture: Any = _one_layer, **options: Any) -> Any:
    given = {"patch_size": (EDGE,) * 3, "batch_size": 1, "loss": _sum, "precision": "fp32", **options}
    return estimate_training_memory(architecture, **given)


def test_one_layer_by_hand_on_the_cpu() -> None:
    """Peak while the gradient of the two weights is made, from a contiguous copy of what ``sum`` expands."""
    found = _estimate(device="cpu")
    source, target, output = 4 * VOXELS, 2 * VOXELS, 8 * VOXELS
    loss_and_its_gradient = 4 + 4
    assert found.peak_operator == "aten.convolution_backward.default"
    assert found.parameters == 8
    assert found.gradients == 8
    assert found.optimizer == 16
    assert found.activations == source + target + loss_and_its_gradient
    assert found.workspace == output
    assert sum(found.parts.values()) == found.allocated == found.reserved
    assert found.first_step_allocated == found.allocated - found.optimizer


@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16", "bf16"])
def test_parts_sum_up_and_the_total_is_reserved_plus_context(precision: str) -> None:
    found = _estimate("basic_unet", precision=precision, loss=None)
    assert sum(found.parts.values()) == found.allocated
    assert found.allocated <= found.reserved
    assert found.total == found.reserved + found.context
    assert max(point.allocated for point in found.timeline) == found.allocated
    assert found.notes
    assert "no GPU measurement" in found.notes[0]


def test_parameters_gradients_and_state_are_those_of_the_network() -> None:
    """Peak in the optimizer step: 64 MiB of weights, as much gradient, twice as much state."""

    def build() -> nn.Module:
        return nn.Sequential(nn.Conv3d(1, 2048, 1, bias=False), nn.Conv3d(2048, 8192, 1, bias=False))

    weight = 2048 * 8192 * 4
    at = {"patch_size": (2, 2, 2), "device": "cpu"}
    found = _estimate(build, **at, optimizer_implementation="fused")
    assert found.parameters == weight + 2048 * 4
    assert found.gradients == pytest.approx(weight, abs=2048 * 4)  # in backward, before the first layer's
    assert found.optimizer == pytest.approx(2 * (weight + 2048 * 4), abs=4096)
    assert found.activations < 2 * MIB
    foreach = _estimate(build, **at, optimizer_implementation="foreach")
    # AdamW by foreach kernels holds the square root of the second moments, as large as the parameters.
    assert foreach.activations == pytest.approx(weight, rel=0.05)
    sgd = _estimate(build, **at, optimizer="sgd", optimizer_implementation="fused")
    assert sgd.optimizer == found.parameters


def test_more_gpus_hold_buckets_and_nccl() -> None:
    one, two = _estimate("basic_unet", loss=None), _estimate("basic_unet", loss=None, num_gpus=2)
    as_view = _estimate("basic_unet", loss=None, num_gpus=2, gradient_as_bucket_view=True)
    assert two.gradients - one.gradients == pytest.approx(one.parameters, rel=0.02)
    assert two.context - one.context == constants()["nccl"]["bytes"]
    assert as_view.allocated == one.allocated


def test_105_classes_cost_what_they_cost() -> None:
    """Log-softmax, its exponential and a gradient are alive at once in fp32: 4 bytes a voxel and class."""
    few, many = (_estimate("basic_unet", loss=None, out_channels=classes) for classes in (2, 105))
    assert many.allocated - few.allocated >= 3 * 4 * 103 * VOXELS


def test_half_precision_saves_less_where_normalization_is_fp32() -> None:
    unet = [
        _estimate("unet", loss=None, precision=precision, patch_size=(64,) * 3)
        for precision in ("fp32", "fp16")
    ]
    mednext = [_estimate("mednext_s", loss=None, precision=precision) for precision in ("fp32", "fp16")]
    ratios = [pair[1].activations / pair[0].activations for pair in (unet, mednext)]
    assert ratios[0] < 0.6 < ratios[1] + 0.1


def test_checkpointing_saves_activations() -> None:
    plain, saved = (
        _estimate("mednext_s", loss=None, precision="fp16", patch_size=(64,) * 3, checkpointing=flag)
        for flag in (False, True)
    )
    assert saved.activations < 0.6 * plain.activations
    again = [
        point
        for point in saved.timeline
        if point.phase == "backward" and ".convolution.default" in point.operator
    ]
    assert again  # forward convolutions run again in backward


def test_unmeasured_constants_are_exposed() -> None:
    found = _estimate("basic_unet", loss=None, precision="fp16")
    assert "context" in found.unmeasured
    assert "convolution.tensor_core.forward" in found.unmeasured
    assert all("unmeasured" in why for why in found.unmeasured.values())


def test_every_constant_has_a_source() -> None:
    def leaves(node: Any) -> list[Any]:
        if isinstance(node, list):
            return [leaf for item in node for leaf in leaves(item)]
        if "source" in node:
            return [node]
        return [leaf for item in node.values() for leaf in leaves(item)]

    found = leaves(constants())
    assert len(found) > 10
    kinds = ("unmeasured assumption", "torch, aten", "measured", "choice")
    assert all(leaf["source"].startswith(kinds) for leaf in found)


def test_inference_holds_no_gradients_and_the_volume_by_hand() -> None:
    bare = estimate_inference_memory("basic_unet", window=(EDGE,) * 3)
    held = estimate_inference_memory("basic_unet", window=(EDGE,) * 3, volume=(64, 64, 64))
    assert bare.gradients == bare.optimizer == 0
    assert bare.allocated < _estimate("basic_unet", loss=None, precision="fp16").allocated
    # fp32 volume, fp16 sum of two logits, fp16 weights: 4 + 4 + 2 bytes a voxel.
    assert held.allocated - bare.allocated == pytest.approx(10 * 64**3, abs=1024 * 1024)


def test_a_network_may_return_what_networks_return() -> None:
    class Heads(nn.Module):
        def __init__(self, how: str) -> None:
            super().__init__()
            self.layer, self.how = nn.Conv2d(1, 2, 3, padding=1), how

        def forward(self, image: Tensor) -> Any:
            out = self.layer(image)
            if self.how == "stacked":
                return torch.stack([out, out], 1)
            small = nn.functional.avg_pool2d(out, 2)
            return {"tensor": out, "list": [out, small], "tuple": (out, small), "dict": {"out": out}}[
                self.how
            ]

    for how in ("tensor", "list", "tuple", "stacked"):
        assert _estimate(lambda how=how: Heads(how), patch_size=(32, 32), loss=None).total > 0
    with pytest.raises(NetworkFailedError, match="returned dict; expected a tensor"):
        _estimate(lambda: Heads("dict"), patch_size=(32, 32), loss=None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size must be .* at least 1, got 0"),
        ({"precision": "fp8"}, "precision must be one of fp32, tf32, fp16, bf16, got 'fp8'"),
        ({"optimizer": "lion"}, "optimizer must be one of adamw, sgd, got 'lion'"),
        ({"device": "tpu"}, "device must be one of cuda, cpu, got 'tpu'"),
        ({"device": "cpu", "precision": "fp16"}, "precision must be fp32 on the CPU"),
        ({"task": "guess"}, "task must be one of"),
        ({"patch_size": (64,)}, "patch_size must be 2 or 3"),
        ({"patch_size": (40, 64, 64)}, "patch_size .* axis 0: 40 must be a multiple of 16"),
        ({"patch_size": (16, 64, 64)}, "patch_size .* at least 32"),
        ({"num_gpus": 0}, "num_gpus must be"),
        ({"batch_size": True}, "batch_size must be a whole number"),
        ({"batch_size": 1.5}, "batch_size must be a whole number"),
        ({"optimizer_implementation": "apex"}, "optimizer_implementation must be one of foreach, fused"),
        ({"compute_capability": "8.6"}, "compute_capability must be two whole numbers"),
        ({"loss": "dice"}, "loss must be a plan's LossChoice or a callable"),
        ({"kernel": 3}, "kernel"),
    ],
)
def test_nonsense_names_its_argument(options: dict[str, Any], message: str) -> None:
    given = {"patch_size": (64,) * 3, "batch_size": 1, **options}
    with pytest.raises(ValueError, match=message):
        estimate_training_memory("mednext_s", **given)


def test_numpys_whole_numbers_are_whole_numbers() -> None:
    given = {"patch_size": np.array([32, 32]), "batch_size": np.int64(2), "loss": None}
    assert _estimate("basic_unet", **given) == _estimate(
        "basic_unet", patch_size=(32, 32), batch_size=2, loss=None
    )


def test_unknown_architectures() -> None:
    with pytest.raises(ValueError, match="unknown architecture 'unicorn'; known: "):
        _estimate("unicorn")
    with pytest.raises(ValueError, match="architecture must be a registered name, a plan or a callable"):
        _estimate(3)
    with pytest.raises(ValueError, match="checkpointing: basic_unet cannot"):
        _estimate("basic_unet", checkpointing=True)


def test_a_network_that_fails_on_its_input() -> None:
    with pytest.raises(NetworkFailedError, match=r"shape \(1, 3, 32, 32, 32\).*in_channels"):
        _estimate(in_channels=3)


def test_one_voxel_per_normalization_group() -> None:
    def build() -> nn.Module:
        return nn.Sequential(nn.Conv3d(1, 2, 2, stride=2), nn.InstanceNorm3d(2))

    with pytest.raises(
        NetworkFailedError, match=r"patch_size \(2, 2, 2\) .* one voxel per normalization group"
    ):
        _estimate(build, patch_size=(2, 2, 2))
