"""Virtual data sets and links of HDF5: names that it reads in its own way, and parts that are not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from voxplan.profiling.formats import hdf5_links, open_volume, reader_for
from voxplan.profiling.formats.base import FormatError, VolumeSource

VOLUME = np.random.default_rng(1).integers(1, 200, (4, 6, 8)).astype(np.uint8)
ALL = (slice(0, 4), slice(0, 6), slice(0, 8))
low_level: Any = h5py
"""Type checkers see none of h5py's compiled modules."""


def virtual(path: Path, file_name: str, name: str) -> Path:
    """A virtual data set ``raw``, all of it mapped from one other."""
    layout = h5py.VirtualLayout(VOLUME.shape, "u1")
    layout[...] = h5py.VirtualSource(file_name, name, VOLUME.shape)
    with h5py.File(path, "a") as file:
        file.create_virtual_dataset("raw", layout)
    return path


def endless(path: Path, file_name: str, name: str) -> Path:
    """A virtual data set of as many planes as there are parts: HDF5 puts their numbers into the names."""
    space = low_level.h5s.create_simple((1, 6, 8), (low_level.h5s.UNLIMITED, 6, 8))
    space.select_hyperslab((0, 0, 0), (low_level.h5s.UNLIMITED, 1, 1), (1, 1, 1), (1, 6, 8))
    layout = low_level.h5p.create(low_level.h5p.DATASET_CREATE)
    layout.set_virtual(space, file_name.encode(), name.encode(), low_level.h5s.create_simple((1, 6, 8)))
    with h5py.File(path, "a") as file:
        low_level.h5d.create(file.id, b"raw", low_level.h5t.NATIVE_UINT8, space, layout)
    return path


def read(path: Path) -> Any:
    with open_volume(VolumeSource(paths=(path,), key="raw")) as volume:
        return volume.read(tuple(slice(0, n) for n in volume.header.shape), 0)  # type: ignore[arg-type]


def refused(path: Path) -> FormatError:
    with pytest.raises(FormatError) as caught:
        read(path)
    assert str(path.parent) in str(caught.value)
    return caught.value


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of the data, beside a file that must not be read."""
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["raw"] = VOLUME
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.mark.parametrize("where", ["file", "name"])
def test_two_signs_of_percent_are_one_to_hdf5(folder: Path, where: str) -> None:
    """The check looked for ``a%%b``, found nothing to refuse, and HDF5 followed ``a%b`` out of the folder."""
    file_name, name = ("a%b.h5", "part") if where == "file" else ("middle.h5", "a%b")
    with h5py.File(folder / file_name, "w") as file:
        file[name] = h5py.ExternalLink("../secret.h5", "/raw")
    path = virtual(folder / "a.h5", file_name.replace("%", "%%"), name.replace("%", "%%"))
    with h5py.File(path) as file:
        assert np.array_equal(file["raw"][...], VOLUME), "HDF5 would follow it"
    assert refused(path).kind == "outside"


@pytest.mark.parametrize(
    ("file_name", "name"), [("middle.h5", "plane%b"), ("part%b.h5", "plane0"), (".", "plane%b")]
)
def test_parts_that_hdf5_numbers_itself(folder: Path, file_name: str, name: str) -> None:
    for inside in ("middle.h5", "part0.h5", "a.h5"):
        with h5py.File(folder / inside, "w") as file:
            file["plane0"] = h5py.ExternalLink("../secret.h5", "/raw")
    assert refused(endless(folder / "a.h5", file_name, name)).kind == "outside"


@pytest.mark.parametrize("how", ["file", "name", "group", "inside"])
def test_parts_that_are_not_there_are_no_zeros(folder: Path, how: str) -> None:
    """HDF5 gives its fill value for them, without a word."""
    with h5py.File(folder / "middle.h5", "w") as file:
        file["there"] = VOLUME
        file.create_group("group")
    file_name = {"file": "nowhere.h5", "inside": "."}.get(how, "middle.h5")
    path = virtual(folder / "a.h5", file_name, "group" if how == "group" else "not_there")
    error = refused(path)
    assert "part of this virtual data set" in str(error)


def test_parts_in_the_same_file(folder: Path) -> None:
    path = folder / "a.h5"
    with h5py.File(path, "w") as file:
        file["part"] = VOLUME
    assert np.array_equal(read(virtual(path, ".", "part")), VOLUME)


def test_parts_in_the_same_file_that_lie_elsewhere(folder: Path) -> None:
    path = folder / "a.h5"
    (folder.parent / "secret.bin").write_bytes(VOLUME.tobytes())
    with h5py.File(path, "w") as file:
        storage = [(str(folder.parent / "secret.bin"), 0, VOLUME.size)]
        file.create_dataset("part", VOLUME.shape, "u1", external=storage)
    assert refused(virtual(path, ".", "part")).kind == "outside"


def test_virtual_data_sets_in_a_circle(folder: Path) -> None:
    virtual(folder / "b.h5", "a.h5", "raw")
    assert "loop" in str(refused(virtual(folder / "a.h5", "b.h5", "raw")))


def test_a_link_to_a_file_that_is_none(folder: Path) -> None:
    (folder / "middle.h5").write_bytes(b"no HDF5")
    with h5py.File(folder / "a.h5", "w") as file:
        file["raw"] = h5py.ExternalLink("middle.h5", "/raw")
    assert "middle.h5 cannot be opened" in str(refused(folder / "a.h5"))


def test_files_of_too_many_objects_ask_for_the_key(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hdf5_links, "MOST_OBJECTS", 5)
    path = folder / "a.h5"
    with h5py.File(path, "w") as file:
        for number in range(5):
            file[f"{number}"] = VOLUME
        file["type"] = np.dtype("u1")
    with pytest.raises(FormatError, match="--image-key") as caught:
        reader_for(path).keys(path)
    assert caught.value.kind == "ambiguous"
    with open_volume(VolumeSource(paths=(path,), key="3")) as volume:
        assert np.array_equal(volume.read(ALL, 0), VOLUME)
