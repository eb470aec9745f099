"""Cases that are kept resampled and normalized, where a plan caches and would else resample every patch.

Kept is what :meth:`~voxplan.plans.case_grid.CaseGrid.resampled` gives of each allowed box: float32 images
and label values on the target grid, in memory or as mapped arrays in the cache folder.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from .cache_files import cached_arrays, cached_paths
from .normalization import needs_case_numbers
from .sampling import Box, scan_regions

if TYPE_CHECKING:
    from .case_grid import CaseGrid
    from .case_reader import CaseReader

COMPUTATION = 2
"""To be raised whenever the same files would be resampled to other numbers, so that older arrays are not
used."""
PREPARE_BYTES = 32 * 2**20
"""Float32 image that is resampled at a time; intermediates take a few times as much."""
RAM_SHARE = 0.5
"""Of the memory that is available, what prepared cases may take (as the planner's cache in RAM)."""
HOLD_SHARE = 0.9
"""Of the memory that is available, what volumes may take that a plan made elsewhere wants held in RAM."""
DISK_SHARE = 0.9
"""Of the room that is left on the disk of the cache: checkpoints often go there too."""


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


def free_ram(processes: int) -> int:
    """Bytes of prepared cases that each of so many training processes may hold in memory now."""
    import psutil

    return int(RAM_SHARE * psutil.virtual_memory().available / processes)


def holdable_ram(processes: int) -> int:
    """Bytes of volumes that each of so many training processes can hold in memory now."""
    import psutil

    return int(HOLD_SHARE * psutil.virtual_memory().available / processes)


def free_disk(reader: CaseReader) -> int:
    """Bytes of prepared cases that may be written to the cache folder now."""
    folder = reader.folder
    assert folder is not None
    existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    return int(DISK_SHARE * shutil.disk_usage(existing).free)


def is_on_disk(grid: CaseGrid, reader: CaseReader) -> bool:
    """Whether all boxes of a case stand in the cache folder; said without reading voxels."""
    if reader.folder is None or (grid.numbers is None and needs_case_numbers(grid.dataset.normalization)):
        return False
    return all(
        path.exists()
        for box in grid.boxes
        for path in cached_paths(reader.folder, _stamp(grid, box, reader), ("image", "labels")).values()
    )


def prepare(grid: CaseGrid, box: Box, reader: CaseReader, kind: Literal["ram", "disk"]) -> PreparedBox:
    """Resample and normalize a box once: in this process (``ram``), or for all that share the folder.

    Raises:
        CacheError: the disk has no room for it.
    """
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
    assert reader.folder is not None
    stem = _stamp(grid, box, reader)
    what = f"case {grid.source.id}, resampled"
    arrays = cached_arrays(
        reader.folder, stem, sizes, lambda empty: _fill(grid, box, reader, empty), what=what
    )
    return PreparedBox(**arrays)


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


def _stamp(grid: CaseGrid, box: Box, reader: CaseReader) -> str:
    """Changes with the files, the box, the grid, and how intensities are normalized."""
    numbers = grid.case_numbers(reader)
    sources = [source for source in (*grid.source.images, grid.source.label) if source is not None]
    words = [
        f"computation {COMPUTATION}",
        *(reader.stamp(source) for source in sources),
        repr((box, grid.grids, grid.image_orders, grid.label_orders)),
        repr(grid.dataset.normalization),
        repr(numbers),
        repr((reader.object_ids, reader.ignore)) if reader.object_ids else "",
    ]
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:32]
