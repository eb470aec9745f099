"""Writing files so that a reader sees the old one or the new one, never half of either."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


def write_atomically(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Write to a temporary name in the same folder, flush, and rename.

    Args:
        path: the file; its folder must exist.
        content: all of it.
        durable: flush to the disk before renaming, so that a power cut leaves no empty file.

    Raises:
        OSError: the folder is not there, not writable, or full; nothing is left behind.
    """
    with writing_atomically(path, durable=durable) as file:
        file.write(content)


@contextlib.contextmanager
def writing_atomically(path: Path, *, durable: bool = True) -> Iterator[BinaryIO]:
    """As :func:`write_atomically`, for a file that is written piece by piece.

    A device (``/dev/null``) is not replaced.
    """
    if path.is_char_device() or path.is_block_device():
        raise OSError(errno.EINVAL, "is a device, which a file would replace", os.fspath(path))
    try:
        descriptor, temporary = _open_beside(path)
    except OSError as error:
        raise type(error)(error.errno, error.strerror, os.fspath(path)) from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError) and error.filename in (None, os.fspath(temporary)):
            raise type(error)(error.errno, error.strerror, os.fspath(path)) from error
        raise


@contextlib.contextmanager
def opened_regular(path: Path) -> Iterator[BinaryIO]:
    """A file to read; of a pipe, which may be silent for ever, or a device none.

    Raises:
        OSError: it cannot be opened, or is no regular file.
    """
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "is no regular file", os.fspath(path))
        yield file


def read_regular(path: Path, most: int = -1) -> bytes:
    """The first bytes of a file, all of them by default; see :func:`opened_regular`."""
    with opened_regular(path) as file:
        return file.read(most)


def unwritable(path: Path, example: str) -> str | None:
    """Why no file can be written at a path, as far as it shows at once; None if nothing is in the way.

    Args:
        path: of the file.
        example: a file name for who gave a folder.
    """
    if path.is_dir():
        return f"{path}: is a folder; name the file, e.g. {path / example}"
    if path.exists() and not path.is_file():
        return f"{path}: is a pipe or device, which a file would replace; name a file, e.g. {example}"
    if not path.absolute().parent.is_dir():
        return f"{path}: the folder {path.parent} does not exist"
    return None


def remove_leftovers(path: Path) -> None:
    """Remove what killed runs left of a file; for who alone writes it."""
    with contextlib.suppress(OSError):
        for entry in path.parent.iterdir():
            if entry.name.startswith(f".{path.name}.") and entry.suffix == ".tmp":
                entry.unlink(missing_ok=True)


def _open_beside(path: Path) -> tuple[int, Path]:
    """A new file of a name that no other process or thread has, with the usual mode."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    while True:
        name = f".{path.name}.{os.getpid():x}-{random.getrandbits(48):012x}.tmp"
        temporary = path.with_name(name)
        with contextlib.suppress(FileExistsError):
            return os.open(temporary, flags, 0o666), temporary
