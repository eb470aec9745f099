"""Spacing from the attributes of HDF5 and Zarr arrays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from .axes import SPATIAL, AxisOrder
from .base import ReadOptions, Spacing, Unit
from .spacing import checked_spacing, planar_spacing
from .units import convert, parse_unit

SPACING_ATTRIBUTES: Final = ("resolution", "voxel_size", "spacing", "element_size_um")
"""Names in the order in which they are believed: CREMI and PyTC, N5 and COSEM, nnU-Net, ilastik."""
UNIT_ATTRIBUTES: Final = ("unit", "units", "resolution_unit")
_UNIT_IN_NAME: Final[dict[str, Unit]] = {"element_size_um": "um"}


def spacing_from_attributes(
    levels: Iterable[Mapping[str, Any]], axes: AxisOrder, options: ReadOptions
) -> tuple[list[Spacing], tuple[str, ...]]:
    """Spacing stated by attributes.

    Args:
        levels: attributes of the array and then of the groups that hold it, nearest first.
        axes: a value per stored axis is accepted too.
        options: ``spacing_order`` says in which order three values stand.

    Returns:
        At most one spacing, and warnings about attributes that could not be used.
    """
    levels = list(levels)
    for depth, attributes in enumerate(levels):
        for name in SPACING_ATTRIBUTES:
            if name not in attributes:
                continue
            source = f"attribute:{name}"
            numbers = _numbers(attributes[name], axes, options)
            if numbers is None:
                return [], (f"attribute {name!r} holds no three numbers: spacing taken as missing",)
            unit, values, doubt = _in_one_unit(numbers, name, levels[depth:])
            if len(values) == 2:
                spacing, warning = planar_spacing(values[0], values[1], axes.shape[0], unit, source)
            else:
                spacing, warning = checked_spacing(values, unit, source)
            found = [spacing] if spacing.values is not None else []
            return found, tuple(w for w in (doubt, warning) if w)
    return [], ()


def _numbers(value: Any, axes: AxisOrder, options: ReadOptions) -> list[float] | None:
    """ZYX or, of a plane, YX."""
    try:
        stated = [float(v) for v in np.asarray(value).ravel()[:8]]
    except (TypeError, ValueError):
        return None
    if len(stated) == 1:
        return stated * 3
    if len(stated) == len(axes.letters) != 3:
        stated = [stated[axes.letters.index(a)] for a in SPATIAL if a in axes.letters]
    elif options.spacing_order == "xyz":
        stated = stated[::-1]
    return stated if len(stated) in (2, 3) else None


def _in_one_unit(
    values: list[float], name: str, levels: Sequence[Mapping[str, Any]]
) -> tuple[Unit, list[float], str | None]:
    if name in _UNIT_IN_NAME:
        return _UNIT_IN_NAME[name], values, None
    for attributes in levels:
        for unit_name in (f"{name}_unit", f"{name}_units", *UNIT_ATTRIBUTES):
            if unit_name not in attributes:
                continue
            words = [w for w in np.asarray(attributes[unit_name]).ravel()[:8].tolist() if w not in ("", b"")]
            parsed = [p for w in words if (p := parse_unit(w)) is not None]
            if not parsed or len(parsed) not in (1, len(values)):
                return "unknown", values, f"attribute {unit_name!r} = {words} names no unit of length"
            parsed = parsed * len(values) if len(parsed) == 1 else parsed
            unit = parsed[0][0]
            return unit, [convert(v * f, u, unit) for v, (u, f) in zip(values, parsed, strict=True)], None
    return "unknown", values, None
