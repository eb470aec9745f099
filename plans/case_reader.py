"""Cases at training time: volumes opened when first needed, in every process anew, and read by region."""

from __future__ import annotations

import os
import secrets
import sys
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from voxplan.profiling.formats.base import (
    UNITS_IN_MM,
    CaseSource,
    FormatError,
    ReadOptions,
    Region,
    Spacing,
    Volume,
    VolumeHeader,
    VolumeSource,
)

from .cache_files import default_cache_folder
from .targets import integral, one_class
from .volume_cache import ArrayVolume, hold_in_ram, hold_on_disk, source_stamp

Triple = tuple[int, int, int]

MAX_OPEN = 64
"""Volumes that one process keeps open."""
HELD_STREAM_BYTES = 256 * 2**20
"""Inflated streams that one process holds where a plan caches nothing: a patch of a compressed stream costs
as much as the whole of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseHeader:
    """What is known of a case without reading voxels."""

    id: str
    shape: Triple
    channels: int
    spacing: Spacing
    inflated_bytes: int
    """Of all its volumes in memory, in their stored types."""
    sequential: bool
    """One of them is a compressed stream."""

    def spacing_in(self, unit: str) -> tuple[float, float, float] | None:
        """ZYX spacing in another unit; as it is where either unit is unknown; None where it is missing."""
        values = self.spacing.values
        if values is None or unit not in UNITS_IN_MM or self.spacing.unit not in UNITS_IN_MM:
            return values
        factor = UNITS_IN_MM[self.spacing.unit] / UNITS_IN_MM[unit]
        z, y, x = values
        return (z, y, x) if factor == 1 else (z * factor, y * factor, x * factor)


class CaseReader:
    """Reads regions of cases; picklable, and safe after a fork: open files never cross processes.

    Args:
        options: what the user says about the files (spacing, axes).
        cache: ``none``: every region from its file; of compressed streams the last ones used are held, up to
            :data:`HELD_STREAM_BYTES`. ``ram``: whole volumes in memory, in their stored type,
            once a process (workers that are forked share what :meth:`warm` loaded before). ``disk``:
            compressed streams inflated once into ``folder``; everything else from its file.
        object_ids: whether ids above 0, but ``ignore``, are read as one class.
        ignore: see there.
        folder: of the disk cache; :func:`~voxplan.plans.cache_files.default_cache_folder` if None. Where that
            is off, nothing is cached.
    """

    def __init__(
        self,
        options: ReadOptions = ReadOptions(),  # noqa: B008 - frozen
        *,
        cache: Literal["none", "ram", "disk"] = "none",
        folder: Path | None = None,
        object_ids: bool = False,
        ignore: int | None = None,
    ) -> None:
        self.options = options
        self.object_ids = object_ids
        self.ignore = ignore
        self.folder = folder if folder is not None or cache != "disk" else default_cache_folder()
        self.cache: Literal["none", "ram", "disk"] = cache
        if cache == "disk" and self.folder is None:
            self.cache = "none"
        self._open: OrderedDict[VolumeSource, Volume] = OrderedDict()
        self._held: OrderedDict[VolumeSource, ArrayVolume] = OrderedDict()
        self._stamps: dict[VolumeSource, str] = {}
        self._process = os.getpid()
        self._run = secrets.token_hex(16)
        """Stands for what cannot be told of files at an address; the same in all workers."""

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": OrderedDict(), "_held": OrderedDict(), "_stamps": {}}

    def cache_elsewhere(self, *, on_disk: bool) -> bool:
        """Hold nothing in memory: on disk, if that helps and there is a folder (True), else not at all."""
        if on_disk and self.folder is None:
            self.folder = default_cache_folder()
        self.cache = "disk" if on_disk and self.folder is not None else "none"
        return self.cache == "disk"

    def volume(self, source: VolumeSource) -> Volume:
        """The open volume, cached as told."""
        self._know_process()
        if source in self._held:
            self._held.move_to_end(source)
            return self._held[source]
        if source in self._open:
            self._open.move_to_end(source)
            return self._open[source]
        volume = self._opened(source)
        size = _inflated_bytes(volume.header)
        if self.cache == "ram" or (
            self.cache == "none" and volume.header.sequential and size <= HELD_STREAM_BYTES
        ):
            with volume:
                self._make_room(size)
                self._held[source] = hold_in_ram(volume)
            return self._held[source]
        if self.cache == "disk" and volume.header.sequential:
            assert self.folder is not None
            with volume:
                volume = hold_on_disk(volume, self.options, self.folder)
        self._open[source] = volume
        if len(self._open) > MAX_OPEN:
            self._open.popitem(last=False)[1].close()
        return volume

    def _know_process(self) -> None:
        """Forget what belongs to a parent; its handles are not closed: that could write to what it uses."""
        if os.getpid() != self._process:
            self._open = OrderedDict()
            self._stamps = {}
            self._process = os.getpid()

    def stamp(self, source: VolumeSource) -> str:
        """:func:`~.volume_cache.source_stamp`, looked up once a process, until :meth:`close`."""
        self._know_process()
        if source not in self._stamps:
            self._stamps[source] = source_stamp(source, self.options, unknown=self._run)
        return self._stamps[source]

    def _make_room(self, size: int) -> None:
        """Without a cache, let go of the streams that were not used for longest."""
        if self.cache != "none":
            return
        held = sum(_inflated_bytes(volume.header) for volume in self._held.values())
        while self._held and held + size > HELD_STREAM_BYTES:
            held -= _inflated_bytes(self._held.popitem(last=False)[1].header)

    def _opened(self, source: VolumeSource) -> Volume:
        from voxplan.profiling.formats import open_volume

        return open_volume(source, self.options)

    def close(self) -> None:
        """Close all files of this process; whether they changed is looked up anew."""
        if os.getpid() == self._process:
            for volume in self._open.values():
                volume.close()
        self._open.clear()
        self._stamps.clear()

    def __del__(self) -> None:
        if hasattr(self, "_open") and not sys.is_finalizing():
            self.close()

    def header(self, case: CaseSource) -> CaseHeader:
        """Shape, channels and spacing of a case, from its headers.

        Raises:
            FormatError: files of one case have different shapes; names both.
        """
        if not case.images:
            msg = f"case {case.id}: has no image"
            raise FormatError(msg, kind="empty")
        headers = []
        for source in (*case.images, *((case.label,) if case.label else ())):
            with self._opened(source) as volume:
                headers.append((source, volume.header))
        first, image = headers[0]
        for source, header in headers[1:]:
            if header.shape != image.shape:
                msg = (
                    f"case {case.id}: {first.name} has shape {image.shape}, {source.name} has {header.shape} "
                    "(ZYX): they do not belong together"
                )
                raise FormatError(msg, kind="shape-mismatch")
        channels = sum(header.channels for _, header in headers[: len(case.images)])
        return CaseHeader(
            id=case.id,
            shape=image.shape,
            channels=channels,
            spacing=image.spacing,
            inflated_bytes=sum(_inflated_bytes(header) for _, header in headers),
            sequential=any(header.sequential for _, header in headers),
        )

    def image(self, case: CaseSource, region: Region) -> NDArray[np.float32]:
        """Intensities of a region, all channels: float32 ``(C, z, y, x)``."""
        return np.concatenate([self._intensities(source, region) for source in case.images])

    def _intensities(self, source: VolumeSource, region: Region) -> NDArray[np.float32]:
        volume = self.volume(source)
        stored, header = volume.read(region), volume.header
        if header.slope == 1 and header.intercept == 0:
            return stored.astype(np.float32)
        return (stored * np.float64(header.slope) + header.intercept).astype(np.float32)

    def label(self, case: CaseSource, region: Region) -> NDArray[Any]:
        """Label values of a region, whole numbers: ``(z, y, x)``."""
        if case.label is None:
            msg = f"case {case.id}: has no label map, so nothing can be learned from it"
            raise FormatError(msg, kind="empty")
        volume = self.volume(case.label)
        stored, header = volume.read(region, 0), volume.header
        if header.slope != 1 or header.intercept != 0:
            stored = stored * np.float64(header.slope) + header.intercept
        labels = integral(stored, case.id)
        return one_class(labels, self.ignore) if self.object_ids else labels

    def storage(self, sources: Sequence[VolumeSource]) -> tuple[Triple, int]:
        """The largest block in which these volumes are cheap to read, and their bytes a voxel together."""
        headers = [self.volume(source).header for source in sources]
        block = tuple(
            header_shape if any(header.sequential for header in headers) and axis > 0 else largest
            for axis, (largest, header_shape) in enumerate(
                zip(np.max([header.block for header in headers], axis=0), headers[0].shape, strict=True)
            )
        )
        width = sum(header.channels * header.dtype.itemsize for header in headers)
        return (int(block[0]), int(block[1]), int(block[2])), width

    def held_bytes(self) -> int:
        """Of volumes in memory."""
        return sum(_inflated_bytes(volume.header) for volume in self._held.values())

    def release(self, case: CaseSource) -> None:
        """Let go of what is held of a case in memory."""
        for source in (*case.images, *((case.label,) if case.label else ())):
            self._held.pop(source, None)

    def warm(self, cases: Sequence[CaseSource]) -> None:
        """Fill the cache before workers start."""
        for case in cases:
            for source in (*case.images, *((case.label,) if case.label else ())):
                self.volume(source)


def _inflated_bytes(header: VolumeHeader) -> int:
    return header.voxels * header.channels * header.dtype.itemsize
