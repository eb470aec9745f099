"""Precision of a training step, from what the architecture's authors use and what the device computes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from voxplan.plans.schema import Decision, Precision

from ..gpus import has_bf16, has_fp16


def choose_precision(
    preferred: Sequence[Precision],
    kind: Literal["cuda", "cpu"],
    compute_capability: tuple[int, int] | None,
    *,
    without_tensor_cores: str | None = None,
) -> tuple[Precision, Decision]:
    """The first preferred precision that the device has; fp32 on a CPU.

    ``without_tensor_cores``: the name of a card that has none, though its capability promises them.
    """
    if kind == "cpu":
        return "fp32", Decision(by="hardware", why="a CPU trains in fp32")
    able = {
        "bf16": has_bf16(compute_capability),
        "tf32": has_bf16(compute_capability),
        "fp16": has_fp16(compute_capability) and without_tensor_cores is None,
        "fp32": True,
    }
    chosen: Precision = "fp32"
    for precision in reversed(preferred):
        chosen = precision if able[precision] else chosen
    has = (
        "compute capability unknown"
        if compute_capability is None
        else f"compute capability {compute_capability[0]}.{compute_capability[1]}"
    )
    if without_tensor_cores is not None:
        has = f"{without_tensor_cores}, {has} without them"
    if preferred and chosen == preferred[0]:
        return chosen, Decision(
            by="architecture", why=f"its recipe puts {chosen} first, and the GPU can ({has})"
        )
    skipped = ", ".join(precision for precision in preferred if not able[precision])
    why = f"{chosen}: the GPU has no {skipped or 'other'} tensor cores ({has})"
    return chosen, Decision(by="hardware", why=why)
