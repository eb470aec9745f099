"""The histograms beside a fingerprint: what statistics of several fingerprints are merged from, exactly.

``fingerprint.histograms.npz`` holds byte arrays ``part_000000`` and so on, each the histograms of some cases
in the (compressed) form of :mod:`.codec`, and as the last ``index`` which part has which case. Parts are
written and read one at a time, so that memory does not grow with the number of cases.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile, ZipFile, ZipInfo

import numpy as np

from .codec import CodecError, decode, encode
from .files import writing_atomically
from .fingerprint import ObjectStatistics
from .labels import LabelTable
from .results import Result, stored_size
from .statistics import Distribution

PART_CASES = 64
"""Cases of one part, at most."""
PART_BYTES = 16 << 20
"""Bytes of counts from which a part ends."""


@dataclass(frozen=True)
class CaseHistograms:
    """The distributions of one case."""

    foreground: tuple[Distribution | None, ...]
    """Per channel."""
    nonzero: tuple[Distribution | None, ...]
    """Per channel."""
    labels: LabelTable | None


def sidecar_path(output: Path) -> Path:
    """``fingerprint.json`` has its histograms in ``fingerprint.histograms.npz``."""
    return output.with_name(f"{output.stem}.histograms.npz")


def save_histograms(results: Sequence[Result], path: Path) -> None:
    """Write the sidecar, cases in order of their ids.

    Raises:
        OSError: the folder is missing, not writable or full.
    """
    index: list[list[str]] = []
    with writing_atomically(path) as file, ZipFile(file, "w") as archive:
        for part in _parts(sorted(results, key=lambda result: result.fingerprint.id)):
            _write_member(archive, _part_name(len(index)), encode(part))
            index.append(list(part))
        _write_member(archive, "index", encode(index))


def _parts(results: Sequence[Result]) -> Iterator[dict[str, CaseHistograms]]:
    """Histograms of a few cases at a time; what is together depends on the cases alone."""
    part: dict[str, CaseHistograms] = {}
    size = 0
    for result in results:
        case = CaseHistograms(result.foreground, result.nonzero, result.labels)
        part[result.fingerprint.id] = case
        size += sum(stored_size(d) for d in (*case.foreground, *case.nonzero))
        if len(part) == PART_CASES or size >= PART_BYTES:
            yield part
            part, size = {}, 0
    if part:
        yield part


def _write_member(archive: ZipFile, name: str, content: bytes) -> None:
    with archive.open(ZipInfo(f"{name}.npy"), "w") as member:
        np.lib.format.write_array(member, np.frombuffer(content, np.uint8))


def _part_name(number: int) -> str:
    return f"part_{number:06d}"


class StoredHistograms(Mapping[str, CaseHistograms]):
    """Case id to its histograms; one part of the file is in memory at a time."""

    def __init__(self, path: Path, index: Sequence[Sequence[str]]) -> None:
        self._path = path
        self._places = {case: number for number, part in enumerate(index) for case in part}
        self._loaded: tuple[int, Mapping[str, CaseHistograms]] | None = None

    def __getitem__(self, case: str) -> CaseHistograms:
        number = self._places[case]
        if self._loaded is None or self._loaded[0] != number:
            self._loaded = (number, self._load(number))
        try:
            return self._loaded[1][case]
        except KeyError:
            raise _damaged(self._path, f"case {case} is not where the index says") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def _load(self, number: int) -> Mapping[str, CaseHistograms]:
        classes = (CaseHistograms, Distribution, LabelTable, ObjectStatistics)
        loaded = decode(_read_member(self._path, _part_name(number)), classes)
        if not isinstance(loaded, dict) or not all(isinstance(i, CaseHistograms) for i in loaded.values()):
            raise _damaged(self._path, "does not hold histograms by case")
        return loaded


def load_histograms(path: Path) -> Mapping[str, CaseHistograms]:
    """Case id to its histograms, which are read as they are asked for.

    Raises:
        CodecError: no sidecar, or a damaged one; where a part is damaged, when its cases are asked for.
    """
    index = decode(_read_member(path, "index"), ())
    if not isinstance(index, list) or not all(isinstance(part, list) for part in index):
        raise _damaged(path, "no index of cases")
    return StoredHistograms(path, index)


def _read_member(path: Path, name: str) -> bytes:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            content: bytes = arrays[name].tobytes()
            return content
    except (OSError, KeyError, ValueError, EOFError, BadZipFile, AttributeError) as error:
        raise _damaged(path, str(error)) from error


def _damaged(path: Path, why: str) -> CodecError:
    return CodecError(f"{path}: no histograms ({why}); profile again")
