"""Changes to bytes that know nothing of a format: what disks, networks and other programs do to files."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

Rng = np.random.Generator
Mutation = Callable[[Rng, bytes], bytes]

HEADER: Final = 600
"""Bytes in which half of all changes fall: most headers end there."""
INTEGERS: Final = (0, 1, 2, 3, 7, 255, 2**15 - 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40)
LARGE_INTEGERS: Final = (2**53, 2**60, 2**63 - 1, 2**63, 2**64 - 1)
FLOATS: Final = (0.0, -0.0, -1.0, float("nan"), float("inf"), float("-inf"), 1e308, 5e-324, 1e-40, 3.5)


def place(rng: Rng, length: int) -> int:
    """A byte to change, in the header as often as anywhere."""
    return int(rng.integers(0, max(1, min(length, HEADER) if rng.random() < 0.5 else length)))


def truncate(rng: Rng, data: bytes) -> bytes:
    """The file ends early; at times within its first bytes, or a few before its end."""
    if rng.random() < 0.3:
        return data[: max(0, len(data) - int(rng.integers(1, 20)))]
    return data[: place(rng, len(data))]


def flip_bits(rng: Rng, data: bytes) -> bytes:
    """One to eight bits."""
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 9)) if data else 0):
        changed[place(rng, len(changed))] ^= 1 << int(rng.integers(0, 8))
    return bytes(changed)


def overwrite(rng: Rng, data: bytes) -> bytes:
    """A run of zeros, of ones, or of noise."""
    start, size = place(rng, len(data)), int(rng.integers(1, 200))
    run = (bytes(size), b"\xff" * size, rng.bytes(size))[int(rng.integers(0, 3))]
    return data[:start] + run[: len(data) - start] + data[start + size :]


def set_number(rng: Rng, data: bytes) -> bytes:
    """A number of two to eight bytes that programs forget to expect."""
    order = "<>"[int(rng.integers(0, 2))]
    if rng.random() < 0.3:
        kind = "fd"[int(rng.integers(0, 2))]
        value = FLOATS[int(rng.integers(0, len(FLOATS)))]
        with np.errstate(over="ignore"):
            word = struct.pack(order + kind, float(np.float32(value)) if kind == "f" else value)
    else:
        width = (2, 4, 8)[int(rng.integers(0, 3))]
        choices = INTEGERS + LARGE_INTEGERS
        value = choices[int(rng.integers(0, len(choices)))] % (1 << (8 * width))
        word = value.to_bytes(width, "little" if order == "<" else "big")
    start = place(rng, len(data)) // 2 * 2
    return (data[:start] + word + data[start + len(word) :])[: max(len(data), 1)]


def insert(rng: Rng, data: bytes) -> bytes:
    """Bytes that shift all that follows."""
    start = place(rng, len(data))
    return data[:start] + rng.bytes(int(rng.integers(1, 16))) + data[start:]


def delete(rng: Rng, data: bytes) -> bytes:
    """Bytes are gone, and all that follows moves up."""
    start = place(rng, len(data))
    return data[:start] + data[start + int(rng.integers(1, 64)) :]


def repeat(rng: Rng, data: bytes) -> bytes:
    """A piece stands twice, or junk follows the end."""
    start = place(rng, len(data))
    stop = min(len(data), start + int(rng.integers(1, 400)))
    return data[:stop] + data[start:] if rng.random() < 0.5 else data + rng.bytes(int(rng.integers(1, 400)))


def swap_bytes(rng: Rng, data: bytes) -> bytes:
    """The header in the other byte order."""
    width = (2, 4, 8)[int(rng.integers(0, 3))]
    stop = min(len(data), HEADER) // width * width
    return np.frombuffer(data[:stop], f"u{width}").byteswap().tobytes() + data[stop:]


MUTATIONS: Sequence[Mutation] = (
    truncate,
    flip_bits,
    flip_bits,
    overwrite,
    set_number,
    set_number,
    insert,
    delete,
    repeat,
    swap_bytes,
)
"""Those named twice are drawn twice as often."""


def mutate(rng: Rng, data: bytes) -> bytes:
    """One to three changes."""
    for _ in range(int(rng.integers(1, 4))):
        data = MUTATIONS[int(rng.integers(0, len(MUTATIONS)))](rng, data)
    return data
