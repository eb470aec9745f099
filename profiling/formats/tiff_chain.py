"""The chain of pages of a TIFF, walked once before the file is trusted.

tifffile notices a chain that bites its own tail only within its first hundred pages.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Final

from .base import FormatError

_BYTE_ORDERS: Final = {b"II": "<", b"MM": ">"}


def check_chain(path: Path) -> int:
    """Number of pages in the main chain.

    Raises:
        FormatError: no TIFF, cut short, or a page points back to an earlier one.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(16)
        order = _BYTE_ORDERS.get(start[:2])
        version = struct.unpack(order + "H", start[2:4])[0] if order and len(start) >= 8 else 0
        if version == 42 and order:
            number, entry, count = order + "I", 12, order + "H"
            offset = struct.unpack(number, start[4:8])[0]
        elif version == 43 and order and len(start) == 16:
            number, entry, count = order + "Q", 20, order + "Q"
            offset = struct.unpack(number, start[8:16])[0]
        else:
            msg = f"{path}: no TIFF (it starts with {start[:4]!r}); the file is damaged or of another format"
            raise FormatError(msg)
        seen: set[int] = set()
        while offset:
            if offset in seen:
                msg = f"{path}: page {len(seen)} points back to an earlier page; the file is damaged"
                raise FormatError(msg)
            seen.add(offset)
            file.seek(min(offset, size))
            tags = file.read(struct.calcsize(count))
            tags = tags if len(tags) == struct.calcsize(count) else bytes(struct.calcsize(count))
            end = offset + len(tags) + struct.unpack(count, tags)[0] * entry
            file.seek(min(end, size))
            following = file.read(struct.calcsize(number))
            if len(following) < struct.calcsize(number):
                msg = f"{path}: truncated: page {len(seen) - 1} at byte {offset} of {size} is not complete"
                raise FormatError(msg)
            offset = struct.unpack(number, following)[0]
    if not seen:
        msg = f"{path}: a TIFF without pages; it was not written to its end"
        raise FormatError(msg, kind="empty")
    return len(seen)
