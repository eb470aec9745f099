"""A run that is killed, or finds the disk full, at any step of writing: old file or new file, never half."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from voxplan.profiling.fingerprint import load_fingerprint
from voxplan.profiling.journal import journal_folder
from voxplan.scripts.profile_dataset import main

PROGRAM = Path(__file__).with_name("power_cuts.py")


def write_data(folder: Path, first: int, cases: int = 2, edge: int = 6) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(first)
    for number in range(cases):
        voxels = rng.integers(first, first + 5, (4, 5, edge)).astype(np.uint8)
        nibabel.Nifti1Image(voxels, np.eye(4)).to_filename(folder / f"a{number}.nii")
    return folder


def strike(how: str, tmp_path: Path) -> list[dict[str, Any]]:
    old, new = write_data(tmp_path / "old", 1), write_data(tmp_path / "new", 100)
    out = tmp_path / "out"
    out.mkdir()
    done = subprocess.run(
        [sys.executable, str(PROGRAM), how, str(old), str(new), str(out)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.skipif(sys.platform == "win32", reason="children are forks")
@pytest.mark.parametrize("how", ["kill", "full"])
def test_old_or_new_whatever_the_step(how: str, tmp_path: Path) -> None:
    records = strike(how, tmp_path)
    for begin in ("nothing", "old output"):
        struck = [record for record in records if record["begin"] == begin]
        *failed, finished = struck
        assert finished["code"] == 0
        new = finished["after"]
        assert len(failed) >= 20, "steps were not counted"
        assert {record["after"] for record in failed} == {failed[0]["before"], new}
        after = [record["after"] for record in failed]
        assert after == sorted(after, key=lambda state: state == new), "once new, never old again"
        assert all(record["again"] for record in struck), "the next run has the right result"
        assert not any(record["left"] for record in struck), "and leaves nothing of the killed one behind"
        kept = [record["entries"] for record in failed]
        assert max(kept) >= 2
        assert begin != "nothing" or kept == sorted(kept), "finished cases stay in the journal"
        if how == "kill":
            assert {record["code"] for record in failed} == {-9}
            steps = finished["steps"]
            assert steps[steps.index("fsync") - 1 : steps.index("fsync") + 2] == ["write", "fsync", "replace"]
            assert steps.count("fsync") >= 2, "both files are on the disk before their renaming"
        else:
            refused = [record for record in failed if record["code"]]
            assert len(refused) >= 10, "a full disk is said, not passed over"
            for record in refused:
                assert record["told"].count("\n") == 1
                assert re.search(r"No space left on device: '/.*(run/f\.|/voxplan-journal)", record["told"])


def test_a_file_that_grows_too_large(tmp_path: Path) -> None:
    """The system itself refuses the write (RLIMIT_FSIZE): one line, the old file, and the journal stay."""
    old, new = write_data(tmp_path / "old", 1), write_data(tmp_path / "new", 100, cases=30)
    output = tmp_path / "f.json"
    assert main([str(old), "-o", str(output), "-q", "-j", "1"]) == 0
    before = output.read_bytes()
    code = (
        "import resource, signal, sys\n"
        "from voxplan.scripts.profile_dataset import main\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, 12_000))\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(new), "-o", str(output), "-q", "-j", "1"],
        capture_output=True,
        text=True,
        # a measurement of coverage would write into the child's files, and be refused too
        env={name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")},
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "File too large" in done.stderr
    assert str(tmp_path) in done.stderr
    assert output.read_bytes() == before
    assert len(list(journal_folder(output).glob("*.case"))) == 30
    assert main([str(new), "-o", str(output), "-q", "-j", "1"]) == 0
    assert len(load_fingerprint(output).cases) == 30


def test_a_real_full_disk_and_a_real_read_only_one(tmp_path: Path) -> None:
    """A disk in memory of 64 kB, in a name space of mounts of its own; needs the right to mount."""
    disk, data = tmp_path / "disk", write_data(tmp_path / "data", 1, cases=30)
    disk.mkdir()
    command = f'"{sys.executable}" -m voxplan.scripts.profile_dataset "{data}" -o "{disk}/f.json" -q -j 1'
    for options, words in (("size=64k", "No space left on device"), ("ro,size=64k", "Read-only file system")):
        script = (
            f'mount -t tmpfs -o {options} none "{disk}" || exit 99; {command}; echo status $?; ls -A "{disk}"'
        )
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", script], capture_output=True, text=True, check=False
        )
        if done.returncode in (1, 99, 127) and "status" not in done.stdout:
            pytest.skip(f"cannot mount here ({' '.join(done.stderr.split())[:100]})")
        assert "status 1" in done.stdout
        assert done.stderr.count("\n") == 1
        assert words in done.stderr
        assert str(disk) in done.stderr
        assert "f.json.lock" not in done.stdout
        assert ("f.json.journal" in done.stdout) == options.startswith("size")
