"""What the text headers of NRRD and MetaImage say, in one form for both."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .base import FormatError, Unit

LARGEST_TEXT_HEADER = 1 << 20
"""Bytes; a header that has not ended by then is none."""

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
    offset: int
    """Of the first voxel (raw) or of the compressed stream; -1 counts back from the end of the file."""
    spacing: tuple[float, ...] | None
    """XYZ (or XY), exactly as stated; None where the header states none."""
    unit: Unit
    directions: NDArray[np.float64] | None
    """3 by 3, columns: where each voxel axis (XYZ) points in RAS."""
    affine: NDArray[np.float64] | None = None
    """3 by 4: voxel indices (XYZ) to RAS."""
    warnings: tuple[str, ...] = field(default=())


def read_text(path: Path) -> bytes:
    """The first bytes of a file, which hold a text header if it has one."""
    with path.open("rb") as file:
        return file.read(LARGEST_TEXT_HEADER)


def damaged(path: Path, why: str) -> FormatError:
    """A header that cannot be understood."""
    return FormatError(f"{path}: {why}; the header is damaged or not finished")


def data_beside(path: Path, name: str) -> Path:
    """The voxel file that a header names, which must lie in the header's folder."""
    if "\0" in name:
        raise damaged(path, "the name of its data file holds a zero byte")
    target = path.parent / name
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
