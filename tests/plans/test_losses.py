"""The losses against a direct numpy computation, MONAI's, and finite differences."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from monai.losses import DiceCELoss as MonaiDiceCE
from numpy.typing import NDArray
from torch import Tensor

from voxplan.plans.losses import BCELoss, DiceBCELoss, DiceCELoss, build_loss, downsample_target
from voxplan.plans.schema import LossChoice, Task

Array = NDArray[np.float64]
SHAPES = [(6, 4), (4, 6, 2)]
shapes = pytest.mark.parametrize("shape", SHAPES, ids=["2d", "3d"])


def numpy_dice(overlap: Array, predicted: Array, reference: Array, batch_dice: bool) -> float:
    if batch_dice:
        overlap, predicted, reference = overlap.sum(0), predicted.sum(0), reference.sum(0)
    return float(np.mean((2 * overlap + 1e-5) / (predicted + reference + 1e-5)))


def numpy_dice_ce(logits: Array, target: NDArray[Any], batch_dice: bool) -> float:
    """Voxel by voxel; target -1 is ignored."""
    batch, classes = logits.shape[:2]
    overlap, predicted, reference = (np.zeros((batch, classes - 1)) for _ in range(3))
    entropies = []
    for sample in range(batch):
        for voxel in np.ndindex(*logits.shape[2:]):
            scores = logits[(sample, slice(None), *voxel)]
            probability = np.exp(scores) / np.exp(scores).sum()
            label = int(target[(sample, 0, *voxel)])
            if label < 0:
                continue
            entropies.append(-math.log(probability[label]))
            predicted[sample] += probability[1:]
            if label > 0:
                overlap[sample, label - 1] += probability[label]
                reference[sample, label - 1] += 1
    cross_entropy = float(np.mean(entropies)) if entropies else 0.0
    return cross_entropy + 1 - numpy_dice(overlap, predicted, reference, batch_dice)


def numpy_binary(logits: Array, target: NDArray[Any]) -> tuple[float, Array]:
    """Mean cross-entropy over voxels that are not 255, and the probabilities."""
    probability = 1 / (1 + np.exp(-logits))
    element = np.where(target == 1, -np.log(probability), -np.log(1 - probability))
    kept = element[target != 255]
    return float(kept.mean()) if kept.size else 0.0, probability


def semantic(shape: tuple[int, ...], ignored: bool) -> tuple[Tensor, Tensor]:
    random = np.random.default_rng(3)
    logits = torch.tensor(random.normal(0, 2, (3, 4, *shape)), dtype=torch.float64).float()
    target = torch.tensor(random.integers(-1 if ignored else 0, 4, (3, 1, *shape)), dtype=torch.int16)
    return logits, target


def binary(shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    random = np.random.default_rng(4)
    logits = torch.tensor(random.normal(0, 2, (3, 2, *shape))).float()
    target = torch.tensor(random.choice([0, 1, 255], (3, 2, *shape)), dtype=torch.uint8)
    return logits, target


@shapes
@pytest.mark.parametrize("batch_dice", [False, True])
@pytest.mark.parametrize("ignored", [False, True])
def test_dice_ce_voxel_by_voxel(shape: tuple[int, ...], batch_dice: bool, ignored: bool) -> None:
    logits, target = semantic(shape, ignored)
    loss = DiceCELoss(batch_dice=batch_dice, ignore_index=-1 if ignored else None)
    expected = numpy_dice_ce(logits.double().numpy(), target.numpy(), batch_dice)
    assert float(loss(logits, target)) == pytest.approx(expected, rel=1e-5)


@shapes
@pytest.mark.parametrize("batch_dice", [False, True])
def test_dice_ce_is_monais(shape: tuple[int, ...], batch_dice: bool) -> None:
    logits, target = semantic(shape, ignored=False)
    theirs = MonaiDiceCE(
        include_background=False,
        to_onehot_y=True,
        softmax=True,
        batch=batch_dice,
        smooth_nr=1e-5,
        smooth_dr=1e-5,
    )
    ours = DiceCELoss(batch_dice=batch_dice)
    gradients = []
    values = []
    for function in (lambda x: ours(x, target), lambda x: theirs(x, target.long())):
        leaf = logits.clone().requires_grad_()
        value = function(leaf)
        value.backward()
        values.append(value.item())
        gradients.append(leaf.grad)
    assert values[0] == pytest.approx(values[1], rel=1e-5)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-7)


@shapes
def test_bce_voxel_by_voxel(shape: tuple[int, ...]) -> None:
    logits, target = binary(shape)
    expected, _ = numpy_binary(logits.double().numpy(), target.numpy())
    assert float(BCELoss()(logits, target)) == pytest.approx(expected, rel=1e-5)


@shapes
@pytest.mark.parametrize("batch_dice", [False, True])
def test_dice_bce_voxel_by_voxel(shape: tuple[int, ...], batch_dice: bool) -> None:
    logits, target = binary(shape)
    entropy, probability = numpy_binary(logits.double().numpy(), target.numpy())
    space = tuple(range(2, 2 + len(shape)))
    truth, valid = target.numpy() == 1, target.numpy() != 255
    dice = numpy_dice(
        np.where(truth, probability, 0).sum(space),
        np.where(valid, probability, 0).sum(space),
        truth.sum(space).astype(float),
        batch_dice,
    )
    loss = DiceBCELoss(batch_dice=batch_dice)
    assert float(loss(logits, target)) == pytest.approx(entropy + 1 - dice, rel=1e-5)


def test_ignored_voxels_have_no_gradient_and_the_others_have() -> None:
    logits, target = semantic((6, 4), ignored=True)
    logits.requires_grad_()
    DiceCELoss(ignore_index=-1)(logits, target).backward()
    assert logits.grad is not None
    ignored = (target == -1).expand_as(logits)
    assert torch.all(logits.grad[ignored] == 0)
    assert torch.all(logits.grad[~ignored] != 0)


@pytest.mark.parametrize("loss", [BCELoss(), DiceBCELoss()])
def test_ignored_binary_voxels_have_no_gradient(loss: torch.nn.Module) -> None:
    logits, target = binary((6, 4))
    logits.requires_grad_()
    loss(logits, target).backward()
    assert logits.grad is not None
    assert torch.all(logits.grad[target == 255] == 0)
    assert torch.all(logits.grad[target != 255] != 0)


@pytest.mark.parametrize(
    ("loss", "target"),
    [
        (DiceCELoss(ignore_index=-1), torch.full((1, 1, 4, 4), -1, dtype=torch.int16)),
        (BCELoss(), torch.full((1, 2, 4, 4), 255, dtype=torch.uint8)),
        (DiceBCELoss(), torch.full((1, 2, 4, 4), 255, dtype=torch.uint8)),
    ],
)
def test_a_batch_of_ignored_voxels_stays_finite(loss: torch.nn.Module, target: Tensor) -> None:
    logits = torch.randn(1, 2, 4, 4, requires_grad=True)
    value = loss(logits, target)
    value.backward()
    assert torch.isfinite(value)
    assert logits.grad is not None
    assert torch.all(logits.grad == 0)


@pytest.mark.parametrize("extreme", [1e4, -1e4])
def test_extreme_logits_stay_finite(extreme: float) -> None:
    logits = torch.full((1, 2, 4, 4), extreme, requires_grad=True)
    target = torch.tensor([0, 1], dtype=torch.uint8).repeat(8).view(1, 1, 4, 4).expand(1, 2, 4, 4)
    value = DiceBCELoss()(logits, target)
    value.backward()
    assert torch.isfinite(value)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_a_perfect_prediction_costs_nothing() -> None:
    target = torch.tensor([0, 1, 2, 0], dtype=torch.int16).view(1, 1, 2, 2)
    logits = 50.0 * torch.nn.functional.one_hot(target[:, 0].long(), 3).movedim(-1, 1)
    assert float(DiceCELoss()(logits, target)) == pytest.approx(0, abs=1e-5)


def test_deep_supervision_is_the_weighted_sum_at_each_scale() -> None:
    """Coarse targets by ``nearest-exact`` interpolation, which the strided view replaces."""
    torch.manual_seed(0)
    target = torch.randint(0, 3, (2, 1, 4, 16, 8), dtype=torch.int16)
    sizes = [(4, 16, 8), (4, 8, 4), (2, 4, 2)]
    outputs = [torch.randn(2, 3, *size) for size in sizes]
    choice = LossChoice(name="dice_ce", batch_dice=True, deep_supervision_weights=(0.6, 0.4, 0.0))
    loss = build_loss(choice, task="semantic", out_channels=3, ignore_index=None)
    expected = 0.0
    for weight, output in zip((0.6, 0.4), outputs, strict=False):
        coarse = torch.nn.functional.interpolate(target.float(), output.shape[2:], mode="nearest-exact")
        expected += weight * numpy_dice_ce(output.double().numpy(), coarse.numpy(), batch_dice=True)
    assert float(loss(outputs, target)) == pytest.approx(expected, rel=1e-5)
    assert float(loss(tuple(outputs), target)) == pytest.approx(expected, rel=1e-5)


def test_an_output_of_weight_zero_takes_no_gradient() -> None:
    outputs = [torch.randn(1, 2, 8, 8, requires_grad=True), torch.randn(1, 2, 4, 4, requires_grad=True)]
    choice = LossChoice(name="dice_ce", deep_supervision_weights=(1.0, 0.0))
    loss = build_loss(choice, task="semantic", out_channels=2, ignore_index=None)
    loss(outputs, torch.zeros(1, 1, 8, 8, dtype=torch.int16)).backward()
    assert outputs[0].grad is not None
    assert outputs[1].grad is None


def test_evaluation_output_counts_fully() -> None:
    logits, target = semantic((6, 4), ignored=False)
    choice = LossChoice(name="dice_ce", deep_supervision_weights=(0.7, 0.3))
    loss = build_loss(choice, task="semantic", out_channels=4, ignore_index=None)
    assert float(loss(logits, target)) == pytest.approx(
        numpy_dice_ce(logits.double().numpy(), target.numpy(), batch_dice=False), rel=1e-5
    )


@pytest.mark.parametrize("factor", [1, 2, 3, 4])
def test_downsampling_is_nearest_exact_and_a_view(factor: int) -> None:
    target = torch.arange(12 * 24, dtype=torch.int16).view(1, 1, 12, 24)
    coarse = downsample_target(target, (12 // factor, 24))
    expected = torch.nn.functional.interpolate(target.double(), size=(12 // factor, 24), mode="nearest-exact")
    assert torch.equal(coarse.double(), expected)
    assert coarse.untyped_storage().data_ptr() == target.untyped_storage().data_ptr()


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16])
def test_half_precision_logits_are_summed_in_float32(precision: torch.dtype) -> None:
    """2^20 voxels: a sum in fp16 would stop at 2048, in bf16 at 256."""
    target = torch.ones(1, 1, 1024, 1024, dtype=torch.int16)
    logits = torch.zeros(1, 2, 1024, 1024, dtype=precision)
    value = DiceCELoss()(logits, target)
    assert value.dtype == torch.float32
    assert float(value) == pytest.approx(math.log(2) + 1 - 2 * 0.5 / 1.5, rel=1e-4)


def test_under_autocast() -> None:
    logits, target = semantic((4, 6, 2), ignored=True)
    loss = DiceCELoss(ignore_index=-1)
    with torch.autocast("cpu", torch.bfloat16):
        inside = loss(logits.bfloat16(), target)
    assert float(inside) == pytest.approx(float(loss(logits, target)), rel=1e-2)
    assert inside.dtype == torch.float32


@pytest.mark.parametrize(
    ("name", "task", "channels"),
    [("dice_ce", "semantic", 1), ("dice_bce", "semantic", 3), ("bce", "affinity", 3), ("bce", "boundary", 3)],
)
@pytest.mark.parametrize("dimensions", [2, 3])
def test_every_loss_runs_on_meta_tensors(name: Any, task: Task, channels: int, dimensions: int) -> None:
    shape = (8, 16, 16)[-dimensions:]
    choice = LossChoice(name=name, deep_supervision_weights=(2 / 3, 1 / 3))
    ignore = -1 if name == "dice_ce" else None
    loss = build_loss(choice, task=task, out_channels=3, ignore_index=ignore)
    outputs = [
        torch.empty(2, 3, *size, device="meta", dtype=torch.float16, requires_grad=True)
        for size in (shape, tuple(n // 2 for n in shape))
    ]
    target = torch.empty(
        2, channels, *shape, device="meta", dtype=torch.int16 if channels == 1 else torch.uint8
    )
    loss(outputs, target).backward()
    assert all(output.grad is not None and output.grad.shape == output.shape for output in outputs)


@pytest.mark.parametrize(
    ("name", "task", "channels", "ignore", "message"),
    [
        ("bce", "semantic", 2, None, "use dice_ce or dice_bce"),
        ("dice_ce", "affinity", 3, None, "use bce"),
        ("dice_bce", "boundary", 1, None, "use bce"),
        ("dice_ce", "semantic", 1, None, "at least 2 channels"),
        ("dice_ce", "semantic", 2, 255, "ignore_index must be -1 or None"),
    ],
)
def test_what_does_not_fit_is_refused(
    name: Any, task: Task, channels: int, ignore: int | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        build_loss(LossChoice(name=name), task=task, out_channels=channels, ignore_index=ignore)


def test_wrong_number_of_outputs_and_wrong_scales_are_refused() -> None:
    target = torch.zeros(1, 1, 8, 8, dtype=torch.int16)
    choice = LossChoice(name="dice_ce", deep_supervision_weights=(0.5, 0.5))
    loss = build_loss(choice, task="semantic", out_channels=2, ignore_index=None)
    with pytest.raises(ValueError, match="2 deep-supervision weights, but the network gave 1"):
        loss([torch.zeros(1, 2, 8, 8)], target)
    with pytest.raises(ValueError, match="whole multiple"):
        loss([torch.zeros(1, 2, 8, 8), torch.zeros(1, 2, 3, 4)], target)
