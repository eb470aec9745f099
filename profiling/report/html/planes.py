"""Three planes of a volume, shrunk while they are read: memory is bounded whatever the volume's size."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...blocks import iterate_blocks, plan_blocks
from ...formats.base import Region, Volume, VolumeHeader

Indices = tuple[int, int, int]
ALL_AXES = (0, 1, 2)


@dataclass(slots=True)
class PlaneSampler:
    """One plane across an axis, collected from the blocks that touch it.

    Intensities of the voxels that share a pixel are averaged; of labels the largest value is kept, so that
    thin structures stay visible.

    Args:
        shape: ZYX, of the volume.
        axis: the plane stands across it.
        index: where on that axis.
        longest: pixels along each edge at most; voxels are joined by whole factors.
        slope: turns stored values into intensities, with ``intercept``.
        labels: whether values are labels.
    """

    shape: Indices
    axis: int
    index: int
    longest: int
    slope: float = 1.0
    intercept: float = 0.0
    labels: bool = False
    values: NDArray[Any] = field(init=False)
    _counts: NDArray[np.int64] = field(init=False)
    _factors: tuple[int, int] = field(init=False)

    def __post_init__(self) -> None:
        edges = [edge for axis, edge in enumerate(self.shape) if axis != self.axis]
        self._factors = (math.ceil(edges[0] / self.longest), math.ceil(edges[1] / self.longest))
        size = tuple(math.ceil(edge / factor) for edge, factor in zip(edges, self._factors, strict=True))
        self.values = np.zeros(size, np.uint64 if self.labels else np.float64)
        self._counts = np.zeros(size, np.int64)

    @property
    def box(self) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
        """Half-open bounds of the plane in the volume."""
        bounds = [
            (self.index, self.index + 1) if axis == self.axis else (0, edge)
            for axis, edge in enumerate(self.shape)
        ]
        return bounds[0], bounds[1], bounds[2]

    def add(self, region: Region, block: NDArray[Any]) -> None:
        """Take from a block (ZYX, stored values) what lies in the plane."""
        across = region[self.axis]
        if not across.start <= self.index < across.stop:
            return
        plane = np.take(block, self.index - across.start, axis=self.axis)
        starts = [region[axis].start for axis in ALL_AXES if axis != self.axis]
        rows, row_cuts = _cells(starts[0], plane.shape[0], self._factors[0])
        columns, column_cuts = _cells(starts[1], plane.shape[1], self._factors[1])
        target = np.ix_(rows, columns)
        if self.labels:
            largest = np.maximum.reduceat(np.maximum.reduceat(plane, row_cuts, 0), column_cuts, 1)
            self.values[target] = np.maximum(self.values[target], np.maximum(largest, 0).astype(np.uint64))
            return
        plane = plane.astype(np.float64) * self.slope + self.intercept
        finite = np.isfinite(plane)
        sums = np.where(finite, plane, 0.0)
        self.values[target] += np.add.reduceat(np.add.reduceat(sums, row_cuts, 0), column_cuts, 1)
        counts = finite.astype(np.int64)
        self._counts[target] += np.add.reduceat(np.add.reduceat(counts, row_cuts, 0), column_cuts, 1)

    def result(self) -> NDArray[Any]:
        """The plane: labels as uint64, or mean intensities as float64 (NaN where no voxel is finite)."""
        if self.labels:
            return self.values
        with np.errstate(invalid="ignore"):
            return np.where(self._counts > 0, self.values / np.maximum(self._counts, 1), np.nan)


def _cells(start: int, length: int, factor: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The pixels that voxels ``start ..`` fall into, and where in them each pixel begins."""
    pixels = np.arange(start, start + length) // factor
    cuts = np.flatnonzero(np.diff(pixels, prepend=-1))
    return pixels[cuts], cuts


def read_planes(
    volume: Volume, channel: int, indices: Indices, *, longest: int, memory: int, labels: bool = False
) -> tuple[NDArray[Any], ...]:
    """The planes across Z, Y and X at three indices, as :meth:`PlaneSampler.result` gives them.

    Of a volume with random access only what touches the planes is read; a compressed stream is gone through
    once, plane after plane.

    Args:
        volume: open.
        channel: of the volume.
        indices: ZYX.
        longest: pixels along each edge at most.
        memory: bytes that a block may take with its copies.
        labels: whether values are labels.

    Raises:
        BlockTooLargeError: a single chunk or strip exceeds the memory.
        FormatError: the file is damaged.
    """
    header = volume.header
    samplers = [
        PlaneSampler(header.shape, axis, index, longest, header.slope, header.intercept, labels)
        for axis, index in enumerate(indices)
    ]
    for region, wanted in _reads(header, samplers, memory):
        block = volume.read(region, channel)
        for sampler in wanted:
            sampler.add(region, block)
    return tuple(sampler.result() for sampler in samplers)


def _reads(
    header: VolumeHeader, samplers: Sequence[PlaneSampler], memory: int
) -> Iterator[tuple[Region, Sequence[PlaneSampler]]]:
    """Regions to read, in order, and which planes they serve."""
    extent = plan_blocks([header], header.dtype.itemsize + 8, memory)
    if header.sequential:
        for region in iterate_blocks(header.shape, extent):
            yield region, samplers
        return
    for sampler in samplers:
        for region in iterate_blocks(header.shape, extent, sampler.box):
            yield _cut(region, sampler.box), (sampler,)


def _cut(region: Region, box: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]) -> Region:
    z, y, x = (
        slice(max(part.start, low), min(part.stop, high))
        for part, (low, high) in zip(region, box, strict=True)
    )
    return z, y, x


def bytes_read(header: VolumeHeader) -> int:
    """About how many bytes of voxels have to be decoded for the three middle planes of one channel."""
    z, y, x = header.shape
    if header.sequential:
        return z * y * x * header.dtype.itemsize
    touched = 0
    for axis in ALL_AXES:
        thick = min(header.block[axis], header.shape[axis])
        touched += z * y * x // header.shape[axis] * thick
    return touched * header.dtype.itemsize


def fullest_planes(volume: Volume, memory: int, ignore: int | None) -> Indices | None:
    """Per axis, the plane of a label map with most foreground; None where there is none."""
    header = volume.header
    counts = [np.zeros(edge, np.int64) for edge in header.shape]
    for region in iterate_blocks(header.shape, plan_blocks([header], header.dtype.itemsize + 8, memory)):
        block = volume.read(region, 0)
        inside = block > 0
        if ignore is not None:
            inside &= block != ignore
        for axis, count in enumerate(counts):
            others = tuple(other for other in ALL_AXES if other != axis)
            count[region[axis]] += np.count_nonzero(inside, axis=others)
    if not counts[0].any():
        return None
    z, y, x = (int(count.argmax()) for count in counts)
    return z, y, x
