"""Volumes that declare far more voxels than their files hold."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

from .formats.base import FormatError, Volume

HOLLOW_BYTES: Final = 64 << 30
"""Below, even a volume of nothing but fill values is gone over in a minute or two (1 GB/s, measured)."""
HOLLOW_RATIO: Final = 1 << 14
"""Declared over stored bytes that no compressed data has: deflate reaches 1032 (RFC 1951), and sparse label
maps of connectomics, stored by zstd or without their empty chunks, a few thousand."""
CHUNK_BYTES: Final = 1 << 14
"""What looking for a chunk that is not there costs, in bytes of fill values (10 us in HDF5, more in Zarr)."""


def refuse_hollow(volumes: Iterable[Volume]) -> None:
    """Raise FormatError (``too-large``) for a volume that takes hours to read and holds almost nothing."""
    for volume in volumes:
        header = volume.header
        declared = header.voxels * header.channels * header.dtype.itemsize
        chunks = math.prod(-(-n // step) for n, step in zip(header.shape, header.block, strict=True))
        effort = max(declared, chunks * CHUNK_BYTES)
        if effort > HOLLOW_BYTES and not volume.stores(effort // HOLLOW_RATIO):
            msg = (
                f"{volume.source.name}: declares {' x '.join(map(str, header.shape))} voxels (ZYX), "
                f"{declared / 2**30:,.1f} GiB in {chunks:,} pieces, of which less than "
                f"{effort // HOLLOW_RATIO / 2**20:,.1f} MiB are stored; crop it to what is there, "
                "or read the headers alone (--headers-only)"
            )
            raise FormatError(msg, kind="too-large")
