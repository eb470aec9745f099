"""What one shard of a data set leaves behind: all that merging needs, in one file.

The first line is JSON (:class:`ShardHead`); behind it lie the results of the shard's cases, each as the
journal holds it (:mod:`.codec`), with length and digest in the head. Results are read one at a time, so
that merging needs no more memory than profiling.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from .codec import CodecError, decode
from .files import writing_atomically
from .fingerprint import Failure, LabelKind, Model
from .formats.base import CaseSource
from .tasks import journalled_classes

if TYPE_CHECKING:
    from .case import CaseResult

SHARD_FORMAT = 1
MOST_HEAD_BYTES = 1 << 28
"""A head longer than this (a million cases) is none."""
DIGEST_BYTES = 16
HEAD_BEGINS = 100
"""Bytes of a shard that say what it is."""


class ShardError(ValueError):
    """A file that is no shard, a damaged one, or shards that do not belong together."""


@dataclass(frozen=True, slots=True)
class Shard:
    """Which cases: ``number`` of ``of``, from 1; every ``of``-th in the order of their ids."""

    number: int
    of: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.of:
            msg = f"shard {self.number} of {self.of}: the first number runs from 1 to the second"
            raise ValueError(msg)

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def select(self, cases: Sequence[CaseSource]) -> tuple[CaseSource, ...]:
        """The shard's cases."""
        return tuple(sorted(cases, key=lambda case: case.id)[self.number - 1 :: self.of])

    def path(self, output: Path) -> Path:
        """``fingerprint.json`` has its shard 3/16 in ``fingerprint.03-of-16.shard``."""
        digits = len(str(self.of))
        return output.with_name(f"{output.stem}.{self.number:0{digits}}-of-{self.of}.shard")


class ShardHead(Model):
    """What a shard knows about itself and about the whole data set."""

    voxplan_shard: int = SHARD_FORMAT
    number: int
    """Of this shard, from 1."""
    of: int
    version: str
    computation: int
    """See :data:`.journal.COMPUTATION`."""
    name: str
    root: str
    """The data folder, absolute."""
    layout: str
    file_format: str
    channel_names: tuple[str, ...] | None
    classes: dict[str, tuple[int, ...]] | None
    ignore: int | None
    declared_cases: int | None
    found_kind: LabelKind | None
    """Kind of labels as the data folder says."""
    stated_kind: LabelKind | None
    """Kind of labels as the user says."""
    found_failures: tuple[Failure, ...]
    """Of discovery: the same in every shard."""
    found_warnings: tuple[str, ...]
    options: dict[str, str]
    """Those that decide about the numbers."""
    cases: dict[str, str]
    """Every case of the data set, in order, with a digest of the names of its files."""
    failures: tuple[Failure, ...]
    """Cases of this shard that could not be profiled."""
    entries: dict[str, tuple[int, str]]
    """Profiled cases of this shard, in order of their results in the file: bytes and digest."""
    provenance: dict[str, str]
    """What the user stated."""
    seconds: float


def write_shard(
    path: Path, head: ShardHead, cases: Iterable[str], content: Callable[[str], bytes]
) -> ShardHead:
    """Write a shard, one result at a time; returns the head with its entries.

    Args:
        path: the file; replaced only when it is whole.
        head: without entries.
        cases: ids of those that were profiled.
        content: the encoded result of a case; asked twice, and must be the same both times.

    Raises:
        OSError: the folder is missing, not writable or full.
    """
    ids = list(cases)
    entries = {case: _entry(content(case)) for case in ids}
    head = head.model_copy(update={"entries": entries})
    with writing_atomically(path) as file:
        file.write(head.model_dump_json().encode() + b"\n")
        for case in ids:
            file.write(content(case))
    return head


class ShardFile:
    """A shard on the disk; its results are read when they are asked for."""

    def __init__(self, path: Path) -> None:
        """Read the head.

        Raises:
            ShardError: not readable, no shard, or cut short.
        """
        self.folder = path
        try:
            with path.open("rb") as file:
                line = file.readline(MOST_HEAD_BYTES)
                size = os.fstat(file.fileno()).st_size
        except OSError as error:
            msg = f"{path}: cannot be read ({error.strerror})"
            raise ShardError(msg) from error
        self.head = _head(path, line)
        self._places: dict[str, tuple[int, int, str]] = {}
        offset = len(line)
        for case, (length, digest) in self.head.entries.items():
            self._places[case] = (offset, length, digest)
            offset += length
        if size != offset:
            msg = (
                f"{path}: has {size:,} bytes, its head says {offset:,}; copy it again or run the shard again"
            )
            raise ShardError(msg)

    def read(self, name: str) -> CaseResult:
        """The result of a case, by its id.

        Raises:
            ShardError: the file is damaged.
        """
        offset, length, digest = self._places[name]
        try:
            with self.folder.open("rb", buffering=0) as file:
                content = os.pread(file.fileno(), length, offset)
            if _entry(content) != (length, digest):
                msg = "other bytes than were written"
                raise CodecError(msg)
            result: CaseResult = decode(content, journalled_classes())
        except (OSError, CodecError) as error:
            msg = f"{self.folder}: the result of case {name} is damaged ({error}); run this shard again"
            raise ShardError(msg) from error
        return result


def _entry(content: bytes) -> tuple[int, str]:
    return len(content), hashlib.blake2b(content, digest_size=DIGEST_BYTES).hexdigest()


def is_shard(path: Path) -> bool:
    """Whether a file is a shard, even one that cannot be used."""
    try:
        with path.open("rb") as file:
            return _begins_a_shard(file.read(HEAD_BEGINS))
    except OSError:
        return False


def _begins_a_shard(line: bytes) -> bool:
    return line.startswith(b"{") and b'"voxplan_shard"' in line[:HEAD_BEGINS]


def _head(path: Path, line: bytes) -> ShardHead:
    not_one = f"{path}: is no shard of a profile (profile-dataset --shard writes them)"
    if not _begins_a_shard(line):
        raise ShardError(not_one)
    try:
        head = ShardHead.model_validate_json(line)
    except ValidationError as error:
        if version := _format(line):
            msg = (
                f"{path}: a shard of format {version}, this version reads {SHARD_FORMAT}; run the shard again"
            )
            raise ShardError(msg) from error
        msg = f"{path}: the head of the shard is damaged; run this shard again"
        raise ShardError(msg) from error
    if not 1 <= head.number <= head.of or any(length < 0 for length, _ in head.entries.values()):
        raise ShardError(not_one)
    return head


def _format(line: bytes) -> int | None:
    """The format of a shard that is not ours."""
    digits = line.partition(b":")[2].partition(b",")[0].strip()
    return int(digits) if digits.isdigit() and int(digits) != SHARD_FORMAT else None
