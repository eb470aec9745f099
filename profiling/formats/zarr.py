"""Zarr 2 and 3, and OME-Zarr, behind the extra ``zarr``: local folders and fsspec addresses."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from .address import address_text, is_address
from .address_files import answering, reaching
from .attributes import spacing_from_attributes
from .axes import AxisOrder, check_region, choose_axes
from .base import FormatError, Reader, ReadOptions, Region, Spacing, Volume, VolumeHeader, VolumeSource
from .damage import damage_named
from .ome_zarr import Multiscale, read_multiscale
from .spacing import resolve_spacing
from .store_files import store_files
from .zarr_chunks import LocalChunks, others_awaited, require_plain_metadata

ZIPPED: Final = "zip://::{}"
"""Address of a store that is a ZIP file of this machine."""
MOST_ARRAYS: Final = 1000
"""Arrays looked at when listing a store; one with more needs its key stated."""


class ZarrReader(Reader):
    """``.zarr`` folders and ``.zarr.zip`` files; an OME-Zarr image is read at full resolution."""

    name: ClassVar[str] = "zarr"
    suffixes: ClassVar[tuple[str, ...]] = (".ome.zarr.zip", ".zarr.zip", ".ome.zarr", ".n5.zarr", ".zarr")

    def matches(self, path: Path) -> bool:
        """Whatever lies at an address too: nothing else is read from there."""
        return is_address(path) or super().matches(path)

    def open(self, source: VolumeSource, options: ReadOptions) -> Volume:
        """See :class:`.base.Reader`; without a key, the image or the only array of the store is taken."""
        return _ZarrVolume(source, options)

    def keys(self, path: Path) -> Sequence[str]:
        """Arrays that can be volumes (of a multiscale image: its full resolution), sorted."""
        node = _open_store(path)
        with _unwarned():
            return sorted(name for name, _ in _candidates(node, path) if name)


class _ZarrVolume(Volume):
    def __init__(self, source: VolumeSource, options: ReadOptions) -> None:
        self.source = source
        path = source.paths[0]
        root = _open_store(path)
        damaged = damage_named(f"{source.name}: its metadata cannot be read; the store is damaged")
        with damaged, answering(path), _unwarned():
            found, image = _locate(root, source, path)
        self._array = found
        self._chunks = LocalChunks(found, path)
        if found.dtype.kind not in "biuf" or found.dtype.itemsize > 8:
            kind = "not-intensities" if found.dtype.kind in "cV" else "unsupported"
            msg = f"{source.name}: values of type {found.dtype} are no intensities or labels"
            raise FormatError(msg, kind=kind)
        if 0 in found.shape:
            msg = f"{source.name}: shape {found.shape} holds no voxels"
            raise FormatError(msg, kind="empty")
        self._axes = _axes(found, image, options, source.name)
        stated: list[Spacing] = []
        doubts: tuple[str, ...] = ()
        if image is not None and image.spacing.values is not None:
            stated = [image.spacing]
        else:
            attributes = [dict(found.attrs), dict(root.attrs)]
            stated, doubts = spacing_from_attributes(attributes, self._axes, options)
            if not stated and image is not None and image.warning:
                doubts = (*doubts, image.warning)
        chunks = [min(c, n) for c, n in zip(found.chunks, found.shape, strict=True)]
        self.header = VolumeHeader(
            shape=self._axes.shape,
            channels=self._axes.channels,
            dtype=np.dtype(np.uint8) if found.dtype.kind == "b" else found.dtype.newbyteorder("="),
            spacing=resolve_spacing(options, stated),
            block=self._axes.spatial(chunks, 1),
            decoded_bytes=prod(found.chunks) * found.dtype.itemsize,
            stored_bytes=int(found.nbytes),
            warnings=() if options.spacing is not None else doubts,
        )

    def stores(self, size: int) -> bool:
        """Counts the files of the array until there are enough; at an address, where listing is slow, yes."""
        path = self.source.paths[0]
        if is_address(path):
            return True
        if path.is_file():
            return path.stat().st_size >= size
        seen = 0
        for file in store_files(path / self._array.path, path.parent):
            seen += 0 if file.status is None else file.status.st_size
            if seen >= size:
                return True
        return False

    def read(self, region: Region, channel: int | None = None) -> NDArray[Any]:
        check_region(region, self.header.shape, channel, self.header.channels)
        index = self._axes.index(region, channel)
        damaged = damage_named(f"{self.source.name}: a chunk cannot be decoded; the store is damaged")
        with damaged, answering(self.source.paths[0]), others_awaited():
            block = self._chunks.read(index)
        return self._axes.arrange(block.astype(self.header.dtype, copy=False), channel)


@contextmanager
def _unwarned() -> Iterator[None]:
    """zarr warns of files in a store that it does not know; what matters of that is raised here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _open_store(path: Path) -> Any:
    try:
        import zarr
    except ImportError as error:
        msg = f"{path}: reading Zarr needs an extra; pip install voxplan[zarr]"
        raise FormatError(msg, kind="missing-extra") from error
    if is_address(path):
        with reaching(address_text(path)), _unwarned():
            return zarr.open(_store_at(address_text(path)), mode="r")
    if not path.exists():
        msg = f"{path}: no such folder"
        raise FormatError(msg)
    require_plain_metadata(path)
    with damage_named(f"{path}: cannot be opened as Zarr; it is damaged or of another format"), _unwarned():
        return zarr.open(ZIPPED.format(path.absolute()) if path.is_file() else path, mode="r")


