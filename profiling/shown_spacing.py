"""Spacing as people read it: ``40 x 4 x 4 nm`` where a file says ``4e-05 x 4e-06 x 4e-06 mm``.

NIfTI of electron microscopy states millimetres. What is stored stays as the files say it; this is for tables,
pages and remarks alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from .formats.base import UNITS_IN_MM

READABLE: Final = (0.001, 10_000)
"""Numbers from and below which are shown without an exponent; a unit in which all are is kept."""
FINEST: Final = 0.1
"""Of the finest axis, in the unit that is chosen instead: the largest in which it is no less."""


def shown_unit(unit: str, spacing: Sequence[float] | None) -> str:
    """The unit in which to show what was stated in ``unit``.

    Args:
        unit: of the numbers; one that is not known is kept.
        spacing: those that decide (of a data set, the median), ZYX; None where it is missing.
    """
    if (
        unit not in UNITS_IN_MM
        or spacing is None
        or all(READABLE[0] <= step < READABLE[1] for step in spacing)
    ):
        return unit
    finest = min(converted(spacing, unit, "nm"))
    return next((u for u in ("mm", "um") if finest >= FINEST * UNITS_IN_MM[u] / UNITS_IN_MM["nm"]), "nm")


def converted(spacing: Sequence[float], unit: str, shown: str) -> tuple[float, ...]:
    """The numbers in another unit; as they are where one of the two is not known."""
    if unit == shown or not {unit, shown} <= UNITS_IN_MM.keys():
        return tuple(spacing)
    ratio = UNITS_IN_MM[unit] / UNITS_IN_MM[shown]
    # dividing by a power of ten rounds once; multiplying by 0.001 would round twice
    return tuple(step * round(ratio) if ratio > 1 else step / round(1 / ratio) for step in spacing)
