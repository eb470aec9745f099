"""A run that is ended by a signal: nobody goes on after it, and the next run finishes its work."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel
import numpy as np
import psutil
import pytest

from voxplan.profiling.fingerprint import load_fingerprint
from voxplan.profiling.run_lock import lock_path
from voxplan.scripts.endings import EndedBySignal, ended_by_signals
from voxplan.scripts.profile_dataset import main

PROGRAM = [sys.executable, "-m", "voxplan.scripts.profile_dataset"]
CASES = 30
PATIENCE = 30.0
"""Seconds; the others of a run end within one or two, on a machine that is busy later."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Cases that keep two workers busy for some seconds."""
    data = tmp_path / "data"
    data.mkdir()
    image = np.random.default_rng(0).integers(0, 4000, (60, 160, 160)).astype(np.int16)
    nibabel.Nifti1Image(image, np.eye(4)).to_filename(data / "c00.nii.gz")
    for number in range(1, CASES):
        (data / f"c{number:02}.nii.gz").write_bytes((data / "c00.nii.gz").read_bytes())
    return tmp_path


def default_signals() -> None:
    """A test run in the background ignores SIGINT, one under ``nohup`` SIGHUP, and children inherit that."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def start(folder: Path) -> tuple[subprocess.Popen[str], list[psutil.Process]]:
    """A run whose two workers have finished some cases, and all processes below it."""
    command = [*PROGRAM, "data", "-o", "f.json", "-q", "-j", "2"]
    process = subprocess.Popen(
        command,
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=default_signals,
    )
    began = time.monotonic()
    while not [*folder.glob("f.json.journal/*.case*")] and time.monotonic() - began < PATIENCE:
        time.sleep(0.01)
    below = psutil.Process(process.pid).children(recursive=True)
    assert process.poll() is None
    assert len(below) >= 2
    return process, below


def require_gone(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=PATIENCE)
    alive = [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]
    for process in alive:
        process.kill()
    assert alive == []


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGHUP", "SIGINT"])
def test_nobody_goes_on_after_a_run(name: str, folder: Path, tmp_path: Path) -> None:
    number = signal.Signals[name]
    process, below = start(folder)
    process.send_signal(number)
    process.wait(PATIENCE)
    require_gone(below)
    _, told = process.communicate()
    if name == "SIGKILL":
        assert process.returncode == -number
    else:
        assert process.returncode == 128 + number
        assert told.strip().startswith(
            "profile-dataset: interrupted; finished cases are kept in f.json.journal"
        )
        assert "Traceback" not in told
        assert not lock_path(folder / "f.json").exists()
    assert not (folder / "f.json").exists()
    options = [str(folder / "data"), "-q", "-j", "1"]
    assert main([*options, "-o", str(folder / "f.json")]) == 0
    assert len(load_fingerprint(folder / "f.json").cases) == CASES
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def wait_for_the_end() -> None:
    with ended_by_signals():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(PATIENCE)


def test_handlers_are_given_back() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    with pytest.raises(EndedBySignal) as caught:
        wait_for_the_end()
    assert caught.value.status == 143
    assert {number: signal.getsignal(number) for number in before} == before


def test_what_is_ignored_stays_ignored() -> None:
    """As under ``nohup``."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ended_by_signals():
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
