"""Which files a data folder holds: hidden files, links out of the folder and excluded names sorted out."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Sequence
from fnmatch import translate
from functools import lru_cache
from pathlib import Path

from ..fingerprint import Failure
from ..formats import is_volume_file, reader_for
from ..formats.base import FormatError

MAX_DEPTH = 12
"""Levels of sub-folders that are searched; deeper trees are no data set but a disk."""
FOLDER_FORMATS = ("zarr",)
"""Readers whose volumes are folders; a folder with another volume suffix is a folder of files."""


def natural_key(text: str) -> tuple[tuple[int, int | str], ...]:
    """Sort key in which ``slice2`` comes before ``slice10``; ties fall back to the text itself."""
    parts = re.split(r"(\d+)", text)
    numbers = tuple((0, int(part)) if part.isdecimal() else (1, part) for part in parts)
    return (*numbers, (2, text))


def is_excluded(path: Path, root: Path, exclude: Sequence[str]) -> bool:
    """Whether a glob matches the file's name, its path within ``root``, or that of a folder above it.

    A glob that begins with a slash is compared with the whole path, and those of the folders above, alone.
    """
    anchored, others = _patterns(tuple(exclude))
    # abspath: without "..", which Path.absolute keeps
    if anchored is not None and anchored.match(os.path.abspath(path)):  # noqa: PTH100
        return True
    if others is None:
        return False
    relative = path.relative_to(root) if path.is_relative_to(root) else path
    names = [path.name, relative.as_posix(), *(parent.as_posix() for parent in relative.parents)]
    return any(others.match(name) for name in names if name != ".")


@lru_cache(maxsize=16)
def _patterns(exclude: tuple[str, ...]) -> tuple[re.Pattern[str] | None, re.Pattern[str] | None]:
    """The globs that begin with a slash, and all of them where there are others; one pattern for each."""
    anchored = [glob for glob in exclude if glob.startswith("/")]
    below = [f"{glob}/*" for glob in anchored]
    return _any_of([*anchored, *below]), _any_of(exclude) if len(anchored) < len(exclude) else None


def _any_of(globs: Sequence[str]) -> re.Pattern[str] | None:
    return re.compile("|".join(map(translate, globs))) if globs else None


def is_plain_folder(path: Path) -> bool:
    """Whether a path is a folder of files, not one that is itself a volume (a Zarr store)."""
    return path.is_dir() and not (is_volume_file(path) and reader_for(path).name in FOLDER_FORMATS)


def is_hidden(name: str) -> bool:
    """Names that start with a dot, macOS's ``._`` copies among them."""
    return name.startswith(".")


def leaves(path: Path, root: Path) -> bool:
    """Whether a path, its links followed, lies outside ``root``."""
    return not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root))


def outside_failure(path: Path, root: Path, case_id: str | None = None) -> Failure:
    """The failure of a file whose link or path leaves the data folder."""
    target = os.path.realpath(path)
    reason = (
        f"{path}: leads out of the data folder {root} (to {target}); "
        "profile the folder that really holds it, or copy the file in"
    )
    return Failure(id=case_id or path.name, files=(str(path),), kind="outside", reason=reason)


_SPECIAL = (
    (stat.S_ISFIFO, "named pipe"),
    (stat.S_ISSOCK, "socket"),
    (stat.S_ISBLK, "block device"),
    (stat.S_ISCHR, "character device"),
)


class Listing:
    """Reads folders below one root, remembering what had to be refused."""

    def __init__(self, root: Path, exclude: Sequence[str] = ()) -> None:
        self.root = root
        self.exclude = tuple(exclude)
        self.failures: list[Failure] = []
        self._real_root = os.path.realpath(root)

    def read(self, folder: Path) -> tuple[list[Path], list[Path]]:
        """Files and sub-folders of one folder, each in natural order.

        Raises:
            FormatError: the folder cannot be read.
        """
        files: list[Path] = []
        folders: list[Path] = []
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: natural_key(entry.name))
        except OSError as error:
            msg = f"{folder}: cannot be read as a folder ({error.strerror})"
            raise FormatError(msg) from error
        for entry in entries:
            path = Path(entry.path)
            if is_hidden(entry.name) or is_excluded(path, self.root, self.exclude):
                continue
            link = entry.is_symlink()
            if link and self.refuses(path):
                continue
            kind = path if link else entry  # an entry knows what it is; a link must be looked up
            if kind.is_dir():
                folders.append(path)
            elif kind.is_file():
                files.append(path)
            elif is_volume_file(path):
                self.is_special(path)
        return files, folders

    def read_or_refuse(self, folder: Path) -> tuple[list[Path], list[Path]]:
        """As :meth:`read`; a folder that cannot be read is empty, and remembered as a failure."""
        try:
            return self.read(folder)
        except FormatError as error:
            self._remember_unreadable(folder, str(error))
            return [], []

    def refuse_unreadable(self, folder: Path, name: str | None = None) -> None:
        """Remember a folder that cannot be read, or not asked for ``name``; no hidden or excluded one."""
        if is_hidden(folder.name) or is_excluded(folder, self.root, self.exclude):
            return
        try:
            if name is None:
                os.scandir(folder).close()
            else:
                (folder / name).lstat()
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            self._remember_unreadable(folder, f"{folder}: cannot be read as a folder ({error.strerror})")

    def _remember_unreadable(self, folder: Path, why: str) -> None:
        reason = f"{why}; what it holds is not in the numbers: allow it, or leave it out with --exclude"
        self._remember(Failure(id=folder.name, files=(str(folder),), kind="access", reason=reason))

    def is_special(self, path: Path) -> bool:
        """Whether a path is a pipe, socket or device, which is never opened; if so, it is remembered once.

        Links that lead nowhere are remembered too.
        """
        try:
            mode = path.stat().st_mode
        except OSError:
            if not path.is_symlink():
                return False
            what = (
                f"is a link to {path.readlink()}, which is not there; restore that file, or remove the link"
            )
            self._remember(
                Failure(id=path.name, files=(str(path),), kind="missing-file", reason=f"{path}: {what}")
            )
            return True
        if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
            return False
        kind = next((name for is_kind, name in _SPECIAL if is_kind(mode)), "no regular file")
        reason = f"{path}: is a {kind}, not a file, and is never opened; leave it out with --exclude"
        self._remember(Failure(id=path.name, files=(str(path),), kind="special-file", reason=reason))
        return True

    def _remember(self, failure: Failure) -> None:
        if failure not in self.failures:
            self.failures.append(failure)

    def refuses(self, path: Path, case_id: str | None = None) -> bool:
        """Whether a path leaves the root; if so, the refusal is remembered once."""
        if Path(os.path.realpath(path)).is_relative_to(self._real_root):
            return False
        self._remember(outside_failure(path, self.root, case_id))
        return True

    def keep(self, paths: Iterable[Path]) -> list[Path]:
        """The paths that are neither hidden, excluded nor outside, in natural order."""
        kept = [
            path
            for path in paths
            if not is_hidden(path.name) and not is_excluded(path, self.root, self.exclude)
        ]
        kept.sort(key=lambda path: natural_key(path.as_posix()))
        return [path for path in kept if not self.refuses(path)]
