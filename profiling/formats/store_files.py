"""The files of a volume that is a folder (Zarr, DICOM), by names, sizes and times alone.

Links to folders are followed where reading follows them: as far as they stay in the folder in which the
volume lies. Of all others it is told where they lead; whoever reads behind them refuses that.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class StoreFile:
    """A file, or a link or folder that cannot be gone into."""

    path: str
    status: os.stat_result | None
    remark: str = ""
    """Where a link leads, or why there is no status."""
    unknown: bool = False
    """Whether it leads to the very folder in which the volume lies: reading would go on there."""


def store_files(top: Path, around: Path) -> Iterator[StoreFile]:
    """Everything below a folder, always in the same order; what cannot be looked at says so.

    What links lead to is gone into once, so that circles end.

    Args:
        top: the folder.
        around: the folder in which the volume lies, beyond which no link is followed.
    """
    allowed = os.path.realpath(around)
    entered = {os.path.realpath(top)}
    pending = [os.fspath(top)]
    while pending:
        folder = pending.pop()
        try:
            with os.scandir(folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            yield StoreFile(folder, None, str(error.strerror))
            continue
        for entry in entries:
            try:
                is_folder = entry.is_dir()
                status = None if is_folder else entry.stat()
            except OSError as error:  # a link that leads nowhere, or a file that another program just removed
                yield StoreFile(entry.path, None, str(error.strerror))
                continue
            if not is_folder:
                yield StoreFile(entry.path, status)
            elif not entry.is_symlink():
                pending.append(entry.path)
            else:
                real = os.path.realpath(entry.path)
                outward = real == allowed
                yield StoreFile(entry.path, None, f"leads to {real}", unknown=outward)
                if real not in entered and _is_inside(real, allowed) and not outward:
                    entered.add(real)
                    pending.append(entry.path)


def _is_inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)
