"""Volumes in HDF5: any numeric data set of two to five axes, read by chunks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
from numpy.typing import NDArray

from .attributes import spacing_from_attributes
from .axes import check_region, choose_axes
from .base import FormatError, ReadOptions, Region, Volume, VolumeHeader, VolumeSource, in_other_files
from .contiguous import to_native
from .damage import damage_named
from .hdf5_chunks import GzipChunks, read_few_chunks
from .hdf5_links import open_inside, refuse_outside_storage, walk_datasets
from .spacing import resolve_spacing

_LISTED: Final = 20
"""Candidates named in a message."""


def dataset_names(path: Path) -> list[str]:
    """Data sets that can be volumes, sorted."""
    with _open_file(path) as file, damage_named(f"{path}: the HDF5 file is damaged"):
        return sorted(name for name, _ in _candidates(file, path))


class Hdf5Volume(Volume):
    """An open data set; without a key, the only volume of the file."""

    def __init__(self, source: VolumeSource, options: ReadOptions) -> None:
        self.source = source
        path = source.paths[0]
        self._file = _open_file(path)
        try:
            with damage_named(f"{source.name}: the HDF5 file is damaged"):
                key = source.key or _only_volume(self._file, path)
                self._dataset = _open_dataset(self._file, path, key)
                self._where = f"{path}:{key}"
                with _reading(self._dataset, self._file, self._where):
                    self._axes = choose_axes(self._dataset.shape, options.axes, self._where)
                    self.header = self._read_header(options, path)
                self._chunks = GzipChunks(self._dataset) if GzipChunks.serves(self._dataset) else None
        except BaseException:
            self._file.close()
            raise

    def _read_header(self, options: ReadOptions, path: Path) -> VolumeHeader:
        stated, doubts = spacing_from_attributes(_with_parents(self._dataset), self._axes, options)
        chunks = self._dataset.chunks or (1,) * (len(self._axes.stored) - 2) + self._axes.stored[-2:]
        fits = tuple(min(c, n) for c, n in zip(chunks, self._axes.stored, strict=True))
        dtype = self._dataset.dtype
        return VolumeHeader(
            shape=self._axes.shape,
            channels=self._axes.channels,
            dtype=_plain(dtype),
            spacing=resolve_spacing(options, stated),
            block=self._axes.spatial(fits, 1),
            decoded_bytes=prod(self._dataset.chunks or (0,)) * dtype.itemsize,
            stored_bytes=self._stored_bytes(path),
            other_files=_leads_elsewhere(self._dataset, self._file),
            warnings=() if options.spacing is not None else doubts,
        )

    def _stored_bytes(self, path: Path) -> int:
        """Of the voxels; of a virtual data set, the size of the files that it is made of."""
        if self._dataset.is_virtual:
            names = {source.file_name for source in self._dataset.virtual_sources()}
            return sum((path if n == "." else path.parent / n).stat().st_size for n in names)
        return int(self._dataset.id.get_storage_size()) or path.stat().st_size

    def read(self, region: Region, channel: int | None = None) -> NDArray[Any]:
        """See :meth:`.base.Volume.read`."""
        check_region(region, self.header.shape, channel, self.header.channels)
        index = self._axes.index(region, channel)
        with damage_named(f"{self._where}: voxels {_bounds(region)} (ZYX) cannot be decoded"):
            block = self._read_stored(index)
        block = block.view(np.uint8) if block.dtype.kind == "b" else block
        return self._axes.arrange(to_native(block), channel)

    def _read_stored(self, index: tuple[slice, ...]) -> NDArray[Any]:
        if self._chunks is not None and self._chunks.covers(index):
            block = np.empty([part.stop - part.start for part in index], self._dataset.dtype)
            if self._chunks.read(index, block):
                return block
        return read_few_chunks(self._dataset, index)

    def close(self) -> None:
        """Close the file."""
        self._dataset.file.close()
        self._file.close()


def _open_file(path: Path) -> Any:
    with damage_named(f"{path}: cannot be opened as HDF5; it is damaged, cut short or of another format"):
        return h5py.File(path, "r", locking=False)


def _open_dataset(file: Any, path: Path, key: str) -> Any:
    dataset = open_inside(file, key, path)
    if not isinstance(dataset, h5py.Dataset):
        what = "a group, not a data set" if dataset is not None else "no such data set"
        msg = f"{path}:{key}: {what}; the file holds {_listing(_candidates(file, path))}"
        raise FormatError(msg, kind="ambiguous" if dataset is not None else "unreadable")
    with _reading(dataset, file, f"{path}:{key}"):
        refuse_outside_storage(dataset, path, key)
        if why := _unfit(dataset):
            msg = f"{path}:{key}: {why}"
            kind = "not-intensities" if _numpy_kind(dataset) in ("c", "V") else "unsupported"
            raise FormatError(msg, kind=kind)
        if 0 in dataset.shape:
            msg = f"{path}:{key}: shape {dataset.shape} holds no voxels"
            raise FormatError(msg, kind="empty")
        _require_filters(dataset, path, key)
    return dataset


@contextmanager
def _reading(dataset: Any, file: Any, where: str) -> Iterator[None]:
    """What is raised inside as FormatError, which says whether another file may have part in it."""
    elsewhere = _leads_elsewhere(dataset, file)
    what = "a file that the HDF5 file leads to" if elsewhere else "the HDF5 file"
    with in_other_files(elsewhere), damage_named(f"{where}: {what} is damaged"):
        yield


def _leads_elsewhere(dataset: Any, file: Any) -> bool:
    """Whether voxels may lie in another file than the one that was opened."""
    return bool(dataset.is_virtual or dataset.file.filename != file.filename)


def _require_filters(dataset: Any, path: Path, key: str) -> None:
    """Say which plugin is missing now, not at the first chunk."""
    properties = dataset.id.get_create_plist()
    for i in range(properties.get_nfilters()):
        code, _, _, name = properties.get_filter(i)
        if not h5py.h5z.filter_avail(code):
            msg = (
                f"{path}:{key}: compressed with HDF5 filter {code} ({name.decode(errors='replace')}), "
                "which is not installed; pip install hdf5plugin and let HDF5_PLUGIN_PATH name its plugins "
                "(in Python: import it), or repack the file with gzip"
            )
            raise FormatError(msg, kind="missing-extra")


def _candidates(file: Any, path: Path) -> list[tuple[str, Any]]:
    """Numeric data sets of three to five axes; of two, only where there are no others."""
    fit = [(n, d) for n, d in walk_datasets(file, path) if not _unfit(d) and 0 not in d.shape]
    volumes = [(n, d) for n, d in fit if len(d.shape) > 2]
    return sorted(volumes or fit, key=lambda item: item[0])


def _only_volume(file: Any, path: Path) -> str:
    found = _candidates(file, path)
    if len(found) == 1:
        return found[0][0]
    if not found:
        msg = f"{path}: holds no numeric data set of two to five axes"
        raise FormatError(msg, kind="empty")
    msg = f"{path}: holds {len(found)} volumes; choose one with --image-key or --label-key: {_listing(found)}"
    raise FormatError(msg, kind="ambiguous")


def _listing(found: list[tuple[str, Any]]) -> str:
    if not found:
        return "no volume"
    named = [f"{name} {tuple(d.shape)} {d.dtype}" for name, d in found[:_LISTED]]
    more = [f"and {len(found) - _LISTED} more"] if len(found) > _LISTED else []
    return ", ".join(named + more)


def _unfit(dataset: Any) -> str | None:
    """Why a data set cannot be a volume, or None."""
    if dataset.shape is None:
        return "holds no data"
    kind = _numpy_kind(dataset)
    if kind is None:
        return "values are of a type that numpy does not know; convert it to one of 8, 16, 32 or 64 bits"
    if kind == "c":
        return "values are complex, not intensities or labels"
    if kind == "V":
        return f"values are compound ({dataset.dtype}), not intensities or labels; store the field by itself"
    if kind not in "biuf" or dataset.dtype.itemsize > 8:
        return f"values of type {dataset.dtype} are no intensities or labels"
    if not 2 <= len(dataset.shape) <= 5:
        return f"an array of {len(dataset.shape)} axes {dataset.shape} is no volume"
    return None


def _numpy_kind(dataset: Any) -> str | None:
    """numpy's letter for the kind of values; None where it has no such type (integers of 24 bits, times)."""
    try:
        return str(dataset.dtype.kind)
    except (TypeError, ValueError):
        return None


def _plain(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Native byte order, without HDF5's enum names; booleans are read as 0 and 1."""
    return np.dtype(np.uint8) if dtype.kind == "b" else np.dtype(f"{dtype.kind}{dtype.itemsize}")


def _with_parents(dataset: Any) -> list[Any]:
    """Attributes of the data set and of the groups that hold it, nearest first."""
    found, item = [dataset.attrs], dataset
    for _ in range(prod((1, dataset.name.count("/")))):
        item = item.parent
        found.append(item.attrs)
        if item.name == "/":
            break
    return found


def _bounds(region: Region) -> str:
    return ", ".join(f"{part.start}:{part.stop}" for part in region)
