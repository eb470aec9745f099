"""Zarr stores that hold no volume, several, or one that is named and ordered in its own way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr as zarr_library
from zarr.storage import ZipStore

from voxplan.profiling.formats import open_volume, reader_for
from voxplan.profiling.formats import zarr as reader_module
from voxplan.profiling.formats.base import FormatError, ReadOptions, VolumeSource

VOLUME = np.random.default_rng(4).integers(0, 200, (4, 6, 8)).astype(np.uint8)
ALL = (slice(0, 4), slice(0, 6), slice(0, 8))


def array(path: Path, values: Any = VOLUME, **options: Any) -> Path:
    created = zarr_library.create_array(str(path), shape=values.shape, dtype=values.dtype, **options)
    created[...] = values
    return path


def read(path: Path, key: str | None = None, options: ReadOptions | None = None) -> Any:
    with open_volume(VolumeSource(paths=(path,), key=key), options or ReadOptions()) as volume:
        return volume.read(tuple(slice(0, n) for n in volume.header.shape), 0)  # type: ignore[arg-type]


def refused(path: Path, key: str | None = None) -> FormatError:
    with pytest.raises(FormatError) as caught:
        read(path, key)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (np.zeros((3, 4, 5), np.complex64), "not-intensities"),
        (np.zeros((3, 4, 5), "S3"), "unsupported"),
        (np.zeros((3, 0, 5), np.uint8), "empty"),
        (np.zeros(5, np.uint8), "unsupported"),
        (np.zeros((2,) * 6, np.uint8), "unsupported"),
    ],
)
def test_arrays_that_are_no_volumes(tmp_path: Path, values: Any, kind: str) -> None:
    assert refused(array(tmp_path / "a.zarr", values, zarr_format=2)).kind == kind


def test_booleans_are_zero_and_one(tmp_path: Path) -> None:
    found = read(array(tmp_path / "a.zarr", VOLUME > 100))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, (VOLUME > 100).astype(np.uint8))


@pytest.fixture
def group(tmp_path: Path) -> Path:
    """Two volumes, of which one is a pyramid, and things beside them."""
    path = tmp_path / "a.zarr"
    root = zarr_library.open_group(str(path), mode="w", zarr_format=2)
    for level, shrunk in enumerate((VOLUME, VOLUME[::2, ::2, ::2])):
        root.create_array(f"em/{level}", shape=shrunk.shape, dtype="u1")[...] = shrunk
    scales = [{"type": "scale", "scale": [40.0, 4.0, 4.0]}], [{"type": "scale", "scale": [80.0, 8.0, 8.0]}]
    axes: Any = [{"name": name, "type": "space", "unit": "nanometer"} for name in "zyx"]
    levels: Any = [{"path": f"{n}", "coordinateTransformations": scale} for n, scale in enumerate(scales)]
    root["em"].attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": levels}]
    root.create_array("labels/objects", shape=VOLUME.shape, dtype="u8")[...] = VOLUME
    root.create_array("names", shape=(3,), dtype="S4")
    return path


def test_of_a_pyramid_the_full_resolution_counts(group: Path) -> None:
    assert list(reader_for(group).keys(group)) == ["em/0", "labels/objects"]
    error = refused(group)
    assert error.kind == "ambiguous"
    assert "em/0 (4, 6, 8) uint8, labels/objects (4, 6, 8) uint64" in str(error)
    for key in ("em", "em/0", "/em/0/"):
        np.testing.assert_array_equal(read(group, key), VOLUME)
        with open_volume(VolumeSource(paths=(group,), key=key)) as volume:
            assert volume.header.spacing.values == (40.0, 4.0, 4.0)
            assert volume.header.spacing.unit == "nm"


def test_keys_that_are_none_list_those_there_are(group: Path) -> None:
    assert "em/0 (4, 6, 8) uint8" in str(refused(group, "rwa"))
    np.testing.assert_array_equal(read(group, "labels"), VOLUME)  # a group with one volume is that volume
    assert "no such array" in str(refused(array(group.parent / "b.zarr"), "raw"))


def test_stores_of_too_many_arrays_ask_for_the_key(group: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_module, "MOST_ARRAYS", 3)
    error = refused(group)
    assert error.kind == "ambiguous"
    assert "--image-key" in str(error)
    np.testing.assert_array_equal(read(group, "labels/objects"), VOLUME)


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (("z", "y", "x"), (0, 1, 2)),
        (("x", "y", "z"), (2, 1, 0)),
        (("Z_depth", "Y", "X"), (0, 1, 2)),
        (("i", "j", "k"), (0, 1, 2)),
        (("y", "y", "x"), (0, 1, 2)),
    ],
)
def test_names_of_dimensions(tmp_path: Path, names: tuple[str, ...], order: tuple[int, ...]) -> None:
    """Zarr 3 may name them; names that name no axis leave the order of axes as it is."""
    path = array(tmp_path / "a.zarr", VOLUME, dimension_names=names)
    np.testing.assert_array_equal(read(path), VOLUME.transpose(order))
    np.testing.assert_array_equal(read(path, options=ReadOptions(axes="zyx")), VOLUME)


def zipped(path: Path) -> Path:
    with ZipStore(path, mode="w") as store:
        zarr_library.create_array(store, shape=VOLUME.shape, dtype="u1", chunks=(2, 3, 4))[...] = VOLUME
    return path


def test_a_zipped_store(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read(zipped(tmp_path / "a.zarr.zip")), VOLUME)


@pytest.mark.parametrize("at", range(0, 1200, 75))
def test_damaged_zips_are_named(tmp_path: Path, at: int) -> None:
    """A wrong checksum of a member was an error that nobody foresaw."""
    path = zipped(tmp_path / "a.zarr.zip")
    content = bytearray(path.read_bytes())
    content[at : at + 40] = bytes(reversed(content[at : at + 40]))
    path.write_bytes(content)
    try:
        found = read(path)
    except FormatError as error:
        assert str(path) in str(error)  # noqa: PT017 - or it is read, and whole
    else:
        np.testing.assert_array_equal(found, VOLUME)
