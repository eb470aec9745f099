"""What every reader must do, whatever the format."""

from __future__ import annotations

import contextlib
import random
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from voxplan.profiling.formats import READERS, open_volume
from voxplan.profiling.formats.base import FormatError, ReadOptions, Region

SHAPE = (7, 19, 23)


def make(channels: int = 1, dtype: str = "uint16") -> NDArray[Any]:
    """Noise, so that no two regions agree by chance and no compression hides a cut file."""
    rng = np.random.default_rng(5)
    return rng.integers(0, 60000, (channels, *SHAPE)).astype(dtype)


def whole(shape: tuple[int, int, int]) -> Region:
    return slice(0, shape[0]), slice(0, shape[1]), slice(0, shape[2])


def some_regions(count: int = 12) -> list[Region]:
    rng = np.random.default_rng(11)
    regions = []
    for _ in range(count):
        z, y, x = (sorted(rng.choice(n + 1, 2, replace=False).tolist()) for n in SHAPE)
        regions.append((slice(*z), slice(*y), slice(*x)))
    return [*regions, (slice(2, 3), slice(0, SHAPE[1]), slice(0, SHAPE[2]))]


def test_every_reader_is_tested(written_formats: set[str]) -> None:
    assert {reader.name for reader in READERS} == written_formats


def test_header_says_what_was_written(tmp_path: Path, write: Any) -> None:
    written = write(tmp_path, make())
    with open_volume(written.source) as volume:
        header = volume.header
    assert header.shape == SHAPE
    assert header.channels == 1
    assert header.dtype == np.uint16
    assert header.dtype.isnative
    assert header.spacing.unit == written.unit
    if written.spacing is None:
        assert header.spacing.values is None
        assert header.spacing.source == "missing"
    else:
        assert header.spacing.values == pytest.approx(written.spacing, rel=1e-12)
    assert all(1 <= b <= n for b, n in zip(header.block, SHAPE, strict=True))
    assert header.stored_bytes > 0


