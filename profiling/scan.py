"""One pass over the voxels of a case: image channels and label map in lockstep, block by block.

The crop box is known only at the end, yet one pass is enough: outside of it every finite voxel is 0 in every
channel, so that the crop box's numbers are those of the whole volume less so many zeros. Only foreground
where the image is 0, and non-finite voxels, need a second look, and only where they lie outside the box.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .binning import stored_zero
from .blocks import BlockGrid, BlockTooLargeError, Box, Extent, iterate_blocks, plan_blocks
from .boxes import contains, grow, intersection, union, voxels_in, whole, within
from .formats.base import Region, Volume, VolumeHeader
from .histogram import MAX_DISTINCT, ValueHistogram
from .labels import LabelCounter
from .samples import VoxelSamples
from .statistics import Distribution

FULL_CHANNELS = 4
"""Channels up to which each histogram keeps :data:`MAX_DISTINCT` values; more channels share that memory."""


class CaseError(ValueError):
    """A case whose files do not make a case: what, where and why, in one line.

    ``kind`` is a short stable word: ``shape-mismatch``, ``too-large``, ``label-not-integer``,
    ``label-negative``, ``label-channels``.
    """

    other_files: bool = False
    """As in :class:`.formats.base.FormatError`."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.kind, str(self))


@dataclass(frozen=True)
class ChannelPart:
    """What a pass over some blocks learnt about one channel; see :class:`ChannelScan`."""

    rest: ValueHistogram
    foreground: ValueHistogram
    box: Box | None
    empty_foreground: Box | None
    non_finite: Box | None
    sampled_values: NDArray[Any]
    sampled: NDArray[np.bool_]


@dataclass(frozen=True)
class ScanPart:
    """What a pass over some blocks of a case learnt: counts and boxes, which merge exactly."""

    channels: tuple[ChannelPart, ...]
    labels: LabelCounter | None


class ChannelScan:
    """What one pass learns about one channel."""

    def __init__(self, header: VolumeHeader, limit: int) -> None:
        self.slope, self.intercept = header.slope, header.intercept
        self.zero = stored_zero(header.dtype, header.slope, header.intercept)
        self.rest = ValueHistogram(header.dtype, self.zero, limit)
        """Voxels that are not foreground."""
        self.foreground = ValueHistogram(header.dtype, self.zero, limit)
        self.box: Box | None = None
        """Of the finite voxels whose intensity is not 0."""
        self.empty_foreground: Box | None = None
        """Of the foreground whose voxels here are 0 or not finite."""
        self.non_finite: Box | None = None
        self.samples = VoxelSamples(header.shape, header.dtype)
        self._floats = header.dtype.kind == "f"

    def add(self, block: NDArray[Any], region: Region, foreground: NDArray[np.bool_] | None) -> None:
        """Count a block; ``foreground`` is its mask, or None where it has none."""
        self.samples.add(block, region)
        self.box = grow(self.box, region, lambda part: ~self._empty(block[part]))
        if self._floats and not np.isfinite(block).all():
            self.non_finite = grow(self.non_finite, region, lambda part: ~np.isfinite(block[part]))
        if foreground is None:
            self.rest.add(block)
            return
        before = self.foreground.empty
        self.rest.add_divided(block, foreground, self.foreground)
        if self.foreground.empty > before:
            self.empty_foreground = grow(
                self.empty_foreground, region, lambda part: foreground[part] & self._empty(block[part])
            )

    def _empty(self, stored: NDArray[Any]) -> NDArray[np.bool_]:
        """Voxels that are 0 or not finite."""
        if self.zero is None:
            empty = np.zeros(stored.shape, bool)
        elif self.zero[0] == self.zero[1]:
            empty = np.asarray(stored == self.zero[0])
        else:
            empty = (stored >= self.zero[0]) & (stored <= self.zero[1])
        return empty | ~np.isfinite(stored) if self._floats else empty

    @property
    def sampled_values(self) -> NDArray[Any]:
        """See :class:`.samples.VoxelSamples`."""
        return self.samples.values

    @property
    def sampled(self) -> NDArray[np.bool_]:
        """See :class:`.samples.VoxelSamples`."""
        return self.samples.seen

    def part(self) -> ChannelPart:
        """What was learnt so far."""
        return ChannelPart(
            self.rest,
            self.foreground,
            self.box,
            self.empty_foreground,
            self.non_finite,
            self.sampled_values,
            self.sampled,
        )

    def merge(self, other: ChannelPart) -> None:
        """Add what a pass over another part of the same volume learnt."""
        self.rest.merge(other.rest)
        self.foreground.merge(other.foreground)
        self.box = union(self.box, other.box)
        self.empty_foreground = union(self.empty_foreground, other.empty_foreground)
        self.non_finite = union(self.non_finite, other.non_finite)
        self.samples.merge(other.sampled_values, other.sampled)

    def everything(self) -> ValueHistogram:
        """All voxels. The counts of the rest grow to it: to be asked for once, at the end."""
        self.rest.table()  # settles zeros and non-finite voxels of 16-bit types
        self.foreground.table()
        self.rest.merge(self.foreground)
        return self.rest

    def region(self, histogram: ValueHistogram, zeros: int) -> Distribution | None:
        """The intensities of a histogram of this channel, with so many zeros."""
        return Distribution.of(histogram, self.slope, self.intercept, zeros)


