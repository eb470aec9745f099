"""A mistyped ``-o`` costs nobody's data: only the program's own files, and empty ones, are replaced."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import h5py
import numpy as np
import pytest

from voxplan.plans.document import read_document
from voxplan.profiling.fingerprint import load_fingerprint
from voxplan.scripts import plan_experiment, profile_dataset

Run = Callable[[Sequence[str]], int]
PLANNED = ["--cpu", "--ram", "4", "--architecture", "unet", "--configuration", "2d", "-q"]


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    path = tmp_path / "scan.h5"
    with h5py.File(path, "w") as file:
        file["raw"] = np.random.default_rng(0).integers(1, 200, (6, 40, 40), np.uint8)
        file["labels"] = (np.indices((6, 40, 40))[2] > 20).astype(np.uint8)
    return path


@pytest.fixture
def fingerprint(volume: Path) -> Path:
    path = volume.with_name("f.json")
    assert profile_dataset.main([str(volume), "-o", str(path), "-j", "1", "-q"]) == 0
    return path


def said(run: Run, words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit status and what stands on stderr, which is one line."""
    try:
        status = run(words)
    except SystemExit as ended:
        status = int(str(ended.code))
    (line,) = capsys.readouterr().err.splitlines()
    return status, line


def test_a_volume_is_not_replaced_by_its_fingerprint(
    volume: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = volume.read_bytes()
    words = [str(volume), "-o", str(volume), "-j", "1"]
    status, line = said(profile_dataset.main, words, capsys)
    assert status == 2
    assert "scan.h5: exists and is no fingerprint; name another file, or remove this one first" in line
    assert volume.read_bytes() == before


@pytest.mark.parametrize("text", ['{"name": "my data set"}', "notes of three years\n"])
def test_what_somebody_wrote_is_not_replaced(
    volume: Path, fingerprint: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = volume.with_name("dataset.json")
    theirs.write_text(text)
    for run, words in (
        (profile_dataset.main, [str(volume), "-j", "1"]),
        (profile_dataset.main, ["merge", str(volume)]),
        (plan_experiment.main, [str(fingerprint), *PLANNED]),
    ):
        status, line = said(run, [*words, "-o", str(theirs)], capsys)
        assert status == 2
        assert "exists and is no" in line
    assert theirs.read_text() == text


def test_plans_do_not_replace_their_fingerprint(
    fingerprint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = fingerprint.read_bytes()
    status, line = said(plan_experiment.main, [str(fingerprint), *PLANNED, "-o", str(fingerprint)], capsys)
    assert status == 2
    assert "f.json: exists and is no plans file" in line
    assert fingerprint.read_bytes() == before


def test_own_files_and_empty_ones_are_replaced(volume: Path, fingerprint: Path) -> None:
    plans = volume.with_name("p.json")
    plans.touch()
    for _ in range(2):
        assert plan_experiment.main([str(fingerprint), *PLANNED, "-o", str(plans)]) == 0
        assert read_document(plans).plans
    assert profile_dataset.main([str(volume), "-o", str(fingerprint), "-j", "1", "-q", "--fresh"]) == 0
    assert len(load_fingerprint(fingerprint).cases) == 1


def test_a_pipe_is_no_output(volume: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither is a device: what is renamed over it takes its place."""
    pipe = volume.with_name("pipe.json")
    os.mkfifo(pipe)
    status, line = said(profile_dataset.main, [str(volume), "-o", str(pipe)], capsys)
    assert status == 2
    assert "is a pipe or device" in line
    assert pipe.is_fifo()


def test_report_and_output_have_names_of_their_own(
    volume: Path, fingerprint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = str(volume.with_name("r.html"))
    for run, words in (
        (profile_dataset.main, [str(volume)]),
        (plan_experiment.main, [str(fingerprint), *PLANNED]),
    ):
        status, line = said(run, [*words, "-o", page, "--report", page], capsys)
        assert status == 2
        assert "is what --output names too" in line
    assert not Path(page).exists()


def test_files_taken_for_others_are_named(
    volume: Path, fingerprint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plans = volume.with_name("p.json")
    assert plan_experiment.main([str(fingerprint), *PLANNED, "-o", str(plans)]) == 0
    capsys.readouterr()
    other = str(volume.with_name("q.json"))
    for words, what in (
        ([str(plans), "-o", other], "p.json: is a plans file; name the fingerprint that it was made of"),
        (["diff", str(plans), str(fingerprint)], "f.json: not a usable plans file; it is a fingerprint"),
        (["diff", str(plans), other], "q.json: no such file"),
        ([str(fingerprint), "--overrides", other], "q.json: cannot be read (no such file or directory)"),
    ):
        status, line = said(plan_experiment.main, words, capsys)
        assert status == 2
        assert what in line
        assert "Errno" not in line
        assert len(line) < 300


def test_a_plans_file_with_many_faults_names_a_few(
    volume: Path, fingerprint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plans = volume.with_name("p.json")
    assert plan_experiment.main([str(fingerprint), *PLANNED, "-o", str(plans)]) == 0
    content = json.loads(plans.read_text())
    content["plans"]["unet/2d"] = {"unknown": 1}
    plans.write_text(json.dumps(content))
    capsys.readouterr()
    status, line = said(plan_experiment.main, ["diff", str(plans), str(plans)], capsys)
    assert status == 2
    assert "plans.unet/2d." in line
    assert line.endswith(" more")


@pytest.mark.parametrize(
    ("run", "words"),
    [(profile_dataset.main, [""]), (profile_dataset.main, ["  "]), (plan_experiment.main, [""])],
)
def test_an_empty_word_is_not_the_folder_at_hand(
    run: Run, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    status, line = said(run, words, capsys)
    assert status == 2
    assert "is empty (from a variable that is not set?)" in line


def test_labels_that_are_not_there(volume: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = volume.with_name("images")
    folder.mkdir()
    volume.rename(folder / "scan.h5")
    words = ["--images", str(folder), "--image-key", "raw", "-o", str(folder.parent / "g.json")]
    status, line = said(profile_dataset.main, [*words, "--labels", "nowhere"], capsys)
    assert status == 1
    assert line.endswith("nowhere: no such file or folder")
    status, line = said(profile_dataset.main, [*words, "--exclude", "*.h5"], capsys)
    assert status == 1
    assert "perhaps --exclude (*.h5) leaves all out" in line


def test_a_worker_of_three_bytes(volume: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, line = said(profile_dataset.main, [str(volume), "--memory-per-worker", "3"], capsys)
    assert status == 2
    assert "'3' is 3 bytes, in which nothing can be read; write e.g. 512M or 2G" in line


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full of Linux")
def test_what_the_system_says_comes_with_a_remedy() -> None:
    from voxplan.scripts.error_line import error_line

    with pytest.raises(OSError, match="No space left") as full, Path("/dev/full").open("wb", 0) as file:
        file.write(b"x")
    full.value.filename = "f.json"
    assert error_line(full.value) == (
        "No space left on device: 'f.json'; free some room there, or name a file on another disk"
    )
    assert error_line(ValueError("two\n  lines")) == "two lines"
    assert error_line(ValueError()) == "ValueError"
