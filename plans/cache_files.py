"""Arrays in a cache folder: made once, by one process, whole or not at all.

An array is written under a temporary name and renamed, and a lock lets one process work while the others
wait. Its room on the disk is taken before the first value is written: a mapped file on a disk that is full
would end the process with a bus error. What a killed process left behind is removed by the next one, and what
cannot be read is made anew.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from voxplan.profiling.formats.base import FormatError

CACHE_VARIABLE = "VOXPLAN_CACHE"
"""Environment variable that names the cache folder; ``off``: none."""

Arrays = dict[str, NDArray[Any]]
Sizes = Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]]
"""Shape and type by name."""


class CacheError(FormatError):
    """The cache folder cannot be used: full, or not writable."""


def default_cache_folder() -> Path | None:
    """``$VOXPLAN_CACHE``, else ``voxplan`` under ``XDG_CACHE_HOME``, else under ``~/.cache``.

    Returns:
        The folder, which need not exist; None where the variable says ``off``, or where the user has no home.
    """
    named = os.environ.get(CACHE_VARIABLE)
    if named == "off":
        return None
    if named:
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "voxplan"
    except RuntimeError:
        return None


def cached_paths(folder: Path, stem: str, names: Iterable[str]) -> dict[str, Path]:
    """The files of some arrays that belong together."""
    return {name: folder / (f"{stem}.{name}.npy" if name else f"{stem}.npy") for name in names}


def cached_arrays(
    folder: Path, stem: str, sizes: Sizes, fill: Callable[[Arrays], None], *, what: str
) -> Arrays:
    """Arrays of the cache, mapped read-only; ``fill`` writes their values where they are not there yet.

    Args:
        folder: of the cache; made if need be.
        stem: the files' names begin so; another one for other contents.
        sizes: of the arrays, by name.
        fill: gets empty arrays of these sizes.
        what: for error messages.

    Raises:
        CacheError: the disk has no room for them, or the folder cannot be written; says what to do.
    """
    paths = cached_paths(folder, stem, sizes)
    found = _mapped(paths, sizes)
    if found is not None:
        return found
    with _told(folder, what, sizes):
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / f"{stem}.lock").open("a", encoding="utf-8")
    with lock, _locked(lock) as alone:
        found = _mapped(paths, sizes)
        if found is not None:
            return found
        if alone:
            for left in folder.glob(f"{stem}.*.part"):
                left.unlink(missing_ok=True)
        _write(folder, stem, sizes, fill, paths, what)
        found = _mapped(paths, sizes)
    if found is None:
        msg = f"{what}: what was written to {folder} cannot be read again: is the disk sound?"
        raise CacheError(msg)
    return found


def _mapped(paths: Mapping[str, Path], sizes: Sizes) -> Arrays | None:
    """The arrays, if all are there and are what they should be."""
    arrays: Arrays = {}
    for name, (shape, dtype) in sizes.items():
        try:
            array = np.lib.format.open_memmap(paths[name], mode="r")
        except (OSError, ValueError):
            return None
        if array.shape != shape or array.dtype != dtype:
            return None
        arrays[name] = np.asarray(array)
    return arrays


def _write(
    folder: Path,
    stem: str,
    sizes: Sizes,
    fill: Callable[[Arrays], None],
    paths: Mapping[str, Path],
    what: str,
) -> None:
    temporary: dict[str, Path] = {}
    try:
        arrays: Arrays = {}
        with _told(folder, what, sizes):
            for name, (shape, dtype) in sizes.items():
                handle, text = tempfile.mkstemp(dir=folder, prefix=f"{stem}.", suffix=".part")
                os.close(handle)
                temporary[name] = Path(text)
                arrays[name] = np.lib.format.open_memmap(text, mode="w+", dtype=dtype, shape=shape)
                _take_room(temporary[name])
        fill(arrays)
        with _told(folder, what, sizes):
            for name, array in arrays.items():
                assert isinstance(array, np.memmap)
                array.flush()
                temporary[name].replace(paths[name])
    finally:
        for path in temporary.values():
            path.unlink(missing_ok=True)


def _take_room(path: Path) -> None:
    """Give a file all the blocks of its length, or raise OSError. Where that is unknown (macOS): nothing."""
    if not hasattr(os, "posix_fallocate"):
        return
    with path.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


@contextmanager
def _told(folder: Path, what: str, sizes: Sizes) -> Iterator[None]:
    """Errors of the disk as one line that says what to do."""
    try:
        yield
    except OSError as error:
        needed = sum(int(np.prod(shape, dtype=np.int64)) * dtype.itemsize for shape, dtype in sizes.values())
        msg = (
            f"{what}: cannot be cached in {folder}, where it needs {needed / 2**30:.3g} GiB "
            f"({error.strerror or error}): set {CACHE_VARIABLE} to another disk, or the plan's cache to "
            "'none'"
        )
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        raise CacheError(msg, kind="too-large" if full else "unreadable") from error


@contextmanager
def _locked(file: IO[str]) -> Iterator[bool]:
    """An exclusive lock on a file, waited for; whether there is one.

    Systems without ``fcntl``, and file systems without locks (Lustre may be mounted so), go without: then
    several processes may do the same work, each under names of its own.
    """
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX)
    except (ImportError, OSError):
        yield False
        return
    try:
        yield True
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)
