"""A case on the grid of the plan's target spacing: any box of it as network input and label map.

Boxes are ZYX on the target grid. Only the stored voxels under a box are read.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from voxplan.profiling.formats.base import CaseSource, FormatError, Region

from .cache_files import CacheError
from .case_reader import CaseHeader, CaseReader
from .normalization import CaseMoments, needs_case_numbers, normalize_channels
from .prepared import PreparedBox, prepare
from .resampling import AxisGrid, Order, nearest, resample, resample_labels, target_shape, thick_axis
from .sampling import Box, LocationReservoir, scan_regions
from .schema import CaseNumbers, DatasetPlan
from .value_range import ValueRange

SCAN_BYTES = 64 * 2**20
"""Stored bytes read at a time in passes over a whole case."""

Range = tuple[int, int]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """A box of a case."""

    image: NDArray[np.float32]
    """``(C, z, y, x)``, normalized; 0 beyond the volume."""
    labels: NDArray[Any] | None
    """``(z, y, x)`` label values; 0 beyond the volume."""
    valid: NDArray[np.bool_] | None
    """False beyond the volume; None where the box lies inside."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Stored voxels that patches of a case are centred on: ZYX indices ``(n, 3)``."""

    classes: tuple[NDArray[np.int32], ...]
    """Per class with voxels, a sample of them."""
    annotated: NDArray[np.int32] | None
    """A sample of those that are not ignored; None where nothing is, or everything."""


