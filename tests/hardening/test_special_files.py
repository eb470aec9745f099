"""Pipes inside a data set, as an archive can hold them: opening one waits for ever, so none is opened."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr

PROGRAM = """
import sys
from pathlib import Path
from voxplan.profiling.case import ProfileOptions, profile_case
from voxplan.profiling.formats.base import CaseSource, FormatError, VolumeSource
path = Path(sys.argv[1])
source = VolumeSource(paths=(path,), key=sys.argv[2] or None)
try:
    profile_case(CaseSource(id="a", images=(source,)), path.parent, ProfileOptions())
except FormatError as error:
    print(error.kind, error)
"""

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")


def told(path: Path, key: str = "") -> str:
    """What profiling a volume says; in a process of its own, for what waits in a library cannot be ended."""
    command = [sys.executable, "-c", PROGRAM, str(path), key]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=True).stdout


@pytest.mark.parametrize("how", ["external", "virtual"])
def test_hdf5_that_refers_to_a_pipe(how: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.h5")
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        if how == "external":
            file["raw"] = h5py.ExternalLink("pipe.h5", "/raw")
        else:
            layout = h5py.VirtualLayout((2, 3, 4), "u1")
            layout[...] = h5py.VirtualSource("pipe.h5", "raw", (2, 3, 4))
            file.create_virtual_dataset("raw", layout)
    said = told(path, "raw")
    assert said.startswith("special-file")
    assert "pipe.h5" in said


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("where", ["chunk", "metadata", "member", "linked-chunk"])
def test_zarr_with_a_pipe_in_it(where: str, version: int, tmp_path: Path) -> None:
    store = tmp_path / "a.zarr"
    group = zarr.open_group(str(store), mode="w", zarr_format=version)  # type: ignore[arg-type]
    array = group.create_array("raw", shape=(2, 3, 4), chunks=(2, 3, 4), dtype="u1")
    array[...] = np.ones((2, 3, 4))
    chunk = store / "raw" / array.metadata.encode_chunk_key((0, 0, 0))
    metadata = {2: ".zgroup", 3: "zarr.json"}[version]
    member = {2: ".zarray", 3: "zarr.json"}[version]
    place = {"metadata": store / metadata, "member": store / "raw" / member}.get(where, chunk)
    place.unlink()
    if where == "linked-chunk":
        os.mkfifo(tmp_path / "pipe")
        place.symlink_to(tmp_path / "pipe")
    else:
        os.mkfifo(place)
    for key in ("", "raw"):
        said = told(store, key)
        assert said.startswith("special-file")
        assert str(place) in said
