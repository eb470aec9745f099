"""A data set of which nothing changed since its fingerprint was written is neither read nor summed up again.

The journal already spares the voxels. For many thousand cases, though, putting their numbers together and
writing them takes longer than everything else; so a finished run leaves a note of what went in and what came
out, and where both are as they were, the written fingerprint is the answer.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from .case import ProfileOptions
from .files import read_regular, write_atomically
from .fingerprint import FORMAT_VERSION, Fingerprint, FingerprintError, load_fingerprint
from .journal import COMPUTATION, entry_name
from .layouts.base import DiscoveredDataset
from .tasks import is_retried

NOTE = "finished.json"
"""Name of the note in the journal's folder."""


def inputs_of(dataset: DiscoveredDataset, options: ProfileOptions, *stated: object) -> str:
    """Digest of all that a fingerprint depends on: files with sizes and times, options, version of the rules.

    Args:
        dataset: what a layout discovered.
        options: how cases are read.
        stated: whatever else decides what stands in the file; each needs a ``repr`` that shows its value.
    """
    digest = hashlib.sha256(f"{FORMAT_VERSION} {COMPUTATION} {stated!r}".encode())
    digest.update(repr(replace(dataset, cases=())).encode("utf-8", "backslashreplace"))
    for case in dataset.cases:
        digest.update(entry_name(case, options).encode())
    return digest.hexdigest()


def unchanged_fingerprint(inputs: str, journal: Path, *, data: str | None = None) -> Fingerprint | None:
    """The fingerprint that was written from the same inputs, if it still stands where and as it was written.

    Args:
        inputs: see :func:`inputs_of`; or "" where they are not known yet.
        journal: the journal's folder.
        data: what the inputs were found from: a digest of the places and options that decide about them.
    """
    try:
        note = json.loads(read_regular(journal / NOTE))
        same = note["inputs"] == inputs if inputs else data is not None and note["data"] == data
        if not same or note["outputs"] != _states([Path(p) for p, *_ in note["outputs"]]):
            return None
        return load_fingerprint(Path(note["outputs"][0][0]))
    except (OSError, ValueError, KeyError, TypeError, IndexError, FingerprintError, RecursionError):
        return None  # no note, or one that says nothing: the long way is always right


def note_finished(
    inputs: str,
    fingerprint: Fingerprint,
    outputs: Sequence[Path],
    journal: Path,
    *,
    data: str | None = None,
) -> None:
    """Remember what went in and came out, unless a case must be looked at again by every run.

    Such a case failed in a way that another run may not meet again, or has voxels in files that it does not
    name.

    Args:
        inputs: see :func:`inputs_of`.
        fingerprint: what was written.
        outputs: the files that were written, the fingerprint first.
        journal: the journal's folder.
        data: see :func:`unchanged_fingerprint`; taken before the cases were looked for.
    """
    if any(is_retried(failure) for failure in fingerprint.failures) or any(
        case.other_files for case in fingerprint.cases
    ):
        (journal / NOTE).unlink(missing_ok=True)
        return
    states = _states([path.absolute() for path in outputs if path.exists()])
    text = json.dumps({"inputs": inputs, "data": data, "outputs": states})
    write_atomically(journal / NOTE, text.encode(), durable=False)


def _states(paths: Sequence[Path]) -> list[list[Any]]:
    """Name, size and modification time (ns)."""
    return [[str(path), (status := path.stat()).st_size, status.st_mtime_ns] for path in paths]
