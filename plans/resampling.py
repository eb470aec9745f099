"""Resampling of patches to the plan's target spacing, as nnU-Net resamples whole volumes.

Target voxel ``j`` of an axis has its centre at source position ``(j + 0.5) * scale - 0.5`` with
``scale = source voxels / target voxels``. Images: cubic splines, which overshoot (:mod:`.value_range` bounds
them); across the thick axis of anisotropic data, the nearest plane. Semantic labels: linear per label, the
strongest wins (nnU-Net says 0 where none has half); object ids: nearest. Beyond the border the outermost
voxel repeats. Every axis is a small matrix, so a patch needs only the source region under it.

Linear algebra is torch's, on one thread: numpy's library starts one a core in every loader worker.

Source: nnU-Net 2.8.1, ``preprocessing/resampling/default_resampling.py``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Order = Literal[0, 1, 3]

ANISOTROPY_THRESHOLD = 3.0
"""Largest over smallest spacing, above which the thick axis is resampled on its own (nnU-Net)."""
SPLINE_MARGIN = 10
"""Source voxels read beyond a patch: a spline's memory fades by sqrt(3) - 2 a voxel, to 2e-6 after 10."""
MATRICES = 256
"""Axis matrices kept."""


@dataclass(frozen=True, slots=True)
class AxisGrid:
    """One axis of a case: how many voxels it has, and how many at the target spacing."""

    source: int
    target: int

    @property
    def scale(self) -> float:
        """Source voxels a target voxel."""
        return self.source / self.target

    @property
    def identity(self) -> bool:
        """Nothing to resample."""
        return self.source == self.target

    def positions(self, start: int, stop: int) -> NDArray[np.float64]:
        """Source positions of the centres of target voxels ``start`` to ``stop``."""
        return (np.arange(start, stop, dtype=np.float64) + 0.5) * self.scale - 0.5

    def target_range(self, start: int, stop: int) -> tuple[int, int]:
        """Target voxels whose centre lies in the source voxels ``start`` to ``stop``."""
        if self.identity:
            return start, stop
        return math.ceil(start / self.scale - 0.5), math.ceil(stop / self.scale - 0.5)

    def target_index(self, source: int) -> int:
        """Target voxel over the centre of a source voxel."""
        return source if self.identity else math.floor((source + 0.5) / self.scale)

    def source_range(self, start: int, stop: int, order: Order) -> tuple[int, int]:
        """Source voxels needed for target voxels ``start`` to ``stop``; may reach beyond the volume."""
        if self.identity:
            return start, stop
        first, last = self.positions(start, start + 1)[0], self.positions(stop - 1, stop)[0]
        margin = SPLINE_MARGIN if order == 3 else 0
        return math.floor(first) - margin, math.floor(last) + 2 + margin


def target_shape(
    shape: Sequence[int], spacing: Sequence[float] | None, target: Sequence[float] | None
) -> tuple[int, ...]:
    """Shape at the target spacing, same unit; unchanged where either is None (nnU-Net's rounding)."""
    if spacing is None or target is None:
        return tuple(shape)
    return tuple(
        max(1, int(np.round(old / new * size))) for size, old, new in zip(shape, spacing, target, strict=True)
    )


def thick_axis(spacing: Sequence[float] | None, target: Sequence[float] | None) -> int | None:
    """The axis to resample on its own: nnU-Net's rule, by the case's spacing, else by the target's."""
    for candidate in (spacing, target):
        if candidate is None or max(candidate) / min(candidate) <= ANISOTROPY_THRESHOLD:
            continue
        thickest = [axis for axis, value in enumerate(candidate) if value == max(candidate)]
        return thickest[0] if len(thickest) == 1 else None
    return None


def resample(
    block: NDArray[Any],
    grids: Sequence[AxisGrid],
    origin: Sequence[int],
    target: Sequence[tuple[int, int]],
    orders: Sequence[Order],
) -> NDArray[Any]:
    """Resample a block of source voxels.

    Args:
        block: ``(..., Z, Y, X)``.
        grids: per spatial axis.
        origin: source index of the block's first voxel, per axis.
        target: target voxels wanted, half-open, per axis.
        orders: per axis, 3, 1 or 0.

    Returns:
        float32 ``(..., *target sizes)``; the block itself, untouched, where no axis changes.
    """
    leading = block.ndim - len(grids)
    for axis, (grid, first, (start, stop), order) in enumerate(
        zip(grids, origin, target, orders, strict=True), start=leading
    ):
        if grid.identity:
            continue
        if order == 0:
            block = np.take(block, nearest(grid, first, start, stop, block.shape[axis]), axis=axis)
            continue
        weights = _weights(grid, first, start, stop, block.shape[axis], order)
        block = _along_axis(weights, np.ascontiguousarray(block, np.float32), axis)
    return block


