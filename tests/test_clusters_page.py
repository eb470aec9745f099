"""The job script of docs/clusters.md, run in bash as a task of its array, and the merge command behind it."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from voxplan.profiling.fingerprint import load_fingerprint
from voxplan.profiling.shard_file import ShardFile
from voxplan.scripts.phantom import main as phantom
from voxplan.scripts.profile_dataset import main

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "clusters.md").read_text(encoding="utf-8")


def test_the_job_array_and_its_merge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five cases on sixteen tasks: one task in bash, as SLURM would run it, the others in this process."""
    monkeypatch.chdir(tmp_path)
    assert phantom(["data"]) == 0
    (script,) = re.findall(r"```bash\n(#!/bin/bash\n#SBATCH.*?)```", PAGE, flags=re.DOTALL)
    (tasks,) = re.findall(r"--array=1-([0-9]+)\n", script)
    Path("profile.sbatch").write_text(script)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "SLURM_ARRAY_TASK_ID": "2", "SLURM_CPUS_PER_TASK": "1"}
    subprocess.run(["bash", "profile.sbatch"], env=environment, check=True, capture_output=True, timeout=200)
    head = ShardFile(Path(f"fingerprint.02-of-{tasks}.shard")).head
    assert list(head.entries) == [sorted(head.cases)[1]]
    command = shlex.split(script.splitlines()[-1])
    for number in {*range(1, int(tasks) + 1)} - {2}:
        words = [word.replace("$SLURM_ARRAY_TASK_ID", str(number)) for word in command[1:]]
        assert main([*words, "--jobs", "1", "-q"]) == 0
    (merge,) = re.findall(r"^\$ profile-dataset (merge .*-of-16\.shard .*)$", PAGE, flags=re.MULTILINE)
    words = [str(found) for word in merge.split() for found in (sorted(Path().glob(word)) or [word])]
    assert len(words) == int(tasks) + 3
    assert main([*words, "-q"]) == 0
    place = ["data/hdf5", "--image-key", "raw", "--label-key", "labels"]
    assert main([*place, "-o", "one.json", "--jobs", "1", "-q"]) == 0
    one, merged = load_fingerprint(Path("one.json")), load_fingerprint(Path("fingerprint.json"))
    assert merged.model_copy(update={"provenance": one.provenance}) == one
