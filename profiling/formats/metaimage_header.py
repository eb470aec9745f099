"""MetaImage headers (https://itk.org/Wiki/ITK/MetaIO/Documentation)."""

from __future__ import annotations

import re
from math import prod
from pathlib import Path
from typing import Any, Final

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

_TYPES: Final = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}


_REPEATABLE: Final = ("comment",)
"""Fields that say nothing of the voxels."""


def read_metaimage_header(path: Path) -> RawLayout:
    """Parse a ``.mha`` or ``.mhd`` header.

    Raises:
        FormatError: no MetaImage, or one of an unknown type or with data out of the folder.
    """
    text = read_text(path)
    fields, end = _fields(text, path)
    require_an_end(text, end, path)
    if not {"dimsize", "elementtype", "elementdatafile"} <= fields.keys():
        raise damaged(
            path, "no MetaImage header (DimSize, ElementType and ElementDataFile are not all there)"
        )
    sizes = numbers(fields["dimsize"], int, path, "DimSize")
    if not 2 <= len(sizes) <= 4 or any(n < 1 for n in sizes):
        raise damaged(path, f"DimSize = {sizes} is no shape")
    channels = numbers(fields.get("elementnumberofchannels", "1"), int, path, "ElementNumberOfChannels")[0]
    letters, stored = "tzyx"[-len(sizes) :], tuple(reversed(sizes))
    warnings = []
    if channels > 1:
        letters, stored = letters + "c", (*stored, channels)
        if fields["elementtype"] == "MET_UCHAR" and channels in (3, 4):
            warnings.append(f"{channels} components of uint8 are read as channels; they may be colours")
    data_path, offset, encoding = _data(fields, sizes, end, path)
    if encoding == "other":
        _require_exact_fields(text[:end], path)
        name = fields["elementdatafile"]
        require_one_reading(text[:end], "" if _is_numbered(name) else name, path)
    return RawLayout(
        letters=letters,
        stored=stored,
        dtype=_dtype(fields, path),
        encoding=encoding,
        data_path=data_path,
        offset=offset,
        spacing=_spacing(fields, len(sizes), path),
        unit=_unit(fields),
        directions=_directions(fields, len(sizes), path),
        affine=_affine(fields, len(sizes), path),
        several_files=_is_listed(fields["elementdatafile"]) or _is_numbered(fields["elementdatafile"]),
        warnings=tuple(warnings),
    )


def _fields(data: bytes, path: Path) -> tuple[dict[str, str], int]:
    fields: dict[str, str] = {}
    names: list[str] = []
    position = 0
    while position < len(data):
        stop = data.find(b"\n", position)
        stop = len(data) if stop < 0 else stop
        name, equals, value = data[position:stop].decode("latin-1").partition("=")
        position = stop + 1
        if not equals:
            break
        names.append(name.strip().lower())
        fields[names[-1]] = value.strip()
        if names[-1] == "elementdatafile":
            break
    require_once([name for name in names if name not in _REPEATABLE], path)
    return fields, position


def _dtype(fields: dict[str, str], path: Path) -> np.dtype[Any]:
    if fields["elementtype"] not in _TYPES:
        msg = f"{path}: ElementType {fields['elementtype']} is not supported; convert it to scalar numbers"
        raise FormatError(msg, kind="unsupported")
    big = fields.get("elementbyteordermsb", fields.get("binarydatabyteordermsb", "False"))
    return np.dtype((">" if _true(big) else "<") + _TYPES[fields["elementtype"]])


