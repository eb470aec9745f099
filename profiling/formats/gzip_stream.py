"""One deflated stream (gzip or zlib), inflated forward into arrays, in bounded memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, Protocol

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from .base import FormatError
from .damage import damage_named

COMPRESSED_BUFFER: Final = 512 * 1024
"""Bytes read from disk at a time: throughput is flat from here up (measured: 64 KiB costs 5 %)."""
LARGEST_DEFLATE_RATIO: Final = 1032
"""Deflate codes at most 258 bytes in 2 bits (RFC 1951), so no stream inflates to more than this."""
_SKIP: Final = 1 << 20


class _ReadsInto(Protocol):
    def readinto(self, into: Any, /) -> int: ...


class _ZlibReader:
    """A zlib stream, which has no header and trailer of gzip, with the same interface."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._inflate = isal_zlib.decompressobj()
        self._pending = b""

    def readinto(self, into: Any, /) -> int:
        """Fill as much of a buffer as one step yields; 0 at the end of the stream."""
        while not self._inflate.eof:
            if not self._pending:
                self._pending = self._file.read(COMPRESSED_BUFFER)
            at_end = not self._pending
            data = self._inflate.decompress(self._pending, len(into))
            self._pending = self._inflate.unconsumed_tail
            if data:
                into[: len(data)] = data
                return len(data)
            if at_end and not self._inflate.eof:
                msg = "the stream ends without its end marker"
                raise EOFError(msg)
        return 0


class GzipStream:
    """Inflates a file at any offset; going back starts again from its beginning.

    The C reader behind ``igzip.open`` is used directly: it inflates into the caller's array without the copy,
    and the fifth of the time, that the buffered file object adds.
    """

    def __init__(self, path: Path, start: int = 0, wrapper: Literal["gzip", "zlib"] = "gzip") -> None:
        self._path = path
        self._start = start
        self._wrapper = wrapper
        self._file: BinaryIO = path.open("rb")
        self._restart()

    def require_room(self, declared: int) -> None:
        """Raise FormatError where the file is too small to inflate to so many bytes."""
        compressed = self._path.stat().st_size
        if declared > LARGEST_DEFLATE_RATIO * compressed:
            msg = (
                f"{self._path}: the header declares {declared} bytes, more than its {compressed} "
                "compressed bytes can hold; the file is truncated or damaged"
            )
            raise FormatError(msg)

    def read_into(self, into: NDArray[np.uint8], offset: int, *, last: bool = False) -> None:
        """Fill a byte array from an offset of the inflated data.

        Args:
            into: one-dimensional, contiguous.
            offset: of the first byte, in inflated data.
            last: whether nothing of interest follows; then the checksum is verified too, if the stream ends.

        Raises:
            FormatError: the stream is damaged or ends too early.
        """
        if offset < self._position:
            self._restart()
        scratch = np.empty(min(_SKIP, offset - self._position), np.uint8)
        while self._position < offset:
            self._fill(scratch[: offset - self._position])
        self._fill(into)
        if last:
            self._inflate(np.empty(1, np.uint8))

    def read_header(self, size: int) -> bytes:
        """Up to ``size`` bytes from the beginning; fewer where the data is shorter."""
        if self._position:
            self._restart()
        header = np.empty(size, np.uint8)
        done = 0
        while done < size and (got := self._inflate(header[done:])):
            done += got
        return header[:done].tobytes()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _restart(self) -> None:
        self._file.seek(self._start)
        self._reader: _ReadsInto
        if self._wrapper == "gzip":
            self._reader = isal_zlib._GzipReader(self._file, COMPRESSED_BUFFER)
        else:
            self._reader = _ZlibReader(self._file)
        self._position = 0

    def _fill(self, into: NDArray[np.uint8]) -> None:
        done = 0
        while done < into.size:
            got = self._inflate(into[done:])
            if got == 0:
                msg = (
                    f"{self._path}: truncated: the inflated data ends at byte {self._position}, "
                    f"{into.size - done} more are declared; get the file again"
                )
                raise FormatError(msg)
            done += got

    def _inflate(self, into: NDArray[Any]) -> int:
        what = f"{self._path}: damaged compressed data near byte {self._position}; get the file again"
        with damage_named(what):
            got = self._reader.readinto(into.data)
        self._position += got
        return got
