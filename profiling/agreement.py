"""Whether the files of one case agree about where their voxels lie, by their headers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .fingerprint import Mismatch
from .formats.base import UNITS_IN_MM, Spacing, Volume

SPACING_TOLERANCE = 1e-5
"""Relative difference of spacings of one case that is worth a warning: numpy.allclose's, by which nnU-Net's
integrity check calls it an error. Two spacings in float32 (NIfTI) differ by less than 1e-7."""
DIRECTION_TOLERANCE = 1e-3
"""Difference of two unit vectors (0.06 degrees); quaternions in float32 differ by less than 1e-6."""
ORIGIN_TOLERANCE = 1e-2
"""Voxels between two origins; float32 positions a metre away are 1e-4 mm apart."""

Role = Literal["channel", "label map"]


def mismatches(images: Sequence[Volume], label: Volume | None) -> Iterator[Mismatch]:
    """Where further channels and the label map disagree with the first image.

    What a file does not say it cannot contradict.
    """
    first = images[0]
    others: list[tuple[Volume, Role]] = [(volume, "channel") for volume in images[1:]]
    if label is not None:
        others.append((label, "label map"))
    for other, role in others:
        for kind, reason in _differences(first, other, role):
            yield Mismatch(kind=kind, role=role, reason=reason)


def unused_spacings(images: Sequence[Volume], label: Volume | None) -> list[str]:
    """Spacings that only a label map or a further channel states, which are not used."""
    first = images[0]
    if first.header.spacing.values is not None:
        return []
    others = [(volume, "channel") for volume in images[1:]]
    if label is not None:
        others.append((label, "label map"))
    return [
        f"{first.source.name} has no spacing, but its {role} {other.source.name} says "
        f"{_spaced(other.header.spacing)} (ZYX); not used: state it with --spacing"
        for other, role in others
        if other.header.spacing.values is not None
    ]


def _differences(
    first: Volume, other: Volume, role: Role
) -> Iterator[tuple[Literal["spacing", "origin", "direction"], str]]:
    named = f"its {role} {other.source.name}"
    mine, theirs = first.header, other.header
    if _spacings_differ(mine.spacing, theirs.spacing):
        yield (
            "spacing",
            f"spacing {_spaced(mine.spacing)} (ZYX) of {first.source.name}, but {_spaced(theirs.spacing)} "
            f"of {named}",
        )
    if None not in (mine.orientation, theirs.orientation) and mine.orientation != theirs.orientation:
        yield (
            "direction",
            f"orientation {mine.orientation} of {first.source.name}, but {theirs.orientation} of {named}",
        )
        return  # the origins are then of different corners
    if mine.affine is None or theirs.affine is None:
        return
    one, two = np.array(mine.affine), np.array(theirs.affine)
    if np.linalg.det(one[:, :3]) == 0 or np.linalg.det(two[:, :3]) == 0:
        return
    turned = float(np.abs(_unit_columns(one) - _unit_columns(two)).max())
    if turned > DIRECTION_TOLERANCE:
        degrees = float(
            np.degrees(np.arccos(np.clip((_unit_columns(one) * _unit_columns(two)).sum(0).min(), -1, 1)))
        )
        yield (
            "direction",
            f"the axes of {first.source.name} and of {named} are {degrees:.3g} degrees apart",
        )
    apart = np.linalg.solve(one[:, :3], two[:, 3] - one[:, 3])
    if np.abs(apart).max() > ORIGIN_TOLERANCE:
        x, y, z = (apart.round(12) + 0.0).tolist()
        yield (
            "origin",
            f"the origin of {named} lies {z:.4g}, {y:.4g}, {x:.4g} voxels (ZYX) from that of "
            f"{first.source.name}",
        )


def _spacings_differ(mine: Spacing, theirs: Spacing) -> bool:
    if mine.values is None or theirs.values is None:
        return False
    factor = 1.0
    if mine.unit != theirs.unit and mine.unit in UNITS_IN_MM and theirs.unit in UNITS_IN_MM:
        factor = UNITS_IN_MM[theirs.unit] / UNITS_IN_MM[mine.unit]
    pairs = zip(mine.values, theirs.values, strict=True)
    return not all(abs(a - b * factor) <= SPACING_TOLERANCE * max(a, b * factor) for a, b in pairs)


def _unit_columns(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    columns = affine[:, :3]
    return np.asarray(columns / np.linalg.norm(columns, axis=0))


def _spaced(spacing: Spacing) -> str:
    unit = "" if spacing.unit == "unknown" else f" {spacing.unit}"
    return " x ".join(f"{value:.7g}" for value in spacing.values or ()) + unit
