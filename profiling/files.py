"""Writing files so that a reader sees the old one or the new one, never half of either."""

from __future__ import annotations

import contextlib
import os
import random
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
    """As :func:`write_atomically`, for a file that is written piece by piece."""
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
