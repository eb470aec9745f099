"""Walking an HDF5 file without leaving its folder."""

from __future__ import annotations

from collections import Counter
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
MOST_NESTED_READS: Final = 10_000
"""Data sets read for one, where virtual data sets are made of virtual ones: twelve of them that name each ten
of the next make 10^12, and HDF5 reads every one (0.1 ms each)."""


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


def refuse_outside_storage(dataset: Any, path: Path, key: str) -> None:
    """Raise FormatError where the voxels of a data set lie in files outside the folder.

    Virtual data sets that refer to each other in a loop, or so often that reading a voxel takes thousands of
    reads, are refused too.
    """
    _StorageCheck().reads(dataset, path, key)


class _StorageCheck:
    """Looks at every data set that a virtual one is made of, each once, however many refer to it."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], int] = {}
        """Reads of each data set that is looked at, by its file and its place in it."""

    def reads(self, dataset: Any, path: Path, key: str, hops: int = 0) -> int:
        """Stored data sets that HDF5 may read for one voxel; 1 of one that is not virtual."""
        if dataset.external:
            names = ", ".join(sorted({str(part[0]) for part in dataset.external})[:3])
            msg = (
                f"{path}:{key}: the voxels lie in external storage ({names}), which is not followed; "
                "copy the data set into one file (h5repack)"
            )
            raise FormatError(msg, kind="outside")
        if not dataset.is_virtual:
            return 1
        place = (dataset.file.filename, _low_level.h5o.get_info(dataset.id).addr)
        if place in self._known:
            return self._known[place]
        if hops > MOST_HOPS:
            msg = f"{path}:{key}: virtual data sets refer to each other in a loop"
            raise FormatError(msg)
        parts = Counter((source.file_name, source.dset_name) for source in dataset.virtual_sources())
        total = sum(
            count * self._reads_of_part(dataset, *part, path, key, hops) for part, count in parts.items()
        )
        if total > MOST_NESTED_READS and total > sum(parts.values()):
            msg = (
                f"{path}:{key}: virtual data sets of virtual data sets make {total:,} reads of one, and up "
                f"to {MOST_NESTED_READS:,} are made; copy it into one file (h5repack)"
            )
            raise FormatError(msg, kind="too-large")
        self._known[place] = total
        return total

    def _reads_of_part(self, dataset: Any, file_name: str, name: str, path: Path, key: str, hops: int) -> int:
        if "%" in file_name or "%" in name:
            # HDF5 puts numbers in the place of %b, and takes %% for %: it would open other names than these.
            msg = f"{path}:{key}: a virtual data set over a pattern ({file_name}:{name}) is not followed"
            raise FormatError(msg, kind="outside")
        whole = f"{path}:{key}"
        if file_name == ".":
            return self._reads_inside(dataset.file, name, path, whole, hops)
        target = path.parent / file_name
        require_inside(target, path, f"{whole}: a virtual data set")
        if not target.exists():
            msg = f"{whole}: {target}, a part of this virtual data set, is missing"
            raise FormatError(msg)
        with h5py.File(target, "r", locking=False) as other:
            return self._reads_inside(other, name, target, whole, hops)

    def _reads_inside(self, file: Any, name: str, path: Path, whole: str, hops: int) -> int:
        part = open_inside(file, name, path)
        if not isinstance(part, h5py.Dataset):
            # HDF5 would give its fill value for these voxels.
            msg = f"{whole}: {path}:{name}, a part of this virtual data set, is missing or no data set"
            raise FormatError(msg)
        return self.reads(part, path, name, hops + 1)


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
