"""kill -9 at random moments, and run again: the same bytes, and no finished case is opened a second time."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from voxplan.profiling.fingerprint import Failure, load_fingerprint
from voxplan.profiling.journal import Journal, journal_folder
from voxplan.profiling.tasks import journalled_classes
from voxplan.scripts.profile_dataset import main

COMMAND = [sys.executable, "-m", "voxplan.scripts.profile_dataset"]
CASES = 40
"""Two workers get them in batches of two."""
LISTENER = """
import os, sys
log = os.open(os.environ["OPENED"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
def listen(event, arguments):
    if event == "open" and str(arguments[0]).endswith(".nii.gz"):
        os.write(log, os.path.basename(str(arguments[0])).partition(".")[0].encode() + b"\\n")
sys.addaudithook(listen)
"""
"""Run by every Python process at its start, workers among them."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Cases that take long enough to be interrupted; one is damaged."""
    data = tmp_path / "data"
    data.mkdir()
    image = np.random.default_rng(0).integers(0, 4000, (40, 160, 160)).astype(np.int16)
    nib.Nifti1Image(image, np.eye(4)).to_filename(data / "c00.nii.gz")
    for number in range(1, CASES):
        (data / f"c{number:02}.nii.gz").write_bytes((data / "c00.nii.gz").read_bytes())
    (data / "c07.nii.gz").write_bytes(b"damaged")
    (tmp_path / "sitecustomize.py").write_text(LISTENER)
    return data


class Runs:
    """One command, run again and again, with what each run opened."""

    def __init__(self, output: Path, *arguments: str) -> None:
        self.output = output
        self.command = [*COMMAND, *arguments, "--jobs", "2", "-q"]
        self._logs = output.parent / f"{output.name}.opened"

    def finished(self) -> set[str]:
        """Cases in the journal."""
        store = Journal(journal_folder(self.output), journalled_classes())
        if not store.folder.is_dir():
            return set()
        store.open()
        names = {path.stem for path in store.folder.glob("*.case")} | set(store._packed)
        found = [result for name in names if (result := store.read(name)) is not None]
        return {result.id if isinstance(result, Failure) else result.fingerprint.id for result in found}

    def run(self, kill_at: int | None, delay: float = 0.0) -> int:
        """Run, to the end or until so many entries are there; what was finished before stays unopened."""
        before = self.finished()
        self._logs.unlink(missing_ok=True)
        root = str(self.output.parent)
        environment = {**os.environ, "OPENED": str(self._logs), "PYTHONPATH": _path(root)}
        process = subprocess.Popen(self.command, env=environment, cwd=root, start_new_session=True)
        try:
            if kill_at is not None:
                self._wait(process, kill_at)
                time.sleep(delay)
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(120)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        opened = set(self._logs.read_text().split()) if self._logs.exists() else set()
        assert not opened & before, "finished cases are not opened again"
        every_other = 2 if "--shard" in self.command else 1
        mine = {f"c{number:02}" for number in range(0, CASES, every_other)}
        assert opened <= mine
        assert kill_at is not None or opened | before == mine, "each process says what it opens"
        return process.returncode

    def _wait(self, process: subprocess.Popen[Any], entries: int) -> None:
        began = time.monotonic()
        folder = journal_folder(self.output)
        while process.poll() is None and time.monotonic() - began < 60:
            if folder.is_dir() and len([*folder.glob("*.case"), *folder.glob("*.cases")]) >= entries:
                return
            time.sleep(0.005)


def _path(first: str) -> str:
    return os.pathsep.join([first, *filter(None, [os.environ.get("PYTHONPATH")])])


def test_killed_at_random_moments(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    print(f"seed {seed}")  # noqa: T201 - shown when the test fails
    assert main(["data", "-o", "straight.json", "--jobs", "1", "-q"]) == 0
    whole = Runs(tmp_path / "f.json", "data", "-o", "f.json")
    ends = [whole.run(chance.randrange(5), chance.uniform(0, 0.1))]
    ends.append(whole.run(chance.randrange(8, 18), chance.uniform(0, 0.1)))
    assert -signal.SIGKILL in ends
    assert 0 < len(whole.finished()) < CASES
    assert whole.run(None) == 0
    shard = Runs(tmp_path / "g.1-of-2.shard", "data", "-o", "g.json", "--shard", "1/2")
    shard.run(chance.randrange(1, 18), chance.uniform(0, 0.1))
    assert shard.run(None) == 0
    assert main(["data", "-o", "g.json", "--shard", "2/2", "--jobs", "1", "-q"]) == 0
    assert main(["merge", "g.1-of-2.shard", "g.2-of-2.shard", "-o", "g.json", "-q"]) == 0
    expected = load_fingerprint(tmp_path / "straight.json")
    assert (len(expected.cases), len(expected.failures)) == (CASES - 1, 1)
    for name in ("f", "g"):
        resumed = load_fingerprint(tmp_path / f"{name}.json")
        assert resumed.model_copy(update={"provenance": expected.provenance}) == expected
        histograms = [(tmp_path / f"{n}.histograms.npz").read_bytes() for n in (name, "straight")]
        assert histograms[0] == histograms[1]
