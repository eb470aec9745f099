"""What a start costs: libraries are imported when a file of their format is met, not before."""

from __future__ import annotations

import subprocess
import sys

import pytest

LIBRARIES = ("h5py", "tifffile", "SimpleITK", "imagecodecs", "zarr", "joblib", "torch", "monai", "matplotlib")


def imported_by(statement: str) -> set[str]:
    """Which of the libraries a fresh interpreter has imported after a statement."""
    program = f"import sys\n{statement}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(LIBRARIES) & set(done.stdout.split())


@pytest.mark.parametrize("module", ["extract", "tasks", "formats", "layouts", "combine", "sidecar"])
def test_no_library_of_a_format_is_imported_beforehand(module: str) -> None:
    assert imported_by(f"import voxplan.profiling.{module}") == set()


def test_an_open_file_imports_its_own_library_only(tmp_path: object) -> None:
    statement = f"""
import h5py
with h5py.File(r"{tmp_path}/a.h5", "w") as file:
    file["raw"] = [[[1, 2], [3, 4]]]
from pathlib import Path
from voxplan.profiling.formats import open_volume
from voxplan.profiling.formats.base import VolumeSource
open_volume(VolumeSource(paths=(Path(r"{tmp_path}/a.h5"),))).close()
"""
    assert imported_by(statement) == {"h5py"}
