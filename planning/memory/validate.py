"""Clear errors for nonsense in, before and after a trace; each names its argument."""

from __future__ import annotations

from numbers import Integral
from typing import Any, get_args

from voxplan.plans.schema import Ints, LossChoice, Precision, Task

IMPLEMENTATIONS = ("foreach", "fused", "single")
"""How an optimizer runs its step."""
CAPABILITY_NUMBERS = 2
"""Major and minor."""


class NetworkFailedError(ValueError):
    """The network cannot run on the input that the arguments describe."""


def whole(value: Any) -> Any:
    """A whole number of any kind (numpy's, say) as Python's own; anything else as it is."""
    return int(value) if isinstance(value, Integral) and not isinstance(value, bool) else value


def _is_positive(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


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
    implementation: str = "foreach",
    loss: object = None,
    compute_capability: object = (8, 0),
) -> None:
    """Check what can be checked without a network.

    Raises:
        ValueError: naming the argument, the value and what would do.
    """
    if len(patch_size) not in (2, 3) or not all(_is_positive(edge) for edge in patch_size):
        msg = f"patch_size must be 2 or 3 positive whole numbers, got {patch_size}"
        raise ValueError(msg)
    numbers = {
        "batch_size": batch_size,
        "in_channels": in_channels,
        "out_channels": out_channels,
        "num_gpus": num_gpus,
    }
    for name, value in numbers.items():
        if not _is_positive(value):
            msg = f"{name} must be a whole number of at least 1, got {value!r}"
            raise ValueError(msg)
    for name, text, known in (
        ("precision", precision, get_args(Precision)),
        ("task", task, get_args(Task)),
        ("device", device, ("cuda", "cpu")),
        ("optimizer_implementation", implementation, IMPLEMENTATIONS),
    ):
        if text not in known:
            msg = f"{name} must be one of {', '.join(known)}, got {text!r}"
            raise ValueError(msg)
    if loss is not None and not isinstance(loss, LossChoice) and not callable(loss):
        msg = f"loss must be a plan's LossChoice or a callable of (outputs, target), got {loss!r}"
        raise ValueError(msg)
    pair = compute_capability if isinstance(compute_capability, tuple) else ()
    if len(pair) != CAPABILITY_NUMBERS or not all(isinstance(number, int) for number in pair):
        msg = f"compute_capability must be two whole numbers, such as (8, 6), got {compute_capability!r}"
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
