"""Pipes, as an archive can hold them: opening one waits for ever, so none is opened.

Inside a data set, and where a run keeps what is its own (lock, journal, output).
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pytest
import zarr

from voxplan.profiling.files import write_atomically

PROGRAM = """
import sys
from pathlib import Path
from voxplan.profiling.case import ProfileOptions, profile_case
from voxplan.profiling.formats.base import CaseSource, FormatError, VolumeSource
path = Path(sys.argv[1])
source = VolumeSource(paths=(path,), key=sys.argv[2] or None)
try:
    profile_case(CaseSource(id="a", images=(source,)), path.parent, ProfileOptions())
except FormatError as error:
    print(error.kind, error)
"""

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")


def told(path: Path, key: str = "") -> str:
    """What profiling a volume says; in a process of its own, for what waits in a library cannot be ended."""
    command = [sys.executable, "-c", PROGRAM, str(path), key]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=True).stdout


@pytest.mark.parametrize("how", ["external", "virtual"])
def test_hdf5_that_refers_to_a_pipe(how: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.h5")
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        if how == "external":
            file["raw"] = h5py.ExternalLink("pipe.h5", "/raw")
        else:
            layout = h5py.VirtualLayout((2, 3, 4), "u1")
            layout[...] = h5py.VirtualSource("pipe.h5", "raw", (2, 3, 4))
            file.create_virtual_dataset("raw", layout)
    said = told(path, "raw")
    assert said.startswith("special-file")
    assert "pipe.h5" in said


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("where", ["chunk", "metadata", "member", "linked-chunk"])
def test_zarr_with_a_pipe_in_it(where: str, version: int, tmp_path: Path) -> None:
    store = tmp_path / "a.zarr"
    group = zarr.open_group(str(store), mode="w", zarr_format=version)  # type: ignore[arg-type]
    array = group.create_array("raw", shape=(2, 3, 4), chunks=(2, 3, 4), dtype="u1")
    array[...] = np.ones((2, 3, 4))
    chunk = store / "raw" / array.metadata.encode_chunk_key((0, 0, 0))
    metadata = {2: ".zgroup", 3: "zarr.json"}[version]
    member = {2: ".zarray", 3: "zarr.json"}[version]
    place = {"metadata": store / metadata, "member": store / "raw" / member}.get(where, chunk)
    place.unlink()
    if where == "linked-chunk":
        os.mkfifo(tmp_path / "pipe")
        place.symlink_to(tmp_path / "pipe")
    else:
        os.mkfifo(place)
    for key in ("", "raw"):
        said = told(store, key)
        assert said.startswith("special-file")
        assert str(place) in said


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """``profile-dataset data`` in a folder, which writes fingerprint.json there."""
    command = [sys.executable, "-m", "voxplan.scripts.profile_dataset", "data", "-q", "-j", "1", *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100, check=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    image = nibabel.Nifti1Image(np.arange(120, dtype=np.uint8).reshape(4, 5, 6), np.eye(4))
    image.to_filename(tmp_path / "data" / "a.nii")
    return tmp_path


def put(what: str, place: Path) -> None:
    """Something that is no regular file; a link leads to ``precious`` beside it."""
    if what == "pipe":
        os.mkfifo(place)
    elif what == "folder":
        place.mkdir()
    else:
        (place.parent / "precious").write_text("precious")
        place.symlink_to("precious")


@pytest.mark.parametrize("what", ["pipe", "folder", "link"])
def test_what_is_no_lock_in_its_place(what: str, folder: Path) -> None:
    place = folder / "fingerprint.json.lock"
    put(what, place)
    done = run(folder)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "remove it, or choose another --output" in done.stderr
    assert str(place.name) in done.stderr
    assert place.is_symlink() == (what == "link")
    assert run(folder, "-o", "other.json").returncode == 0


@pytest.mark.parametrize("what", ["pipe", "link"])
def test_what_is_no_journal_in_its_place(what: str, folder: Path) -> None:
    put(what, folder / "fingerprint.json.journal")
    done = run(folder)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "fingerprint.json.journal" in done.stderr
    assert "remove it" in done.stderr


def test_pipes_inside_a_journal(folder: Path) -> None:
    """Each entry and note is looked for by its name; the case is read again where it is no file."""
    assert run(folder).returncode == 0
    before = (folder / "fingerprint.json").read_bytes()
    entries = list((folder / "fingerprint.json.journal").iterdir())
    assert len(entries) > 1
    for entry in entries:
        entry.unlink()
        os.mkfifo(entry)
    os.mkfifo(folder / "fingerprint.json.journal" / "other.cases")
    assert run(folder).returncode == 0
    assert cases(before) == cases((folder / "fingerprint.json").read_bytes())


def cases(fingerprint: bytes) -> str:
    return str(json.loads(fingerprint)["cases"])


@pytest.mark.parametrize("options", [[], ["-o", "fingerprint.json"]], ids=["by-default", "named"])
@pytest.mark.parametrize("what", ["pipe", "folder"])
def test_what_is_no_file_where_the_output_goes(what: str, options: list[str], folder: Path) -> None:
    """Before any case is read; ``-o /dev/null`` of root once replaced that device."""
    put(what, folder / "fingerprint.json")
    done = run(folder, *options)
    assert done.returncode == 2
    assert "fingerprint.json: is a" in done.stderr
    assert not (folder / "fingerprint.json").is_file()
    assert not (folder / "fingerprint.json.journal").exists()


@pytest.mark.parametrize("what", ["pipe", "folder"])
def test_what_is_no_file_where_histograms_or_report_go(what: str, folder: Path) -> None:
    put(what, folder / "fingerprint.histograms.npz")
    done = run(folder)
    assert done.returncode == 2
    assert "fingerprint.histograms.npz, which is no file" in done.stderr
    put(what, folder / "report.html")
    done = run(folder, "-o", "other.json", "--report", "report.html")
    assert done.returncode == 2
    assert "report.html: is a" in done.stderr


def test_a_pipe_is_not_replaced_by_plans(folder: Path) -> None:
    os.mkfifo(folder / "plans.json")
    (folder / "fingerprint.json").write_text("{}")
    command = [
        sys.executable,
        "-m",
        "voxplan.scripts.plan_experiment",
        "fingerprint.json",
        "-o",
        "plans.json",
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode != 0
    assert "plans.json: is a pipe or device" in done.stderr
    assert not (folder / "plans.json").is_file()


def test_a_device_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    device = tmp_path / "null"
    try:
        os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("devices are made by root alone, who alone could replace one")
    with pytest.raises(OSError, match="is a device"):
        write_atomically(device, b"content")
    assert device.is_char_device()
    assert [path.name for path in tmp_path.iterdir()] == ["null"]
