"""The least work that a profile can be: read (and inflate) every byte once and count it once.

python -m voxplan.scripts.benchmarks.floors nifti DATASET_FOLDER JOBS
python -m voxplan.scripts.benchmarks.floors hdf5 FILE DATASET JOBS     (every chunk read once)
python -m voxplan.scripts.benchmarks.floors hdf5-count FILE DATASET    (and counted, uint8)
python -m voxplan.scripts.benchmarks.floors tiff-count FILE
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK = 1 << 18
"""Values counted at a time: the pairs' histogram (512 KiB) and the block stay in the cache."""


def count_uint8(values: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Histogram of uint8 by counting pairs: two values a lookup."""
    flat = values.reshape(-1)
    pairs = flat[: flat.size // 2 * 2].view(np.uint16)
    counts = np.zeros(1 << 16, np.int64)
    for start in range(0, pairs.size, BLOCK):
        counts += np.bincount(pairs[start : start + BLOCK], minlength=1 << 16)
    square = counts.reshape(256, 256)
    total: NDArray[np.int64] = square.sum(0) + square.sum(1)
    if flat.size % 2:
        total[flat[-1]] += 1
    return total


def nifti_case(image: Path, label: Path) -> int:
    """Inflate both files of a case and count the foreground's intensities (int16 image, uint8 label)."""
    from isal import igzip

    mask = np.frombuffer(igzip.decompress(label.read_bytes()), np.uint8, offset=352) > 0
    voxels = np.frombuffer(igzip.decompress(image.read_bytes()), np.int16, offset=352)
    return int(np.bincount(voxels[mask].view(np.uint16), minlength=1 << 16).max())


def nifti(folder: Path, jobs: int) -> None:
    """All cases of a raw folder."""
    images = sorted((folder / "imagesTr").glob("*.nii.gz"))
    labels = [folder / "labelsTr" / path.name.replace("_0000", "") for path in images]
    with ProcessPoolExecutor(jobs) as pool:
        list(pool.map(nifti_case, images, labels))


def chunk_layers(path: Path, key: str, part: int = 0, parts: int = 1) -> Iterator[NDArray[np.uint8]]:
    """Every ``parts``-th layer of chunks, read once."""
    import h5py

    with h5py.File(path, "r", locking=False) as file:
        dataset: Any = file[key]
        depth = dataset.chunks[0]
        for start in range(0, dataset.shape[0], depth * parts):
            first = start + part * depth
            if first < dataset.shape[0]:
                yield dataset[first : first + depth]


def hdf5_part(path: Path, key: str, part: int, parts: int) -> int:
    """Read one worker's share of the chunks once."""
    return sum(layer.size for layer in chunk_layers(path, key, part, parts))


def hdf5(path: Path, key: str, jobs: int) -> None:
    """Read the whole volume once, by layers of chunks."""
    with ProcessPoolExecutor(jobs) as pool:
        list(pool.map(hdf5_part, [path] * jobs, [key] * jobs, range(jobs), [jobs] * jobs))


def hdf5_count(path: Path, key: str) -> None:
    """Read once and count."""
    for layer in chunk_layers(path, key):
        count_uint8(layer)


def tiff_count(path: Path) -> None:
    """Read a contiguous BigTIFF once and count."""
    import tifffile

    volume = tifffile.memmap(path, mode="r")
    for plane in volume:
        count_uint8(np.ascontiguousarray(plane))


FLOORS: dict[str, Callable[..., None]] = {
    "nifti": lambda folder, jobs: nifti(Path(folder), int(jobs)),
    "hdf5": lambda path, key, jobs: hdf5(Path(path), key, int(jobs)),
    "hdf5-count": lambda path, key: hdf5_count(Path(path), key),
    "tiff-count": lambda path: tiff_count(Path(path)),
}

if __name__ == "__main__":
    FLOORS[sys.argv[1]](*sys.argv[2:])
