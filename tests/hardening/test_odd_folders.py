"""Names, folders and sizes as they are found on real disks."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pytest
import tifffile

from voxplan.profiling.case import ProfileOptions, profile_case
from voxplan.profiling.extract import profile_dataset
from voxplan.profiling.fingerprint import Fingerprint, load_fingerprint
from voxplan.profiling.formats.base import CaseSource, FormatError, ReadOptions, VolumeSource
from voxplan.profiling.layouts import discover
from voxplan.profiling.sidecar import load_histograms
from voxplan.scripts.profile_dataset import main

ODD_NAMES = {
    "spaces": " a  b ",
    "newline": "a\nb",
    "tab-return": "a\tb\rc",
    "escape": "a\x1b[31mred\x07",
    "quotes": "a'b\"c`d$(e)",
    "markup": "[bold]a[red]",
    "backslash": "x\\ny",
    "unicode": "Gehirn-Ä-脳-🧠",
    "right-to-left": "a\u202egpj",
    "combining": "e\u0301",
    "not-utf-8": os.fsdecode(b"a\xff\xfe b"),
    "percent": "a%d%s{0}",
    "long": "n" * 240,
    "option": "-o",
    "star": "a*b?[c]",
}


def write_volume(path: Path, value: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(np.full((4, 5, 6), value, np.uint8), np.eye(4))
    path.write_bytes(image.to_bytes())


def run(data: Path, output: Path, *more: str) -> Fingerprint:
    assert main([str(data), "-o", str(output), "-q", *more]) == 0
    return load_fingerprint(output)


@pytest.mark.parametrize("name", ODD_NAMES.values(), ids=ODD_NAMES)
def test_a_case_of_any_name(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """In a folder of that name, too; what is said of it stays on its line and off the terminal's controls."""
    data = tmp_path / name[:100] / "data"
    write_volume(data / f"{name}.nii")
    write_volume(data / "good.nii", 2)
    (data / f"{name[:230]}-bad.nii").write_bytes(b"no volume")
    output = tmp_path / "f.json"
    assert main([str(data), "-o", str(output), "-j", "1"]) == 0
    found = load_fingerprint(output)
    assert len(found.cases) == 2
    assert len(found.failures) == 1
    assert "\n" not in found.failures[0].reason
    told = capfd.readouterr()
    for control in ("\x1b[31m", "\x07", "\r", "\u202e"):
        assert control not in told.out + told.err
    histograms = load_histograms(tmp_path / "f.histograms.npz")
    assert {case.id for case in found.cases} == set(histograms)
    output.read_bytes().decode()
    assert run(data, output, "-j", "1").cases == found.cases


@pytest.mark.parametrize("name", ODD_NAMES.values(), ids=ODD_NAMES)
def test_names_go_through_worker_processes(name: str, tmp_path: Path) -> None:
    """One pool for all names would hide which of them breaks it: this runs the tasks of two cases here."""
    data = tmp_path / "data"
    write_volume(data / f"{name}.nii")
    write_volume(data / "good.nii", 2)
    dataset = discover(data)
    fingerprint = profile_dataset(dataset, ProfileOptions(), jobs=1, journal=tmp_path / "journal")
    assert len(fingerprint.cases) == 2
    again = profile_dataset(dataset, ProfileOptions(), jobs=1, journal=tmp_path / "journal")
    assert again.cases == fingerprint.cases