def _along_axis(weights: NDArray[np.float32], block: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """A matrix (target, source voxels) times every line of a contiguous block along an axis."""
    import torch

    before, after = block.shape[:axis], block.shape[axis + 1 :]
    matrix = torch.from_numpy(weights)
    lines = torch.from_numpy(block).reshape(math.prod(before), block.shape[axis], math.prod(after))
    with _one_thread():
        if lines.shape[2] == 1:
            product = lines[:, :, 0] @ matrix.T
        else:
            product = torch.bmm(matrix.expand(len(lines), *matrix.shape), lines)
    result: NDArray[np.float32] = product.numpy().reshape(*before, len(weights), *after)
    return result


@contextmanager
def _one_thread() -> Iterator[None]:
    """Torch computes on one thread, so that bits do not depend on how many there are; put back afterwards."""
    import torch

    threads = torch.get_num_threads()
    if threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def resample_labels(
    labels: NDArray[Any],
    grids: Sequence[AxisGrid],
    origin: Sequence[int],
    target: Sequence[tuple[int, int]],
    orders: Sequence[Order],
) -> NDArray[Any]:
    """Resample a label block ``(Z, Y, X)``: linear per label where an order is above 0, else nearest.

    Where several labels meet, the one with the largest weight wins; of equals, the larger value, as in
    nnU-Net.
    """
    if all(grid.identity or order == 0 for grid, order in zip(grids, orders, strict=True)):
        return resample(labels, grids, origin, target, orders)
    best: NDArray[Any] | None = None
    result = np.zeros([stop - start for start, stop in target], labels.dtype)
    for value in np.unique(labels):
        weight = resample((labels == value).astype(np.float32), grids, origin, target, orders)
        if best is None:
            best = weight.copy()
            result[...] = value
            continue
        wins = weight >= best
        result[wins] = value
        np.maximum(best, weight, out=best)
    return result


def nearest(grid: AxisGrid, first: int, start: int, stop: int, size: int) -> NDArray[np.intp]:
    """Indices into a block of ``size`` voxels from source ``first`` on, for some target voxels."""
    indices = np.floor(grid.positions(start, stop) + 0.5).astype(np.intp) - first
    return np.clip(indices, 0, size - 1)


@lru_cache(maxsize=MATRICES)
def _weights(
    grid: AxisGrid, first: int, start: int, stop: int, size: int, order: Order
) -> NDArray[np.float32]:
    """Matrix (target voxels, source voxels of the block)."""
    positions = grid.positions(start, stop) - first
    if order == 1:
        return _linear(np.clip(positions, 0, size - 1), size).astype(np.float32)
    return _spline(positions, size).astype(np.float32)


def _linear(positions: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    rows = np.arange(len(positions))
    low = np.minimum(np.floor(positions).astype(np.intp), size - 1)
    high = np.minimum(low + 1, size - 1)
    fraction = positions - low
    weights = np.zeros((len(positions), size))
    np.add.at(weights, (rows, low), 1 - fraction)
    np.add.at(weights, (rows, high), fraction)
    return weights


def _spline(positions: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Interpolating cubic B-spline of a signal that repeats its outermost voxels.

    Row by row: four B-spline taps, times the inverse of the sampling matrix (1/6, 4/6, 1/6), mirrored at its
    ends.
    """
    import torch

    pad = SPLINE_MARGIN
    padded = size + 2 * pad
    sampling = np.diag(np.full(padded, 4 / 6))
    sampling += np.diag(np.full(padded - 1, 1 / 6), 1) + np.diag(np.full(padded - 1, 1 / 6), -1)
    sampling[0, 1] = sampling[-1, -2] = 2 / 6
    positions = np.clip(positions + pad, 1, padded - 2 - 1e-9)
    rows = np.arange(len(positions))
    low = np.floor(positions).astype(np.intp)
    fraction = positions - low
    taps = np.zeros((len(positions), padded))
    for shift, values in zip((-1, 0, 1, 2), _bspline_taps(fraction), strict=True):
        taps[rows, low + shift] = values
    with _one_thread():
        solved = torch.linalg.solve(torch.from_numpy(sampling.T), torch.from_numpy(taps.T))
    weights: NDArray[np.float64] = solved.numpy().T
    folded = weights[:, pad : pad + size].copy()
    folded[:, 0] += weights[:, :pad].sum(1)
    folded[:, -1] += weights[:, pad + size :].sum(1)
    return folded


def _bspline_taps(fraction: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Cubic B-spline at the four samples around a position that lies ``fraction`` beyond the second."""
    rest = 1 - fraction
    return (
        rest**3 / 6,
        2 / 3 - fraction**2 * (2 - fraction) / 2,
        2 / 3 - rest**2 * (2 - rest) / 2,
        fraction**3 / 6,
    )
