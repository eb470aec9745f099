"""The committed measurements of the CPU: what the documentation says of them holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from voxplan.planning.memory.estimate import estimate_trace
from voxplan.scripts.benchmarks.memory_accuracy import as_markdown, rows
from voxplan.scripts.benchmarks.memory_grid import CPU_GRID, make_request

ROOT = Path(__file__).resolve().parents[2]
ONEDNN = ("monai_unet/32x32x32", "unet/16x32x32", "mednext_s/32x32x32/b1")
"""Steps whose kernels hold temporaries of their own."""


@pytest.fixture(scope="module")
def measured() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(
        (ROOT / "tests" / "data" / "measured_cpu.json").read_text(encoding="utf-8")
    )
    return content


def test_the_whole_grid_is_there(measured: dict[str, Any]) -> None:
    assert {item["name"] for item in measured["measurements"]} == {case.name for case in CPU_GRID}
    assert all(item["status"] == "measured" for item in measured["measurements"])
    assert len({case.architecture for case in CPU_GRID}) == 8


def test_live_tensors_are_as_traced_and_torchs_allocator_where_kernels_take_nothing(
    measured: dict[str, Any],
) -> None:
    for row in rows(measured):
        assert abs(row.errors["live"]) < 0.01, row.name
        if not row.name.startswith(ONEDNN):
            assert abs(row.errors["allocator"]) < 0.06, row.name
    for item in measured["measurements"]:
        assert item["predicted"]["first_step_allocated"] == pytest.approx(item["first"]["live"], rel=0.01)


@pytest.mark.parametrize("case", [case for case in CPU_GRID if len(case.patch) == 2], ids=lambda c: c.name)
def test_todays_estimate_is_the_one_that_was_compared(measured: dict[str, Any], case: Any) -> None:
    (item,) = [item for item in measured["measurements"] if item["name"] == case.name]
    request = make_request(case, "cpu", None)
    found = estimate_trace(request.trace(), request)
    assert found.allocated == pytest.approx(item["predicted"]["allocated"], rel=0.002)


def test_the_documentation_shows_this_table(measured: dict[str, Any]) -> None:
    page = (ROOT / "docs" / "memory.md").read_text(encoding="utf-8")
    assert as_markdown(measured, ()) in page
