"""A folder of slices: single-page TIFF or PNG files that are one volume along Z.

The files of a folder are one volume when all of them have one suffix among :data:`SLICE_SUFFIXES`, their
names differ only in a number (``00.tif``, ``slice_012.png``), every page count that is looked at is one,
and their sizes agree. A folder of multi-page TIFFs is a folder of volumes; so is one whose names are no
numbers or whose pages differ in size. Files that a glob names are never stacked.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..formats import is_volume_file, open_volume
from ..formats.base import FormatError, VolumeSource
from .listing import natural_key

TIFF_SUFFIXES = (".tif", ".tiff")
SLICE_SUFFIXES = (*TIFF_SUFFIXES, ".png")
LOOKED_AT = 9
"""Headers read to decide, spread over the folder; the reader checks every slice when the volume is read."""


@dataclass(frozen=True, slots=True)
class SliceStack:
    """Slices of one volume in order of their number, and what to tell the user."""

    paths: tuple[Path, ...]
    note: str


def slice_stack(files: Sequence[Path]) -> SliceStack | None:
    """The stack that the files of one folder are, or None."""
    slices = [path for path in files if path.name.lower().endswith(SLICE_SUFFIXES)]
    if len(slices) < 2 or len({path.suffix.lower() for path in slices}) != 1:
        return None
    if not _numbered([path.stem for path in slices]):
        return None
    if any(not path.name.lower().endswith(SLICE_SUFFIXES) and is_volume_file(path) for path in files):
        return None
    slices.sort(key=lambda path: natural_key(path.name))
    if not _single_pages_of_one_size(slices):
        return None
    note = f"{len(slices)} single-page files of one size with numbers as names: read as one volume along Z"
    return SliceStack(paths=tuple(slices), note=note)


def _numbered(stems: Sequence[str]) -> bool:
    """Whether the names differ in the value of exactly one number, each value once."""
    split = [re.split(r"(\d+)", stem) for stem in stems]
    if len({len(parts) for parts in split}) != 1:
        return False
    differing = [column for column in zip(*split, strict=True) if len(set(column)) > 1]
    if len(differing) != 1 or not all(part.isdecimal() for part in differing[0]):
        return False
    return len({int(part) for part in differing[0]}) == len(stems)


def _single_pages_of_one_size(slices: Sequence[Path]) -> bool:
    step = max(1, (len(slices) - 1) // (LOOKED_AT - 1))
    shapes = set()
    coloured = 0
    for path in dict.fromkeys((*slices[::step], slices[-1])):
        try:
            with open_volume(VolumeSource(paths=(path,))) as volume:
                shapes.add(volume.header.shape)
        except FormatError as error:
            coloured += error.kind == "not-intensities"
            continue  # the case fails later, with its reason
        if len(shapes) > 1 or volume.header.shape[0] != 1:
            return False
    if coloured and slices[0].name.lower().endswith(TIFF_SUFFIXES):
        return bool(shapes)  # they may have several pages
    return bool(shapes) or coloured > 0  # one volume of colours fails, not a thousand slices