def _data(fields: dict[str, str], sizes: list[int], end: int, path: Path) -> tuple[Path, int, Encoding]:
    name = fields["elementdatafile"]
    if _is_listed(name):
        _require_listed_beside(name, sizes, path.read_bytes()[end:], path)
        return path, 0, "other"
    if _is_numbered(name):
        found = require_numbered_beside(name.split(), sizes[-1], path)
        if found.step < 1 or len(found) != sizes[-1]:  # MetaIO counts up, and writes beyond its memory
            raise damaged(path, f"it numbers {len(found)} data files for {sizes[-1]} planes")
        return path, 0, "other"
    local = name.upper() == "LOCAL"
    data_path = path if local else data_beside(path, name)
    skipped = numbers(fields.get("headersize", "0"), int, path, "HeaderSize")[0]
    if skipped < -1:
        raise damaged(path, f"HeaderSize = {skipped} is neither a number of bytes nor -1")
    if not _true(fields.get("binarydata", "True")):
        return data_path, 0, "other"
    if _true(fields.get("compresseddata", "False")):
        return data_path, (end if local else 0) + max(skipped, 0), "zlib"
    if skipped < 0:
        return data_path, -1, "raw"
    return data_path, (end if local else 0) + skipped, "raw"


def _require_listed_beside(name: str, sizes: list[int], lines: bytes, path: Path) -> None:
    """Check the files of a list, each of which holds the axes that ``LIST n`` says (all but the last).

    MetaIO leaves the memory of parts whose files are not listed as it is, whatever it holds.
    """
    axes = numbers(" ".join(name.split()[1:2]), int, path, "ElementDataFile = LIST")
    within = axes[0] if axes and 0 < axes[0] < len(sizes) else len(sizes) - 1
    listed = [line.strip() for line in lines.decode("latin-1").splitlines()]
    wanted = prod(sizes[within:])
    while listed and not listed[-1]:
        listed.pop()
    for file in filter(None, listed):
        data_beside(path, file)
    if len(listed) != wanted or not all(listed):
        raise damaged(path, f"it lists {sum(map(bool, listed))} data files, and its shape needs {wanted}")


def _is_listed(name: str) -> bool:
    return name.upper() == "LIST" or name.upper().startswith("LIST ")


def _is_numbered(name: str) -> bool:
    return re.search(r"%\d*d", name) is not None


def _require_exact_fields(header: bytes, path: Path) -> None:
    """Refuse what MetaIO would read in another way: it knows fields by their exact names, ``:`` as ``=``."""
    lines = [line.decode("latin-1").rstrip("\r") for line in header.splitlines(keepends=False)]
    names = [match.group(1) for line in lines if (match := re.match(r"(\w+)[ \t]*=", line))]
    if len(names) != len(lines) or names[-1] != "ElementDataFile":
        raise damaged(path, "its lines are not all of the form Field = value, ending in ElementDataFile")
    if len({name.lower() for name in names}) != len(names):
        raise damaged(path, "it states a field twice")


def _spacing(fields: dict[str, str], count: int, path: Path) -> tuple[float, ...] | None:
    for name in ("elementspacing", "elementsize"):
        if name in fields:
            values = numbers(fields[name], float, path, name)
            if len(values) == count:
                return tuple(values[:3])
    return None


def _unit(fields: dict[str, str]) -> Unit:
    parsed = parse_unit(fields.get("distanceunits"))
    return parsed[0] if parsed is not None and parsed[1] == 1.0 else "unknown"


def _directions(fields: dict[str, str], count: int, path: Path) -> NDArray[np.float64] | None:
    """Each row of the matrix is where an axis points, in LPS (ITK's convention)."""
    for name in ("transformmatrix", "rotation", "orientation"):
        if name in fields and count == 3:
            values = numbers(fields[name], float, path, name)
            if len(values) == 9:
                lps: NDArray[np.float64] = np.array(values, np.float64).reshape(3, 3).T
                return np.diag([-1.0, -1.0, 1.0]) @ lps
    return None


def _affine(fields: dict[str, str], count: int, path: Path) -> NDArray[np.float64] | None:
    """3 by 4 in RAS; None where the file states no origin."""
    directions, spacing = _directions(fields, count, path), _spacing(fields, count, path)
    name = next((name for name in ("offset", "position", "origin") if name in fields), None)
    if directions is None or spacing is None or name is None:
        return None
    lps = numbers(fields[name], float, path, name)
    if len(lps) != 3:
        return None
    origin = np.array([-1.0, -1.0, 1.0]) * np.array(lps, np.float64)
    return np.column_stack([directions * np.array(spacing, np.float64), origin])


def _true(word: str) -> bool:
    return word.strip().lower() in ("true", "1", "t")
