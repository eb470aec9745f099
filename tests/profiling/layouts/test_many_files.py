"""Finding cases takes time in proportion to their number: comparisons are counted, no clock is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from voxplan.profiling.layouts import discover
from voxplan.profiling.layouts.volumes import NamedVolume

FILES = 300


@pytest.fixture
def comparisons(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A count that grows with each comparison of paths and of volumes."""
    count = [0]
    for kind in (Path, NamedVolume):
        equal = kind.__eq__

        def counted(self: Any, other: Any, equal: Any = equal) -> Any:
            count[0] += 1
            return equal(self, other)

        monkeypatch.setattr(kind, "__eq__", counted)
    return count


def test_images_and_labels_of_one_folder(tmp_path: Path, comparisons: list[int]) -> None:
    for number in range(FILES):
        (tmp_path / f"img_{number:03d}.nii.gz").touch()
        (tmp_path / f"seg_{number:03d}.nii.gz").touch()
    assert len(discover(tmp_path).cases) == FILES
    assert comparisons[0] < 20 * FILES


def test_slices_of_one_folder(tmp_path: Path, comparisons: list[int]) -> None:
    for number in range(FILES):
        tifffile.imwrite(tmp_path / f"slice_{number:03d}.tif", np.zeros((4, 4), np.uint8))
    assert len(discover(tmp_path).cases) == 1
    assert comparisons[0] < 20 * FILES
