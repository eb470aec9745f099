"""Memory of a plain 3D UNet, traced, and the batch that fits. GB is 1024**3 bytes; sizes are ZYX."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..gpus import GIB
from .axes import three_numbers

if TYPE_CHECKING:
    from ..memory import MemoryModel

MAX_BATCH = 4096
"""No search looks beyond it."""
MIN_POOL_STAGES = 2
"""The network has at least three resolutions (MONAI's DynUNet)."""


def plain_unet(base_features: int, num_pool_stages: int) -> dict[str, Any]:
    """Arguments of the ``unet`` architecture: isotropic pooling, features doubled at each of them, no cap.

    Raises:
        ValueError: fewer than two poolings, or no features.
    """
    if num_pool_stages < MIN_POOL_STAGES:
        msg = f"num_pool_stages must be at least {MIN_POOL_STAGES}, got {num_pool_stages}"
        raise ValueError(msg)
    if base_features < 1:
        msg = f"base_features must be positive, got {base_features}"
        raise ValueError(msg)
    stages = num_pool_stages + 1
    return {
        "strides": [[1, 1, 1], *([2, 2, 2] for _ in range(num_pool_stages))],
        "kernels": [[3, 3, 3] for _ in range(stages)],
        "features": [base_features * 2**stage for stage in range(stages)],
    }


def estimate_gpu_memory_required(
    patch_size: Sequence[int],
    batch_size: int,
    in_channels: int = 1,
    out_channels: int = 2,
    base_features: int = 32,
    num_pool_stages: int = 4,
    deep_supervision: bool = False,
    mixed_precision: bool = True,
) -> float:
    """GB that training a plain 3D UNet takes on a GPU, as the driver would show for the process.

    One step is traced (AdamW, Dice and cross-entropy); no GPU is needed. For other networks ask
    :func:`voxplan.planning.memory.estimate_training_memory`.

    Args:
        patch_size: ZYX; multiples of ``2**num_pool_stages``, at least twice that.
        batch_size: samples per GPU.
        in_channels: image channels.
        out_channels: classes.
        base_features: channels at full resolution, doubled at each pooling.
        num_pool_stages: halvings of every axis, at least 2.
        deep_supervision: with a head at each resolution of the decoder.
        mixed_precision: fp16 autocast instead of fp32.

    Raises:
        ValueError: naming the argument that does not work.
    """
    model = _model(
        in_channels, out_channels, base_features, num_pool_stages, deep_supervision, mixed_precision
    )
    if isinstance(batch_size, bool):
        msg = f"batch_size must be a whole number of at least 1, got {batch_size}"
        raise ValueError(msg)
    return model.confirm(_three(patch_size), batch_size).total / GIB


def suggest_batch_size(
    patch_size: Sequence[int],
    in_channels: int,
    out_channels: int,
    available_gpu_memory_gb: float,
    base_features: int = 32,
    num_pool_stages: int = 4,
    deep_supervision: bool = False,
    mixed_precision: bool = True,
    safety_margin: float = 0.85,
) -> int:
    """The largest batch that fits: ``estimate(batch) <= margin * available < estimate(batch + 1)``.

    A binary search over :func:`estimate_gpu_memory_required`, at most 4096.

    Args:
        patch_size: as the other arguments up to ``mixed_precision``, see there.
        in_channels: image channels.
        out_channels: classes.
        available_gpu_memory_gb: free memory of the GPU.
        base_features: channels at full resolution.
        num_pool_stages: halvings of every axis.
        deep_supervision: with a head at each resolution of the decoder.
        mixed_precision: fp16 autocast instead of fp32.
        safety_margin: share of the memory that may be used.

    Returns:
        The batch size; 0, with a ``UserWarning``, where not even 1 fits.

    Raises:
        ValueError: naming the argument that does not work.
    """
    if not 0 < safety_margin <= 1:
        msg = f"safety_margin must be above 0 and at most 1, got {safety_margin}"
        raise ValueError(msg)
    if not 0 <= available_gpu_memory_gb < float("inf"):
        msg = f"available_gpu_memory_gb must be a number from 0 on, got {available_gpu_memory_gb}"
        raise ValueError(msg)
    patch = _three(patch_size)
    budget = available_gpu_memory_gb * safety_margin * GIB
    model = _model(
        in_channels, out_channels, base_features, num_pool_stages, deep_supervision, mixed_precision
    )
    guess = binary_search(lambda batch: model.total(patch, batch) <= budget, start=1)
    batch = binary_search(lambda batch: model.confirm(patch, batch).total <= budget, start=max(1, guess))
    if batch == 0:
        needed = model.confirm(patch, 1).total / GIB
        text = (
            f"batch size 0: a patch of {patch} needs {needed:.1f} GB even at batch 1, and "
            f"{safety_margin:.0%} of {available_gpu_memory_gb:g} GB may be used; take a smaller patch"
        )
        warnings.warn(text, UserWarning, stacklevel=2)
    return batch


def binary_search(fits: Callable[[int], bool], *, start: int = 1, maximum: int = MAX_BATCH) -> int:
    """The largest number from 1 to ``maximum`` that fits, 0 if none does; ``start`` is a first guess.

    From the guess outwards in doubled steps, then bisection: a good guess costs two questions.
    """
    low, high = 0, maximum + 1
    at, step = min(start, maximum), 1
    upwards = fits(at)
    while True:
        if upwards:
            low = at
        else:
            high = at
        at = low + step if upwards else high - step
        if not low < at < high:
            break
        if fits(at) is not upwards:
            low, high = (low, at) if upwards else (at, high)
            break
        step *= 2
    while high - low > 1:
        middle = (low + high) // 2
        if fits(middle):
            low = middle
        else:
            high = middle
    return low


def _three(patch_size: Sequence[int]) -> tuple[int, int, int]:
    sizes = three_numbers(patch_size)
    if sizes is None or not all(size.is_integer() for size in sizes):
        msg = f"patch_size must have three axes (ZYX) of whole numbers, got {patch_size!r}"
        raise ValueError(msg)
    z, y, x = (int(size) for size in sizes)
    return z, y, x


def _model(
    in_channels: int,
    out_channels: int,
    base_features: int,
    num_pool_stages: int,
    deep_supervision: bool,
    mixed_precision: bool,
) -> MemoryModel:
    from ..memory import MemoryModel

    return MemoryModel(
        "unet",
        plain_unet(base_features, num_pool_stages),
        in_channels=in_channels,
        out_channels=out_channels,
        precision="fp16" if mixed_precision else "fp32",
        deep_supervision=deep_supervision,
    )
