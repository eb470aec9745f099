"""The harness that measures real steps, run on the CPU; its grid as the constants' fit needs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from voxplan.scripts.benchmarks import measure_memory
from voxplan.scripts.benchmarks.measure_memory import GRID, main, make_request


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
def test_every_case_of_the_grid_is_a_step_that_can_run(case: measure_memory.Case) -> None:
    """Patches on the divisors, checkpointing only where there is any: nothing fails first on the GPU."""
    assert make_request(case, "cuda", (8, 0)).patch_size == case.patch


def test_a_case_runs_in_a_process_of_its_own_and_is_not_run_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "measured.json"
    arguments = ["--device", "cpu", "--quick", "--only", "basic_unet", "-o", str(output)]
    assert main(arguments) == 0
    assert "predicted" in capsys.readouterr().out
    document = json.loads(output.read_text())
    assert document["machine"]["device"] == "cpu"
    (record,) = document["measurements"]
    assert record["status"] == "measured"
    # A real process holds at least the tensors of its step.
    assert record["steady"]["process"] > record["predicted"]["allocated"]
    assert record["steady"]["process"] >= record["first"]["process"]

    def refuse(*_: object) -> None:
        pytest.fail("a case that was measured is measured again")

    monkeypatch.setattr(measure_memory, "_in_own_process", refuse)
    assert main(arguments) == 0


def test_another_machines_file_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "measured.json"
    output.write_text(json.dumps({"machine": {"torch": "1.0"}, "measurements": []}))
    assert main(["--device", "cpu", "--quick", "-o", str(output)]) == 2
    assert "another machine" in capsys.readouterr().err


def test_a_failing_case_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure_memory, "QUICK", (measure_memory.Case("unicorn", (32, 32, 32), 1, "fp32"),))
    output = tmp_path / "measured.json"
    assert main(["--device", "cpu", "--quick", "-o", str(output)]) == 1
    (record,) = json.loads(output.read_text())["measurements"]
    assert record["status"] == "failed"
    assert "unknown architecture 'unicorn'" in record["why"]
