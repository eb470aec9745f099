"""Chunks of a local Zarr array: those never written are not decoded, those that lead elsewhere are refused.

Asking the file system whether a chunk is there takes a hundredth of the time in which zarr finds that out.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from .base import FormatError

FEW: Final = 0.5
"""Share of present chunks up to which they are read one by one; above, zarr reads the region in one go."""
LONGEST_WAIT: Final = 60.0
"""Seconds for chunks that are decoded beside a damaged one."""
METADATA: Final = ("zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata")


def require_plain_metadata(folder: str | os.PathLike[str]) -> None:
    """Raise FormatError (``special-file``) where metadata are a pipe or device, which zarr would wait for."""
    for name in METADATA:
        path = os.path.join(folder, name)  # noqa: PTH118 - of every group and array
        with contextlib.suppress(OSError):
            _require_plain(path, os.stat(path).st_mode)  # noqa: PTH116


def _require_plain(path: str, mode: int) -> None:
    if not stat.S_ISREG(mode):
        msg = f"{path}: is no regular file, and is not opened; the store is damaged"
        raise FormatError(msg, kind="special-file")


@contextlib.contextmanager
def others_awaited() -> Iterator[None]:
    """Where a chunk cannot be decoded, wait for those that zarr decodes beside it.

    It leaves them to themselves: they would take memory in the time of the next case, whose ceiling knows
    nothing of them, and say on the terminal that nobody has asked for their errors.
    """
    try:
        yield
    except Exception:
        _await_others()
        raise


def _await_others() -> None:
    import asyncio

    from zarr.core.sync import sync

    async def gathered() -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.wait(others, timeout=LONGEST_WAIT) if others else None

    with contextlib.suppress(Exception):  # the error of the chunk is what matters
        sync(gathered())


class LocalChunks:
    """The files of an array that lies in a folder of this machine."""

    def __init__(self, array: Any, store: Path) -> None:
        self._array, self._store = array, store
        self._steps: tuple[int, ...] = getattr(array, "shards", None) or array.chunks
        root = getattr(array.store_path.store, "root", None)
        self._folder = os.fspath(root / array.store_path.path) if isinstance(root, Path) else None
        self._allowed = os.path.realpath(store.parent)
        self._known_folders: set[str] = set()
        if self._folder is not None:
            for path in (self._folder, *(os.path.join(self._folder, name) for name in METADATA)):  # noqa: PTH118
                self._require_inside(path)

    def read(self, index: tuple[slice, ...]) -> NDArray[Any]:
        """A region: where few of its chunks exist, its fill value and over it those.

        Raises:
            FormatError: a chunk is a link that leads nowhere, or out of the folder in which the store lies.
            OSError: the file system does not say whether a chunk is there.
        """
        touched = [range(p.start // s, -(-p.stop // s)) for p, s in zip(index, self._steps, strict=True)]
        if self._folder is None:
            return np.asarray(self._array[index])
        count, present = 0, []
        for at in itertools.product(*touched):
            count += 1
            if self._exists(at):
                present.append(at)
        fill = self._array.metadata.fill_value
        if fill is None or len(present) > FEW * count:
            return np.asarray(self._array[index])
        block = np.full([part.stop - part.start for part in index], fill, self._array.dtype)
        for at in present:
            part = tuple(
                slice(max(a * s, p.start), min((a + 1) * s, p.stop))
                for a, s, p in zip(at, self._steps, index, strict=True)
            )
            here = tuple(slice(p.start - o.start, p.stop - o.start) for p, o in zip(part, index, strict=True))
            block[here] = np.asarray(self._array[part])
        return block

    def _exists(self, at: tuple[int, ...]) -> bool:
        path = f"{self._folder}/{self._array.metadata.encode_chunk_key(at)}"
        folder = path.rpartition("/")[0]
        if folder not in self._known_folders:
            self._require_inside(folder)
            self._require_no_lost_link(folder)
            self._known_folders.add(folder)
        try:
            mode = os.lstat(path).st_mode
        except (FileNotFoundError, NotADirectoryError):
            return False  # never written; of any other error nobody knows
        if stat.S_ISLNK(mode):
            self._require_inside(path)
            self._require_no_lost_link(path)
            mode = os.stat(path).st_mode  # noqa: PTH116
        _require_plain(path, mode)
        return True

    def _require_no_lost_link(self, path: str) -> None:
        """A chunk that is not there was never written; one behind a link that leads nowhere is lost."""
        while len(path) > len(self._folder or path) and not os.path.exists(path):  # noqa: PTH110
            if os.path.islink(path):  # noqa: PTH114
                msg = (
                    f"{self._store}: {path} is a link that leads nowhere, so voxels are missing; get what it "
                    "leads to (in a checkout of git-annex or DataLad: git annex get), or remove it"
                )
                raise FormatError(msg)
            path = path.rpartition("/")[0]

    def _require_inside(self, path: str) -> None:
        real = os.path.realpath(path)
        if not real.startswith(self._allowed.rstrip(os.sep) + os.sep):
            msg = f"{self._store}: {path} leads out of the store's folder, to {real}; copy the data into it"
            raise FormatError(msg, kind="outside")
