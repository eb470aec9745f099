"""The element lengths of a DICOM file, checked before GDCM is let near it.

GDCM allocates what an element declares, up to 4 GiB, before it notices that the file is shorter.
The structure walked here is that of DICOM PS3.5, chapter 7, and PS3.10, chapter 7.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO, Final

from .base import FormatError

_UNDEFINED: Final = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = (0xFFFE, 0xE000), (0xFFFE, 0xE00D), (0xFFFE, 0xE0DD)
_PIXELS: Final = ((0x7FE0, 0x0008), (0x7FE0, 0x0009), (0x7FE0, 0x0010))
_TRANSFER_SYNTAX: Final = (0x0002, 0x0010)
_LONG: Final = (*(b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"),)
"""Value representations whose length has four bytes."""
_BLOCK: Final = 1 << 16
_IMPLICIT, _BIG_ENDIAN, _DEFLATED = "1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"


def is_dicom(path: Path) -> bool:
    """Whether a file begins as DICOM files do."""
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def check_elements(path: Path) -> None:
    """Raise FormatError where a file is no DICOM, or an element declares more bytes than the file has."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(132)
        if start[128:] != b"DICM":
            msg = f"{path}: no DICOM file (no DICM at byte 128); it is empty, damaged or of another format"
            raise FormatError(msg)
        syntax, begin = _read_meta(file, path, size)
        if syntax != _DEFLATED:
            order = ">" if syntax == _BIG_ENDIAN else "<"
            _walk(file, begin, size, path, order, explicit=syntax != _IMPLICIT)


def _read_meta(file: BinaryIO, path: Path, size: int) -> tuple[str, int]:
    """Transfer syntax, and where the data set begins; the file meta group is explicit little-endian."""
    at, syntax = 132, ""
    while at + 8 <= size and _group(file, at) == 2:
        tag, _, length, header = _element(file, at, path, "<", explicit=True)
        _require(path, tag, length, size - at - header)
        if tag == _TRANSFER_SYNTAX:
            syntax = file.read(min(length, 64)).decode("ascii", "replace").strip("\0 ")
        at += header + length
    if not syntax:
        msg = f"{path}: the DICOM file names no transfer syntax; it is damaged or cut short"
        raise FormatError(msg)
    return syntax, at


def _group(file: BinaryIO, at: int) -> int:
    file.seek(at)
    return int.from_bytes(file.read(2), "little")


def _walk(file: BinaryIO, at: int, size: int, path: Path, order: str, *, explicit: bool) -> None:
    """Every element, those in sequences too; all lengths must lie within the file.

    Zeros may follow the pixels. Of other bytes there GDCM takes some for a length, and allocates it.
    """
    encodings = [explicit]
    seen_pixels = False
    while at + 8 <= size:
        if seen_pixels and _only_zeros(file, at):
            return
        tag, kind, length, header = _element(file, at, path, order, explicit=encodings[-1])
        left = size - at - header
        if tag in (_ITEM_END, _SEQUENCE_END):
            if len(encodings) > 1:
                encodings.pop()
            at += header
            continue
        if tag in _PIXELS:
            seen_pixels = True
            if length == _UNDEFINED:
                at = _walk_fragments(file, at + header, size, path, order)
                continue
        if length == _UNDEFINED:
            encodings.append(False if kind == b"UN" else encodings[-1])
            at += header
            continue
        _require(path, tag, length, left)
        is_sequence = kind == b"SQ" or (kind is None and length >= 8 and _begins_with_item(file, order))
        at += header if tag == _ITEM or is_sequence else header + length


def _walk_fragments(file: BinaryIO, at: int, size: int, path: Path, order: str) -> int:
    """The items of compressed pixels (PS3.5, A.4); where they end."""
    while at + 8 <= size:
        tag, _, length, header = _element(file, at, path, order, explicit=False)
        at += header
        if tag == _SEQUENCE_END:
            return at
        _require(path, tag, length, size - at)
        at += length
    return size


def _only_zeros(file: BinaryIO, at: int) -> bool:
    """Whether zeros follow, to the end of the file."""
    file.seek(at)
    while block := file.read(_BLOCK):
        if any(block):
            return False
    return True


def _element(
    file: BinaryIO, at: int, path: Path, order: str, *, explicit: bool
) -> tuple[tuple[int, int], bytes | None, int, int]:
    """Tag, value representation (None where implicit), length, and bytes of the element's head."""
    file.seek(at)
    head = file.read(8)
    group, element = struct.unpack(order + "HH", head[:4])
    if group == 0xFFFE or not explicit:
        return (group, element), None, struct.unpack(order + "I", head[4:])[0], 8
    kind = head[4:6]
    if not (kind.isalpha() and kind.isupper()):
        msg = (
            f"{path}: DICOM element ({group:04x},{element:04x}) at byte {at} has no valid type; it is damaged"
        )
        raise FormatError(msg)
    if kind not in _LONG:
        return (group, element), kind, struct.unpack(order + "H", head[6:])[0], 8
    rest = file.read(4)
    if len(rest) < 4:
        msg = f"{path}: truncated at byte {at}, in DICOM element ({group:04x},{element:04x})"
        raise FormatError(msg)
    return (group, element), kind, struct.unpack(order + "I", rest)[0], 12


def _begins_with_item(file: BinaryIO, order: str) -> bool:
    return file.read(4) == struct.pack(order + "HH", *_ITEM)


def _require(path: Path, tag: tuple[int, int], length: int, left: int) -> None:
    if length > left:
        msg = (
            f"{path}: truncated: DICOM element ({tag[0]:04x},{tag[1]:04x}) declares {length} bytes, "
            f"the file has {max(left, 0)} more; get the file again"
        )
        raise FormatError(msg)
