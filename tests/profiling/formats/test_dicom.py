"""Series of DICOM files: their order, and what is no volume. SimpleITK writes and reads beside us."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from voxplan.profiling.formats import open_volume, reader_for
from voxplan.profiling.formats.base import FormatError, Volume, VolumeSource

VOLUME = np.random.default_rng(2).integers(-1000, 1000, (6, 5, 4)).astype(np.int16)
POSITION, DIRECTION, SERIES = "0020|0032", "0020|0037", "0020|000e"


def write_slice(path: Path, plane: NDArray[Any], number: int, tags: Mapping[str, str]) -> None:
    image = sitk.GetImageFromArray(plane, isVector=plane.ndim == 3)
    image.SetSpacing((0.5, 0.75))
    identity = {
        "0008|0060": "CT",
        SERIES: "1.2.826.0.1.3680043.2.1125.1",
        "0020|000d": "1.2.826.0.1.3680043.2.1125.2",
        "0020|0013": f"{number}",
        "0008|0018": f"1.2.826.0.1.3680043.2.1125.3.{number}",
    }
    for tag, value in {**identity, **tags}.items():
        image.SetMetaData(tag, value)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    writer.SetFileName(str(path))
    writer.Execute(image)


def write_series(
    folder: Path, planes: Sequence[NDArray[Any]], positions: Sequence[float], direction: str = r"1\0\0\0\1\0"
) -> Path:
    """Files in the order of the planes, whatever the positions."""
    folder.mkdir()
    for number, (plane, at) in enumerate(zip(planes, positions, strict=True)):
        write_slice(
            folder / f"{number:02d}.dcm", plane, number, {POSITION: rf"0\0\{at}", DIRECTION: direction}
        )
    return folder


def opened(folder: Path) -> Volume:
    return open_volume(VolumeSource(paths=(folder,)))


def refused(folder: Path) -> FormatError:
    with pytest.raises(FormatError) as caught, opened(folder) as volume:
        volume.read(tuple(slice(0, n) for n in volume.header.shape))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("direction", [r"1\0\0\0\1\0", r"-1\0\0\0\1\0", r"1\0\0\0\-1\0"])
@pytest.mark.parametrize("step", [2.5, -2.5])
def test_the_order_is_what_simpleitk_reads(tmp_path: Path, direction: str, step: float) -> None:
    folder = write_series(tmp_path / "a", VOLUME, [n * step for n in range(6)], direction)
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
    image = sitk.ReadImage(names)
    with opened(folder) as volume:
        np.testing.assert_array_equal(
            volume.read((slice(0, 6), slice(0, 5), slice(0, 4)), 0), sitk.GetArrayFromImage(image)
        )
        assert volume.header.spacing.values == image.GetSpacing()[::-1]
        assert volume.header.affine is not None
        ras = np.diag([-1.0, -1.0, 1.0])
        matrix = np.reshape(image.GetDirection(), (3, 3)) @ np.diag(image.GetSpacing())
        np.testing.assert_allclose(np.array(volume.header.affine)[:3, :3], ras @ matrix)
        np.testing.assert_allclose(np.array(volume.header.affine)[:3, 3], ras @ image.GetOrigin())


def test_slopes_that_differ_between_slices_are_applied_to_each(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    for number, slope in enumerate(("1", "2", "3")):
        tags = {POSITION: rf"0\0\{number}", DIRECTION: r"1\0\0\0\1\0", "0028|1053": slope, "0028|1052": "7"}
        write_slice(folder / f"{number}.dcm", VOLUME[number], number, tags)
    with opened(folder) as volume:
        found = volume.read((slice(0, 3), slice(0, 5), slice(0, 4)), 0)
    for number in range(3):
        one = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / f"{number}.dcm")))
        np.testing.assert_array_equal(found[number], one[0])


@pytest.mark.parametrize(
    "positions",
    [
        pytest.param([0, 1, 2, 0, 1, 2], id="two-times"),
        pytest.param([0, 0, 1, 2, 3, 4], id="first-slice-twice"),
        pytest.param([0, 1, 2, 3, 4, 4.0001], id="one-slice-twice"),
    ],
)
def test_several_volumes_in_one_series_are_no_volume(tmp_path: Path, positions: list[float]) -> None:
    """Two times of three slices were one volume of six, its slices 0.4 mm apart, with a warning."""
    error = refused(write_series(tmp_path / "a", VOLUME, positions))
    assert error.kind == "ambiguous"
    assert "lies where" in str(error)


@pytest.mark.parametrize("stated", [True, False])
def test_slices_of_which_nobody_knows_where_they_lie(tmp_path: Path, stated: bool) -> None:
    """The order of their numbers is all that is known; the order of their names runs against it."""
    folder = tmp_path / "a"
    folder.mkdir()
    for number, plane in enumerate(VOLUME):
        tags = {POSITION: r"0\0\0", DIRECTION: r"1\0\0\0\1\0"} if stated else {"0008|0060": "US"}
        write_slice(folder / f"{9 - number}.dcm", plane, number, tags)
    with opened(folder) as volume:
        np.testing.assert_array_equal(volume.read((slice(0, 6), slice(0, 5), slice(0, 4)), 0), VOLUME)
        assert volume.header.spacing.values is None


def test_a_missing_slice_is_said(tmp_path: Path) -> None:
    with opened(write_series(tmp_path / "a", VOLUME, [0, 1, 2, 4, 5, 6])) as volume:
        assert volume.header.spacing.values == (1.2, 0.75, 0.5)
        assert volume.header.warnings == ("slices are 1 to 2 mm apart: their mean, 1.2, is taken",)


def test_one_slice_is_a_plane(tmp_path: Path) -> None:
    with opened(write_series(tmp_path / "a", VOLUME[:1], [3])) as volume:
        np.testing.assert_array_equal(
            volume.read((slice(0, 1), slice(1, 5), slice(0, 3)), 0), VOLUME[:1, 1:, :3]
        )


def test_colours_are_refused(tmp_path: Path) -> None:
    error = refused(write_series(tmp_path / "a", np.zeros((2, 5, 4, 3), np.uint8), [0, 1]))
    assert error.kind == "not-intensities"
    assert "RGB" in str(error)


@pytest.mark.parametrize("how", ["size", "direction"])
def test_slices_that_do_not_belong_together(tmp_path: Path, how: str) -> None:
    folder = write_series(tmp_path / "a", VOLUME[:3], [0, 1, 2])
    plane = VOLUME[3, :4] if how == "size" else VOLUME[3]
    direction = r"1\0\0\0\1\0" if how == "size" else r"1\0\0\0\0\1"
    # Named one by one: GDCM would make two series of a folder.
    write_slice(folder / "03.dcm", plane, 3, {POSITION: r"0\0\3", DIRECTION: direction})
    with pytest.raises(FormatError, match=r"03\.dcm: .* not one volume"):
        open_volume(VolumeSource(paths=tuple(sorted(folder.iterdir()))))


def test_frames_beside_slices(tmp_path: Path) -> None:
    frames = (VOLUME + 1000).astype(np.uint16)
    for name in ("a.dcm", "b.dcm"):
        sitk.WriteImage(sitk.GetImageFromArray(frames), str(tmp_path / name))
    with open_volume(VolumeSource(paths=(tmp_path / "a.dcm",))) as volume:
        np.testing.assert_array_equal(volume.read((slice(2, 5), slice(0, 5), slice(0, 4)), 0), frames[2:5])
    with pytest.raises(FormatError, match="holds 6 frames") as caught:
        open_volume(VolumeSource(paths=(tmp_path / "a.dcm", tmp_path / "b.dcm")))
    assert caught.value.kind == "ambiguous"


def test_a_slice_that_is_cut_short(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "a", VOLUME, range(6))
    path = folder / "03.dcm"
    path.write_bytes(path.read_bytes()[:-20])
    assert "03.dcm" in str(refused(folder))


def test_names_of_series_are_keys_of_a_folder(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "a", VOLUME, range(6))
    reader = reader_for(folder / "00.dcm")
    assert len(reader.keys(folder)) == 1
    assert reader.keys(folder / "00.dcm") == []


@pytest.mark.parametrize("compressed", [False, True])
def test_what_follows_the_pixels(tmp_path: Path, compressed: bool) -> None:
    """Found by mutation (seed 3537): GDCM takes four bytes of junk there for a length, and allocates that."""
    frames = np.random.default_rng(3).integers(0, 4000, (6, 32, 32)).astype(np.uint16)
    path = tmp_path / "a.dcm"
    sitk.WriteImage(sitk.GetImageFromArray(frames), str(path), compressed)
    sound = path.read_bytes()
    padding = b"\xfc\xff\xfc\xff" + (b"OB\0\0" if compressed else b"") + (8).to_bytes(4, "little") + bytes(8)
    for tail in (b"\0", bytes(80), bytes(70_000), padding):
        path.write_bytes(sound + tail)
        with opened(path) as volume:
            np.testing.assert_array_equal(volume.read((slice(0, 6), slice(0, 32), slice(0, 32)), 0), frames)
    for seed in range(20):
        path.write_bytes(sound + np.random.default_rng(seed).bytes(50))
        assert "a.dcm" in str(refused(path))


def test_the_locale_stays(tmp_path: Path) -> None:
    """GDCM makes it C, in which Python's open() takes text for ASCII: found by later tests."""
    write_series(tmp_path / "a", VOLUME, range(6))
    program = """
import locale, sys
from pathlib import Path
from voxplan.profiling.formats import open_volume, reader_for
from voxplan.profiling.formats.base import VolumeSource
from voxplan.profiling.layouts import discover
folder = Path(sys.argv[1])
before = locale.setlocale(locale.LC_ALL), locale.getpreferredencoding(False)
discover(folder)
reader_for(folder / "00.dcm").keys(folder)
with open_volume(VolumeSource(paths=(folder,))) as volume:
    volume.read(tuple(slice(0, n) for n in volume.header.shape))
assert (locale.setlocale(locale.LC_ALL), locale.getpreferredencoding(False)) == before
print(before[1])
"""
    words = [sys.executable, "-c", program, str(tmp_path / "a")]
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert (done.stdout.strip().upper(), done.returncode) == ("UTF-8", 0), done.stderr
