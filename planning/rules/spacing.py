"""Target spacing, axis order and resampled shapes, as nnU-Net 2.8.1 chooses them.

Pure numbers: cases as (cases, axes) sequences in the axis order of the files (ZYX), any unit of length. The
arithmetic is numpy's float64 in nnU-Net's own order, so that results agree to the last bit.
Source of the rules: ``default_experiment_planner.py`` lines 155 to 226 and 435 to 480.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

ANISOTROPY_THRESHOLD = 3.0
"""Ratio of spacings, and of voxel counts, from which an axis is the thick one (``ANISO_THRESHOLD``)."""
THICK_AXIS_PERCENTILE = 10.0
"""Percentile of the cases' spacings that a thick axis is resampled to, instead of the median."""
LOWRES_STEP = 1.03
"""Factor by which the low-resolution search coarsens the spacing per step."""
LOWRES_BALANCE = 2.0
"""Axes finer than the coarsest by more than this are coarsened first."""

Vector = tuple[float, ...]


def _table(values: ArrayLike, what: str) -> NDArray[np.float64]:
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or not len(table):
        msg = f"{what} must be one row a case, got an array of shape {table.shape}"
        raise ValueError(msg)
    return table


def target_spacing(spacings: ArrayLike, shapes: ArrayLike) -> Vector:
    """Spacing that all cases are resampled to.

    The median of each axis; an axis that is thick (spacing more than 3 times the largest other one) and has
    few voxels (fewer than a third of the smallest other one) takes its 10th percentile, but never gets finer
    than the other axes.

    Args:
        spacings: (cases, axes).
        shapes: (cases, axes) voxels after cropping.
    """
    table, sizes = _table(spacings, "spacings"), _table(shapes, "shapes")
    target = np.percentile(table, 50, 0)
    size = np.percentile(sizes, 50, 0)
    thick = int(np.argmax(target))
    others = [axis for axis in range(len(target)) if axis != thick]
    coarsest_other = max(target[axis] for axis in others)
    if target[thick] > ANISOTROPY_THRESHOLD * coarsest_other and size[thick] * ANISOTROPY_THRESHOLD < min(
        size[axis] for axis in others
    ):
        finer = np.percentile(table[:, thick], THICK_AXIS_PERCENTILE)
        target[thick] = coarsest_other + 1e-5 if finer < coarsest_other else finer
    return tuple(float(value) for value in target)


def transpose_axes(spacing: Sequence[float]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Axis order that puts the coarsest axis first, and the order that undoes it."""
    first = int(np.argmax(spacing))
    forward = (first, *(axis for axis in range(len(spacing)) if axis != first))
    return forward, tuple(forward.index(axis) for axis in range(len(spacing)))


def shape_at_spacing(
    shape: Sequence[float], spacing: Sequence[float], target: Sequence[float]
) -> tuple[int, ...]:
    """Voxels of one case after resampling, rounded half to even."""
    return tuple(
        round(float(old / new * size)) for size, old, new in zip(shape, spacing, target, strict=True)
    )


def median_shape_at_spacing(shapes: ArrayLike, spacings: ArrayLike, target: Sequence[float]) -> Vector:
    """Median over cases of the resampled shapes; halves stand where the number of cases is even."""
    resampled = [
        shape_at_spacing(shape, spacing, target)
        for shape, spacing in zip(_table(shapes, "shapes"), _table(spacings, "spacings"), strict=True)
    ]
    return tuple(float(value) for value in np.median(resampled, 0))


def coarser_spacing(spacing: Sequence[float]) -> Vector:
    """The next coarser spacing in the search for a low-resolution stage.

    Axes more than twice finer than the coarsest are coarsened alone until they are not; then all axes.
    """
    current = np.asarray(spacing, dtype=np.float64)
    lagging = max(current) / current > LOWRES_BALANCE
    coarser = np.where(lagging, current * LOWRES_STEP, current) if lagging.any() else current * LOWRES_STEP
    return tuple(float(value) for value in coarser)


def needs_separate_z(spacing: Sequence[float]) -> bool:
    """Whether an axis is so coarse that resampling treats it apart (nearest, order 0)."""
    return max(spacing) / min(spacing) > ANISOTROPY_THRESHOLD