def _store_at(address: str) -> Any:
    """What zarr opens an address by."""
    if "::" not in address:
        return address
    from .address_chain import ChainedStore

    return ChainedStore.at(address)


def _locate(root: Any, source: VolumeSource, path: Path) -> tuple[Any, Multiscale | None]:
    """The array to read and, of an OME-Zarr image, what its metadata says."""
    _require_plain_along(path, source.key or "")
    node = root if source.key is None else root.get(source.key) if _is_group(root) else None
    if node is None:
        msg = f"{source.name}: no such array; the store holds {_listing(_candidates(root, path))}"
        raise FormatError(msg)
    if not _is_group(node):
        return node, _parent_image(root, source.key)
    image = read_multiscale(dict(node.attrs))
    if image is not None:
        _require_plain_along(path / node.path, image.path)
        return node[image.path], image
    found = _candidates(node, path)
    if len(found) == 1:
        name, array = found[0]
        return array, _parent_image(node, name)
    if not found:
        msg = f"{source.name}: holds no numeric array of two to five axes"
        if is_address(path):
            msg += " that the server lists; consolidate its metadata, or state --image-key (and --label-key)"
        raise FormatError(msg, kind="empty")
    names = _listing(found)
    msg = f"{source.name}: holds {len(found)} volumes; choose one with --image-key or --label-key: {names}"
    raise FormatError(msg, kind="ambiguous")


def _parent_image(root: Any, key: str | None) -> Multiscale | None:
    """Metadata of the multiscale image whose full resolution is the array at ``key``."""
    if key is None or not _is_group(root):
        return None
    parent, _, name = key.strip("/").rpartition("/")
    group = root if not parent else root.get(parent)
    image = read_multiscale(dict(group.attrs)) if group is not None and _is_group(group) else None
    return image if image is not None and image.path == name else None


def _candidates(node: Any, path: Path) -> list[tuple[str, Any]]:
    if not _is_group(node):
        return [("", node)]
    fit = [
        (name, array)
        for name, array in _walk(node, "", path)
        if array.dtype.kind in "biuf" and 2 <= array.ndim <= 5 and 0 not in array.shape
    ]
    return sorted([(n, a) for n, a in fit if a.ndim > 2] or fit, key=lambda item: item[0])


def _walk(node: Any, prefix: str, path: Path) -> Iterator[tuple[str, Any]]:
    """Arrays below a group; of a multiscale image only the full resolution (and its labels)."""
    count = 0
    pending = [(prefix, node)]
    while pending:
        start, group = pending.pop()
        image = read_multiscale(dict(group.attrs))
        levels = set() if image is None else _level_names(dict(group.attrs)) - {image.path}
        for folder in _folders(path / group.path):
            require_plain_metadata(folder)
        for name, member in group.members():
            count += 1
            if count > MOST_ARRAYS:
                msg = f"{path}: more than {MOST_ARRAYS} arrays and groups; state which to read (--image-key)"
                raise FormatError(msg, kind="ambiguous")
            if name in levels:
                continue
            if _is_group(member):
                pending.append((f"{start}{name}/", member))
            else:
                yield f"{start}{name}", member


def _require_plain_along(folder: Path, key: str) -> None:
    """Look at the metadata on the way to an array before zarr opens them."""
    for part in key.strip("/").split("/"):
        folder = folder / part
        require_plain_metadata(folder)


def _folders(group: Path) -> Iterator[str]:
    """Folders of a local group; none at an address."""
    if group.is_dir():
        with os.scandir(group) as entries:
            yield from (entry.path for entry in entries if entry.is_dir())


def _level_names(attributes: dict[str, Any]) -> set[str]:
    described = attributes.get("ome", attributes)
    return {str(level["path"]) for image in described["multiscales"] for level in image["datasets"]}


def _axes(array: Any, image: Multiscale | None, options: ReadOptions, where: str) -> AxisOrder:
    if options.axes is None and image is not None and len(image.letters) == array.ndim:
        letters = image.letters
        if len(set(letters)) == len(letters) and set("yx") <= set(letters):
            return AxisOrder(letters, tuple(int(n) for n in array.shape))
    names = getattr(array.metadata, "dimension_names", None)
    if options.axes is None and names and all(names):
        letters = "".join(str(name).lower()[:1] for name in names)
        if len(set(letters)) == len(letters) and set("yx") <= set(letters) <= set("ctzyx"):
            return AxisOrder(letters, tuple(int(n) for n in array.shape))
    return choose_axes(array.shape, options.axes, where)


def _listing(found: list[tuple[str, Any]]) -> str:
    return ", ".join(f"{n or '/'} {tuple(a.shape)} {a.dtype}" for n, a in found[:20]) or "no volume"


def _is_group(node: Any) -> bool:
    return hasattr(node, "members")
