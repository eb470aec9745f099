"""NRRD headers (http://teem.sourceforge.net/nrrd/format.html)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from .base import FormatError, Unit
from .raw_layout import (
    Encoding,
    RawLayout,
    damaged,
    data_beside,
    numbers,
    read_text,
    require_an_end,
    require_numbered_beside,
    require_once,
    require_one_reading,
)
from .units import parse_unit

_TYPES: Final[dict[str, str]] = {
    **dict.fromkeys(("signed char", "int8", "int8_t"), "i1"),
    **dict.fromkeys(("uchar", "unsigned char", "uint8", "uint8_t"), "u1"),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), "i2"),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), "u2"),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t"), "i4"),
    **dict.fromkeys(("uint", "unsigned int", "uint32", "uint32_t"), "u4"),
    **dict.fromkeys(
        (
            "longlong",
            "long long",
            "long long int",
            "signed long long",
            "signed long long int",
            "int64",
            "int64_t",
        ),
        "i8",
    ),
    **dict.fromkeys(
        ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"), "u8"
    ),
    "float": "f4",
    "double": "f8",
}
_ENCODINGS: Final[dict[str, Encoding]] = {"raw": "raw", "gzip": "gzip", "gz": "gzip"}
_ORDERS: Final[dict[str, Literal["<", ">"]]] = {"little": "<", "big": ">"}
_SPACES: Final[dict[str, tuple[int, int, int]]] = {
    "right-anterior-superior": (1, 1, 1),
    "ras": (1, 1, 1),
    "left-anterior-superior": (-1, 1, 1),
    "las": (-1, 1, 1),
    "left-posterior-superior": (-1, -1, 1),
    "lps": (-1, -1, 1),
}
"""Signs that turn a world vector of the space into RAS."""
_COLOURS: Final = ("rgb-color", "rgba-color", "hsv-color", "xyz-color")
_COLOUR_OR_COMPLEX: Final = (*_COLOURS, "complex")
_SPATIAL_KINDS: Final = ("domain", "space", "???", "none", "")


def read_nrrd_header(path: Path) -> RawLayout:
    """Parse a ``.nrrd`` or ``.nhdr`` header.

    Raises:
        FormatError: no NRRD, or one whose voxels are colours, complex numbers or out of the folder.
    """
    data = read_text(path)
    if not data.startswith(b"NRRD000"):
        msg = f"{path}: no NRRD file; it is empty, cut short or of another format"
        raise FormatError(msg)
    fields, end = _fields(data, path)
    require_an_end(data, end, path)
    if not {"type", "dimension", "sizes", "encoding"} <= fields.keys():
        raise damaged(path, "the fields type, dimension, sizes and encoding are not all there")
    sizes = numbers(fields["sizes"], int, path, "sizes")
    if not 2 <= len(sizes) <= 5 or any(n < 1 for n in sizes) or fields["dimension"] != str(len(sizes)):
        raise damaged(path, f"sizes {sizes} are no shape of dimension {fields['dimension']}")
    directions = _directions(fields, len(sizes), path)
    letters = _letters(fields, len(sizes), directions, path)
    spatial = [i for i, letter in enumerate(letters) if letter in "xyz"]
    encoding: Encoding = _ENCODINGS.get(fields["encoding"].lower(), "other")
    data_path, offset, encoding = _data(fields, end, path, encoding)
    name = fields.get("data file", fields.get("datafile", ""))
    if encoding == "other":
        require_one_reading(data[:end], "" if _is_numbered(name) else name, path)
    return RawLayout(
        letters=letters[::-1],
        stored=tuple(reversed(sizes)),
        dtype=_dtype(fields, path),
        encoding=encoding,
        data_path=data_path,
        offset=offset,
        spacing=_spacing(fields, directions, spatial, path),
        unit=_unit(fields, spatial),
        directions=_ras(fields, directions, spatial),
        affine=_affine(fields, directions, spatial, path),
        several_files=name.startswith("LIST") or _is_numbered(name),
    )


def _fields(data: bytes, path: Path) -> tuple[dict[str, str], int]:
    """Fields by lower-case name, and where the header ends (the blank line, or the end of the file)."""
    fields: dict[str, str] = {}
    names: list[str] = []
    position = 0
    while position < len(data):
        stop = data.find(b"\n", position)
        stop = len(data) if stop < 0 else stop
        line = data[position:stop].rstrip(b"\r").decode("latin-1")
        position = stop + 1
        if not line:
            break
        name, colon, value = line.partition(":")
        if colon and not line.startswith("#") and not value.startswith("="):
            fields[name.strip().lower()] = value.strip()
            names.append(name.strip().lower().replace(" ", ""))
        if colon and name.strip().lower() in ("data file", "datafile") and value.strip().startswith("LIST"):
            break
    require_once(names, path)
    return fields, position


def _dtype(fields: dict[str, str], path: Path) -> np.dtype[Any]:
    name = fields["type"].lower()
    if name not in _TYPES:
        msg = f"{path}: NRRD type {fields['type']!r} is not supported; convert the file to scalar numbers"
        raise FormatError(msg, kind="unsupported")
    dtype = np.dtype(_TYPES[name])
    endian = fields.get("endian", "").lower()
    if dtype.itemsize > 1 and endian not in _ORDERS and fields["encoding"].lower() in _ENCODINGS:
        raise damaged(path, f"endian is {endian!r}, neither little nor big, as type {name} needs")
    return dtype.newbyteorder(_ORDERS.get(endian, "<"))


def _directions(fields: dict[str, str], count: int, path: Path) -> list[list[float] | None] | None:
    """One world vector per axis (None for an axis that is not spatial), or None without the field."""
    if "space directions" not in fields:
        return None
    found: list[list[float] | None] = []
    for token in re.findall(r"none|\([^)]*\)", fields["space directions"]):
        found.append(
            None
            if token == "none"
            else numbers(token.strip("()").replace(",", " "), float, path, "space directions")
        )
    if len(found) != count:
        raise damaged(path, f"space directions name {len(found)} axes of {count}")
    return found


def _letters(
    fields: dict[str, str], count: int, directions: list[list[float] | None] | None, path: Path
) -> str:
    """Letters of the axes, fastest first: the kinds say which are spatial, else the directions do."""
    kinds = fields.get("kinds", "").lower().split()
    kinds = kinds if len(kinds) == count else [""] * count
    colour = next((k for k in kinds if k in _COLOUR_OR_COMPLEX), None)
    if colour is not None:
        msg = f"{path}: voxels are of kind {colour}, not intensities or labels; convert it to scalar values"
        raise FormatError(msg, kind="not-intensities")
    spatial = [kind in _SPATIAL_KINDS for kind in kinds]
    if directions is not None and sum(d is not None for d in directions) in (2, 3):
        spatial = [d is not None for d in directions]
    if sum(spatial) > 3:
        spatial = [i < 3 for i in range(count)]
    if sum(spatial) < 2:
        raise damaged(path, f"kinds {kinds} name fewer than two spatial axes")
    space, other = iter("xyz"), iter("ctuv")
    return "".join(next(space) if is_space else next(other) for is_space in spatial)


def _data(fields: dict[str, str], end: int, path: Path, encoding: Encoding) -> tuple[Path, int, Encoding]:
    name = fields.get("data file", fields.get("datafile"))
    if name is not None and name.startswith("LIST"):
        for line in path.read_bytes()[end:].decode("latin-1").splitlines():
            if line.strip():
                data_beside(path, line.strip())
        return path, 0, "other"
    if name is not None and _is_numbered(name):
        words = name.split()
        if len(words) < 4:
            raise damaged(path, f"data file {name!r} lacks the first, last and step of its numbers")
        require_numbered_beside(words, 0, path)
        return path, 0, "other"
    skipped_lines = int(fields.get("line skip", fields.get("lineskip", "0")) or 0)
    skipped = int(fields.get("byte skip", fields.get("byteskip", "0")) or 0)
    if skipped < -1:
        raise damaged(path, f"byte skip {skipped} is neither a number of bytes nor -1")
    data_path = path if name is None else data_beside(path, name)
    if skipped_lines or (skipped and encoding == "gzip"):
        return data_path, 0, "other"
    if skipped < 0:
        return data_path, -1, encoding
    return data_path, (end if name is None else 0) + skipped, encoding


def _is_numbered(name: str) -> bool:
    return re.search(r"%\d*d", name) is not None


def _spacing(
    fields: dict[str, str], directions: list[list[float] | None] | None, spatial: list[int], path: Path
) -> tuple[float, ...] | None:
    if directions is not None:
        vectors = [directions[i] for i in spatial]
        return tuple(float(np.sqrt(sum(v * v for v in vector or [0.0]))) for vector in vectors)
    if "spacings" in fields:
        values = numbers(fields["spacings"], float, path, "spacings")
        if len(values) > max(spatial):
            return tuple(values[i] for i in spatial)
    return None


def _unit(fields: dict[str, str], spatial: list[int]) -> Unit:
    words = re.findall(r'"([^"]*)"', fields.get("space units", ""))
    if not words:
        per_axis = re.findall(r'"([^"]*)"', fields.get("units", ""))
        words = [per_axis[i] for i in spatial if i < len(per_axis)]
    parsed = {parse_unit(word) for word in words}
    if len(parsed) != 1:
        return "unknown"
    unit = parsed.pop()
    return unit[0] if unit is not None and unit[1] == 1.0 else "unknown"


def _ras(
    fields: dict[str, str], directions: list[list[float] | None] | None, spatial: list[int]
) -> NDArray[np.float64] | None:
    signs = _SPACES.get(fields.get("space", "").lower())
    if signs is None or directions is None or len(spatial) != 3:
        return None
    vectors = [directions[i] for i in spatial]
    if any(vector is None or len(vector) != 3 for vector in vectors):
        return None
    return np.array(signs, np.float64)[:, np.newaxis] * np.array(vectors, np.float64).T


def _affine(
    fields: dict[str, str], directions: list[list[float] | None] | None, spatial: list[int], path: Path
) -> NDArray[np.float64] | None:
    """3 by 4 in RAS; None where the file states no origin of a known space."""
    steps = _ras(fields, directions, spatial)
    signs = _SPACES.get(fields.get("space", "").lower())
    if steps is None or signs is None or "space origin" not in fields:
        return None
    origin = numbers(fields["space origin"].strip("() ").replace(",", " "), float, path, "space origin")
    if len(origin) != 3:
        return None
    return np.column_stack([steps, np.array(signs, np.float64) * np.array(origin, np.float64)])
