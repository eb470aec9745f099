"""The table of errors, from a small file of measurements whose errors are worked out by hand."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from voxplan.scripts.benchmarks.memory_accuracy import as_markdown, main, rows
from voxplan.scripts.benchmarks.memory_grid import Case
from voxplan.scripts.benchmarks.other_formulas import connectomics_formula, nnunet_proxy

MIB = 2**20
CUBE = (128, 128, 128)


def record(case: Case, cap: int, scale: float, **extra: Any) -> dict[str, Any]:
    steady = {name: int(scale * size * MIB) for name, size in SIZES.items()}
    return {
        "name": case.name,
        "case": asdict(case),
        "cap": cap,
        "device": "cuda",
        "status": "measured",
        "steady": steady,
        **extra,
    }


SIZES = {"allocated": 4000, "reserved": 5000, "process": 6000}
PREDICTED = {"allocated": 4000 * MIB, "reserved": 5000 * MIB, "total": 6000 * MIB}
UNET, MEDNEXT = Case("unet", CUBE, 2), Case("mednext_s", CUBE, 4)


@pytest.fixture
def measured() -> dict[str, Any]:
    """A UNet measured as predicted, 25 % more on a small card; a MedNeXt at half of what is predicted."""
    return {
        "machine": {"gpu": "GPU X", "torch": "2.13", "cudnn": 91900, "driver": "580"},
        "measurements": [
            record(UNET, 0, 1.0, predicted=PREDICTED, elements=452_796_416),
            record(UNET, 8, 1.25),
            record(MEDNEXT, 0, 0.5, predicted=PREDICTED, elements=10**9),
            {"name": "x", "case": asdict(UNET), "cap": 8, "device": "cuda", "status": "out of memory"},
        ],
    }


def test_errors_by_hand(measured: dict[str, Any]) -> None:
    same, small, half = rows(measured)
    assert set(same.errors.values()) == {0.0}
    assert list(small.errors.values()) == [pytest.approx(-0.2)] * 3
    assert list(half.errors.values()) == [pytest.approx(1.0)] * 3
    # 452,796,416 of 560e6 elements fill 8 GB at batch 2; measured are 6000 MiB.
    assert same.others["nnunet"] == pytest.approx(8e9 * 452_796_416 / 560e6 / (6000 * MIB) - 1)


def test_the_formulas_give_what_is_documented() -> None:
    """5.5 GB for MedNeXt-S at batch 4; nnU-Net fills its reference of 8 GB with 560e6 elements at batch 2."""
    assert connectomics_formula(Case("mednext_s", CUBE, 4)) / 2**30 == pytest.approx(5.5, abs=0.1)
    assert nnunet_proxy(Case("unet", CUBE, 2), 560_000_000) == 8e9
    assert nnunet_proxy(Case("resenc_unet", CUBE, 2), 680_000_000) == 8e9
    assert nnunet_proxy(Case("unet", (512, 512), 12), 85_000_000) == 8e9


def test_families_held_out_are_summed_up_apart(measured: dict[str, Any]) -> None:
    text = as_markdown(measured, ["mednext_"])
    assert "**GPU X**, torch 2.13, cudnn 91900, driver 580" in text
    fitted, apart = text.split("families held out, 1 steps")
    assert "families fitted on, 2 steps" in fitted
    assert "| voxplan, allocated | 10.0% | 20.0% | -20.0% |" in fitted
    assert "| voxplan, allocated | 100.0% | 100.0% | 0.0% |" in apart
    assert "unet/128x128x128/b2/fp16, 8 GB | 5,000.0 | -20.0% |" in text


def test_the_page_is_written_and_an_empty_file_is_refused(
    measured: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, page = tmp_path / "measured_x.json", tmp_path / "page.md"
    file.write_text(json.dumps(measured))
    page.write_text("a\n<!-- accuracy: begin -->\n<!-- accuracy: end -->\nb\n")
    assert main([str(file), "--update", str(page)]) == 0
    assert "| all families, 3 steps |" in page.read_text()
    assert main([str(file)]) == 0
    assert "all families" in capsys.readouterr().out
    file.write_text(json.dumps({**measured, "measurements": []}))
    assert main([str(file)]) == 2
    assert "no step was measured" in capsys.readouterr().err