class CaseGrid:
    """One case, its grids and the boxes in which patches are allowed."""

    def __init__(
        self,
        source: CaseSource,
        header: CaseHeader,
        dataset: DatasetPlan,
        *,
        target: tuple[float | None, float, float] | None,
        boxes: Sequence[Box],
    ) -> None:
        """``target``: target spacing ZYX in the data set's unit, Z None in 2D plans; None: stored voxels.

        Raises:
            FormatError: the case knows no spacing but the plan needs one, or its channels are not the plan's.
        """
        self.source = source
        self.shape = header.shape
        self.dataset = dataset
        self.numbers: CaseNumbers | None = dataset.case_numbers.get(source.id)
        if header.channels != dataset.in_channels:
            msg = (
                f"case {source.id}: has {header.channels} channels, the plan expects {dataset.in_channels} "
                f"({', '.join(dataset.channel_names)})"
            )
            raise FormatError(msg)
        spacing = header.spacing_in(dataset.spacing_unit)
        if target is not None and spacing is None:
            msg = (
                f"case {source.id}: {source.images[0].name} states no spacing, but the plan resamples to "
                f"{target} {dataset.spacing_unit}: give --spacing Z Y X and --unit "
                "(in Python: read=ReadOptions(spacing=(z, y, x), unit=...))"
            )
            raise FormatError(msg)
        wanted = None
        if target is not None and spacing is not None:
            wanted = (spacing[0] if target[0] is None else target[0], target[1], target[2])
        shape = target_shape(header.shape, spacing, wanted)
        self.grids = tuple(AxisGrid(old, new) for old, new in zip(header.shape, shape, strict=True))
        thick = self.thick = thick_axis(spacing, wanted)
        self.image_orders: tuple[Order, ...] = tuple(0 if axis == thick else 3 for axis in range(3))
        by_value = dataset.task == "semantic"
        self.label_orders: tuple[Order, ...] = tuple(
            1 if by_value and axis != thick else 0 for axis in range(3)
        )
        self.boxes = tuple(box for box in boxes if all(low < high for low, high in self.window(box)))
        self.keep: Literal["ram", "disk"] | None = None
        """Whether resampled boxes are kept, and where."""
        self._prepared: dict[Box, PreparedBox] = {}
        self._ranges: dict[Box, ValueRange] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Other processes map or make prepared boxes themselves."""
        return {**self.__dict__, "_prepared": {}}

    @property
    def identity(self) -> bool:
        """Nothing is resampled."""
        return all(grid.identity for grid in self.grids)

    def window(self, box: Box) -> tuple[Range, ...]:
        """The part of the target grid whose centres lie in a box of stored voxels."""
        return tuple(
            grid.target_range(start, stop)
            for grid, start, stop in zip(self.grids, box.start, box.stop, strict=True)
        )

    def on_target(self, voxel: Sequence[int], window: Sequence[Range]) -> tuple[int, ...]:
        """The target voxel of the window that lies nearest to a stored one."""
        return tuple(
            min(max(grid.target_index(int(index)), start), stop - 1)
            for grid, index, (start, stop) in zip(self.grids, voxel, window, strict=True)
        )

    def read(
        self, reader: CaseReader, box: Box, origin: Sequence[int], size: Sequence[int], *, labels: bool = True
    ) -> Patch:
        """Read ``size`` voxels of the target grid from ``origin`` on; nothing outside ``box`` is looked at.

        Args:
            reader: how files are read.
            box: one of :attr:`boxes`: beyond it the patch is padded, as beyond the volume.
            origin: ZYX on the target grid; may be negative.
            size: ZYX.
            labels: read the label map too.
        """
        inner = tuple(
            (max(start, first), min(stop, first + length))
            for (start, stop), first, length in zip(self.window(box), origin, size, strict=True)
        )
        whole = self.prepared(reader, box) if self.source.label is not None else None
        if whole is not None:
            image, values = self._cut(whole, box, inner)
        else:
            image, values = self.resampled(reader, box, inner, labels=labels)
        pads = [
            (low - begin, begin + length - high)
            for (low, high), begin, length in zip(inner, origin, size, strict=True)
        ]
        if not any(before or after for before, after in pads):
            return Patch(image=np.ascontiguousarray(image), labels=values, valid=None)
        valid = np.pad(np.ones([high - low for low, high in inner], bool), pads)
        return Patch(
            image=np.pad(image, [(0, 0), *pads]),
            labels=None if values is None else np.pad(values, pads),
            valid=valid,
        )

    def prepared(self, reader: CaseReader, box: Box) -> PreparedBox | None:
        """The whole box, resampled at first use; None where it is not kept, or can be no longer."""
        if self.keep is not None and box not in self._prepared:
            try:
                self._prepared[box] = prepare(self, box, reader, self.keep)
            except CacheError as error:
                log.warning("%s; until then its patches are resampled one by one", error)
                self.keep = None
        return self._prepared.get(box)

    def held_bytes(self) -> int:
        """Of resampled boxes in memory."""
        return sum(box.image.nbytes + box.labels.nbytes for box in self._prepared.values())

    def drop_prepared(self) -> None:
        """Keep no resampled box from now on."""
        self.keep = None
        self._prepared.clear()

    def _cut(
        self, whole: PreparedBox, box: Box, inner: Sequence[Range]
    ) -> tuple[NDArray[np.float32], NDArray[Any] | None]:
        where = tuple(
            slice(low - start, high - start)
            for (low, high), (start, _) in zip(inner, self.window(box), strict=True)
        )
        return np.array(whole.image[:, *where]), np.array(whole.labels[where])

    def resampled(
        self, reader: CaseReader, box: Box, inner: Sequence[Range], *, labels: bool = True
    ) -> tuple[NDArray[np.float32], NDArray[Any] | None]:
        """Image and label map of target voxels ``inner``, which lie inside the box, from the files."""
        image_region = self._region(box, inner, self.image_orders)
        numbers = self.case_numbers(reader)
        image = reader.image(self.source, image_region)
        image = normalize_channels(image, self.dataset.normalization, numbers)
        first = [part.start for part in image_region]
        image = resample(image, self.grids, first, inner, self.image_orders)
        bounds = self.value_range(reader, box)
        if bounds is not None:
            bounds.clip(image, self._planes(image_region, inner))
        if not labels:
            return image, None
        region = self._region(box, inner, self.label_orders)
        values = reader.label(self.source, region)
        first = [part.start for part in region]
        return image, resample_labels(values, self.grids, first, inner, self.label_orders)

    def _region(self, box: Box, inner: Sequence[Range], orders: Sequence[Order]) -> Region:
        """Stored voxels, inside the box, that the target voxels need."""
        parts = []
        for grid, (start, stop), order, low, high in zip(
            self.grids, inner, orders, box.start, box.stop, strict=True
        ):
            first, last = grid.source_range(start, stop, order)
            # The nearest thick plane may lie just outside a block: the outermost one then repeats.
            first = min(max(first, low), high - 1)
            parts.append(slice(first, max(min(last, high), first + 1)))
        return parts[0], parts[1], parts[2]

    def _planes(self, region: Region, inner: Sequence[Range]) -> NDArray[np.intp] | None:
        """The stored plane under each target plane across the thick axis."""
        if self.thick is None:
            return None
        start, stop = inner[self.thick]
        first, last = region[self.thick].start, region[self.thick].stop
        planes: NDArray[np.intp] = nearest(self.grids[self.thick], first, start, stop, last - first) + first
        return planes

    def value_range(self, reader: CaseReader, box: Box) -> ValueRange | None:
        """What normalized intensities of a box are clipped to when resampled, by one pass over the image.

        None where no spline overshoots.
        """
        if all(grid.identity or order < 3 for grid, order in zip(self.grids, self.image_orders, strict=True)):
            return None
        if box not in self._ranges:
            channels = self.dataset.in_channels
            numbers = self.case_numbers(reader)
            found = ValueRange(channels, box.start, box.stop, self.thick)
            block, width = reader.storage(self.source.images)
            for region in scan_regions(box, block, max(width, 4 * channels), SCAN_BYTES):
                image = reader.image(self.source, region)
                image = normalize_channels(image, self.dataset.normalization, numbers)
                found.add(image, (region[0].start, region[1].start, region[2].start))
            self._ranges[box] = found
        return self._ranges[box]

    def case_numbers(self, reader: CaseReader) -> CaseNumbers | None:
        """Mean and std of the case where a scheme needs them: from the plan, else one pass over the image."""
        channels = self.dataset.normalization
        if self.numbers is None and needs_case_numbers(channels):
            moments = CaseMoments(len(channels))
            whole = Box((0, 0, 0), self.shape)
            block, width = reader.storage(self.source.images)
            for region in scan_regions(whole, block, width, SCAN_BYTES):
                moments.add(reader.image(self.source, region), tuple(part.start for part in region))
            self.numbers = moments.numbers(channels)
        return self.numbers

    def find_places(self, reader: CaseReader, groups: Sequence[tuple[int, ...]] | None, seed: int) -> Places:
        """Voxels in the boxes that patches are centred on, by one pass over the label map."""
        assert self.source.label is not None
        block, width = reader.storage([self.source.label])
        reservoir = LocationReservoir(groups, self.shape, seed, ignore=self.dataset.ignore)
        for box in self.boxes:
            for region in scan_regions(box, block, width, SCAN_BYTES):
                labels = reader.label(self.source, region)
                reservoir.add(labels, (region[0].start, region[1].start, region[2].start))
        return Places(classes=reservoir.locations(), annotated=reservoir.annotated())

    def box_of(self, voxel: Sequence[int]) -> int:
        """Which of the boxes holds a stored voxel."""
        for number, box in enumerate(self.boxes):
            if all(low <= index < high for low, index, high in zip(box.start, voxel, box.stop, strict=True)):
                return number
        msg = f"case {self.source.id}: voxel {tuple(voxel)} lies in none of its boxes"
        raise ValueError(msg)
