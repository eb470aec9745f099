"""People read 40 nm where a file says 4e-05 mm; what is stored stays."""

from __future__ import annotations

import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from voxplan.profiling.fingerprint import load_fingerprint
from voxplan.profiling.formats.base import Unit
from voxplan.profiling.shown_spacing import converted, shown_unit
from voxplan.scripts.profile_dataset import main


@pytest.mark.parametrize(
    ("unit", "spacing", "shown", "numbers"),
    [
        ("mm", (4e-05, 4e-06, 4e-06), "nm", (40, 4, 4)),
        ("mm", (0.0005, 0.0002, 0.0002), "um", (0.5, 0.2, 0.2)),
        ("um", (0.00004, 0.0001, 0.0001), "nm", (0.04, 0.1, 0.1)),
        ("nm", (50_000, 50_000, 50_000), "um", (50, 50, 50)),
        ("nm", (1e6, 5e5, 5e5), "mm", (1, 0.5, 0.5)),
        ("mm", (5, 0.7, 0.7), "mm", (5, 0.7, 0.7)),
        ("mm", (0.04, 0.004, 0.004), "mm", (0.04, 0.004, 0.004)),
        ("um", (0.04, 0.004, 0.004), "um", (0.04, 0.004, 0.004)),
        ("nm", (1200, 650, 650), "nm", (1200, 650, 650)),
        ("unknown", (4e-05, 4e-06, 4e-06), "unknown", (4e-05, 4e-06, 4e-06)),
    ],
)
def test_the_unit_that_is_shown(
    unit: Unit, spacing: tuple[float, ...], shown: Unit, numbers: tuple[float, ...]
) -> None:
    assert shown_unit(unit, spacing) == shown
    assert converted(spacing, unit, shown) == pytest.approx(numbers, rel=1e-12)


def test_missing_spacing_keeps_its_unit() -> None:
    assert shown_unit("mm", None) == "mm"


def test_electron_microscopy_in_nifti(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Terminal and page say nanometres, about the case that stands out too; the file keeps millimetres."""
    (tmp_path / "data").mkdir()
    rng = np.random.default_rng(0)
    for number in range(8):
        steps = (8e-06, 8e-06, 9e-05 if number == 7 else 4e-05)
        image = nib.Nifti1Image(rng.integers(1, 9, (12, 10, 8)).astype(np.uint8), np.diag([*steps, 1]))
        image.header.set_xyzt_units("mm")
        image.to_filename(tmp_path / "data" / f"c{number}.nii.gz")
    output, page = tmp_path / "f.json", tmp_path / "r.html"
    command = [str(tmp_path / "data"), "--labels", "none", "-o", str(output), "--jobs", "1"]
    assert main([*command, "--report", str(page)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "spacing nm 40 x 8 x 8" in said
    assert "c7 [spacing] spacing 90 x 8 x 8 nm, while 7 of 8 cases have about 40 x 8 x 8" in said
    assert "e-05" not in said
    text = page.read_text(encoding="utf-8")
    assert "40 × 8 × 8 nm" in text
    assert "90 × 8 × 8 nm" in text
    assert not re.search(r"e-0\d (×|mm)", text)
    found = load_fingerprint(output)
    assert found.summary.spacing_unit == "mm"
    assert found.cases[0].spacing.values == pytest.approx((4e-05, 8e-06, 8e-06), rel=1e-6)
