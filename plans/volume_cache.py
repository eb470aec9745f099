"""Volumes that stay inflated: in memory, or as plain arrays in a cache folder.

A compressed stream (``.nii.gz``) would be inflated from its start for every patch; once inflated, patches are
read by region. On disk, an array is written under a temporary name and renamed, and a lock lets one process
inflate while the others wait, so that any number of workers do it once.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxplan.profiling.formats.base import FormatError, ReadOptions, Region, Volume, VolumeSource

SLAB_BYTES = 64 * 2**20
"""Stored bytes inflated at a time."""
CACHE_VARIABLE = "VOXPLAN_CACHE"
"""Environment variable that names the cache folder."""


def default_cache_folder() -> Path:
    """``$VOXPLAN_CACHE``, else ``voxplan`` in the user's cache folder."""
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "voxplan"


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
        FormatError: the disk has no room for it; the message says how much it needs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{source_stamp(volume.source, options)}.npy"
    if not path.exists():
        with locked(path.with_suffix(".lock")):
            if not path.exists():
                _write(volume, path)
    values = np.load(path, mmap_mode="r", allow_pickle=False)
    expected = (volume.header.channels, *volume.header.shape)
    if values.shape != expected or values.dtype != volume.header.dtype:
        msg = f"{path}: does not hold {volume.source.name} (shape {values.shape}): delete this cache file"
        raise FormatError(msg)
    return ArrayVolume(volume, values)


def _write(volume: Volume, path: Path) -> None:
    header = volume.header
    needed = header.voxels * header.channels * header.dtype.itemsize
    free = shutil.disk_usage(path.parent).free
    if needed > free:
        msg = (
            f"{volume.source.name}: inflated it needs {needed / 2**30:.1f} GiB, but {path.parent} "
            f"has {free / 2**30:.1f} GiB left: set {CACHE_VARIABLE} to a larger disk, "
            "or the plan's cache to 'none'"
        )
        raise FormatError(msg, kind="too-large")
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
    os.close(handle)
    temporary = Path(name)
    try:
        values = np.lib.format.open_memmap(
            temporary, mode="w+", dtype=header.dtype, shape=(header.channels, *header.shape)
        )
        _inflate(volume, values)
        values.flush()
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _inflate(volume: Volume, values: NDArray[Any]) -> None:
    """Slab by slab in the order of the stream: channel after channel, planes ascending."""
    depth, height, width = volume.header.shape
    planes = max(1, SLAB_BYTES // max(1, height * width * volume.header.dtype.itemsize))
    for channel in range(volume.header.channels):
        for start in range(0, depth, planes):
            stop = min(depth, start + planes)
            region = (slice(start, stop), slice(0, height), slice(0, width))
            values[channel, start:stop] = volume.read(region, channel)


def source_stamp(source: VolumeSource, options: ReadOptions) -> str:
    """Changes with the files, the key and how axes are read."""
    text = [str(source.key), str(options.axes)]
    for path in source.paths:
        status = path.stat()
        text.append(f"{path.resolve()}|{status.st_size}|{status.st_mtime_ns}")
    return hashlib.sha256("\n".join(text).encode()).hexdigest()[:32]


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """An exclusive lock on a file, waited for. Systems without ``fcntl`` go without: work is done twice."""
    with path.open("a", encoding="utf-8") as file:
        try:
            import fcntl
        except ImportError:
            yield
            return
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)
