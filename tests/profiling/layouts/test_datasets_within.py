"""A folder that holds whole data sets is not read as loose volumes: labels would pass for images."""

from __future__ import annotations

from pathlib import Path

import pytest

from voxplan.profiling.formats.base import FormatError
from voxplan.profiling.layouts import discover
from voxplan.scripts.phantom import write_phantom


def test_one_data_set_within_is_taken(tmp_path: Path) -> None:
    write_phantom(tmp_path, cases=2)
    found = discover(tmp_path / "nifti")
    assert (found.layout, found.name) == ("nnunet-raw", "Dataset900_Phantom")
    assert [case.id for case in found.cases] == ["cell_00", "cell_01"]
    assert all(case.label is not None for case in found.cases)
    assert "Dataset900_Phantom" in found.warnings[0]


def test_several_within_must_be_named(tmp_path: Path) -> None:
    write_phantom(tmp_path / "a", cases=1)
    (tmp_path / "a" / "tiff").rename(tmp_path / "first")
    write_phantom(tmp_path / "b", cases=1)
    (tmp_path / "b" / "tiff").rename(tmp_path / "second")
    with pytest.raises(FormatError, match=r"first, second; name one"):
        discover(tmp_path, exclude=("a", "b"))
