"""The histograms beside a fingerprint: what statistics of several fingerprints are merged from, exactly.

``fingerprint.histograms.npz`` holds one byte array, ``results``, in the (compressed) form of :mod:`.codec`.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile

import numpy as np

from .codec import CodecError, decode, encode
from .files import write_atomically
from .fingerprint import ObjectStatistics
from .labels import LabelTable
from .statistics import Distribution

if TYPE_CHECKING:
    from .case import CaseResult


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


def save_histograms(results: Sequence[CaseResult], path: Path) -> None:
    """Write the sidecar, cases in order of their ids.

    Raises:
        OSError: the folder is missing, not writable or full.
    """
    by_case = {
        result.fingerprint.id: CaseHistograms(result.foreground, result.nonzero, result.labels)
        for result in sorted(results, key=lambda result: result.fingerprint.id)
    }
    buffer = io.BytesIO()
    np.savez(buffer, results=np.frombuffer(encode(by_case), np.uint8))
    write_atomically(path, buffer.getvalue())


def load_histograms(path: Path) -> Mapping[str, CaseHistograms]:
    """Case id to its histograms.

    Raises:
        CodecError: no sidecar, or a damaged one.
    """
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
            content = arrays["results"].tobytes()
    except (OSError, KeyError, ValueError, BadZipFile) as error:
        msg = f"{path}: no histograms ({error}); profile again"
        raise CodecError(msg) from error
    loaded = decode(content, (CaseHistograms, Distribution, LabelTable, ObjectStatistics))
    if not isinstance(loaded, dict) or not all(isinstance(item, CaseHistograms) for item in loaded.values()):
        msg = f"{path}: does not hold histograms by case; profile again"
        raise CodecError(msg)
    return loaded
