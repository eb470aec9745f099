"""What the text headers of NRRD and MetaImage say, in one form for both."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .base import FormatError, Unit, in_other_files

LARGEST_TEXT_HEADER = 1 << 20
"""Bytes; a header that has not ended by then is none."""

MOST_FILES = 100_000
"""Numbered files of one volume."""
_NUMBERED = re.compile(r"[^%]*%(0?\d)?d[^%]*")
"""A name with one number, at most nine digits wide; anything else after a percent sign is printf's."""
_CONTROLS = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]|\r(?!\n)")

Encoding = Literal["raw", "gzip", "zlib", "other"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RawLayout:
    """Where the voxels lie and what they mean."""

    letters: str
    """Axis letters as a C array has them, slowest first."""
    stored: tuple[int, ...]
    dtype: np.dtype[Any]
    """In the file's byte order."""
    encoding: Encoding
    """``other``: only SimpleITK can read it, and only whole."""
    data_path: Path
    """Of the voxels; the header itself where they lie in several files (:attr:`several_files`)."""
    offset: int
    """Of the first voxel (raw) or of the compressed stream; -1 counts back from the end of the file."""
    spacing: tuple[float, ...] | None
    """XYZ (or XY), exactly as stated; None where the header states none."""
    unit: Unit
    directions: NDArray[np.float64] | None
    """3 by 3, columns: where each voxel axis (XYZ) points in RAS."""
    affine: NDArray[np.float64] | None = None
    """3 by 4: voxel indices (XYZ) to RAS."""
    several_files: bool = False
    """Whether the header lists or numbers the files of the voxels."""
    warnings: tuple[str, ...] = field(default=())


def read_text(path: Path) -> bytes:
    """The first bytes of a file, which hold a text header if it has one."""
    with path.open("rb") as file:
        return file.read(LARGEST_TEXT_HEADER)


def require_an_end(data: bytes, end: int, path: Path) -> None:
    """Refuse a header of which :func:`read_text` read no end: what it calls voxels may be more header.

    Args:
        data: what was read.
        end: where the header ends in it.
        path: the file.
    """
    if len(data) == LARGEST_TEXT_HEADER and end >= len(data):
        raise damaged(path, f"its header has no end in {LARGEST_TEXT_HEADER:,} bytes")


def require_once(names: Sequence[str], path: Path) -> None:
    """Refuse a header that states a field twice: readers disagree about which of the two counts."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise damaged(path, f"it states the field {name!r} twice")
        seen.add(name)


def damaged(path: Path, why: str) -> FormatError:
    """A header that cannot be understood."""
    return FormatError(f"{path}: {why}; the header is damaged or not finished")


def data_beside(path: Path, name: str) -> Path:
    """The voxel file that a header names, which must lie in the header's folder."""
    if "\0" in name:
        raise damaged(path, "the name of its data file holds a zero byte")
    target = path.parent / name
    with in_other_files():
        if not target.resolve().is_relative_to(path.parent.resolve()):
            msg = f"{path}: its data file {name} lies outside the header's folder; put it beside the header"
            raise FormatError(msg, kind="outside")
        if not target.is_file():
            msg = f"{path}: its data file {name} is missing"
            raise FormatError(msg)
    return target


def numbers(text: str, kind: type[int] | type[float], path: Path, what: str) -> list[Any]:
    """White-space separated numbers of a header field."""
    try:
        return [kind(word) for word in text.split()]
    except ValueError as error:
        raise damaged(path, f"field {what!r} = {text[:60]!r} holds no numbers") from error


def require_numbered_beside(words: Sequence[str], count: int, path: Path) -> range:
    """Check each file that a pattern like ``slice%03d.raw 1 60 1`` names, as :func:`data_beside` does.

    Args:
        words: the pattern; first, last and step of the numbers, by default 1 to ``count``.
        count: planes of the volume.
        path: the header.

    Returns:
        The numbers.
    """
    pattern = words[0]
    if not _NUMBERED.fullmatch(pattern):
        raise damaged(path, f"{pattern!r} is no name of numbered files, such as slice%03d.raw")
    limits = [1, count, 1]
    stated = numbers(" ".join(words[1:4]), int, path, "numbers of its data files")
    limits[: len(stated)] = stated
    first, last, step = limits
    wanted = range(first, last + (1 if step > 0 else -1), step) if step else range(0)
    if not 0 < len(wanted) <= MOST_FILES:
        raise damaged(path, f"numbers {first} to {last} by {step} are no list of files")
    for number in wanted:
        data_beside(path, pattern % number)
    return wanted


def require_one_reading(header: bytes, name: str, path: Path) -> None:
    """Refuse what SimpleITK, which reads this header too, might take in another way.

    Lines end in other places for it where there are control characters, and it hands a ``name`` of the data
    file with a percent sign to printf.
    """
    if _CONTROLS.search(header):
        raise damaged(path, "it holds control characters")
    if "%" in name:
        raise damaged(path, f"the name of its data file, {name!r}, holds a percent sign")
