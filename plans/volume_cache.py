"""Volumes that stay inflated: in memory, or as plain arrays in a cache folder.

A compressed stream (``.nii.gz``) would be inflated from its start for every patch; once inflated, patches are
read by region. However many workers share a cache folder, one of them does it.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxplan.profiling.formats import files_beside
from voxplan.profiling.formats.address import is_address
from voxplan.profiling.formats.address_files import state_of_address
from voxplan.profiling.formats.base import ReadOptions, Region, Volume, VolumeSource
from voxplan.profiling.formats.store_files import StoreFile, store_files

from .cache_files import cached_arrays

SLAB_BYTES = 64 * 2**20
"""Stored bytes inflated at a time."""


class ArrayVolume(Volume):
    """A volume whose stored values stand in an array ``(channels, Z, Y, X)``, in memory or mapped."""

    def __init__(self, volume: Volume, values: NDArray[Any]) -> None:
        self.source = volume.source
        self.header = replace(volume.header, sequential=False, block=(1, 1, 1))
        self._values = values

    def read(self, region: Region, channel: int | None = None) -> NDArray[Any]:
        """A copy of the region; see :class:`Volume`."""
        index: tuple[Any, ...] = (slice(None) if channel is None else channel, *region)
        return np.array(self._values[index])


def hold_in_ram(volume: Volume) -> ArrayVolume:
    """The whole volume in memory, in its stored type."""
    header = volume.header
    values = np.empty((header.channels, *header.shape), header.dtype)
    _inflate(volume, values)
    return ArrayVolume(volume, values)


def hold_on_disk(volume: Volume, options: ReadOptions, folder: Path) -> ArrayVolume:
    """The whole volume as a memory-mapped array in the cache folder, inflated unless it is there already.

    Raises:
        CacheError: the disk has no room for it; the message says how much it needs.
    """
    header = volume.header
    sizes = {"": ((header.channels, *header.shape), header.dtype)}
    stem = source_stamp(volume.source, options)
    arrays = cached_arrays(
        folder, stem, sizes, lambda empty: _inflate(volume, empty[""]), what=volume.source.name
    )
    return ArrayVolume(volume, arrays[""])


def _inflate(volume: Volume, values: NDArray[Any]) -> None:
    """Slab by slab in the order of the stream: channel after channel, planes ascending."""
    depth, height, width = volume.header.shape
    planes = max(1, SLAB_BYTES // max(1, height * width * volume.header.dtype.itemsize))
    for channel in range(volume.header.channels):
        for start in range(0, depth, planes):
            stop = min(depth, start + planes)
            region = (slice(start, stop), slice(0, height), slice(0, width))
            values[channel, start:stop] = volume.read(region, channel)


def source_stamp(source: VolumeSource, options: ReadOptions, *, unknown: str = "") -> str:
    """Changes with the files (those below a folder, and those that a header points to), key and axes.

    Looks at every file, of a Zarr store at every chunk: :meth:`.case_reader.CaseReader.stamp` keeps it.
    ``unknown`` stands for files of which that cannot be told: at an address that does not date them, behind a
    link that leads around the store.
    """
    text = [str(source.key), str(options.axes)]
    for path in source.paths:
        if is_address(path):
            text += state_of_address(path) or [f"address {path} {unknown}"]
            continue
        for file in (path, *(other for other in files_beside(path) if other.exists())):
            status = file.stat()
            text.append(f"{file.resolve()}|{status.st_size}|{status.st_mtime_ns}")
        if path.is_dir():
            for inner in store_files(path, path.parent):
                text += [_state_of(inner, path), *([unknown] if inner.unknown else [])]
    return hashlib.sha256("\n".join(text).encode("utf-8", "surrogateescape")).hexdigest()[:32]


def _state_of(file: StoreFile, store: Path) -> str:
    """Name within the store, size, time, and what else there is to say."""
    size = "" if file.status is None else f"{file.status.st_size}|{file.status.st_mtime_ns}"
    return f"{os.path.relpath(file.path, store)}|{size}|{file.remark}"
