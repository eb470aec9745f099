"""Where array axes point, as anatomical letters."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_RAS = (("R", "L"), ("A", "P"), ("S", "I"))


def orientation_letters(directions: NDArray[np.float64]) -> str | None:
    """Three letters in ZYX order.

    Args:
        directions: 3 by 3; column ``i`` is where voxel axis ``i`` of XYZ points in RAS. Need not be
            orthonormal: the nearest rotation (polar decomposition, as in nibabel's ``io_orientation``)
            decides.

    Returns:
        For example ``SPL``; None where the directions do not span space.
    """
    return _letters(np.asarray(directions, np.float64).tobytes())


@lru_cache(maxsize=1024)
def _letters(matrix: bytes) -> str | None:
    """The files of a data set mostly share their directions, and a decomposition takes 0.2 ms."""
    directions = np.frombuffer(matrix, np.float64).reshape(3, 3)
    norms = np.linalg.norm(directions, axis=0)
    if not np.isfinite(norms).all() or (norms == 0).any():
        return None
    left, _, right = np.linalg.svd(directions / norms)
    nearest = left @ right
    letters = ["", "", ""]
    taken = np.zeros(3, bool)
    for axis in range(3):
        component = np.where(taken, 0.0, np.abs(nearest[:, axis]))
        world = int(component.argmax())
        taken[world] = True
        letters[axis] = _RAS[world][0 if nearest[world, axis] > 0 else 1]
    return "".join(reversed(letters))


def is_flipped(directions: NDArray[np.float64]) -> bool:
    """Whether the grid is mirrored: its determinant in RAS is negative."""
    (a, b, c), (d, e, f), (g, h, i) = np.asarray(directions, np.float64).tolist()
    return bool(a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g) < 0)


def affine_rows(affine: NDArray[np.float64] | None) -> tuple[tuple[float, ...], ...] | None:
    """3 by 4 numbers as rows; None where one of them is not finite."""
    if affine is None or not np.isfinite(affine).all():
        return None
    return tuple(tuple(row) for row in affine.tolist())


def is_orthonormal(directions: NDArray[np.float64], tolerance: float = 1e-3) -> bool:
    """Whether the axes, scaled to length 1, stand at right angles to within ``tolerance`` (a cosine)."""
    return _is_orthonormal(np.asarray(directions, np.float64).tobytes(), tolerance)


@lru_cache(maxsize=1024)
def _is_orthonormal(matrix: bytes, tolerance: float) -> bool:
    directions = np.frombuffer(matrix, np.float64).reshape(3, 3)
    norms = np.linalg.norm(directions, axis=0)
    unit = directions / np.where(norms == 0, 1.0, norms)
    return bool(np.abs(unit.T @ unit - np.eye(3)).max() <= tolerance)
