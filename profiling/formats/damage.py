"""What the format libraries raise on damaged files, turned into one line that names the file."""

from __future__ import annotations

import errno
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, cast

from isal import isal_zlib

from .base import FormatError

LIBRARY_ERRORS: Final[tuple[type[Exception], ...]] = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SystemError,
    TypeError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
    cast("type[Exception]", isal_zlib.IsalError),
)
"""Seen from h5py, tifffile, imagecodecs, zarr, numcodecs, zipfile and xml on files with changed bytes."""

NOT_THE_FILES_FAULT: Final = frozenset(
    (
        errno.EACCES,
        errno.EPERM,
        errno.EIO,
        errno.EAGAIN,
        errno.EBUSY,
        errno.EMFILE,
        errno.ENFILE,
        errno.ESTALE,
        errno.ETIMEDOUT,
        errno.ENODEV,
        errno.ENOTCONN,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ECONNREFUSED,
        errno.ECONNRESET,
    )
)
"""Errors of permissions, disks and networks (errno): the file may be whole, and another run may read it."""

LONGEST_REASON: Final = 200
"""Characters of a library's own message that are worth showing."""


def shortened(error: BaseException) -> str:
    """A library's message without line breaks, cut to a readable length."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= LONGEST_REASON else f"{text[:LONGEST_REASON]}..."


@contextmanager
def damage_named(what: str) -> Iterator[None]:
    """Raise :class:`FormatError` ``what (the library's reason)`` for anything a library raises inside.

    Memory that cannot be had is ``too-large``: the file declares more than the machine has. What another run
    may be able to read is ``access``.
    """
    try:
        yield
    except FormatError:
        raise
    except LIBRARY_ERRORS as error:
        msg = f"{what} ({shortened(error)})"
        if isinstance(error, OSError) and error.errno in NOT_THE_FILES_FAULT:
            where = what.partition(": ")[0]
            msg = (
                f"{where}: cannot be read here and now ({shortened(error)}); the same command tries it again"
            )
            raise FormatError(msg, kind="access") from error
        kind = "too-large" if isinstance(error, MemoryError) else "unreadable"
        raise FormatError(msg, kind=kind) from error
