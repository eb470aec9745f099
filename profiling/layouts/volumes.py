"""The volumes below a folder, a file or a glob, each under the name that pairing and case ids use."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..formats import is_volume_file, strip_suffix
from ..formats.address import address_folder, is_address
from ..formats.address_files import stores_at
from ..formats.base import VolumeSource
from .dicom import series_in
from .listing import MAX_DEPTH, Listing, is_plain_folder
from .slices import slice_stack

STACK_HINT = "if they are images of their own, name them by a glob,"
"""For 2D data; the glob follows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedVolume:
    """One volume and its name: the path below the place that was searched, without the volume suffix."""

    name: str
    source: VolumeSource


@dataclass(slots=True, kw_only=True)
class Found:
    """Volumes of one place, in natural order, and remarks for the user."""

    volumes: list[NamedVolume] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def volumes_of_data(data: Path, exclude: Sequence[str]) -> tuple[Found, Listing]:
    """Volumes of a data folder or of a single file, and the listing that holds what was refused."""
    if is_plain_folder(data):
        listing = Listing(data, exclude)
        return volumes_in_folder(data, listing), listing
    listing = Listing(address_folder(data) if is_address(data) else data.parent, exclude)
    return volumes_of_pattern(str(data), listing), listing


def data_name(data: Path) -> str:
    """How the data set is called: the folder's name, or the file's without suffix."""
    if is_address(data) and glob.has_magic(data.name):
        return data.parent.name
    name = data.resolve().name if is_plain_folder(data) else strip_suffix(data)
    return name or "dataset"


def volumes_in_folder(folder: Path, listing: Listing, *, recursive: bool = True) -> Found:
    """Volumes of a folder: volume files, slice stacks and DICOM series.

    Sub-folders are searched only where the folder itself holds no volume file; what is left out is noted.
    """
    found = Found()
    _collect(folder, folder, listing, found, MAX_DEPTH if recursive else 0, listing.read(folder))
    return found


def volumes_of_pattern(pattern: str, listing: Listing) -> Found:
    """Volumes of what ``--images`` or ``--labels`` names: a folder, a file, or a glob (``**`` descends).

    A folder may be one stack of slices; the files of a glob are volumes of their own. Names are paths below
    the folder, or below the part of the glob that stands before its first wildcard.
    """
    path = Path(pattern)
    if is_address(path):
        return Found(volumes=[_named(store, store.parent) for store in stores_at(path)])
    if is_plain_folder(path):
        return volumes_in_folder(path, listing)
    if path.exists():
        kept = [] if listing.refuses(path) or listing.is_special(path) else [path]
        base = path.parent
    else:
        base = fixed_part(pattern)
        for folder, name in _looked_into(pattern):
            listing.refuse_unreadable(folder, name)
        matches = (Path(match) for match in glob.glob(pattern, recursive=True))  # noqa: PTH207 - absolute patterns too
        kept = [
            match
            for match in listing.keep(match for match in matches if match.is_dir() or is_volume_file(match))
            if not listing.is_special(match)
        ]
    found = Found()
    for match in kept:
        if is_plain_folder(match):
            found.volumes += _folder_as_volume(match, listing.read(match)[0], base, found.notes)
        else:
            found.volumes.append(_named(match, base))
    return found


def unstack(found: Found, other: Found) -> None:
    """Make one stack the images that it is made of, where the other side has as many volumes.

    Colour images, say, are no stack, and their numbered masks in grey look like one.
    """
    if len(found.volumes) != 1 or not 1 < len(found.volumes[0].source.paths) == len(other.volumes):
        return
    paths = found.volumes[0].source.paths
    if slice_stack(paths) is None:
        return
    found.volumes = [_named(path, path.parent) for path in paths]
    found.notes = [note for note in found.notes if STACK_HINT not in note]


def _looked_into(pattern: str) -> Iterator[tuple[Path, str | None]]:
    """The folders that a glob, which passes over what it cannot read, lists (None) or asks for one name."""
    parts = Path(pattern).parts
    first = next((place for place, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    for place in range(first, len(parts)):
        above = parts[: place + 1] if parts[place] == "**" else parts[:place]
        name = None if glob.has_magic(parts[place]) else parts[place]
        for folder in glob.glob(os.path.join(*above, "") if above else "./", recursive=True):  # noqa: PTH118, PTH207
            yield Path(folder), name


def fixed_part(pattern: str) -> Path:
    """The folder of a glob that stands before its first wildcard."""
    parts: list[str] = []
    for part in Path(pattern).parts[:-1]:
        if glob.has_magic(part):
            break
        parts.append(part)
    return Path(*parts) if parts else Path()


def relative_name(path: Path, base: Path) -> str:
    """The path below ``base`` without the volume suffix, with ``/`` between folders."""
    stem = strip_suffix(path)
    parent = path.parent
    if parent == base or not parent.is_relative_to(base):
        return stem
    return f"{parent.relative_to(base).as_posix()}/{stem}"


def _named(path: Path, base: Path) -> NamedVolume:
    return NamedVolume(name=relative_name(path, base), source=VolumeSource(paths=(path,)))


def _folder_as_volume(
    folder: Path, files: Sequence[Path], base: Path, notes: list[str]
) -> Iterator[NamedVolume]:
    """The slice stack or the DICOM series that a folder with these files is, if it is one."""
    name = folder.name if folder == base else os.path.relpath(folder, base).replace(os.sep, "/")
    stack = slice_stack(files)
    if stack is not None:
        notes.append(f"{folder}: {stack.note}; {STACK_HINT} '{folder}/*{stack.paths[0].suffix}'")
        yield NamedVolume(name=name, source=VolumeSource(paths=stack.paths))
        return
    series, lost = series_in(folder, files)
    if series and lost:
        notes.append(f"{folder}: left out, of no DICOM series, perhaps damaged or not readable: {few(lost)}")
    for identifier, source in series.items():
        suffix = f"/{identifier}" if len(series) > 1 else ""
        yield NamedVolume(name=name + suffix, source=source)


def _collect(
    folder: Path,
    base: Path,
    listing: Listing,
    found: Found,
    depth: int,
    content: tuple[list[Path], list[Path]],
) -> None:
    """Volumes of a folder with these files and sub-folders, or of those below it."""
    files, folders = content
    volumes = list(_folder_as_volume(folder, files, base, found.notes))
    if not volumes:
        volumes = [_named(path, base) for path in files if is_volume_file(path)]
        containers = [path for path in folders if not is_plain_folder(path)]
        volumes += [_named(path, base) for path in containers]
        folders = [path for path in folders if path not in containers]
        skipped = [path for path in files if not is_volume_file(path)]
        if volumes and skipped:
            found.notes.append(
                f"{folder}: left out, not {'volumes' if len(skipped) > 1 else 'a volume'}: {few(skipped)}"
            )
    if volumes:
        found.volumes += volumes
        if folders:
            found.notes.append(f"{folder}: sub-folders beside volume files are not searched: {few(folders)}")
        return
    if depth > 0:
        for child in folders:
            _collect(child, base, listing, found, depth - 1, listing.read_or_refuse(child))


def few(paths: Sequence[Path]) -> str:
    """The names of a few paths, and how many more."""
    shown = ", ".join(path.name for path in paths[:3])
    return shown if len(paths) <= 3 else f"{shown} and {len(paths) - 3} more"