def test_links_in_a_circle(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_volume(data / "sub" / "a.nii")
    (data / "sub" / "up").symlink_to(data)
    (data / "self").symlink_to("self")
    (data / "one").symlink_to("two")
    (data / "two").symlink_to("one")
    (data / "loop.nii").symlink_to("loop.nii")
    found = run(data, tmp_path / "f.json", "-j", "1")
    assert "a" in " ".join(case.id for case in found.cases)
    assert len(found.cases) + len(found.failures) < 40


def test_a_folder_that_changes_while_it_is_read(tmp_path: Path) -> None:
    """Files that vanish, shrink or are replaced between listing and reading cost their cases."""
    data = tmp_path / "data"
    for number in range(8):
        write_volume(data / f"c{number}.nii", number + 1)
    dataset = discover(data)
    (data / "c0.nii").unlink()
    (data / "c1.nii").write_bytes((data / "c1.nii").read_bytes()[:400])
    (data / "c2.nii").unlink()
    (data / "c2.nii").mkdir()
    (data / "c3.nii").write_bytes(b"something else")
    write_volume(data / "c9.nii")
    fingerprint = profile_dataset(dataset, ProfileOptions(), jobs=1)
    assert [case.id for case in fingerprint.cases] == ["c4", "c5", "c6", "c7"]
    by_id = {failure.id: failure.reason for failure in fingerprint.failures}
    assert set(by_id) == {"c0", "c1", "c2", "c3"}
    assert all(str(data / f"{case}.nii") in reason for case, reason in by_id.items())


def test_a_file_that_shrinks_between_its_header_and_its_voxels(tmp_path: Path) -> None:
    from voxplan.profiling.formats import open_volume

    path = tmp_path / "a.nii"
    image = nibabel.Nifti1Image(np.ones((64, 64, 64), np.uint8), np.eye(4))
    path.write_bytes(image.to_bytes())
    with open_volume(VolumeSource(paths=(path,))) as volume:
        os.truncate(path, 10_000)
        with pytest.raises(FormatError, match="truncated"):
            volume.read((slice(0, 64), slice(0, 64), slice(0, 64)), 0)


def test_the_data_folder_vanishes_during_a_run(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for number in range(3):
        write_volume(data / f"c{number}.nii")
    dataset = discover(data)
    from voxplan.profiling.combine import NothingProfiledError

    shutil.rmtree(data)
    with pytest.raises(NothingProfiledError) as caught:
        profile_dataset(dataset, ProfileOptions(), jobs=1)
    assert len(caught.value.failures) == 3


def test_two_terabytes_by_their_headers(tmp_path: Path) -> None:
    """A virtual volume of 2 TB out of 64 absent blocks, and a Zarr array of 2 TB."""
    import zarr

    shape = (2**13, 2**14, 2**14)
    path = tmp_path / "v.h5"
    with h5py.File(tmp_path / "part.h5", "w") as file:
        file.create_dataset("raw", (2**7, 2**14, 2**14), "u1", chunks=(16, 128, 128))
    layout = h5py.VirtualLayout(shape, "u1")
    for part in range(64):
        layout[part * 128 : (part + 1) * 128] = h5py.VirtualSource("part.h5", "raw", (128, 2**14, 2**14))
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("raw", layout)
    zarr.create_array(str(tmp_path / "z.zarr"), shape=shape, chunks=(64, 64, 64), dtype="u1")
    for source in (path, tmp_path / "z.zarr"):
        case = CaseSource(id="a", images=(VolumeSource(paths=(source,)),))
        found = profile_case(case, tmp_path, ProfileOptions(headers_only=True)).fingerprint
        assert found.shape == shape
        with pytest.raises(FormatError, match=r"2,048\.0 GiB"):
            profile_case(case, tmp_path, ProfileOptions())


def test_a_thousand_channels(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    rng = np.random.default_rng(2)
    voxels = rng.integers(0, 255, (1000, 2, 3, 4)).astype(np.uint8)
    with h5py.File(path, "w") as file:
        file.create_dataset("raw", data=voxels, chunks=(100, 2, 3, 4))
    case = CaseSource(id="a", images=(VolumeSource(paths=(path,)),))
    found = profile_case(case, tmp_path, ProfileOptions(read=ReadOptions(axes="czyx")))
    assert len(found.fingerprint.channels) == 1000
    crop = found.fingerprint.channels[777].crop
    assert crop is not None
    assert crop.mean == pytest.approx(voxels[777].mean(), rel=1e-12)


def test_hundreds_of_tiny_cases(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for number in range(300):
        write_volume(data / f"c{number:04d}.nii", number % 200 + 1)
    fingerprint = profile_dataset(discover(data), ProfileOptions(), jobs=1)
    assert len(fingerprint.cases) == 300
    pooled = fingerprint.summary.channels[0].pooled
    assert pooled is not None
    assert pooled.count == 300 * 120
    assert pooled.mean == pytest.approx(sum(n % 200 + 1 for n in range(300)) / 300, rel=1e-12)


def test_a_path_longer_than_names_may_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    deep = tmp_path
    for _ in range(10):
        deep = deep / ("d" * 200)
    deep.mkdir(parents=True)
    write_volume(deep / "a.nii")
    found = run(deep, tmp_path / "f.json", "-j", "1")
    assert found.cases[0].id == "a"
    assert main([str(deep), "-o", str(tmp_path / ("y" * 252 + ".json")), "-q", "-j", "1"]) == 1
    told = capsys.readouterr().err
    assert "too long" in told


def test_tiff_slices_by_the_hundred_with_odd_names(tmp_path: Path) -> None:
    data = tmp_path / "st ack\n1"
    data.mkdir()
    for number in range(120):
        tifffile.imwrite(data / f"sl ice\t{number}.tif", np.full((4, 5), number, np.uint8))
    found = run(data, tmp_path / "f.json", "-j", "1")
    assert found.cases[0].shape == (120, 4, 5)


def test_json_on_stdout_is_json_whatever_the_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    for name in ODD_NAMES.values():
        write_volume(data / f"{name}.nii")
    (data / f"{ODD_NAMES['not-utf-8']}-bad.nii").write_bytes(b"x")
    assert main([str(data), "-o", str(tmp_path / "f.json"), "--json", "-j", "1"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["summary"]["cases"] == len(ODD_NAMES)
    assert sys.stdout.encoding is not None
