"""Indexed PNG with one transparent entry: label maps to lay over an image."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def encode_indexed(indices: NDArray[np.uint8], palette: Sequence[tuple[int, int, int]]) -> bytes:
    """A PNG file of ``(height, width)`` indices; index 0 is transparent, ``palette`` starts at index 1.

    Raises:
        ValueError: an index has no colour.
    """
    height, width = indices.shape
    if indices.size and int(indices.max()) > len(palette):
        msg = f"label index {int(indices.max())} has no colour: the palette has {len(palette)}"
        raise ValueError(msg)
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    colours = bytes(value for colour in ((0, 0, 0), *palette) for value in colour)
    rows = np.zeros((height, width + 1), np.uint8)  # each row begins with its filter: none
    rows[:, 1:] = indices
    return b"".join(
        (
            SIGNATURE,
            _chunk(b"IHDR", header),
            _chunk(b"PLTE", colours),
            _chunk(b"tRNS", b"\x00"),
            _chunk(b"IDAT", zlib.compress(rows.tobytes(), 9)),
            _chunk(b"IEND", b""),
        )
    )


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
