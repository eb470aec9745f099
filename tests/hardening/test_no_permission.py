"""Files and folders that this user may not read are failures, never zeros and never left out in silence.

Root reads everything: there the program runs without the capabilities that let it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
import zarr

VOLUME = np.random.default_rng(1).integers(1, 200, (6, 7, 8)).astype(np.uint8)
ROOT = os.geteuid() == 0
PLAIN_ROOT = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]

pytestmark = pytest.mark.skipif(ROOT and shutil.which("setpriv") is None, reason="root may read everything")


def run(folder: Path, *where: str) -> tuple[dict[str, Any] | None, str]:
    """The fingerprint of ``data`` (or of what is named), if one was written, and what was said."""
    program = [sys.executable, "-m", "voxplan.scripts.profile_dataset", *(where or ("data",))]
    command = [*(PLAIN_ROOT if ROOT else []), *program, "-o", "f.json", "-j", "1", "-q"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100, check=False)
    assert "defect" not in done.stderr
    assert "Traceback" not in done.stderr
    output = folder / "f.json"
    return (json.loads(output.read_text(encoding="utf-8")) if output.exists() else None), done.stderr


@pytest.fixture
def forbid() -> Iterator[Callable[[Path], None]]:
    """Takes every permission from a path until the end of the test."""
    taken: list[tuple[Path, int]] = []

    def take(path: Path) -> None:
        taken.append((path, path.stat().st_mode))
        path.chmod(0)

    yield take
    for path, mode in taken:
        path.chmod(mode)


def write(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.Nifti1Image(VOLUME, np.eye(4)).to_filename(path)


@pytest.mark.parametrize("what", ["chunk", "folder", "metadata", "group"])
def test_parts_of_a_zarr_store(what: str, tmp_path: Path, forbid: Callable[[Path], None]) -> None:
    """A folder of chunks that cannot be looked into once counted as one that holds none: as zeros."""
    for name in "ab":
        group = zarr.open_group(str(tmp_path / "data" / f"{name}.zarr"), mode="w", zarr_format=3)
        group.create_array("raw", shape=VOLUME.shape, chunks=(3, 4, 4), dtype="u1")[...] = VOLUME
    store = tmp_path / "data" / "b.zarr"
    place = {"chunk": "raw/c/0/0/0", "folder": "raw/c/0", "metadata": "raw/zarr.json", "group": "zarr.json"}
    forbid(store / place[what])
    found, told = run(tmp_path)
    assert found is not None
    assert [case["id"] for case in found["cases"]] == ["a"]
    assert found["cases"][0]["channels"][0]["crop"]["count"] == VOLUME.size
    assert [failure["kind"] for failure in found["failures"]] == ["access"]
    assert "b.zarr" in told


@pytest.mark.parametrize(
    "where",
    [[], ["--images", "data/**/*.nii"], ["--images", "data/*/*.nii"], ["--images", "data/[a-c]/x.nii"]],
    ids=["folder", "descending", "glob", "class"],
)
def test_a_folder_among_folders(where: list[str], tmp_path: Path, forbid: Callable[[Path], None]) -> None:
    """It costs what it holds, and no glob passes over it."""
    for name in "abc":
        write(tmp_path / "data" / name / "x.nii")
    forbid(tmp_path / "data" / "b")
    found, told = run(tmp_path, *where)
    assert found is not None
    assert len(found["cases"]) == 2
    assert [(f["id"], f["kind"]) for f in found["failures"]] == [("b", "access")]
    assert "data/b: cannot be read as a folder" in told
    again, _ = run(tmp_path, *(where or ["data"]), "--exclude", "b")
    assert again is not None
    assert again["failures"] == []


def test_a_slice_of_a_volume(tmp_path: Path, forbid: Callable[[Path], None]) -> None:
    (tmp_path / "data" / "s").mkdir(parents=True)
    for number, plane in enumerate(VOLUME):
        tifffile.imwrite(tmp_path / "data" / "s" / f"{number}.tif", plane)
    write(tmp_path / "data" / "t" / "x.nii")
    forbid(tmp_path / "data" / "s" / "3.tif")
    found, told = run(tmp_path)
    assert found is not None
    assert [failure["kind"] for failure in found["failures"]] == ["access"]
    assert "3.tif" in told


@pytest.mark.parametrize("how", ["forbidden", "cut"])
def test_a_file_of_a_dicom_series(how: str, tmp_path: Path, forbid: Callable[[Path], None]) -> None:
    """GDCM leaves it out of the series; the volume is one slice shorter, and its folder is named."""
    folder = tmp_path / "data" / "d"
    folder.mkdir(parents=True)
    for number, plane in enumerate(VOLUME):
        image = sitk.GetImageFromArray(plane[np.newaxis])
        for tag, value in (
            ("0020|000e", "1.2.3"),
            ("0020|0032", f"0\\0\\{number}"),
            ("0020|0013", str(number)),
        ):
            image.SetMetaData(tag, value)
        writer = sitk.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        writer.SetFileName(str(folder / f"{number}.dcm"))
        writer.Execute(image)
    last = folder / "5.dcm"
    if how == "forbidden":
        forbid(last)
    else:
        last.write_bytes(b"")
    found, told = run(tmp_path)
    assert found is not None, told
    assert found["cases"][0]["shape"][0] == 5
    assert any(
        "of no DICOM series" in warning and "5.dcm" in warning for warning in found["summary"]["warnings"]
    )
