"""The parity table: what it counts, and that a field that differs is found."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from voxplan.scripts.benchmarks.nnunet_parity import leaves, main

PAGE = "before\n<!-- parity: begin -->\nold\n<!-- parity: end -->\nafter\n"


def test_every_leaf_and_every_length_is_compared() -> None:
    content = {"a": [1, 2.0], "b": {"c": None, "d": []}}
    assert dict(leaves(content)) == {
        "a.length": 2,
        "a[0]": ("int", 1),
        "a[1]": ("float", 2.0),
        "b.c": ("NoneType", None),
        "b.d.length": 0,
    }


@pytest.fixture
def golden(voxplan_golden: Path, tmp_path: Path) -> Path:
    """One data set of nnU-Net's own."""
    source = voxplan_golden / "nnunet_fingerprints" / "Dataset501_Heads"
    shutil.copytree(source, tmp_path / "golden" / "nnunet_fingerprints" / source.name)
    (tmp_path / "golden" / "nnunet_plans").mkdir()
    return tmp_path / "golden"


def test_the_table_is_written_into_a_page(
    golden: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    assert main([str(golden), "--update", str(page)]) == 0
    text = page.read_text()
    assert text.startswith("before\n<!-- parity: begin -->\n| data set |")
    assert text.endswith("<!-- parity: end -->\nafter\n")
    assert "old" not in text
    (row,) = [line for line in text.splitlines() if "Dataset501_Heads" in line]
    assert row.count("all equal") == 4
    assert "0 differ" in capsys.readouterr().out


def test_a_field_that_differs_is_named(
    golden: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = golden / "nnunet_fingerprints" / "Dataset501_Heads" / "nnUNetPlans.json"
    plans = json.loads(file.read_text())
    plans["configurations"]["3d_fullres"]["batch_size"] += 1
    file.write_text(json.dumps(plans))
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    assert main([str(golden), "--update", str(page)]) == 1
    assert "1 differ |" in page.read_text()
    assert "1 differ" in capsys.readouterr().out
    page.write_text("no markers")
    with pytest.raises(ValueError, match="must hold the markers"):
        main([str(golden), "--update", str(page)])
