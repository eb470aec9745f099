"""Cases that are kept resampled and normalized, where a plan caches and would else resample every patch.

Kept is what :meth:`~voxplan.plans.case_grid.CaseGrid.resampled` gives of each allowed box: float32 images
and label values on the target grid, in memory or as mapped arrays in the cache folder.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from .sampling import Box, scan_regions
from .volume_cache import default_cache_folder, locked, source_stamp

if TYPE_CHECKING:
    from .case_grid import CaseGrid
    from .case_reader import CaseReader

PREPARE_BYTES = 32 * 2**20
"""Float32 image that is resampled at a time; intermediates take a few times as much."""
RAM_SHARE = 0.5
"""Of the memory that is available, what prepared cases may take (as the planner's cache in RAM)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedBox:
    """One allowed box of a case on the target grid."""

    image: NDArray[np.float32]
    """``(C, z, y, x)``, normalized."""
    labels: NDArray[Any]
    """``(z, y, x)`` label values."""


def prepared_bytes(grid: CaseGrid) -> int:
    """What a case takes when prepared, with labels of 8 bits."""
    voxels = 0
    for box in grid.boxes:
        voxels += int(np.prod([stop - start for start, stop in grid.window(box)], dtype=np.int64))
    return voxels * (4 * grid.dataset.in_channels + 1)


def fits_in_ram(needed: int) -> bool:
    """Whether prepared cases of so many bytes may be held in memory now."""
    import psutil

    return needed <= RAM_SHARE * psutil.virtual_memory().available


def fits_on_disk(needed: int, folder: Path | None) -> bool:
    """Whether the cache folder has room for so many bytes."""
    folder = folder or default_cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    return needed <= shutil.disk_usage(folder).free


def prepare(grid: CaseGrid, box: Box, reader: CaseReader, kind: Literal["ram", "disk"]) -> PreparedBox:
    """Resample and normalize a box once: in this process (``ram``), or for all that share the folder."""
    shape = tuple(stop - start for start, stop in grid.window(box))
    assert grid.source.label is not None
    first = tuple(slice(start, start + 1) for start in box.start)
    kept = reader.label(grid.source, (first[0], first[1], first[2])).dtype
    sizes = {"image": ((grid.dataset.in_channels, *shape), np.dtype(np.float32)), "labels": (shape, kept)}
    if kind == "ram":
        arrays: dict[str, NDArray[Any]] = {}
        for name, (size, dtype) in sizes.items():
            arrays[name] = np.empty(size, dtype)
        _fill(grid, box, reader, arrays)
        return PreparedBox(**arrays)
    folder = reader.folder or default_cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    stem = _stamp(grid, box, reader)
    paths = {name: folder / f"{stem}.{name}.npy" for name in sizes}
    with locked(folder / f"{stem}.lock"):
        if not all(path.exists() for path in paths.values()):
            _write(grid, box, reader, sizes, paths)
    return PreparedBox(
        **{name: np.load(path, mmap_mode="r", allow_pickle=False) for name, path in paths.items()}
    )


def _fill(grid: CaseGrid, box: Box, reader: CaseReader, arrays: Mapping[str, NDArray[Any]]) -> None:
    window = grid.window(box)
    low, high = zip(*window, strict=True)
    whole = Box((low[0], low[1], low[2]), (high[0], high[1], high[2]))
    for region in scan_regions(whole, (1, 1, 1), 4 * grid.dataset.in_channels, PREPARE_BYTES):
        inner = [(part.start, part.stop) for part in region]
        image, labels = grid.resampled(reader, box, inner)
        where = tuple(slice(start - o, stop - o) for (start, stop), o in zip(inner, low, strict=True))
        arrays["image"][:, *where] = image
        arrays["labels"][where] = labels


def _write(
    grid: CaseGrid,
    box: Box,
    reader: CaseReader,
    sizes: dict[str, tuple[tuple[int, ...], np.dtype[Any]]],
    paths: dict[str, Path],
) -> None:
    """Under temporary names, renamed when whole."""
    temporary = {}
    try:
        arrays = {}
        for name, (size, dtype) in sizes.items():
            handle, text = tempfile.mkstemp(dir=paths[name].parent, suffix=".part")
            os.close(handle)
            temporary[name] = Path(text)
            arrays[name] = np.lib.format.open_memmap(temporary[name], mode="w+", dtype=dtype, shape=size)
        _fill(grid, box, reader, arrays)
        for name, array in arrays.items():
            array.flush()
            temporary[name].replace(paths[name])
    finally:
        for path in temporary.values():
            path.unlink(missing_ok=True)


def _stamp(grid: CaseGrid, box: Box, reader: CaseReader) -> str:
    """Changes with the files, the box, the grid, and how intensities are normalized."""
    numbers = grid.case_numbers(reader)
    sources = [source for source in (*grid.source.images, grid.source.label) if source is not None]
    words = [
        *(source_stamp(source, reader.options) for source in sources),
        repr((box, grid.grids, grid.image_orders, grid.label_orders)),
        repr(grid.dataset.normalization),
        repr(numbers),
    ]
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:32]
