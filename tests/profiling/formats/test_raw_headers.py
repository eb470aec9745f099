"""Headers of NRRD and MetaImage that would lead to other voxels than SimpleITK's, or to none at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from voxplan.profiling.formats import open_volume
from voxplan.profiling.formats.base import FormatError, VolumeSource
from voxplan.profiling.formats.raw_layout import LARGEST_TEXT_HEADER

VOLUME = np.arange(60, dtype="<i2").reshape(3, 4, 5) - 30
NRRD = "NRRD0004\ntype: short\ndimension: 3\nsizes: 5 4 3\nencoding: raw\n"
META = "ObjectType = Image\nNDims = 3\nDimSize = 5 4 3\nElementType = MET_SHORT\n"


def write(path: Path, header: str) -> Path:
    path.write_bytes(header.encode("latin-1") + VOLUME.tobytes())
    return path


def read(path: Path) -> np.ndarray:
    with open_volume(VolumeSource(paths=(path,))) as volume:
        return volume.read((slice(0, 3), slice(0, 4), slice(0, 5)), 0)


def refused(path: Path) -> str:
    with pytest.raises(FormatError) as caught:
        read(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("a.nrrd", NRRD + "endian: little\n# {}\n\n"),
        ("a.nrrd", NRRD + "endian: little\nnote:={}\n\n"),
        ("a.mha", META + "Comment = {}\nElementDataFile = LOCAL\n"),
    ],
)
def test_headers_that_do_not_end(tmp_path: Path, name: str, header: str) -> None:
    """Of a longer header the rest is not read as voxels, which an NRRD's once was."""
    path = write(tmp_path / name, header.format("x" * 2 * LARGEST_TEXT_HEADER))
    reason = refused(path)
    assert "no end" in reason
    path = write(tmp_path / name, header.format("x" * (LARGEST_TEXT_HEADER // 2)))
    np.testing.assert_array_equal(read(path), VOLUME)


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("a.nrrd", NRRD + "endian: little\nsizes: 5 2 6\n\n"),
        ("a.nrrd", NRRD + "endian: little\nEndian: big\n\n"),
        ("a.nrrd", NRRD + "endian: little\nbyte skip: 0\nbyteskip: -1\n\n"),
        ("a.mha", META + "dimsize = 1 1 1\nElementDataFile = LOCAL\n"),
        ("a.mha", META + "ElementType = MET_USHORT\nElementDataFile = LOCAL\n"),
    ],
)
def test_fields_that_are_stated_twice(tmp_path: Path, name: str, header: str) -> None:
    assert "twice" in refused(write(tmp_path / name, header))


def test_an_nrrd_of_no_byte_order(tmp_path: Path) -> None:
    """SimpleITK and pynrrd refuse it, too; bytes need none."""
    path = write(tmp_path / "a.nrrd", NRRD + "\n")
    assert "endian" in refused(path)
    with pytest.raises(RuntimeError, match="endian"):
        sitk.ReadImage(str(path))
    assert "endian" in refused(write(tmp_path / "a.nrrd", NRRD + "endian: middle\n\n"))
    path = write(tmp_path / "a.nrrd", NRRD.replace("short", "uchar").replace("5 4 3", "10 4 3") + "\n")
    with open_volume(VolumeSource(paths=(path,))) as volume:
        bytes_read = volume.read((slice(0, 3), slice(0, 4), slice(0, 10)), 0)
    assert bytes_read.tobytes() == VOLUME.tobytes()


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("a.nrrd", NRRD + "endian: little\nbyte skip: -5\n\n"),
        ("a.mha", META + "HeaderSize = -5\nElementDataFile = LOCAL\n"),
    ],
)
def test_bytes_to_skip_that_make_no_sense(tmp_path: Path, name: str, header: str) -> None:
    assert "-5" in refused(write(tmp_path / name, header))
    np.testing.assert_array_equal(read(write(tmp_path / name, header.replace("-5", "-1"))), VOLUME)
