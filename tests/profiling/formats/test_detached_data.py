"""NRRD and MetaImage headers with their voxels in several files, or that SimpleITK might read otherwise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from voxplan.profiling.formats import open_volume
from voxplan.profiling.formats.base import FormatError, VolumeSource

VOLUME = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)
NRRD = "NRRD0004\ntype: uchar\ndimension: 3\nsizes: 5 4 3\nencoding: raw\n"
META = "ObjectType = Image\nNDims = 3\nDimSize = 5 4 3\nElementType = MET_UCHAR\n"
ASCII = "ObjectType = Image\nNDims = 3\nBinaryData = False\nDimSize = 5 4 3\nElementType = MET_UCHAR\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """``data`` with planes s1.raw to s3.raw and the volume as text; ``secret`` files lie outside."""
    data = tmp_path / "data"
    data.mkdir()
    for number, plane in enumerate(VOLUME, 1):
        (data / f"s{number}.raw").write_bytes(plane.tobytes())
        (tmp_path / f"s{number}.raw").write_bytes(bytes([77] * 20))
    (data / "ok.txt").write_text(" ".join(map(str, VOLUME.ravel())) + "\n")
    (tmp_path / "secret.txt").write_text("77 " * 60 + "\n")
    return data


def read(path: Path, header: str) -> np.ndarray:
    path.write_bytes(header.encode("latin-1"))
    with open_volume(VolumeSource(paths=(path,))) as volume:
        return volume.read((slice(0, 3), slice(0, 4), slice(0, 5)), 0)


def refused(path: Path, header: str) -> FormatError:
    with pytest.raises(FormatError) as caught:
        read(path, header)
    assert str(path) in str(caught.value)
    assert "crashed" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("a.nhdr", NRRD + "data file: s%d.raw 1 3 1\n"),
        ("a.nhdr", NRRD + "data file: s%01d.raw 1 3 1 2\n"),
        ("a.nhdr", NRRD + "data file: LIST\ns1.raw\ns2.raw\ns3.raw\n"),
        ("a.mhd", META + "ElementDataFile = s%d.raw 1 3 1\n"),
        ("a.mhd", META + "ElementDataFile = s%d.raw\n"),
        ("a.mhd", META + "ElementDataFile = LIST\ns1.raw\ns2.raw\ns3.raw\n"),
        ("a.mhd", ASCII + "ElementDataFile = ok.txt\n"),
        ("a.mhd", ASCII.replace("\n", "\r\n") + "ElementDataFile = ok.txt\n"),
    ],
)
def test_files_in_the_folder_are_read(folder: Path, name: str, header: str) -> None:
    np.testing.assert_array_equal(read(folder / name, header), VOLUME)


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("a.nhdr", NRRD + "data file: {} 1 3 1\n"),
        ("a.mhd", META + "ElementDataFile = {} 1 3 1\n"),
        ("a.mhd", META + "ElementDataFile = {}\n"),
    ],
)
@pytest.mark.parametrize("how", ["file-links", "folder-links", "relative", "absolute"])
def test_numbered_files_that_lead_elsewhere(folder: Path, name: str, header: str, how: str) -> None:
    pattern = "s%d.raw"
    if how == "file-links":
        (folder / "s2.raw").unlink()
        (folder / "s2.raw").symlink_to("../s2.raw")
    elif how == "folder-links":
        for number in (1, 2, 3):
            (folder / f"f{number}").symlink_to("..")
        pattern = "f%d/s1.raw"
    else:
        pattern = "../s%d.raw" if how == "relative" else f"{folder.parent}/s%d.raw"
    assert refused(folder / name, header.format(pattern)).kind == "outside"


@pytest.mark.parametrize(
    "pattern", ["s%d%n.raw", "s%d%s%s%s%s.raw", "s%s%s%s%s%s", "s%999999999d.raw", "s%x.raw"]
)
@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("a.nhdr", NRRD + "data file: {} 1 3 1\n"),
        ("a.nhdr", NRRD.replace("raw", "ascii") + "data file: {}\n"),
        ("a.mhd", META + "ElementDataFile = {} 1 3 1\n"),
        ("a.mhd", ASCII + "ElementDataFile = {}\n"),
    ],
)
def test_names_are_no_formats_of_printf(folder: Path, name: str, header: str, pattern: str) -> None:
    """SimpleITK hands them to ``printf``, which reads and writes memory by them."""
    (folder / pattern).write_text("1 " * 60)
    refused(folder / name, header.format(pattern))


@pytest.mark.parametrize("numbers", ["1 3 0", "1 2000000000 1", "x 3 1", "1 4 1"])
def test_numbers_of_files_that_make_no_sense(folder: Path, numbers: str) -> None:
    refused(folder / "a.nhdr", NRRD + f"data file: s%d.raw {numbers}\n")
    refused(folder / "a.mhd", META + f"ElementDataFile = s%d.raw {numbers}\n")


@pytest.mark.parametrize("numbers", ["1 2 1", "3 1 -1", "1 5 1"])
def test_numbers_of_files_that_are_not_as_many_as_planes(folder: Path, numbers: str) -> None:
    """MetaIO leaves what no file fills as it finds it in memory, and writes beyond its end."""
    for number in (4, 5):
        (folder / f"s{number}.raw").write_bytes(bytes(20))
    error = refused(folder / "a.mhd", META + f"ElementDataFile = s%d.raw {numbers}\n")
    assert "for 3 planes" in str(error)


@pytest.mark.parametrize(
    "files", ["s1.raw\n", "s1.raw\ns2.raw\n", "s1.raw\n\ns2.raw\n", "s1.raw\n" * 4, "", "\n\n\n"]
)
def test_lists_of_fewer_or_more_files_than_planes(folder: Path, files: str) -> None:
    error = refused(folder / "a.mhd", META + f"ElementDataFile = LIST\n{files}")
    assert "needs 3" in str(error)


def test_a_list_of_files_of_fewer_axes(folder: Path) -> None:
    for number, row in enumerate(VOLUME.reshape(12, 5)):
        (folder / f"row{number}.raw").write_bytes(row.tobytes())
    files = "".join(f"row{number}.raw\n" for number in range(12))
    np.testing.assert_array_equal(read(folder / "a.mhd", META + f"ElementDataFile = LIST 1\n{files}"), VOLUME)
    refused(folder / "a.mhd", META + f"ElementDataFile = LIST 2\n{files}")


@pytest.mark.parametrize(
    "end",
    [
        "elementdatafile = ok.txt\nElementDataFile = ../secret.txt\n",
        "ElementDataFile : ../secret.txt\nElementDataFile = ok.txt\n",
        "Comment = x\rElementDataFile = ../secret.txt\nElementDataFile = ok.txt\n",
        "Comment: ElementDataFile = ../secret.txt\nElementDataFile = ok.txt\n",
        "elementDataFile = ok.txt\n",
        "DimSize = 1 1 1\nElementDataFile = ok.txt\n",
    ],
)
def test_metaimage_headers_of_two_readings(folder: Path, end: str) -> None:
    """SimpleITK knows fields by their exact names, also before a colon."""
    refused(folder / "a.mhd", ASCII + end)


@pytest.mark.parametrize(
    "lines",
    [
        "datafile: ../secret.txt\ndata file: ok.txt\n",
        "data file: ok.txt\nData File: ../secret.txt\n",
        "content: x\rdata file: ../secret.txt\r\ndata file: ok.txt\n",
    ],
)
def test_nrrd_headers_of_two_readings(folder: Path, lines: str) -> None:
    refused(folder / "a.nhdr", NRRD.replace("raw", "ascii") + lines)
