"""Planes shrunk while they are read, held to numpy on the whole array; and how few bytes are read."""

from __future__ import annotations

import gzip
import tracemalloc
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from numpy.typing import NDArray

from voxplan.profiling.formats import open_volume
from voxplan.profiling.formats.base import Region, Volume, VolumeSource
from voxplan.profiling.report.html.planes import bytes_read, fullest_planes, read_planes

SHAPE = (11, 37, 53)
MEMORY = 1 << 22


def voxels(dtype: str = "int16") -> NDArray[Any]:
    return np.random.default_rng(5).integers(-300, 900, SHAPE).astype(dtype)


def write(array: NDArray[Any], folder: Path, kind: str) -> VolumeSource:
    path = folder / f"volume{kind}"
    if kind == ".h5":
        with h5py.File(path, "w") as file:
            file.create_dataset("raw", data=array, chunks=(4, 16, 16))
        return VolumeSource(paths=(path,), key="raw")
    if kind == ".tif":
        tifffile.imwrite(path, array, photometric="minisblack", compression="zlib")
    else:
        sitk.WriteImage(sitk.GetImageFromArray(array), str(path), useCompression=kind.endswith(".gz"))
    return VolumeSource(paths=(path,))


def block_means(plane: NDArray[Any], factors: tuple[int, int]) -> NDArray[np.float64]:
    """Mean of each cell, cell by cell."""
    rows, columns = (-(-edge // factor) for edge, factor in zip(plane.shape, factors, strict=True))
    found = np.empty((rows, columns))
    for row in range(rows):
        for column in range(columns):
            cell = plane[
                row * factors[0] : (row + 1) * factors[0], column * factors[1] : (column + 1) * factors[1]
            ]
            found[row, column] = cell.astype(np.float64).mean()
    return found


@pytest.mark.parametrize("kind", [".nii", ".nii.gz", ".h5", ".tif"])
def test_planes_are_means_of_cells_in_every_format(tmp_path: Path, kind: str) -> None:
    array = voxels()
    with open_volume(write(array, tmp_path, kind)) as volume:
        planes = read_planes(volume, 0, (3, 20, 52), longest=10, memory=MEMORY)
    # 37 voxels on 10 pixels: 4 a cell; 53: 6 a cell; 11: 2 a cell
    np.testing.assert_allclose(planes[0], block_means(array[3], (4, 6)))
    np.testing.assert_allclose(planes[1], block_means(array[:, 20], (2, 6)))
    np.testing.assert_allclose(planes[2], block_means(array[:, :, 52], (2, 4)))


def test_small_planes_are_the_voxels_themselves(tmp_path: Path) -> None:
    array = voxels()
    with open_volume(write(array, tmp_path, ".nii.gz")) as volume:
        planes = read_planes(volume, 0, (0, 36, 1), longest=64, memory=MEMORY)
    np.testing.assert_array_equal(planes[0], array[0])
    np.testing.assert_array_equal(planes[1], array[:, 36])
    np.testing.assert_array_equal(planes[2], array[:, :, 1])


def test_a_label_of_one_voxel_stays_visible(tmp_path: Path) -> None:
    labels = np.zeros(SHAPE, np.uint8)
    labels[5, 17, 31] = 7
    with open_volume(write(labels, tmp_path, ".h5")) as volume:
        planes = read_planes(volume, 0, (5, 17, 31), longest=6, memory=MEMORY, labels=True)
    for plane in planes:
        assert sorted(np.unique(plane).tolist()) == [0, 7]
        assert np.count_nonzero(plane) == 1


def test_uint64_ids_survive(tmp_path: Path) -> None:
    labels = np.zeros(SHAPE, np.uint64)
    labels[:, :20] = 2**63 + 5
    with open_volume(write(labels, tmp_path, ".h5")) as volume:
        planes = read_planes(volume, 0, (5, 0, 0), longest=64, memory=MEMORY, labels=True)
    np.testing.assert_array_equal(planes[0], labels[5])


def test_non_finite_voxels_are_left_out_of_the_mean(tmp_path: Path) -> None:
    array = voxels("float32")
    array[3, :4, :6] = np.nan
    array[3, 4, 6] = np.inf
    with open_volume(write(array, tmp_path, ".h5")) as volume:
        plane = read_planes(volume, 0, (3, 0, 0), longest=10, memory=MEMORY)[0]
    assert np.isnan(plane[0, 0])
    cell = array[3, 4:8, 6:12].astype(np.float64)
    assert plane[1, 1] == pytest.approx(cell[np.isfinite(cell)].mean())


class Counting(Volume):
    """Counts the voxels that are asked for."""

    def __init__(self, volume: Volume) -> None:
        self.volume, self.header, self.source = volume, volume.header, volume.source
        self.voxels = 0
        self.largest = 0

    def read(self, region: Region, channel: int | None = None) -> NDArray[Any]:
        block = self.volume.read(region, channel)
        self.voxels += block.size
        self.largest = max(self.largest, block.size)
        return block


def test_random_access_reads_only_the_planes(tmp_path: Path) -> None:
    z, y, x = SHAPE
    with open_volume(write(voxels(), tmp_path, ".h5")) as volume:
        counting = Counting(volume)
        read_planes(counting, 0, (3, 20, 52), longest=64, memory=MEMORY)
    assert counting.voxels == y * x + z * x + z * y


def test_a_stream_is_read_once(tmp_path: Path) -> None:
    with open_volume(write(voxels(), tmp_path, ".nii.gz")) as volume:
        counting = Counting(volume)
        read_planes(counting, 0, (3, 20, 52), longest=64, memory=MEMORY)
        assert bytes_read(volume.header) == 2 * np.prod(SHAPE)
    assert counting.voxels == np.prod(SHAPE)


def test_memory_stays_bounded(tmp_path: Path) -> None:
    """A stream of 64 MiB is pictured within a quarter of that, as asked."""
    shape = (128, 512, 512)
    header = sitk.GetImageFromArray(np.zeros((1, 2, 2), np.int16))
    sitk.WriteImage(header, str(tmp_path / "one.nii"))
    raw = bytearray((tmp_path / "one.nii").read_bytes()[:352])
    raw[42:48] = np.array(shape[::-1], np.int16).tobytes()
    path = tmp_path / "large.nii.gz"
    with gzip.open(path, "wb", compresslevel=0) as file:
        file.write(bytes(raw))
        plane = np.arange(shape[1] * shape[2], dtype=np.int16)
        for number in range(shape[0]):
            file.write((plane + number).tobytes())
    with open_volume(VolumeSource(paths=(path,))) as volume:
        assert volume.header.shape == shape
        tracemalloc.start()
        planes = read_planes(volume, 0, (64, 256, 256), longest=128, memory=16 << 20)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert planes[0].shape == (128, 128)
    assert peak < 16 << 20


def test_fullest_planes(tmp_path: Path) -> None:
    labels = np.zeros(SHAPE, np.uint8)
    labels[2, 30, 10:14] = 1
    labels[2:5, 30, 12] = 1
    labels[9] = 255
    with open_volume(write(labels, tmp_path, ".nii.gz")) as volume:
        assert fullest_planes(volume, MEMORY, 255) == (2, 30, 12)
        assert fullest_planes(volume, MEMORY, None) == (9, 30, 12)
    with open_volume(write(np.zeros(SHAPE, np.uint8), tmp_path, ".h5")) as volume:
        assert fullest_planes(volume, MEMORY, None) is None