def test_opening_reads_no_voxels(tmp_path: Path, write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Voxels that cannot be decoded do not disturb the header: it was read without them."""
    written = write(tmp_path, make())
    import imagecodecs
    import tifffile

    def refuse(*_: Any, **__: Any) -> None:
        pytest.fail("voxels were decoded")

    monkeypatch.setattr(tifffile.TiffFile, "asarray", refuse)
    monkeypatch.setattr(tifffile.TiffPage, "asarray", refuse)
    monkeypatch.setattr(tifffile.TiffPage, "decode", property(refuse))
    monkeypatch.setattr(imagecodecs, "png_decode", refuse)
    import h5py
    import SimpleITK as sitk

    monkeypatch.setattr(h5py.Dataset, "read_direct", refuse)
    monkeypatch.setattr(h5py.Dataset, "__getitem__", refuse)
    monkeypatch.setattr(sitk, "ReadImage", refuse)
    with open_volume(written.source) as volume:
        assert volume.header.shape == SHAPE


def test_regions_equal_the_whole(tmp_path: Path, write: Any) -> None:
    written = write(tmp_path, make())
    with open_volume(written.source) as volume:
        everything = volume.read(whole(SHAPE))
        assert everything.dtype == volume.header.dtype
        assert everything.dtype.isnative
        np.testing.assert_array_equal(everything, written.array)
        for region in some_regions():
            np.testing.assert_array_equal(volume.read(region), written.array[(slice(None), *region)])
            np.testing.assert_array_equal(volume.read(region, 0), written.array[0][region])


@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_channels_are_read_together_or_one_by_one(tmp_path: Path, write_channels: Any, dtype: str) -> None:
    if "imagej" in write_channels.__name__ and dtype == "int16":
        dtype = "uint16"
    written = write_channels(tmp_path, make(3, dtype))
    with open_volume(written.source) as volume:
        assert volume.header.shape == SHAPE
        assert volume.header.channels == 3
        assert volume.header.dtype == dtype
        for region in some_regions(4):
            np.testing.assert_array_equal(volume.read(region), written.array[(slice(None), *region)])
        for channel in (2, 0, 1):
            np.testing.assert_array_equal(volume.read(whole(SHAPE), channel), written.array[channel])


def test_planes_backwards(tmp_path: Path, write: Any) -> None:
    """Right, however slow, on compressed streams."""
    written = write(tmp_path, make())
    with open_volume(written.source) as volume:
        for z in reversed(range(SHAPE[0])):
            plane = volume.read((slice(z, z + 1), slice(0, SHAPE[1]), slice(0, SHAPE[2])), 0)
            np.testing.assert_array_equal(plane[0], written.array[0, z])


def test_results_may_be_changed(tmp_path: Path, write: Any) -> None:
    written = write(tmp_path, make())
    with open_volume(written.source) as volume:
        volume.read(whole(SHAPE), 0)[...] = 0
        np.testing.assert_array_equal(volume.read(whole(SHAPE), 0), written.array[0])


def test_an_empty_region_is_empty(tmp_path: Path, write: Any) -> None:
    written = write(tmp_path, make())
    with open_volume(written.source) as volume:
        assert volume.read((slice(3, 3), slice(0, 4), slice(0, 5))).shape == (1, 0, 4, 5)


@pytest.mark.parametrize(
    ("region", "channel"),
    [((slice(0, 8), slice(0, 1), slice(0, 1)), 0), (whole(SHAPE), 1), (whole(SHAPE), -1)],
)
def test_outside_is_refused(tmp_path: Path, write: Any, region: Region, channel: int) -> None:
    written = write(tmp_path, make())
    with open_volume(written.source) as volume, pytest.raises(IndexError):
        volume.read(region, channel)


def test_the_users_spacing_wins(tmp_path: Path, write: Any) -> None:
    written = write(tmp_path, make())
    options = ReadOptions(spacing=(9.0, 8.0, 7.0), unit="nm")
    with open_volume(written.source, options) as volume:
        assert volume.header.spacing.values == (9.0, 8.0, 7.0)
        assert volume.header.spacing.unit == "nm"
        assert volume.header.spacing.source == "user"
        assert not any("spacing" in warning for warning in volume.header.warnings)


def test_closed_files_are_free(tmp_path: Path, write: Any) -> None:
    import psutil

    written = write(tmp_path, make())
    with open_volume(written.source) as volume:
        volume.read(whole(SHAPE))
    still_open = [f.path for f in psutil.Process().open_files() if f.path.startswith(str(tmp_path))]
    assert still_open == []


@pytest.mark.parametrize("keep", [0.0, 0.02, 0.5, 0.9])
def test_a_file_cut_short_is_an_error_with_its_name(tmp_path: Path, write: Any, keep: float) -> None:
    written = write(tmp_path, make())
    size = written.truncate.stat().st_size
    with written.truncate.open("r+b") as file:
        file.truncate(int(size * keep))
    with pytest.raises(FormatError) as caught, open_volume(written.source) as volume:
        volume.read(whole(SHAPE))
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_noise_is_an_error(tmp_path: Path, write: Any) -> None:
    written = write(tmp_path, make())
    has_structure = written.truncate.suffix != ".raw"
    path = written.truncate if has_structure else written.source.paths[0]
    path.write_bytes(np.random.default_rng(0).bytes(path.stat().st_size))
    with pytest.raises(FormatError) as caught, open_volume(written.source) as volume:
        volume.read(whole(SHAPE))
    assert "\n" not in str(caught.value)


def test_changed_bytes_give_an_error_or_voxels_but_nothing_else(tmp_path: Path, write: Any) -> None:
    """The head of the file, where the structure is, changed at random: no other error, no large memory."""
    written = write(tmp_path, make())
    rng = random.Random(3)
    files = [path for path in written.source.paths if path.is_file()] or [written.truncate]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(15):
        path = rng.choice(files)
        original = path.read_bytes()
        changed = bytearray(original)
        for _ in range(rng.choice((1, 2, 8))):
            changed[rng.randrange(min(len(changed), 600))] = rng.choice((0, 1, 127, 128, 255))
        path.write_bytes(changed)
        with contextlib.suppress(FormatError), open_volume(written.source) as volume:
            if volume.header.channels * volume.header.voxels < 1 << 24:
                volume.read(whole(volume.header.shape))
        path.write_bytes(original)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 300 << 10  # KiB


def test_a_missing_file_is_an_error(tmp_path: Path, write: Any) -> None:
    written = write(tmp_path, make())
    for path in written.source.paths:
        path.rename(path.with_name(path.name + ".away"))
    with pytest.raises(FormatError), open_volume(written.source):
        pass
