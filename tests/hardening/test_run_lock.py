"""Two runs on the same output: the second says so and stops; a lock that nobody holds any more is broken."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from voxplan.profiling import run_lock
from voxplan.profiling.run_lock import Holder, OutputInUseError, lock_path, output_locked, read_holder
from voxplan.scripts.profile_dataset import main

HOLD = """
import sys
from pathlib import Path
from voxplan.profiling.run_lock import output_locked
with output_locked(Path(sys.argv[1])):
    print("held", flush=True)
    input()
"""


def hold(output: Path) -> subprocess.Popen[str]:
    """Another process that holds the lock until it reads a line."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(output)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    nibabel.Nifti1Image(np.ones((4, 5, 6), np.uint8), np.eye(4)).to_filename(folder / "a.nii")
    return folder


def test_the_second_run_says_who_and_stops(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "f.json"
    with hold(output) as first:
        assert main([str(data), "-o", str(output), "-j", "1"]) == 1
        told = capsys.readouterr().err
        assert told.count("\n") == 1
        assert f"process {first.pid} on " in told
        assert str(lock_path(output)) in told
        assert not output.exists()
        assert main([str(data), "-o", str(tmp_path / "other.json"), "-j", "1", "-q"]) == 0
        first.communicate("\n")
    assert main([str(data), "-o", str(output), "-j", "1", "-q"]) == 0
    assert output.exists()
    assert not lock_path(output).exists()
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGTERM])
def test_the_lock_of_a_killed_run_is_broken(blow: signal.Signals, tmp_path: Path) -> None:
    output = tmp_path / "f.json"
    with hold(output) as first:
        first.send_signal(blow)
    assert lock_path(output).exists()
    with output_locked(output):
        holder = read_holder(lock_path(output))
        assert holder is not None
        assert holder.pid == os.getpid()
    assert leftovers(tmp_path) == []
    assert not lock_path(output).exists()


def forge(output: Path, **changes: Any) -> Holder:
    """A lock as another run would leave it."""
    holder = replace(run_lock._myself(), token="other", **changes)
    lock_path(output).write_text(json.dumps(asdict(holder)))
    return holder


def test_a_process_number_that_was_used_again_is_not_the_holder(tmp_path: Path) -> None:
    output = tmp_path / "f.json"
    forge(output, started=1000.0)
    with output_locked(output):
        pass


def test_a_live_process_of_the_same_number_and_start_is_the_holder(tmp_path: Path) -> None:
    output = tmp_path / "f.json"
    forge(output)
    with pytest.raises(OutputInUseError), output_locked(output):
        pass


@pytest.mark.parametrize("silent", [0.0, 250.0, 400.0])
def test_another_machine_is_believed_as_long_as_its_heart_beats(silent: float, tmp_path: Path) -> None:
    output = tmp_path / "f.json"
    forge(output, host="node17", space="node17 other-boot", pid=1)
    beat = time.time() - silent
    os.utime(lock_path(output), (beat, beat))
    if silent > run_lock.SILENT_SECONDS:
        with output_locked(output):
            pass
    else:
        with pytest.raises(OutputInUseError, match="node17"), output_locked(output):
            pass


def test_the_heart_beats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_lock, "HEARTBEAT_SECONDS", 0.05)
    output = tmp_path / "f.json"
    with output_locked(output):
        os.utime(lock_path(output), (1000.0, 1000.0))
        deadline = time.monotonic() + 10
        while lock_path(output).stat().st_mtime == 1000.0:
            assert time.monotonic() < deadline
            time.sleep(0.02)


@pytest.mark.parametrize("content", [b"", b"{}", b"[" * 50_000, b"\xff\xfe", b'{"pid": "x"}'])
def test_a_lock_that_says_nothing_holds_until_it_is_old(content: bytes, tmp_path: Path) -> None:
    output = tmp_path / "f.json"
    lock_path(output).write_bytes(content)
    with pytest.raises(OutputInUseError, match="no name"), output_locked(output):
        pass
    os.utime(lock_path(output), (1000.0, 1000.0))
    with output_locked(output):
        pass


def test_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    output = tmp_path / "f.json"
    with output_locked(output), pytest.raises(OutputInUseError), output_locked(output):
        pass
    assert list(tmp_path.iterdir()) == []


CONTEND = """
import sys, time
from pathlib import Path
from voxplan.profiling.run_lock import OutputInUseError, output_locked
output, log, go = map(Path, sys.argv[1:])
while not go.exists():
    time.sleep(0.001)
for _ in range(60):
    try:
        with output_locked(output):
            began = time.monotonic_ns()
            time.sleep(0.002)
            ended = time.monotonic_ns()
        with log.open("a") as file:
            file.write(f"{began} {ended}\\n")
    except OutputInUseError:
        time.sleep(0.002)
"""


def test_of_many_runs_one_at_a_time_holds_it(tmp_path: Path) -> None:
    """Six processes around a stale lock: the spans in which it is held never overlap."""
    output, log, go = tmp_path / "f.json", tmp_path / "log", tmp_path / "go"
    forge(output, started=1000.0)
    command = [sys.executable, "-c", CONTEND, str(output), str(log), str(go)]
    processes = [subprocess.Popen(command) for _ in range(6)]
    time.sleep(1.0)
    go.touch()
    for process in processes:
        assert process.wait(60) == 0
    spans = sorted(tuple(map(int, line.split())) for line in log.read_text().splitlines())
    assert len(spans) >= 10
    assert all(ended <= began for (_, ended), (began, _) in itertools.pairwise(spans))
    assert not lock_path(output).exists()
    assert leftovers(tmp_path) == []


def test_a_folder_that_cannot_be_written_is_said_before_anything_is_read(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.write_bytes

    def refuse(path: Path, content: bytes) -> int:
        if path.name.endswith(".tmp"):
            raise OSError(30, "Read-only file system", str(path))
        return real(path, content)

    monkeypatch.setattr(Path, "write_bytes", refuse)
    assert main([str(data), "-o", str(tmp_path / "f.json"), "-j", "1"]) == 1
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "Read-only file system" in told
    assert str(tmp_path) in told


@pytest.mark.parametrize(
    "change",
    [
        {"pid": "x"},
        {"pid": 1.5},
        {"pid": -1},
        {"pid": 0},
        {"pid": None},
        {"pid": True},
        {"started": "x"},
        {"started": None},
        {"started": float("nan")},
        {"token": [1]},
        {"space": 5},
        {"since": {}},
    ],
    ids=str,
)
def test_locks_of_wrong_types_say_nothing(change: dict[str, Any], tmp_path: Path) -> None:
    """A file that others made: the run stops as at any lock without a name, and breaks it when it is old."""
    output = tmp_path / "f.json"
    path = lock_path(output)
    path.write_text(json.dumps({**asdict(run_lock._myself()), **change}))
    assert read_holder(path) is None
    with pytest.raises(OutputInUseError, match="a run that left no name"), output_locked(output):
        pass
    os.utime(path, (1, 1))
    with output_locked(output):
        assert read_holder(path) is not None
    assert not path.exists()