@dataclass
class Outside:
    """What lies outside the crop box."""

    voxels: int = 0
    foreground: int = 0
    non_finite: dict[int, int] = field(default_factory=dict)
    """Per channel."""
    non_finite_foreground: dict[int, int] = field(default_factory=dict)


class CaseScan:
    """The open volumes of a case, and what passes over them learn.

    Args:
        images: their channels, in order, are the channels of the case.
        label: the label map, if there is one.
        ignore: label value that is neither foreground nor background.
        memory: bytes that this process may use.
    """

    def __init__(
        self, images: Sequence[Volume], label: Volume | None, ignore: int | None, memory: int
    ) -> None:
        self.images, self.label, self.ignore = images, label, ignore
        self.shape: Extent = images[0].header.shape
        count = sum(image.header.channels for image in images)
        limit = MAX_DISTINCT * FULL_CHANNELS // max(FULL_CHANNELS, count)
        self.channels = [ChannelScan(i.header, limit) for i in images for _ in range(i.header.channels)]
        self.labels = None if label is None else LabelCounter(_label_dtype(label.header))
        self.block = self._plan(memory)

    def _volumes(self) -> list[Volume]:
        return [*self.images, *([self.label] if self.label is not None else [])]

    def _plan(self, memory: int) -> Extent:
        volumes = self._volumes()
        headers = [volume.header for volume in volumes]
        width = sum(h.dtype.itemsize * (1 if h.sequential else h.channels) for h in headers) + 1
        try:
            return plan_blocks(headers, width, memory)
        except BlockTooLargeError as error:
            largest = max(volumes, key=lambda v: v.header.block[0] * v.header.block[1] * v.header.block[2])
            raise CaseError("too-large", f"{largest.source.name}: {error}") from error

    def run(self, regions: Sequence[Region] | None = None) -> None:
        """Go over all blocks, or over some of them, once for each channel of a sequential stream."""
        blocks = regions if regions is not None else self.blocks()
        passes = max(image.header.channels if image.header.sequential else 1 for image in self.images)
        for turn in range(passes):
            for region in blocks:
                foreground = self._read_foreground(region, count=turn == 0)
                for index, block in self._read_channels(region, turn):
                    self.channels[index].add(np.ascontiguousarray(block), region, foreground)

    def _read_channels(self, region: Region, turn: int) -> Iterator[tuple[int, NDArray[Any]]]:
        """Channels that this turn reads: of a sequential stream one, of others all in the first turn."""
        index = 0
        for image in self.images:
            channels = image.header.channels
            if image.header.sequential:
                if turn < channels:
                    yield index + turn, image.read(region, turn)
            elif turn == 0 and channels == 1:
                yield index, image.read(region, 0)
            elif turn == 0:
                for offset, block in enumerate(image.read(region)):
                    yield index + offset, block
            index += channels

    def _read_foreground(self, region: Region, *, count: bool) -> NDArray[np.bool_] | None:
        """Mask of the foreground of a block; None where there is none."""
        if self.label is None or self.labels is None:
            return None
        values = np.ascontiguousarray(_label_values(self.label.read(region, 0), self.label))
        if not (values.view(bool) if values.dtype.itemsize == 1 else values).any():  # bools are faster
            if count:
                self.labels.add_background(values.size)
            return None
        if count:
            self.labels.add(values)
        mask = values.astype(bool) if values.dtype.kind in "bu" else values > 0
        if self.ignore is not None:
            mask &= values != self.ignore
        return mask if mask.any() else None

    @property
    def sequential(self) -> bool:
        """Whether some volume is a stream, which one process must read from its beginning."""
        return any(volume.header.sequential for volume in self._volumes())

    @property
    def stored_size(self) -> int:
        """Bytes of all voxels, uncompressed."""
        headers = [volume.header for volume in self._volumes()]
        return sum(h.voxels * h.channels * h.dtype.itemsize for h in headers)

    def blocks(self) -> Sequence[Region]:
        """All blocks, ascending."""
        return BlockGrid(self.shape, self.block)

    def part(self) -> ScanPart:
        """What was learnt so far."""
        return ScanPart(tuple(channel.part() for channel in self.channels), self.labels)

    def merge(self, other: ScanPart) -> None:
        """Add what a scan of other blocks of the same case learnt."""
        for mine, theirs in zip(self.channels, other.channels, strict=True):
            mine.merge(theirs)
        if self.labels is not None and other.labels is not None:
            self.labels.merge(other.labels)

    def crop_box(self) -> Box | None:
        """Bounds of the voxels that are finite and not 0 in some channel; None if there are none."""
        box: Box | None = None
        for channel in self.channels:
            box = union(box, channel.box)
        return box

    def outside(self, box: Box) -> Outside:
        """What lies outside the final crop box; reads again only what may matter there."""
        result = Outside(voxels=voxels_in(whole(self.shape)) - voxels_in(box))
        suspected = self.channels[0].empty_foreground
        for channel in self.channels[1:]:
            suspected = intersection(suspected, channel.empty_foreground)
        if not contains(box, suspected):
            for region in iterate_blocks(self.shape, self.block, suspected):
                foreground = self._read_foreground(region, count=False)
                if foreground is not None:
                    result.foreground += _count_outside(foreground, box, region)
        for index, channel in enumerate(self.channels):
            if not contains(box, channel.non_finite):
                self._count_non_finite(index, box, result)
        return result

    def _count_non_finite(self, index: int, box: Box, result: Outside) -> None:
        image, own = self._volume_of(index)
        result.non_finite[index] = result.non_finite_foreground[index] = 0
        for region in iterate_blocks(self.shape, self.block, self.channels[index].non_finite):
            bad = ~np.isfinite(image.read(region, own))
            result.non_finite[index] += _count_outside(bad, box, region)
            foreground = self._read_foreground(region, count=False)
            if foreground is not None:
                result.non_finite_foreground[index] += _count_outside(bad & foreground, box, region)

    def _volume_of(self, index: int) -> tuple[Volume, int]:
        for image in self.images:
            if index < image.header.channels:
                return image, index
            index -= image.header.channels
        raise IndexError(index)


def _count_outside(mask: NDArray[np.bool_], box: Box, region: Region) -> int:
    return int(np.count_nonzero(mask)) - int(np.count_nonzero(mask[within(box, region)]))


def _label_dtype(header: VolumeHeader) -> np.dtype[Any]:
    """Type in which label values are counted: the stored one where it is an integer and nothing scales it."""
    return header.dtype if _is_plain(header) else np.dtype(np.int64)


def _is_plain(header: VolumeHeader) -> bool:
    return header.dtype.kind in "biu" and (header.slope, header.intercept) == (1.0, 0.0)


def _label_values(stored: NDArray[Any], label: Volume) -> NDArray[Any]:
    """Label values as integers.

    Raises:
        CaseError: they are none.
    """
    header = label.header
    if _is_plain(header):
        return stored
    values = stored.astype(np.float64) * header.slope + header.intercept
    usable = np.isfinite(values) & (np.rint(values) == values) & (np.abs(values) < 2.0**63)
    if not usable.all():
        example = values[~usable].flat[0]
        msg = (
            f"{label.source.name}: label values must be integers, but one is {example:g}; "
            f"is this an image, or a label map that was interpolated?"
        )
        raise CaseError("label-not-integer", msg)
    return values.astype(np.int64)
