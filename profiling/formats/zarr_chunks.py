"""Chunks of a Zarr array that were never written: asking the file system takes a hundredth of zarr's time."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

FEW: Final = 0.5
"""Share of present chunks up to which they are read one by one; above, zarr reads the region in one go."""


class SparseRegion:
    """Which stored chunks (shards, where there are some) a region of a local array touches."""

    def __init__(self, array: Any, index: tuple[slice, ...]) -> None:
        self._array, self._index = array, index
        self._steps: tuple[int, ...] = getattr(array, "shards", None) or array.chunks
        touched = [range(p.start // s, -(-p.stop // s)) for p, s in zip(index, self._steps, strict=True)]
        folder = _local_folder(array)
        self.count = 1
        for along in touched:
            self.count *= len(along)
        self.present: list[tuple[int, ...]] | None = None
        """Chunks that exist; None where that cannot be told, or where they are not few."""
        if folder is None or array.metadata.fill_value is None:
            return
        present = []
        for at in itertools.product(*touched):
            if os.path.exists(os.path.join(folder, array.metadata.encode_chunk_key(at))):  # noqa: PTH110, PTH118 - millions
                present.append(at)
                if len(present) > FEW * self.count:
                    return
        self.present = present

    def read(self) -> NDArray[Any]:
        """The region: its fill value, and over it the chunks that exist."""
        if self.present is None:
            return np.asarray(self._array[self._index])
        lengths = [part.stop - part.start for part in self._index]
        block = np.full(lengths, self._array.metadata.fill_value, self._array.dtype)
        for at in self.present:
            part = tuple(
                slice(max(a * s, p.start), min((a + 1) * s, p.stop))
                for a, s, p in zip(at, self._steps, self._index, strict=True)
            )
            here = tuple(
                slice(p.start - o.start, p.stop - o.start) for p, o in zip(part, self._index, strict=True)
            )
            block[here] = np.asarray(self._array[part])
        return block


def _local_folder(array: Any) -> Path | None:
    """Where the chunks lie, if that is a folder of this machine."""
    root = getattr(array.store_path.store, "root", None)
    return root / array.store_path.path if isinstance(root, Path) else None
