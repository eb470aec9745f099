"""Which way up a plane is shown: as anatomists look at it where the file knows, else as stored."""

from __future__ import annotations

from dataclasses import dataclass

OPPOSITE = {"R": "L", "L": "R", "A": "P", "P": "A", "S": "I", "I": "S"}
UPWARD = ("S", "A")
"""Head and nose are up."""
LEFTWARD = ("R", "A")
"""Radiologists see the patient's right, and the nose, on the left."""
AXIS_NAMES = "zyx"
PLANES = {"S": "axial", "I": "axial", "A": "coronal", "P": "coronal", "R": "sagittal", "L": "sagittal"}
"""By the direction that the plane stands across."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """How a plane across one axis is shown: ``down`` runs along its rows, ``right`` along its columns."""

    down: int
    right: int
    flip_down: bool
    flip_right: bool
    edges: tuple[str, str, str, str]
    """What stands at top, bottom, left and right: an anatomical letter, or nothing."""

    @property
    def name(self) -> str:
        """``y × x``."""
        return f"{AXIS_NAMES[self.down]} × {AXIS_NAMES[self.right]}"


def plane_name(axis: int, orientation: str | None) -> str:
    """What anatomists call the plane across an axis (ZYX index); empty where it is not known."""
    if orientation is None or len(orientation) != 3:
        return ""
    return PLANES.get(orientation[axis], "")


def view_across(axis: int, orientation: str | None) -> View:
    """The view of the plane across an axis (ZYX index); ``orientation`` as in the fingerprint."""
    down, right = (other for other in range(3) if other != axis)
    letters = orientation if orientation is not None and set(orientation) <= set(OPPOSITE) else ""
    if len(letters) != 3:
        return View(down=down, right=right, flip_down=False, flip_right=False, edges=("", "", "", ""))
    bottom, side = letters[down], letters[right]
    flip_down, flip_right = bottom in UPWARD, side in LEFTWARD
    bottom = OPPOSITE[bottom] if flip_down else bottom
    side = OPPOSITE[side] if flip_right else side
    return View(
        down=down,
        right=right,
        flip_down=flip_down,
        flip_right=flip_right,
        edges=(OPPOSITE[bottom], bottom, OPPOSITE[side], side),
    )
