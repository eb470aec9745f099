"""Numbers of HDF5 that numpy knows in another form, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from voxplan.profiling.formats import open_volume
from voxplan.profiling.formats.base import FormatError, VolumeSource

VOLUME = np.arange(120).reshape(4, 5, 6) * 8


def bits_10_of_16_from_the_third() -> Any:
    kind = h5py.h5t.NATIVE_UINT16.copy()
    kind.set_precision(10)
    kind.set_offset(3)
    return kind


def signed_12_of_16() -> Any:
    kind = h5py.h5t.NATIVE_INT16.copy()
    kind.set_precision(12)
    return kind


def bfloat16() -> Any:
    kind = h5py.h5t.IEEE_F32LE.copy()
    kind.set_fields(15, 7, 8, 0, 7)
    kind.set_size(2)
    kind.set_ebias(127)
    return kind


def another_bias() -> Any:
    kind = h5py.h5t.IEEE_F32LE.copy()
    kind.set_ebias(100)
    return kind


def bits_24() -> Any:
    kind = h5py.h5t.NATIVE_UINT32.copy()
    kind.set_size(3)
    return kind


def write(path: Path, kind: Any, values: np.ndarray, name: bytes = b"raw", deflate: int = 1) -> Path:
    """A data set of one gzip chunk; HDF5 itself turns the values into the type."""
    storage = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    storage.set_chunk(values.shape)
    storage.set_deflate(deflate)
    with h5py.File(path, "a") as file:
        made = h5py.h5d.create(file.id, name, kind, h5py.h5s.create_simple(values.shape), storage)
        made.write(h5py.h5s.ALL, h5py.h5s.ALL, np.ascontiguousarray(values))
    return path


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (bits_10_of_16_from_the_third, VOLUME.astype(np.uint16)),
        (signed_12_of_16, (VOLUME - 500).astype(np.int16)),
        (bfloat16, (VOLUME // 8).astype(np.float32)),
        (another_bias, VOLUME.astype(np.float32)),
    ],
)
def test_gzip_chunks_of_other_bits_than_numpy_s(
    tmp_path: Path, kind: Callable[[], Any], values: np.ndarray
) -> None:
    path = write(tmp_path / "a.h5", kind(), values)
    with open_volume(VolumeSource(paths=(path,))) as volume:
        read = volume.read((slice(0, 4), slice(0, 5), slice(0, 6)), 0)
    np.testing.assert_array_equal(read, values)


@pytest.mark.parametrize("kind", [bits_24, lambda: h5py.h5t.UNIX_D32LE])
def test_types_that_numpy_does_not_know(tmp_path: Path, kind: Callable[[], Any]) -> None:
    """The data set is refused by itself; another one in the file is read."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        h5py.h5d.create(file.id, b"odd", kind(), h5py.h5s.create_simple(VOLUME.shape))
    with pytest.raises(FormatError, match="no numeric data set"):
        open_volume(VolumeSource(paths=(path,)))
    with pytest.raises(FormatError, match="type that numpy does not know") as caught:
        open_volume(VolumeSource(paths=(path,), key="odd"))
    assert caught.value.kind == "unsupported"
    with h5py.File(path, "a") as file:
        file["raw"] = VOLUME.astype(np.uint16)
    with open_volume(VolumeSource(paths=(path,))) as volume:
        np.testing.assert_array_equal(volume.read((slice(0, 4), slice(0, 5), slice(0, 6)), 0), VOLUME)
