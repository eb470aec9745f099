"""The losses that plans name, as nnU-Net trains with them, with few full-size intermediates.

Every loss is called as ``loss(outputs, target)``: ``outputs`` is one tensor of logits
``(batch, channels, *patch)`` or, with deep supervision, a sequence of them, full resolution first. The target
of ``dice_ce`` is ``(batch, 1, *patch)`` class indices (ignored voxels :data:`IGNORE_INDEX`), the target of
``dice_bce`` and ``bce`` ``(batch, channels, *patch)`` zeros and ones (ignored voxels :data:`IGNORE_BINARY`).
All sums run in float32, under autocast too.

Source: nnU-Net 2.8.1, ``training/loss``. Its Dice term is ``-dice``; here it is ``1 - dice``: the same
gradient, and a loss that falls to 0. Under DDP, batch Dice is taken over the samples of each rank.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from .schema import IGNORE_BINARY, IGNORE_INDEX, LossChoice, Task

SMOOTH = 1e-5
"""Added to numerator and denominator of Dice, in voxels (nnU-Net's ``smooth``)."""


def _dice_loss(overlap: Tensor, predicted: Tensor, reference: Tensor, batch_dice: bool) -> Tensor:
    """1 - mean Dice, from sums of shape (batch, channels); ``batch_dice``: the batch as one volume."""
    if batch_dice:
        overlap, predicted, reference = overlap.sum(0), predicted.sum(0), reference.sum(0)
    return 1 - ((2 * overlap + SMOOTH) / (predicted + reference + SMOOTH)).mean()


class DiceCELoss(nn.Module):
    """Cross-entropy over all classes plus soft Dice over the foreground classes, each with weight 1.

    A batch whose voxels are all ignored has a cross-entropy of 0.
    """

    def __init__(self, *, batch_dice: bool = False, ignore_index: int | None = None) -> None:
        super().__init__()
        self.batch_dice = batch_dice
        self.ignore_index = ignore_index

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Logits ``(batch, classes, *patch)`` against class indices ``(batch, 1, *patch)``; a scalar."""
        space = tuple(range(2, logits.ndim))
        log_probability = functional.log_softmax(logits.float(), dim=1)
        classes = torch.arange(1, logits.shape[1], device=target.device, dtype=target.dtype)
        reference = target == classes.view(1, -1, *(1,) * len(space))
        foreground = log_probability[:, 1:].exp()
        overlap = (foreground * reference).sum(space)
        indices = target[:, 0].long()
        if self.ignore_index is None:
            predicted = foreground.sum(space)
            cross_entropy = functional.nll_loss(log_probability, indices)
        else:
            valid = target != self.ignore_index
            predicted = (foreground * valid).sum(space)
            cross_entropy = functional.nll_loss(
                log_probability, indices, ignore_index=self.ignore_index, reduction="sum"
            ) / valid.sum().clamp(min=1)
        return cross_entropy + _dice_loss(overlap, predicted, reference.sum(space), self.batch_dice)


def _binary_cross_entropy(logits: Tensor, reference: Tensor, valid: Tensor) -> Tensor:
    """Mean over valid voxels, 0 without any; ``softplus`` of signed logits needs no float target."""
    element = functional.softplus(torch.where(reference, -logits, logits))
    return torch.where(valid, element, 0.0).sum() / valid.sum().clamp(min=1)


class BCELoss(nn.Module):
    """Binary cross-entropy of every channel on its own, mean over the voxels that are not ignored."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Logits against zeros and ones, both ``(batch, channels, *patch)``; a scalar."""
        return _binary_cross_entropy(logits.float(), target == 1, target != IGNORE_BINARY)


class DiceBCELoss(nn.Module):
    """Binary cross-entropy plus soft Dice over channels that may overlap (nnU-Net's regions)."""

    def __init__(self, *, batch_dice: bool = False) -> None:
        super().__init__()
        self.batch_dice = batch_dice

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Logits against zeros and ones, both ``(batch, channels, *patch)``; a scalar."""
        space = tuple(range(2, logits.ndim))
        logits = logits.float()
        reference, valid = target == 1, target != IGNORE_BINARY
        probability = torch.sigmoid(logits)
        overlap = (probability * reference).sum(space)
        predicted = (probability * valid).sum(space)
        dice = _dice_loss(overlap, predicted, reference.sum(space), self.batch_dice)
        return _binary_cross_entropy(logits, reference, valid) + dice


def downsample_target(target: Tensor, shape: Sequence[int]) -> Tensor:
    """The target at a coarser output's ``shape`` (spatial axes), as a strided view.

    Takes the voxel at the centre of each coarse voxel, as ``nearest-exact`` interpolation does, without its
    detour through floats.

    Raises:
        ValueError: an axis is not a whole multiple of the output's.
    """
    slices: list[slice] = [slice(None), slice(None)]
    for fine, coarse in zip(target.shape[2:], shape, strict=True):
        if fine % coarse:
            msg = (
                f"target of shape {tuple(target.shape[2:])} cannot be compared with an output of "
                f"{tuple(shape)}: each axis must be a whole multiple"
            )
            raise ValueError(msg)
        factor = fine // coarse
        slices.append(slice(factor // 2, None, factor))
    return target[tuple(slices)]


class DeepSupervisionLoss(nn.Module):
    """Weighted sum of one loss over outputs at several scales; outputs of weight 0 are skipped."""

    def __init__(self, loss: nn.Module, weights: Sequence[float]) -> None:
        super().__init__()
        self.loss = loss
        self.weights = tuple(weights)

    def forward(self, outputs: Tensor | Sequence[Tensor], target: Tensor) -> Tensor:
        """Full-resolution ``target`` against all outputs; a single tensor (evaluation) counts with weight 1.

        Raises:
            ValueError: the number of outputs is not that of the weights.
        """
        if isinstance(outputs, Tensor):
            full: Tensor = self.loss(outputs, target)
            return full
        if len(outputs) != len(self.weights):
            msg = (
                f"the loss has {len(self.weights)} deep-supervision weights, but the network gave "
                f"{len(outputs)} outputs: the plan's loss.deep_supervision_weights must have one a output"
            )
            raise ValueError(msg)
        losses = [
            weight * self.loss(output, downsample_target(target, output.shape[2:]))
            for weight, output in zip(self.weights, outputs, strict=True)
            if weight
        ]
        return torch.stack(losses).sum()


def build_loss(choice: LossChoice, *, task: Task, out_channels: int, ignore_index: int | None) -> nn.Module:
    """The loss of a plan.

    Args:
        choice: as it stands in the plan.
        task: what the targets are; ``dice_ce`` and ``dice_bce`` are for ``semantic``, ``bce`` for all others.
        out_channels: channels of the network's output.
        ignore_index: value of ignored voxels in semantic targets (:data:`IGNORE_INDEX`), None without any.

    Raises:
        ValueError: the loss does not fit the task or the channels.
    """
    if (choice.name == "bce") == (task == "semantic"):
        fitting = "dice_ce or dice_bce" if task == "semantic" else "bce"
        msg = f"loss.name {choice.name!r} does not fit task {task!r}: use {fitting}"
        raise ValueError(msg)
    if choice.name == "dice_ce" and out_channels < 2:
        msg = f"loss.name 'dice_ce' needs at least 2 channels (background and a class), got {out_channels}"
        raise ValueError(msg)
    if ignore_index not in (None, IGNORE_INDEX):
        msg = f"ignore_index must be {IGNORE_INDEX} or None, got {ignore_index}"
        raise ValueError(msg)
    loss: nn.Module
    if choice.name == "dice_ce":
        loss = DiceCELoss(batch_dice=choice.batch_dice, ignore_index=ignore_index)
    elif choice.name == "dice_bce":
        loss = DiceBCELoss(batch_dice=choice.batch_dice)
    else:
        loss = BCELoss()
    return DeepSupervisionLoss(loss, choice.deep_supervision_weights)
