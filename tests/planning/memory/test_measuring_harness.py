"""The harness that measures real steps, run on the CPU; its grid as the constants' fit needs it."""

from __future__ import annotations

import gzip
import importlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from voxplan.planning.memory.allocator import replay
from voxplan.scripts.benchmarks import measure_memory
from voxplan.scripts.benchmarks.measure_memory import UNFINISHED, in_own_process, main
from voxplan.scripts.benchmarks.memory_grid import CPU_GRID, GRID, Case, make_request
from voxplan.scripts.benchmarks.memory_steps import compact_events, convolution_elements

MIB = 2**20


def test_the_grid_covers_what_the_constants_depend_on() -> None:
    assert len(GRID) >= 40
    assert len({case.name for case in GRID}) == len(GRID)
    names = {case.architecture for case in GRID}
    variants = {f"mednext_{size}" for size in "sbml"}
    assert variants | {f"{name}_k5" for name in variants} <= names
    assert {"basic_unet", "monai_unet", "dynunet", "unet", "resenc_unet"} <= names
    assert {case.precision for case in GRID} >= {"fp32", "fp16", "bf16"}
    assert {case.classes for case in GRID} == {2, 105}
    assert {len(case.patch) for case in GRID} == {2, 3}
    assert {case.batch for case in GRID} >= {1, 2, 4, 8}
    assert min(min(case.patch) for case in GRID) == 32
    assert max(max(case.patch) for case in GRID if len(case.patch) == 3) == 192
    assert any(len(set(case.patch)) > 1 for case in GRID)
    assert any(case.benchmark for case in GRID)
    assert any(case.checkpointing for case in GRID)
    assert any(case.snapshot for case in GRID)


@pytest.mark.parametrize("case", GRID, ids=lambda case: case.name)
def test_every_case_of_the_grid_is_a_step_that_can_run(case: Case) -> None:
    """Patches on the divisors, checkpointing only where there is any: nothing fails first on the GPU."""
    assert make_request(case, "cuda", (8, 0)).patch_size == case.patch


@pytest.mark.parametrize("case", CPU_GRID, ids=lambda case: case.name)
def test_every_case_of_the_small_grid_runs_on_a_cpu(case: Case) -> None:
    assert make_request(case, "cpu", None).precision == "fp32"


def test_a_case_runs_in_a_process_of_its_own_and_is_not_run_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "measured.json"
    arguments = ["--device", "cpu", "--quick", "--only", "basic_unet", "-o", str(output)]
    # No time at all: the machine is described, and the same command is asked for again.
    assert main([*arguments, "--seconds", "-1"]) == UNFINISHED
    assert "1 left" in capsys.readouterr().out
    assert main(arguments) == 0
    assert "predicted" in capsys.readouterr().out
    document = json.loads(output.read_text())
    assert document["machine"]["device"] == "cpu"
    (record,) = document["measurements"]
    assert record["status"] == "measured"
    first, steady, predicted = record["first"], record["steady"], record["predicted"]
    assert predicted["allocated"] == pytest.approx(steady["live"], rel=0.01)
    assert predicted["first_step_allocated"] == pytest.approx(first["live"], rel=0.01)
    # BasicUNet's kernels have no temporaries of their own, so that the allocator hands out what is live.
    assert predicted["allocated"] == pytest.approx(steady["allocator"], rel=0.06)
    # AdamW's state, two fp32 numbers a parameter, comes with the end of the first step.
    assert steady["live"] - first["live"] == pytest.approx(2 * predicted["parameters"], rel=0.5)
    # A real process holds at least the tensors of its step.
    assert steady["process"] > steady["live"]

    def refuse(*_: object) -> None:
        pytest.fail("a case that was measured is measured again")

    monkeypatch.setattr(measure_memory, "measure", refuse)
    assert main(arguments) == 0


PROCESSES = """
import os, time
def tell(): return {"pid": os.getpid()}
def die(): os._exit(7)
def wait(): time.sleep(60)
"""


def test_a_process_that_dies_or_takes_too_long_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "measured_processes.py").write_text(PROCESSES)  # what another process can import
    monkeypatch.syspath_prepend(tmp_path)
    functions = importlib.import_module("measured_processes")
    assert in_own_process(functions.tell)["pid"] != os.getpid()
    assert "exit code 7" in in_own_process(functions.die)["why"]
    monkeypatch.setattr(measure_memory, "TIMEOUT", 0.2)
    assert "took more than 0.2 s" in in_own_process(functions.wait)["why"]


HISTORY = [
    ("segment_alloc", 20 * MIB, 0x100),
    ("alloc", 4 * MIB, 0x100),
    ("alloc", 2 * MIB, 0x500),
    ("free_requested", 4 * MIB, 0x100),
    ("free_completed", 4 * MIB, 0x100),
    ("segment_alloc", 2 * MIB, 0x9000),
    ("alloc", 512, 0x9000),
    ("alloc", 3 * MIB, 0x100),
    ("free_completed", 1, 0x7777),  # allocated before the history began
    ("segment_free", 2 * MIB, 0x9000),
]
"""As ``torch.cuda.memory._snapshot()["device_traces"][0]`` tells it: action, bytes, address."""


def test_an_allocators_history_becomes_events_to_replay() -> None:
    found = compact_events([{"action": a, "size": size, "addr": at} for a, size, at in HISTORY])
    assert found["events"] == [0, 1, ~0, 2, 3]
    assert found["sizes"] == [4 * MIB, 2 * MIB, 512, 3 * MIB]
    assert found["reserved"] == 22 * MIB
    replayed = replay([(event, 0) for event in found["events"]], found["sizes"])
    assert replayed.peak_reserved == found["reserved"]
    # 3 MiB take the hole of 4: what is left, 1 MiB, is too little to split off.
    assert replayed.peak_allocated == (2 + 4) * MIB + 512


def test_histories_are_kept_beside_the_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def measured(case: Case, *_: object) -> dict[str, Any]:
        return {
            "status": "measured",
            "first": {},
            "steady": {},
            "predicted": {},
            "events": {"events": [0], "sizes": [1], "reserved": 2},
        }

    monkeypatch.setattr(
        measure_memory,
        "in_own_process",
        lambda function, *rest: (
            {"torch": "x"} if function is measure_memory.describe_machine else measured(*rest)
        ),
    )
    output = tmp_path / "out.json"
    assert main(["--device", "cpu", "--quick", "-o", str(output)]) == 0
    assert "events" not in json.loads(output.read_text())["measurements"][0]
    kept = json.loads(gzip.decompress((tmp_path / "out.events.json.gz").read_bytes()))
    assert list(kept) == [case.name for case in CPU_GRID[:2]]


def test_counted_elements_are_nnunets() -> None:
    """nnU-Net's own count for its plain UNet at 128 cubed, two classes and background."""
    counted = convolution_elements(make_request(Case("unet", (128,) * 3, 2, classes=3), "cuda", None))
    assert counted == 452_796_416


def test_another_machines_file_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "measured.json"
    output.write_text(json.dumps({"machine": {"torch": "1.0"}, "measurements": []}))
    assert main(["--device", "cpu", "--quick", "-o", str(output)]) == 2
    assert "another machine" in capsys.readouterr().err


def test_a_failing_case_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure_memory, "QUICK", (Case("unicorn", (32, 32, 32), 1, "fp32"),))
    output = tmp_path / "measured.json"
    assert main(["--device", "cpu", "--quick", "-o", str(output)]) == 1
    (record,) = json.loads(output.read_text())["measurements"]
    assert record["status"] == "failed"
    assert "unknown architecture 'unicorn'" in record["why"]
