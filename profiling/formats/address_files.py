"""What lies at an fsspec address: its Zarr stores, and whether their files are those of the last run."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import has_magic
from pathlib import Path
from typing import Any, Final

from .address import address_text, is_address
from .base import FormatError
from .damage import LIBRARY_ERRORS, shortened

_CHANGES_WITH_CONTENT: Final = (
    "mtime",
    "LastModified",
    "last_modified",
    "modify",
    "updated",
    "ETag",
    "etag",
    "CRC",
    "created",
)
"""What file systems say of a file that another content changes."""
_NO_RANGES: Final = "support range requests"
"""In what fsspec says of a server that sends whole files only."""
_last_run = ""
"""Of this process; "" before the first, and since cases were looked for."""
STORE_SUFFIX: Final = ".zarr"
STORE_FILES: Final = ("zarr.json", ".zgroup", ".zarray")


def stores_at(place: Path) -> list[Path]:
    """The Zarr stores at an address: those that match its glob, itself, or those in the folder that it is.

    Raises:
        FormatError: nothing answers there, the protocol is not known, or its package is not installed.
    """
    address = address_text(place)
    with reaching(address):
        system, path = _file_system(address)
        if has_magic(path):
            return [_beside(address, path, found) for found in sorted(system.glob(path))]
        if place.name.lower().endswith(STORE_SUFFIX) or any(
            system.exists(os.path.join(path, name))  # noqa: PTH118 - a path of another file system
            for name in STORE_FILES
        ):
            return [place]
        try:
            inside = sorted(str(name).rstrip("/") for name in system.ls(path, detail=False))
        except (FileNotFoundError, NotADirectoryError):
            return []
        return [_beside(address, path, found) for found in inside if found.lower().endswith(STORE_SUFFIX)]


def state_of_address(place: Path) -> list[str] | None:
    """Names, sizes and times (or checksums) of all files at an address; None where they are not told."""
    address = address_text(place)
    files: dict[str, dict[str, Any]] = {}
    with suppress(ImportError, *LIBRARY_ERRORS):
        system, path = _file_system(address)
        system.invalidate_cache()
        files = system.find(path, detail=True)
    lines = [f"address {address}"]
    for name in sorted(files):
        known = [str(files[name][key]) for key in _CHANGES_WITH_CONTENT if files[name].get(key) is not None]
        if not known:
            return None
        lines.append(f"{name} {files[name].get('size')} {' '.join(known)}")
    return lines if files else None


def _file_system(address: str) -> tuple[Any, str]:
    """fsspec's file system and the path in it."""
    from fsspec.core import url_to_fs

    system, path = url_to_fs(address)
    return system, str(path)


def look_anew(run: str = "") -> None:
    """Let go of what fsspec holds of earlier runs of this process: copies, listings, open archives.

    Args:
        run: the run that goes on; nothing is let go of where it is the first here since the cases were looked
            for, or the last one. "" where cases are looked for.
    """
    global _last_run
    last, _last_run = _last_run, run
    if run and last in ("", run):
        return
    fsspec = sys.modules.get("fsspec")
    for kind in set(fsspec.registry.values()) if fsspec is not None else ():
        if not kind.async_impl:  # of this machine, or a cache or archive of other files
            kind.clear_instance_cache()
            continue
        for server in list(kind._cache.values()):  # has open connections, and copies of listings alone
            server.invalidate_cache()


@contextmanager
def reaching(address: str) -> Iterator[None]:
    """Raise :class:`.base.FormatError` for whatever fsspec and zarr raise inside."""
    try:
        yield
    except FormatError:
        raise
    except ImportError as error:
        msg = f"{address}: needs a package for this kind of address ({shortened(error)})"
        raise FormatError(msg, kind="missing-extra") from error
    except FileNotFoundError as error:
        msg = f"{address}: no Zarr store there (neither zarr.json nor .zgroup nor .zarray)"
        raise FormatError(msg) from error
    except LIBRARY_ERRORS as error:
        if isinstance(error, OSError):
            raise _unreached(address, error) from error
        msg = f"{address}: cannot be opened as Zarr ({shortened(error)})"
        if _NO_RANGES in str(error):
            first, _, rest = address.partition("::")
            msg += f"; let the whole file be fetched first: {first}::simplecache::{rest}"
        raise FormatError(msg) from error
    except Exception as error:
        raise _unreached(address, error) from error


@contextmanager
def answering(place: Path) -> Iterator[None]:
    """What a server or a network raises while an address is read as FormatError ``access``.

    Errors of other kinds, and all of paths of this machine, are left as they are.
    """
    try:
        yield
    except FormatError:
        raise
    except Exception as error:
        of_a_library = isinstance(error, LIBRARY_ERRORS) and not isinstance(error, OSError)
        if of_a_library or not is_address(place):
            raise
        raise _unreached(address_text(place), error) from error


def _unreached(address: str, error: Exception) -> FormatError:
    msg = f"{address}: cannot be reached ({shortened(error)})"
    return FormatError(msg, kind="access")


def _beside(address: str, path: str, found: str) -> Path:
    """The address of another path in the same file system."""
    head, chain, tail = address.partition("::")
    if chain and ":" not in head:  # simplecache::s3://bucket/*.zarr: the path stands at the end
        return Path(_with_path(address, path, found))
    return Path(_with_path(head, path, found) + chain + tail)


def _with_path(address: str, path: str, found: str) -> str:
    fixed = path.lstrip("/")
    start = address[: len(address) - len(fixed)] if fixed and address.endswith(fixed) else address
    return start.rstrip("/") + "/" + found.lstrip("/") if not fixed else start + found.lstrip("/")
