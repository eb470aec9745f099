"""One number an axis, as users give them: lists, tuples, arrays."""

from __future__ import annotations

from typing import Any


def three_numbers(values: Any) -> tuple[float, float, float] | None:
    """Three numbers of a list, a tuple or an array; None for anything else."""
    listed = values.tolist() if hasattr(values, "tolist") else values
    if not isinstance(listed, list | tuple) or len(listed) != 3:
        return None
    plain: list[Any] = [value.item() if hasattr(value, "item") else value for value in listed]
    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in plain):
        return None
    z, y, x = (float(value) for value in plain)
    return z, y, x
