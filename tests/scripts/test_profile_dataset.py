"""The command, as a user runs it: in this process, and where it matters as a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import nibabel as nib
import numpy as np
import pytest
import tifffile

from voxplan.profiling.fingerprint import Fingerprint, load_fingerprint
from voxplan.scripts.profile_dataset import main

COMMAND = [sys.executable, "-m", "voxplan.scripts.profile_dataset"]


def write(path: Path, array: np.ndarray[Any, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(array.transpose(), np.diag([1.0, 1.0, 2.0, 1.0]))
    image.header.set_xyzt_units("mm")
    nib.save(image, path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    data = tmp_path / "data"
    for number in range(3):
        image = np.random.default_rng(number).integers(0, 300, (6, 8, 10)).astype(np.int16)
        write(data / "images" / f"c{number}.nii.gz", image)
        write(data / "labels" / f"c{number}.nii.gz", (image > 200).astype(np.uint8))
    return data


@pytest.fixture
def profile(tmp_path: Path) -> Callable[..., Fingerprint]:
    """Run the command on arguments and load what it wrote."""

    def run(*arguments: object, status: int = 0) -> Fingerprint:
        output = tmp_path / "out.json"
        output.unlink(missing_ok=True)
        assert main([*map(str, arguments), "-o", str(output), "--jobs", "1"]) == status
        return load_fingerprint(output)

    return run


def test_table_fits_and_says_the_numbers(
    folder: Path, profile: Callable[..., Fingerprint], capsys: pytest.CaptureFixture[str]
) -> None:
    fingerprint = profile(folder)
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert max(len(line.rstrip()) for line in lines if not line.startswith(("!", "written"))) <= 80
    assert "\x1b" not in out + err
    assert "6 x 8 x 10" in out
    assert "2 x 1 x 1" in out
    assert "semantic" in out
    assert "class_1" in out
    share = fingerprint.summary.class_frequencies
    assert share is not None
    assert f"{share['class_1']:.3%}" in out
    assert "profiling 3 cases" in err


def test_json_for_machines(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "f.json"
    assert main([str(folder), "-o", str(output), "--json", "--jobs", "1"]) == 0
    said = json.loads(capsys.readouterr().out)
    written = json.loads(output.read_bytes())
    assert said["summary"] == written["summary"]
    assert said["output"] == str(output)


def test_quiet(folder: Path, profile: Callable[..., Fingerprint], capsys: pytest.CaptureFixture[str]) -> None:
    profile(folder, "--quiet")
    assert capsys.readouterr() == ("", "")
    (folder / "images" / "c1.nii.gz").write_bytes(b"")
    profile(folder, "--quiet")
    out, err = capsys.readouterr()
    assert out == ""
    assert "1 of 3 cases FAILED" in err
    assert "c1.nii.gz" in err


def test_verbose_names_every_case(
    folder: Path, profile: Callable[..., Fingerprint], capsys: pytest.CaptureFixture[str]
) -> None:
    profile(folder, "-v")
    lines = capsys.readouterr().err.splitlines()
    assert lines[1:4] == ["1/3 c0", "2/3 c1", "3/3 c2"]


def test_failures_exit_0_and_1_with_strict(folder: Path, profile: Callable[..., Fingerprint]) -> None:
    write(folder / "labels" / "c0.nii.gz", np.zeros((2, 2, 2), np.uint8))
    assert [failure.kind for failure in profile(folder).failures] == ["shape-mismatch"]
    assert [failure.kind for failure in profile(folder, "--strict", status=1).failures] == ["shape-mismatch"]


def test_strict_is_content_with_good_data(folder: Path, profile: Callable[..., Fingerprint]) -> None:
    profile(folder, "--strict")


def test_strict_minds_cases_that_stand_out(
    folder: Path, profile: Callable[..., Fingerprint], capsys: pytest.CaptureFixture[str]
) -> None:
    write(folder / "images" / "c0.nii.gz", np.full((6, 8, 10), 5, np.uint8))
    profile(folder, "--strict", status=1)
    out, err = capsys.readouterr()
    assert "c0 [constant] the image is 5 everywhere" in out
    assert "--strict: 1 case stands out" in err


def test_nothing_profiled_exits_1(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (folder / "images").iterdir():
        path.write_bytes(b"")
    output = tmp_path / "f.json"
    assert main([str(folder), "-o", str(output), "--jobs", "1"]) == 1
    assert not output.exists()
    err = capsys.readouterr().err
    assert "3 of 3 cases FAILED" in err
    assert "Traceback" not in err


def test_empty_folder_exits_1_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), "-o", str(tmp_path / "f.json")]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "no volume found" in err


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ([], "--images"),
        (["no/such/folder"], "no such file or folder"),
        (["DATA", "--spacing", "1", "2"], "--spacing"),
        (["DATA", "--spacing", "1", "0", "2"], "positive"),
        (["DATA", "--spacing", "1", "nan", "2"], "positive"),
        (["DATA", "--unit", "inch"], "--unit"),
        (["DATA", "--jobs", "0"], "--jobs"),
        (["DATA", "--memory-per-worker", "lots"], "512M"),
        (["DATA", "--axes", "zzyx"], "--axes"),
        (["DATA", "-o", "no/such/folder/f.json"], "does not exist"),
        (["DATA", "-o", "DATA"], "is a folder"),
        (["DATA", "--labels", "none", "--label-kind", "instance"], "contradict"),
        (["DATA", "--frobnicate"], "--frobnicate"),
    ],
)
def test_wrong_usage_exits_2(
    folder: Path, arguments: list[str], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main([str(folder) if argument == "DATA" else argument for argument in arguments])
    assert caught.value.code == 2
    assert word in capsys.readouterr().err


def test_labels_takes_a_place_or_a_kind(folder: Path, profile: Callable[..., Fingerprint]) -> None:
    pair = ("--images", folder / "images", "--labels", folder / "labels")
    assert profile(*pair).dataset.labels.kind == "semantic"
    assert profile(*pair, "--label-kind", "instance").dataset.labels.kind == "instance"
    assert profile(folder, "--labels", "instance").dataset.labels.kind == "instance"
    bare = profile(folder, "--labels", "none")
    assert (bare.dataset.labels.kind, bare.cases[0].label) == ("none", None)


def test_ignore_label(folder: Path, profile: Callable[..., Fingerprint]) -> None:
    fingerprint = profile(folder, "--ignore-label", "1")
    assert fingerprint.dataset.labels.ignore == 1
    assert fingerprint.dataset.labels.classes == {"background": (0,)}
    assert {case.foreground_voxels for case in fingerprint.cases} == {0}


def test_headers_only(folder: Path, profile: Callable[..., Fingerprint]) -> None:
    fingerprint = profile(folder, "--headers-only")
    assert fingerprint.summary.shape.median == (6.0, 8.0, 10.0)
    assert fingerprint.summary.spacing is not None
    assert fingerprint.summary.channels == ()


def test_exclude_and_provenance(folder: Path, profile: Callable[..., Fingerprint]) -> None:
    fingerprint = profile(
        folder, "--exclude", "c0*", "--exclude", "labels/c1*", "--spacing", 3, 2, 1, "--unit", "um"
    )
    assert [case.id for case in fingerprint.cases] == ["c2"]
    assert [failure.id for failure in fingerprint.failures] == ["c1"]
    assert fingerprint.cases[0].spacing.source == "user"
    options = fingerprint.provenance.options
    assert options["exclude"] == "c0* labels/c1*"
    assert options["spacing"] == "3.0 2.0 1.0"
    assert "verbose" not in options


def test_fresh_reads_again(
    folder: Path, profile: Callable[..., Fingerprint], capsys: pytest.CaptureFixture[str]
) -> None:
    profile(folder)
    capsys.readouterr()
    profile(folder)
    assert "3 of them unchanged" in capsys.readouterr().err
    profile(folder, "--fresh")
    assert "unchanged" not in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["slices", "tiff", "hdf5"])
def test_every_way_to_store_one_volume(
    tmp_path: Path, profile: Callable[..., Fingerprint], kind: str
) -> None:
    raw = np.random.default_rng(1).integers(1, 255, (5, 16, 24)).astype(np.uint8)
    label = (raw > 128).astype(np.uint8)
    place = tmp_path / kind
    place.mkdir()
    if kind == "slices":
        for number in range(5):
            for name, array in (("raw", raw), ("seg", label)):
                (place / name).mkdir(exist_ok=True)
                tifffile.imwrite(place / name / f"{number}.tif", array[number])
    elif kind == "tiff":
        tifffile.imwrite(place / "a_raw.tif", raw, photometric="minisblack")
        tifffile.imwrite(place / "a_seg.tif", label, photometric="minisblack")
    else:
        with h5py.File(place / "a.h5", "w") as file:
            file["raw"] = raw
            file["seg"] = label
    fingerprint = profile(place, "--spacing", 45, 4.6, 4.6, "--unit", "nm")
    case = fingerprint.cases[0]
    assert case.shape == raw.shape
    assert case.spacing.values == (45.0, 4.6, 4.6)
    foreground = case.channels[0].foreground
    assert foreground is not None
    assert foreground.count == int(label.sum())
    assert foreground.mean == pytest.approx(raw[label > 0].mean(), rel=1e-14)


def test_help_is_quick_and_light() -> None:
    probe = (
        "import sys; sys.argv = ['profile-dataset', '--help']\n"
        "from voxplan.scripts.profile_dataset import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'monai', 'matplotlib', 'SimpleITK', 'scipy', 'numpy'} & set(sys.modules)\n"
        "print('HEAVY', sorted(heavy))"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True, timeout=60
    )
    assert "HEAVY []" in done.stdout
    assert "--spacing" in done.stdout


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith("profile-dataset 0.")


def test_profiling_imports_no_torch(folder: Path, tmp_path: Path) -> None:
    probe = (
        "import sys\nfrom voxplan.scripts.profile_dataset import main\n"
        f"status = main([{str(folder)!r}, '-o', {str(tmp_path / 'f.json')!r}, '--jobs', '1', '-q'])\n"
        "print(status, sorted({'torch', 'monai', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == "0 []"


def many_cases(folder: Path, count: int) -> Path:
    """Cases that take long enough to be interrupted: gzip of a few MB each."""
    image = np.random.default_rng(0).integers(0, 4000, (80, 224, 224)).astype(np.int16)
    write(folder / "c000.nii.gz", image)
    for number in range(1, count):
        (folder / f"c{number:03}.nii.gz").write_bytes((folder / "c000.nii.gz").read_bytes())
    return folder


def wait_for_entries(journal: Path, process: subprocess.Popen[str], count: int) -> None:
    began = time.monotonic()
    while len(list(journal.glob("*.case"))) < count:
        assert process.poll() is None, "ended before it could be interrupted"
        assert time.monotonic() - began < 60
        time.sleep(0.02)


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_is_ended_goes_on_where_it_stopped(tmp_path: Path, blow: signal.Signals) -> None:
    folder = many_cases(tmp_path / "data", 30)
    output = tmp_path / "f.json"
    command = [*COMMAND, str(folder), "-o", str(output), "--jobs", "2"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # a test run that was started in the background ignores SIGINT, and its children inherit that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    journal = tmp_path / "f.json.journal"
    wait_for_entries(journal, process, 4)
    os.killpg(process.pid, blow)
    _, said = process.communicate(timeout=60)
    assert not output.exists()
    finished = {path.name: path.stat().st_mtime_ns for path in journal.glob("*.case")}
    assert 4 <= len(finished) < 30
    if blow == signal.SIGINT:
        assert process.returncode == 130
        assert "same command again" in said
        assert "Traceback" not in said
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert f"{len(finished)} of them unchanged" in done.stderr
    after = {path.name: path.stat().st_mtime_ns for path in journal.glob("*.case")}
    assert len(after) == 30
    assert finished.items() <= after.items(), "finished cases are not written again"
    resumed = load_fingerprint(output)
    assert main([str(folder), "-o", str(tmp_path / "g.json"), "--jobs", "1", "-q"]) == 0
    straight = load_fingerprint(tmp_path / "g.json")
    assert resumed.model_copy(update={"provenance": straight.provenance}) == straight
