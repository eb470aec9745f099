"""scripts/mutate judges right: mutants that fail, that none notices, that never end, that are suspended."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from voxplan.scripts.fuzzing import mutate
from voxplan.scripts.fuzzing.source_changes import ROOT, changes

RUN = """
import json, sys
from pathlib import Path
from voxplan.scripts.fuzzing import mutant_runs
from voxplan.scripts.fuzzing.source_changes import ROOT, Change
mutant_runs.PROCESSOR_SECONDS, mutant_runs.WAITING_SECONDS = 1, 60
file = ROOT / "planning/rules/compute.py"
texts = json.loads(sys.argv[2])
mutants = [Change("planning/rules/compute.py", 1, "", text) for text in texts]
print(json.dumps(mutant_runs.run_mutants(file, mutants, [Path(sys.argv[1])], 2)))
"""
GOOD = "def step_limit(kind):\n    return {}\n"
ENDLESS = "def step_limit(kind):\n    while True:\n        pass\n"
SUSPENDED = """
import os, signal, subprocess, time
def step_limit(kind):
    waker = ["sh", "-c", f"sleep 3; kill -CONT {os.getpid()}"]
    subprocess.Popen(waker, stdout=subprocess.DEVNULL)
    os.kill(os.getpid(), signal.SIGSTOP)
    return 221184
"""
TEST = """
from voxplan.planning.rules.compute import step_limit
def test_it():
    assert step_limit("cpu") == 221184
"""


def verdicts(tmp_path: Path, texts: list[str], test: str = TEST) -> subprocess.CompletedProcess[str]:
    file = tmp_path / "test_it.py"
    file.write_text(test)
    command = [sys.executable, "-c", RUN, str(file), json.dumps(texts)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
def test_verdicts(tmp_path: Path) -> None:
    broken = "import nothing_of_that_name"
    texts = [GOOD.format(221_185), GOOD.format("110592 * 2"), ENDLESS, SUSPENDED, broken]
    done = verdicts(tmp_path, texts)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == ["killed", "survived", "endless", "survived", "killed"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
def test_tests_that_fail_on_the_file_as_it_is_kill_nothing(tmp_path: Path) -> None:
    done = verdicts(tmp_path, [GOOD.format(1)], TEST.replace("221184", "7"))
    assert done.returncode == 1
    assert "fail without any change" in done.stderr


def test_changes_by_hand(tmp_path: Path) -> None:
    source = "def f(a: int = 3) -> int:\n    if a < 2:\n        raise ValueError(4)\n    return max(a, 1)\n"
    file = ROOT / "planning" / "rules" / "compute.py"
    found = {(change.line, change.what) for change in changes(file, source)}
    assert found == {
        (1, "3 -> 4"),
        (2, "condition negated"),
        (2, "Lt -> LtE"),
        (2, "2 -> 3"),
        (4, "returns None"),
        (4, "max -> min"),
        (4, "1 -> 2"),
    }


def test_every_file_has_tests_and_those_of_its_name_come_first() -> None:
    for file in mutate.mutated_files(()):
        tests = mutate.tests_of(file)
        assert tests
        assert all(test.is_file() for test in tests)
    assert mutate.tests_of(ROOT / "planning" / "rules" / "batch.py")[0].name == "test_batch.py"
