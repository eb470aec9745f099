"""OME-Zarr multiscale metadata (NGFF 0.2 to 0.5)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .base import Spacing, Unit
from .spacing import checked_spacing
from .units import convert, parse_unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Multiscale:
    """The first image of a multiscale group, at full resolution."""

    path: str
    """Array inside the group."""
    letters: str
    """Axis letters, ``c`` for channels."""
    spacing: Spacing
    warning: str | None


def read_multiscale(attributes: Mapping[str, Any]) -> Multiscale | None:
    """The level 0 image that a group's attributes describe; None where they describe none.

    Scales of the level and of the whole image are multiplied, as the specification says.
    """
    described = attributes.get("ome", attributes)
    images = described.get("multiscales") if isinstance(described, Mapping) else None
    try:
        image = images[0]  # type: ignore[index]
        level = image["datasets"][0]
        axes = [a if isinstance(a, dict) else {"name": str(a)} for a in image.get("axes", "tczyx")]
        letters = "".join(str(axis["name"]).lower()[:1] for axis in axes)
        scale = _scale(level, len(axes))
        whole = _scale(image, len(axes)) or [1.0] * len(axes)
        values = None if scale is None else [a * b for a, b in zip(scale, whole, strict=True)]
        path = str(level["path"])
    except (TypeError, KeyError, IndexError, ValueError):
        return None
    spacing, warning = _spacing(values, axes, letters)
    return Multiscale(path=path, letters=letters, spacing=spacing, warning=warning)


def _scale(holder: Mapping[str, Any], count: int) -> list[float] | None:
    for transformation in holder.get("coordinateTransformations", ()):
        if transformation.get("type") == "scale":
            values = [float(v) for v in transformation["scale"]]
            return values if len(values) == count else None
    return None


def _spacing(
    values: list[float] | None, axes: list[dict[str, Any]], letters: str
) -> tuple[Spacing, str | None]:
    if values is None or not set("zyx") <= set(letters):
        return Spacing.missing(), None
    lengths: list[tuple[float, Unit]] = []
    for letter in "zyx":
        at = letters.index(letter)
        unit, factor = parse_unit(axes[at].get("unit")) or ("unknown", 1.0)
        lengths.append((values[at] * factor, unit))
    units = {unit for _, unit in lengths}
    common: Unit = lengths[2][1] if "unknown" not in units else "unknown"
    if units == {"unknown"} and values == [1.0] * len(values):
        return (
            Spacing.missing(),
            "scale is 1 on every axis without a unit: a placeholder, spacing taken as missing",
        )
    if common == "unknown":
        return checked_spacing([value for value, _ in lengths], "unknown", "header")
    return checked_spacing([convert(value, unit, common) for value, unit in lengths], common, "header")
