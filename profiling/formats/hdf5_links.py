"""Walking an HDF5 file without leaving its folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import h5py

from .base import FormatError, in_other_files

_low_level: Any = h5py
"""Type checkers see none of h5py's compiled modules."""

MOST_OBJECTS: Final = 100_000
"""Objects looked at when listing a file; a file with more needs its key stated."""
MOST_HOPS: Final = 16
"""Links followed one after the other: HDF5's own default limit for soft links."""


def walk_datasets(file: Any, path: Path) -> Iterator[tuple[str, Any]]:
    """Every data set reached by hard links, by name, each object once; other links are not followed."""
    seen: set[int] = set()
    pending = [("", file)]
    while pending:
        prefix, group = pending.pop()
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                continue
            item = group[name]
            address = _low_level.h5o.get_info(item.id).addr
            if address in seen:
                continue
            seen.add(address)
            if len(seen) > MOST_OBJECTS:
                msg = f"{path}: more than {MOST_OBJECTS} objects; state which data set to read (--image-key)"
                raise FormatError(msg, kind="ambiguous")
            if isinstance(item, h5py.Group):
                pending.append((f"{prefix}{name}/", item))
            elif isinstance(item, h5py.Dataset):
                yield f"{prefix}{name}", item


def open_inside(file: Any, key: str, path: Path, hops: int = 0) -> Any:
    """The object at ``key``, following only links that stay in the folder of ``path``.

    Raises:
        FormatError: no such object (``ambiguous`` names what there is), or a link that leads ``outside``.
    """
    if hops > MOST_HOPS:
        msg = f"{path}:{key}: more than {MOST_HOPS} links one after the other; they form a loop"
        raise FormatError(msg)
    item: Any = file
    parts = [part for part in key.split("/") if part not in ("", ".")]
    for depth, part in enumerate(parts):
        link = item.get(part, getlink=True) if isinstance(item, h5py.Group) and part in item.keys() else None  # noqa: SIM118 - `in group` follows the link
        rest = "/".join(parts[depth + 1 :])
        if link is None:
            return None
        if isinstance(link, h5py.ExternalLink):
            with in_other_files():
                target = path.parent / link.filename
                require_inside(target, path, f"{path}:{key}: an external link")
                try:
                    other = h5py.File(target, "r", locking=False)
                except OSError as error:
                    msg = f"{path}:{key}: the external link's file {target} cannot be opened ({error})"
                    raise FormatError(msg) from error
                return open_inside(other, f"{link.path}/{rest}", target, hops + 1)
        if isinstance(link, h5py.SoftLink):
            base = item.name if not link.path.startswith("/") else ""
            return open_inside(file, f"{base}/{link.path}/{rest}", path, hops + 1)
        item = item[part]
    return item


def refuse_outside_storage(dataset: Any, path: Path, key: str, hops: int = 0) -> None:
    """Raise FormatError (``outside``) where the voxels of a data set lie in files outside the folder."""
    if dataset.external:
        names = ", ".join(sorted({str(part[0]) for part in dataset.external})[:3])
        msg = (
            f"{path}:{key}: the voxels lie in external storage ({names}), which is not followed; "
            "copy the data set into one file (h5repack)"
        )
        raise FormatError(msg, kind="outside")
    if not dataset.is_virtual:
        return
    if hops > MOST_HOPS:
        msg = f"{path}:{key}: virtual data sets refer to each other in a loop"
        raise FormatError(msg)
    for part in {(s.file_name, s.dset_name) for s in dataset.virtual_sources()}:
        _check_virtual_part(dataset, *part, path, key, hops)


def _check_virtual_part(dataset: Any, file_name: str, name: str, path: Path, key: str, hops: int) -> None:
    if "%" in file_name or "%" in name:
        # HDF5 puts numbers in the place of %b, and takes %% for %: it would open other names than these.
        msg = f"{path}:{key}: a virtual data set over a pattern of names ({file_name}:{name}) is not followed"
        raise FormatError(msg, kind="outside")
    if file_name == ".":
        _check_part(dataset.file, name, path, f"{path}:{key}", hops)
        return
    target = path.parent / file_name
    require_inside(target, path, f"{path}:{key}: a virtual data set")
    if not target.exists():
        msg = f"{path}:{key}: {target}, a part of this virtual data set, is missing"
        raise FormatError(msg)
    with h5py.File(target, "r", locking=False) as other:
        _check_part(other, name, target, f"{path}:{key}", hops)


def _check_part(file: Any, name: str, path: Path, whole: str, hops: int) -> None:
    part = open_inside(file, name, path)
    if not isinstance(part, h5py.Dataset):
        # HDF5 would give its fill value for these voxels.
        msg = f"{whole}: {path}:{name}, a part of this virtual data set, is missing or no data set"
        raise FormatError(msg)
    refuse_outside_storage(part, path, name, hops + 1)


def require_inside(target: Path, path: Path, what: str) -> None:
    """Raise FormatError where ``target``, links resolved, does not lie in the folder of ``path`` or below.

    Pipes and devices are refused too: opening one may wait for ever.
    """
    folder = path.parent.resolve()
    if not target.resolve().is_relative_to(folder):
        msg = f"{what} leads out of the folder, to {target}; put the data beside {path.name}"
        raise FormatError(msg, kind="outside")
    if target.exists() and not target.is_file():
        msg = f"{what} names {target}, which is no regular file"
        raise FormatError(msg, kind="special-file")
