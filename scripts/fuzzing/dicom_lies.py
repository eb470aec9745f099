"""Elements of a DICOM file whose values lie, and whose lengths are right (PS3.5, chapter 7)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from .mutations import INTEGERS, Rng

PREAMBLE: Final = 132
META: Final = 2
"""The group that names its types; SimpleITK writes all others without (implicit, little-endian)."""
LONG_TYPE: Final = b"OB"
"""Of the file's version: its length has four bytes behind two that are reserved."""
SHORTS: Final = (0x0002, 0x0006, 0x0010, 0x0011, 0x0100, 0x0101, 0x0102, 0x0103)
"""Elements of group 0028 that are numbers of two bytes: samples, layout, rows, columns, bits, sign."""
STRINGS: Final = (
    *((0x0028, 0x0008, b"IS"), (0x0028, 0x0004, b"CS"), (0x0028, 0x0030, b"DS"), (0x0018, 0x0050, b"DS")),
    *((0x0028, 0x1052, b"DS"), (0x0028, 0x1053, b"DS"), (0x0020, 0x0032, b"DS"), (0x0020, 0x0037, b"DS")),
    *((0x0002, 0x0010, b"UI"), (0x0008, 0x0016, b"UI"), (0x0020, 0x000E, b"UI")),
)
"""Frames, colours, spacing, thickness, scaling, position, direction; transfer syntax, class, series."""
TEXTS: Final = (
    *(
        "",
        "0",
        "-1",
        "nan",
        "inf",
        "1e308",
        "2147483647",
        "9" * 20,
        "1\\1",
        "0\\0",
        "0\\0\\0",
        "nan\\nan\\nan",
    ),
    *("1\\0\\0\\0\\1\\0", "0\\0\\0\\0\\0\\0", "1e-320\\1e320", "x" * 3000, "\\" * 500),
    *("RGB", "PALETTE COLOR", "YBR_FULL_422", "MONOCHROME1"),
    # Transfer syntaxes: implicit, big-endian, deflated, runs, JPEG (three kinds), MPEG; a class.
    *("1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.5"),
    *(
        "1.2.840.10008.1.2.4.50",
        "1.2.840.10008.1.2.4.70",
        "1.2.840.10008.1.2.4.90",
        "1.2.840.10008.1.2.4.100",
    ),
    "1.2.840.10008.5.1.4.1.1.2.1",
)


class Element(NamedTuple):
    """One element of the top level."""

    group: int
    number: int
    kind: bytes
    value: bytes

    def __bytes__(self) -> bytes:
        size = len(self.value)
        if self.group != META:
            return struct.pack("<HHI", self.group, self.number, size) + self.value
        head = struct.pack("<HH2s", self.group, self.number, self.kind)
        length = struct.pack("<HI", 0, size) if self.kind == LONG_TYPE else struct.pack("<H", size)
        return head + length + self.value


def elements(data: bytes) -> Iterator[Element]:
    """Those of a file that SimpleITK has written."""
    at = PREAMBLE
    while at + 8 <= len(data):
        group, number, kind = struct.unpack_from("<HH2s", data, at)
        if group != META:
            kind, start, size = b"", at + 8, struct.unpack_from("<I", data, at + 4)[0]
        elif kind == LONG_TYPE:
            start, size = at + 12, struct.unpack_from("<I", data, at + 8)[0]
        else:
            start, size = at + 8, struct.unpack_from("<H", data, at + 6)[0]
        yield Element(group, number, kind, data[start : start + size])
        at = start + size


def lie_in_dicom(rng: Rng, files: dict[str, bytes]) -> dict[str, bytes]:
    """One to three elements of one file, or of all, get other values; or they are added, or lost."""
    changes = [_change(rng) for _ in range(int(rng.integers(1, 4)))]
    one = list(files)[int(rng.integers(0, len(files)))]
    return {
        name: _written(data, changes) if name == one or rng.random() < 0.5 else data
        for name, data in files.items()
    }


def _change(rng: Rng) -> Element:
    if rng.random() < 0.5:
        value = INTEGERS[int(rng.integers(0, len(INTEGERS)))] % (1 << 16)
        return Element(0x28, SHORTS[int(rng.integers(0, len(SHORTS)))], b"US", struct.pack("<H", value))
    group, number, kind = STRINGS[int(rng.integers(0, len(STRINGS)))]
    text = TEXTS[int(rng.integers(0, len(TEXTS)))].encode()
    return Element(group, number, kind, text + (b"\0" if kind == b"UI" else b" ") * (len(text) % 2))


def _written(data: bytes, changes: list[Element]) -> bytes:
    table = {(e.group, e.number): e for e in elements(data)} | {(e.group, e.number): e for e in changes}
    meta = b"".join(bytes(e) for key, e in sorted(table.items()) if key[0] == META and key[1] != 0)
    length = Element(META, 0, b"UL", struct.pack("<I", len(meta)))
    rest = b"".join(bytes(e) for key, e in sorted(table.items()) if key[0] != META)
    return data[:PREAMBLE] + bytes(length) + meta + rest
