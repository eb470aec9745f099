"""Data sets that lie below a folder: read as loose volumes, their labels would pass for images."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ..formats import is_volume_file
from .base import Layout, LayoutRequest
from .listing import MAX_DEPTH, Listing, is_plain_folder

MAX_FOLDERS = 2000
"""Folders that are looked into, nearest first: a whole disk must not be walked (0.1 ms each, more on NFS)."""


def datasets_within(
    request: LayoutRequest, layout_of: Callable[[LayoutRequest], Layout | None]
) -> tuple[list[Path], list[Path]]:
    """Folders below the data folder that pair images with labels, and folders beside them that do not.

    Only names are read. What lies below a data set, in hidden folders and behind links is not looked at. A
    folder that holds volume files itself is what the user means: then nothing is looked for.

    Args:
        request: what the user pointed at.
        layout_of: the layout of a folder that pairs images with labels, or None.
    """
    if request.data is None or request.images is not None or not request.data.is_dir():
        return [], []
    listing = Listing(request.data, request.exclude)
    files, folders = _real(listing, request.data)
    if any(is_volume_file(path) for path in files):
        return [], []
    found: list[Path] = []
    waiting = deque((folder, 1) for folder in folders)
    looked_at = 0
    while waiting and looked_at < MAX_FOLDERS:
        folder, depth = waiting.popleft()
        looked_at += 1
        try:
            layout = layout_of(replace(request, data=folder))
        except PermissionError:  # who collects the volumes says so
            continue
        if layout is not None:
            found.append(folder)
        elif depth < MAX_DEPTH:
            waiting += [(child, depth + 1) for child in _real(listing, folder)[1]]
    found.sort()
    others = [top for top in folders if not any(path == top or top in path.parents for path in found)]
    return found, others


def _real(listing: Listing, folder: Path) -> tuple[list[Path], list[Path]]:
    """Files and folders that are no links; a folder that cannot be read is empty."""
    try:
        files, folders = listing.read(folder)
    except ValueError:
        return [], []
    return files, [path for path in folders if not path.is_symlink() and is_plain_folder(path)]
