"""Clear errors for nonsense in, before and after a trace; each names its argument."""

from __future__ import annotations

from typing import get_args

from voxplan.plans.schema import Ints, Precision, Task


class NetworkFailedError(ValueError):
    """The network cannot run on the input that the arguments describe."""


def check_numbers(
    *,
    patch_size: Ints,
    batch_size: int,
    in_channels: int,
    out_channels: int,
    precision: str,
    task: str,
    device: str,
    num_gpus: int = 1,
) -> None:
    """Check what can be checked without a network.

    Raises:
        ValueError: naming the argument, the value and what would do.
    """
    if len(patch_size) not in (2, 3) or any(not isinstance(n, int) or n < 1 for n in patch_size):
        msg = f"patch_size must be 2 or 3 positive whole numbers, got {patch_size}"
        raise ValueError(msg)
    numbers = {
        "batch_size": batch_size,
        "in_channels": in_channels,
        "out_channels": out_channels,
        "num_gpus": num_gpus,
    }
    for name, value in numbers.items():
        if not isinstance(value, int) or value < 1:
            msg = f"{name} must be a whole number of at least 1, got {value!r}"
            raise ValueError(msg)
    for name, text, known in (
        ("precision", precision, get_args(Precision)),
        ("task", task, get_args(Task)),
        ("device", device, ("cuda", "cpu")),
    ):
        if text not in known:
            msg = f"{name} must be one of {', '.join(known)}, got {text!r}"
            raise ValueError(msg)
    if device == "cpu" and precision != "fp32":
        msg = f"precision must be fp32 on the CPU, got {precision!r}: the others are modelled for CUDA only"
        raise ValueError(msg)


def explain_failure(error: Exception, *, patch_size: Ints, batch_size: int, in_channels: int) -> Exception:
    """An error that names the argument behind what a network raised.

    PyTorch's normalization layers refuse a single value a group; layers that meet a size they cannot halve or
    concatenate fail in many ways, which are passed on.
    """
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if "more than 1 spatial element" in text or "more than 1 value per channel" in text:
        msg = (
            f"patch_size {patch_size} at batch_size {batch_size} leaves one voxel per normalization group: "
            f"PyTorch says {text!r}; take a larger patch_size"
        )
        return NetworkFailedError(msg)
    msg = (
        f"the network fails on an input of shape {(batch_size, in_channels, *patch_size)}: "
        f"{type(error).__name__}: {text}; check that patch_size is large enough and a multiple of the "
        "network's strides, and in_channels and out_channels are those it was built for"
    )
    return NetworkFailedError(msg)
