"""Sliding-window prediction and its Dice on held-out data, in bounded memory.

A volume is predicted in blocks with a margin of half a window, so that memory does not grow with the volume;
one that fits in a block is predicted as a whole. Windows overlap as the plan says and are blended by a
Gaussian, as in nnU-Net; the windows themselves are MONAI's. Everything happens at the plan's target spacing.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .schema import IGNORE_BINARY, IGNORE_INDEX, InferenceChoice, Precision

if TYPE_CHECKING:
    from .build import Plan
    from .data import PatchDataset

BLOCK_BYTES = 512 * 2**20
"""Main memory that one block's image and logits may take (float32)."""
AUTOCAST: dict[Precision, torch.dtype] = {"fp16": torch.float16, "bf16": torch.bfloat16}
"""Precisions that are autocast; the others run in float32."""

Range = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationResult:
    """Dice on held-out data: per channel the mean over the cases that have (or predict) it."""

    dice: dict[str, float]
    """By class (without the background), region or affinity; channels that occur nowhere are left out."""
    cases: int

    @property
    def mean(self) -> float | None:
        """Mean over channels; None where none occurs."""
        return sum(self.dice.values()) / len(self.dice) if self.dice else None


def effective_precision(precision: Precision, device: torch.device) -> Precision:
    """The plan's precision where the device has it: half precisions are for GPUs, other devices run fp32."""
    return precision if device.type == "cuda" else "fp32"


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[Any]:
    """The autocast of a precision on a device; nothing for fp32 and tf32."""
    dtype = AUTOCAST.get(precision)
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)


@torch.no_grad()
def predict(
    network: nn.Module,
    image: NDArray[np.float32],
    choice: InferenceChoice,
    *,
    device: torch.device,
    precision: Precision = "fp32",
) -> Tensor:
    """Logits ``(channels, z, y, x)``, float32 in main memory, of a normalized image ``(C, z, y, x)``.

    A window with two axes runs slice by slice. The network must be in evaluation mode.
    """
    from monai.inferers.inferer import SlidingWindowInferer

    inferer = SlidingWindowInferer(
        roi_size=choice.window,
        sw_batch_size=choice.batch_size,
        overlap=choice.overlap,
        mode="gaussian",
        sw_device=device,
        device="cpu",
    )
    flat = len(choice.window) == 2
    tensor = torch.from_numpy(np.ascontiguousarray(image))
    tensor = tensor.transpose(0, 1) if flat else tensor[None]

    def run(windows: Tensor) -> Tensor:
        with autocast(device, precision):
            logits: Tensor = network(windows)
        return logits.float()

    logits = inferer(tensor, run)
    assert isinstance(logits, Tensor)
    return logits.transpose(0, 1) if flat else logits[0]


def blocks(
    window: Sequence[Range], largest: Sequence[int], margin: Sequence[int]
) -> Iterator[tuple[tuple[Range, ...], tuple[Range, ...]]]:
    """Cut a window into cores of at most ``largest`` voxels: pairs of core, and core with its margin."""
    ranges = [
        [(low, min(low + step, stop)) for low in range(start, stop, step)]
        for (start, stop), step in zip(window, largest, strict=True)
    ]
    for core in itertools.product(*ranges):
        around = tuple(
            (max(start, low - reach), min(stop, high + reach))
            for (start, stop), (low, high), reach in zip(window, core, margin, strict=True)
        )
        yield core, around


def block_size(
    shape: Sequence[int], inference_window: Sequence[int], channels: int, budget: int
) -> tuple[int, ...]:
    """Voxels per axis of a core that stays within ``budget`` bytes with its margin; at least a window."""
    size = list(shape)
    limit = budget // (4 * channels)
    while True:
        extended = [min(n, s + w) for n, s, w in zip(shape, size, inference_window, strict=True)]
        shrinkable = [axis for axis in range(3) if size[axis] > inference_window[axis]]
        if int(np.prod(extended)) <= limit or not shrinkable:
            return tuple(size)
        axis = max(shrinkable, key=lambda a: size[a] / inference_window[a])
        size[axis] = max(inference_window[axis], (size[axis] + 1) // 2)


def validate(
    network: nn.Module,
    plan: Plan,
    dataset: PatchDataset,
    *,
    device: torch.device | str,
    block_bytes: int = BLOCK_BYTES,
    on_case: Callable[[int, int], None] | None = None,
) -> ValidationResult:
    """Dice of a network on all of a dataset's cases or blocks (``make_dataset(..., training=False)``).

    The network is left in the mode it came in. ``on_case`` is told, before each case, how many are done and
    how many there are.
    """
    device = torch.device(device)
    was_training = network.training
    network.eval()
    names = dataset.channel_names
    scores: list[list[float]] = [[] for _ in names]
    inference_window = (1, *plan.inference.window) if plan.dimensions == 2 else plan.inference.window
    precision = effective_precision(plan.precision, device)
    try:
        for number, grid in enumerate(dataset.cases):
            if on_case is not None:
                on_case(number, len(dataset.cases))
            counts = np.zeros((3, len(names)), np.int64)
            for box in grid.boxes:
                window = grid.window(box)
                shape = [stop - start for start, stop in window]
                channels = dataset.dataset.in_channels + 2 * len(names)
                largest = block_size(shape, inference_window, channels, block_bytes)
                margin = [size // 2 for size in inference_window]
                for core, around in blocks(window, largest, margin):
                    patch = grid.read(
                        dataset.reader,
                        box,
                        [low for low, _ in around],
                        [high - low for low, high in around],
                    )
                    logits = predict(network, patch.image, plan.inference, device=device, precision=precision)
                    inside = tuple(
                        slice(low - first, high - first)
                        for (low, high), (first, _) in zip(core, around, strict=True)
                    )
                    target = dataset.make_target(patch, number)
                    counts += overlap_counts(logits[:, *inside].numpy(), target[:, *inside])
            for channel, (both, predicted, reference) in enumerate(counts.T):
                if predicted + reference:
                    scores[channel].append(2 * int(both) / int(predicted + reference))
    finally:
        network.train(was_training)
    semantic = dataset.dataset.task == "semantic" and not dataset.regions
    return ValidationResult(
        dice={
            name: sum(values) / len(values)
            for channel, (name, values) in enumerate(zip(names, scores, strict=True))
            if values and not (semantic and channel == 0)
        },
        cases=len(dataset.cases),
    )


def overlap_counts(logits: NDArray[np.float32], target: NDArray[Any]) -> NDArray[np.int64]:
    """Voxels in both, predicted, and in the reference, per channel: ``(3, channels)``; ignored ones left out.

    Class indices (int16) are compared with the channel of the largest logit, zeros and ones with its sign.
    """
    result = np.zeros((3, len(logits)), np.int64)
    semantic = target.dtype == np.int16
    strongest = logits.argmax(0) if semantic else None
    for channel in range(len(logits)):
        if strongest is not None:
            valid = target[0] != IGNORE_INDEX
            predicted, reference = (strongest == channel) & valid, target[0] == channel
        else:
            valid = target[channel] != IGNORE_BINARY
            predicted, reference = (logits[channel] > 0) & valid, target[channel] == 1
        result[:, channel] = (predicted & reference).sum(), predicted.sum(), reference.sum()
    return result
