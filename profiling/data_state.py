"""Whether anything below a data folder is another than at the last run, by names, sizes and times alone.

Finding the cases opens files: containers whose keys are not stated, slices, DICOM series. Where everything
below the places that the user named is as it was, that need not be done again.
"""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Final

from .formats.address import is_address, local_place
from .journal import path_state
from .layouts.volumes import fixed_part

MOST_ENTRIES: Final = 200_000
"""Files and folders looked at; where there are more, the cases are found anew."""


def data_state(places: Iterable[str], own: Collection[Path] = ()) -> str | None:
    """Digest of all that lies at the places; None where only opening files would tell.

    Args:
        places: folders, files and globs, as the user names them.
        own: files and folders that the run itself writes.
    """
    digest = hashlib.sha256()
    written = {str(path.parent.resolve() / path.name) for path in own}
    count = 0
    for place in places:
        try:
            for line in _lines(local_place(place), written):
                count += 1
                if count > MOST_ENTRIES:
                    return None
                digest.update(line.encode("utf-8", "surrogateescape") + b"\n")
        except (OSError, _UnknownStateError):
            return None
    return digest.hexdigest()


class _UnknownStateError(Exception):
    """What lies here cannot be told from names, sizes and times."""


def _lines(place: str, written: Collection[str]) -> Iterator[str]:
    if is_address(place):
        raise _UnknownStateError
    path = Path(place)
    if not path.exists() and glob.has_magic(place):
        path = fixed_part(place)
    elif path.suffix.lower() == ".json":
        path = path.parent  # a datalist: its files lie below its folder
    if not path.is_dir():
        yield from path_state(path)
        return
    pending = [str(path.resolve())]
    while pending:
        folder = pending.pop()
        yield folder
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.path in written:  # hidden ones count: globs and datalists may name them
                    continue
                if entry.is_dir():
                    if entry.is_symlink():
                        raise _UnknownStateError
                    pending.append(entry.path)
                    continue
                try:
                    status = entry.stat()
                except OSError as error:  # a link that leads nowhere
                    yield f"{entry.name} {error.strerror}"
                    continue
                yield f"{entry.name} {status.st_mode} {status.st_size} {status.st_mtime_ns}"
