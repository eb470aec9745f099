"""Who says what the spacing is, and whether it can be believed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from .base import ReadOptions, Spacing, Unit

SHORTEST: Final = 1e-30
LONGEST: Final = 1e30
"""In whatever unit; beyond the atom and the galaxy in all of them, while ratios, sums and other units of what
lies between stay within float64."""


def is_length(value: float) -> bool:
    """Whether a number can be a distance between voxels."""
    return SHORTEST <= value <= LONGEST


def checked_spacing(values: Sequence[float], unit: Unit, source: str) -> tuple[Spacing, str | None]:
    """A spacing from three numbers (ZYX), or ``missing`` and a warning where they cannot be lengths."""
    z, y, x = (float(v) for v in values)
    if all(is_length(v) for v in (z, y, x)):
        return Spacing(values=(z, y, x), unit=unit, source=source), None
    return (
        Spacing.missing(),
        f"spacing (ZYX) {z:g}, {y:g}, {x:g} of the {source} is not usable: taken as missing",
    )


def in_plane_warning(y: float, x: float, unit: Unit, source: str) -> str:
    """What to say of a volume whose slices know their pixels, but not their distance."""
    return (
        f"the {source} says {y:g} x {x:g} {unit} in the plane (YX) but not the distance between slices: "
        "spacing taken as missing; state it with --spacing Z Y X --unit"
    )


def planar_spacing(y: float, x: float, slices: int, unit: Unit, source: str) -> tuple[Spacing, str | None]:
    """Spacing where only the plane is known.

    A single slice takes its larger pixel edge for Z too: no distance between slices exists that could be
    wrong, and the image is neither made anisotropic nor left without the spacing that it has. Several
    slices without a stated distance have no spacing.
    """
    if not (is_length(y) and is_length(x)):
        return (
            Spacing.missing(),
            f"pixel size (YX) {y:g}, {x:g} of the {source} is not usable: taken as missing",
        )
    if slices == 1:
        return Spacing(values=(max(y, x), y, x), unit=unit, source=source), None
    return Spacing.missing(), in_plane_warning(y, x, unit, source)


def resolve_spacing(options: ReadOptions, stated: Iterable[Spacing]) -> Spacing:
    """The first of: the user's spacing, then what the files say, in the order given, else missing.

    A spacing that stands in the file without a unit takes the user's unit.
    """
    if options.spacing is not None:
        return Spacing(values=options.spacing, unit=options.unit or "unknown", source="user")
    for spacing in stated:
        if spacing.values is not None:
            if spacing.unit == "unknown" and options.unit is not None:
                return replace(spacing, unit=options.unit)
            return spacing
    return Spacing.missing()
