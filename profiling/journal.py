"""One small file a finished case, so that a killed run resumes and an unchanged folder is not read again.

An entry's name is a digest of what its content depends on: the case's files with their sizes and modification
times, the keys, the options and the version of the computation. A changed file therefore has another name,
and stale entries are simply never asked for. Workers write entries themselves, under a temporary name.
Entries of small cases share a file, a pack: making a file takes longer than reading such a case.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .codec import CodecError, decode, encode
from .files import opened_regular, read_regular, write_atomically
from .formats import files_beside
from .formats.address import is_address
from .formats.address_files import state_of_address
from .formats.base import CaseSource, VolumeSource
from .formats.store_files import store_files

ENTRY_SUFFIX = ".case"
PACK_SUFFIX = ".cases"
COMPUTATION = 5
"""To be raised whenever the same file would give other numbers, so that older entries are not used."""


def journal_folder(output: Path) -> Path:
    """Where the journal of an output file lies: beside it."""
    return output.with_name(output.name + ".journal")


def entry_name(case: CaseSource, options: object) -> str:
    """Digest of all that a case's result depends on.

    ``options`` must have a ``repr`` that shows every value (a dataclass does).
    """
    parts = [f"computation {COMPUTATION}", repr(options), case.id]
    for source in (*case.images, *([case.label] if case.label is not None else [])):
        parts += _source_state(source)
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:40]


def _source_state(source: VolumeSource) -> list[str]:
    lines = [f"key {source.key!r}"]
    for path in source.paths:
        lines += path_state(path)
    return lines


def path_state(path: Path) -> list[str]:
    """Name, size and modification time; of every file below a folder (Zarr, links in it included).

    A missing file says so.
    """
    if is_address(path):
        return state_of_address(path) or [f"address {path} {_never_again()}"]
    whole = os.path.join(os.getcwd(), path)  # noqa: PTH109, PTH118 - half the time of Path.absolute
    try:
        status = os.stat(whole)  # noqa: PTH116
    except OSError as error:
        return [f"{whole} {error.strerror}"]
    lines = [f"{whole} {status.st_size} {status.st_mtime_ns}"]
    for other in files_beside(path):
        with contextlib.suppress(OSError):
            beside = other.stat()
            lines.append(f"{other.absolute()} {beside.st_size} {beside.st_mtime_ns}")
    if stat.S_ISDIR(status.st_mode):
        for file in store_files(path, path.parent):
            if file.unknown:
                lines.append(_never_again())
            state = file.remark if (inner := file.status) is None else f"{inner.st_size} {inner.st_mtime_ns}"
            lines.append(f"{file.path} {state}")
    return lines


def _never_again() -> str:
    """In the name of entries that no other run may take up: what they were made from cannot be told again."""
    return secrets.token_hex(16)


@dataclass(frozen=True, slots=True)
class Journal:
    """A folder of entries.

    ``classes`` are those that an entry may hold.
    """

    folder: Path
    classes: tuple[type, ...]
    _packed: dict[str, tuple[Path, int, int]] = field(default_factory=dict, repr=False, compare=False)
    """Entry name to pack, offset and length."""

    def open(self) -> None:
        """Make the folder, and see what packs it has.

        Raises:
            OSError: it cannot be made.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            why = "the journal's folder cannot be made, since a file of this name is there; remove it"
            raise FileExistsError(error.errno, why, os.fspath(self.folder)) from error
        for path in self.folder.glob(f"*{PACK_SUFFIX}"):
            self._open_pack(path)

    def open_pack(self, name: str) -> None:
        """See the entries of a pack that a worker has written meanwhile."""
        self._open_pack(self.folder / f"{name}{PACK_SUFFIX}")

    def _open_pack(self, path: Path) -> None:
        try:
            with opened_regular(path) as file:
                lengths = json.loads(file.readline())
                offset = file.tell()
            for name, length in lengths.items():
                self._packed[name] = (path, offset, int(length))
                offset += int(length)
        except (OSError, ValueError, AttributeError, TypeError, RecursionError):
            return  # cut short or damaged: its cases are read again

    def write(self, name: str, value: Any) -> None:
        """Keep a case's result; a power cut may lose it, never halve it."""
        write_atomically(self.folder / f"{name}{ENTRY_SUFFIX}", encode(value), durable=False)

    def write_pack(self, name: str, values: Mapping[str, Any]) -> None:
        """Keep results of several cases in one file."""
        contents = {entry: encode(value) for entry, value in values.items()}
        head = json.dumps({entry: len(content) for entry, content in contents.items()}).encode() + b"\n"
        path = self.folder / f"{name}{PACK_SUFFIX}"
        write_atomically(path, head + b"".join(contents.values()), durable=False)

    def read(self, name: str) -> Any | None:
        """The result of a finished case, or None where there is none that can be used."""
        try:
            return decode(self.content(name), self.classes)
        except (OSError, CodecError):
            return None

    def content(self, name: str) -> bytes:
        """The bytes of an entry.

        Raises:
            OSError: there is none.
        """
        if name not in self._packed:
            return read_regular(self.folder / f"{name}{ENTRY_SUFFIX}")
        path, offset, length = self._packed[name]
        with path.open("rb", buffering=0) as file:
            return os.pread(file.fileno(), length, offset)

    def entries(self) -> set[str]:
        """Names of all entries; opening each of many thousand to learn that it is not there takes long."""
        with os.scandir(self.folder) as found:
            names = {entry.name for entry in found}
        single = {name.removesuffix(ENTRY_SUFFIX) for name in names if name.endswith(ENTRY_SUFFIX)}
        return single | self._packed.keys()

    def has(self, name: str) -> bool:
        """Whether there is an entry, without looking into it."""
        return (self.folder / f"{name}{ENTRY_SUFFIX}").exists()

    def forget(self, name: str) -> None:
        """Drop an entry that cannot be trusted, so that a new one takes its place."""
        self._packed.pop(name, None)
        (self.folder / f"{name}{ENTRY_SUFFIX}").unlink(missing_ok=True)

    def prune(self, keep: Iterable[str], unfinished: Iterable[str] = ()) -> None:
        """Remove entries of other files or options, and what killed runs left.

        Of the ``unfinished`` cases, which another run may finish, parts are kept.
        """
        names = set(keep)
        wanted = {f"{name}{ENTRY_SUFFIX}" for name in names}
        wanted |= {path.name for name, (path, _, _) in self._packed.items() if name in names}
        cases = set(unfinished)
        for path in self.folder.iterdir():
            if path.suffix == ENTRY_SUFFIX and "-" in path.stem and path.stem.partition("-")[0] in cases:
                continue
            if path.name not in wanted and path.suffix in (
                ENTRY_SUFFIX,
                PACK_SUFFIX,
                ".running",
                ".hung",
                ".tmp",
            ):
                if path.is_dir():  # no run makes one
                    continue
                path.unlink(missing_ok=True)
