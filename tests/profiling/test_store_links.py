"""Links inside a Zarr store: what they lead to is watched, and what leads nowhere is no zeros."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from voxplan.profiling.case import ProfileOptions, profile_case
from voxplan.profiling.fingerprint import Fingerprint, load_fingerprint
from voxplan.profiling.formats import open_volume
from voxplan.profiling.formats.base import CaseSource, FormatError, VolumeSource
from voxplan.scripts.profile_dataset import main

zarr = pytest.importorskip("zarr")

UNCHANGED = "nothing has changed"


def write(store: Path, value: int) -> Any:
    """Eight chunks."""
    array = zarr.open_array(str(store), mode="a", shape=(8, 8, 8), chunks=(4, 4, 4), dtype="u1")
    array[...] = value
    return array


def move(folder: Path, away: Path) -> None:
    """The folder is elsewhere, and a link in its place."""
    away.parent.mkdir(parents=True, exist_ok=True)
    folder.rename(away)
    folder.symlink_to(away)


def mean(fingerprint: Fingerprint) -> float:
    (case,) = fingerprint.cases
    assert case.channels[0].nonzero is not None
    return case.channels[0].nonzero.mean


@pytest.mark.parametrize("place", ["store", "folder"])
@pytest.mark.parametrize("linked", ["c", "c/1", "c/1/1", "of a link"])
def test_changes_behind_links_to_folders_are_noticed(
    linked: str, place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, output = tmp_path / "data", tmp_path / "f.json"
    store = data / "a.zarr"
    write(store, 3)
    if linked == "of a link":
        move(store / "c" / "1" / "1", data / "inner")
        move(store / "c" / "1", data / "outer")
    else:
        move(store / linked, data / "elsewhere")
    command = [str(data if place == "folder" else store), "-o", str(output), "--jobs", "1", "-q"]
    for value in (3, 5):
        zarr.open_array(str(store))[4:, 4:, 4:] = value
        assert main(command) == 0
        assert mean(load_fingerprint(output)) == 3 + (value - 3) / 8
    capsys.readouterr()
    assert main([part for part in command if part != "-q"]) == 0
    assert UNCHANGED in capsys.readouterr().err


@pytest.mark.parametrize("to", [".", "..", "0", "../..", "../../..", "nowhere", "loop"])
def test_odd_links_beside_the_chunks_cost_nothing(to: str, tmp_path: Path) -> None:
    """In a circle, to the folders around the store, to nowhere: the numbers are those of the chunks."""
    store, output = tmp_path / "data" / "a.zarr", tmp_path / "f.json"
    write(store, 3)
    write(tmp_path / "data" / "b.zarr", 3)
    (store / "c" / ("loop" if to == "loop" else "odd")).symlink_to(to)
    for _ in range(2):
        assert main([str(tmp_path / "data"), "-o", str(output), "--jobs", "1", "-q"]) == 0
        everywhere = [case.channels[0].nonzero for case in load_fingerprint(output).cases]
        assert [found and found.count for found in everywhere] == [512] * 2


@pytest.mark.parametrize(
    "lost", ["c/1/1/1", "c/1/1", "c/1", "c"], ids=["chunk", "row of chunks", "plane", "all chunks"]
)
@pytest.mark.parametrize("to", ["nowhere", "itself"])
def test_links_that_lead_nowhere_are_no_zeros(to: str, lost: str, tmp_path: Path) -> None:
    """As in a checkout of DataLad whose content has not been fetched."""
    store = tmp_path / "a.zarr"
    write(store, 3)
    path = store / lost
    path.rename(tmp_path / "away")
    path.symlink_to(path.name if to == "itself" else "nowhere")
    with pytest.raises(FormatError) as caught:
        profile_case(CaseSource(id="a", images=(VolumeSource(paths=(store,)),)), tmp_path, ProfileOptions())
    assert f"{path} is a link that leads nowhere" in str(caught.value)
    path.unlink()
    (tmp_path / "away").rename(path)
    result = profile_case(
        CaseSource(id="a", images=(VolumeSource(paths=(store,)),)), tmp_path, ProfileOptions()
    )
    assert result.fingerprint.channels[0].nonzero is not None
    assert result.fingerprint.channels[0].nonzero.count == 512


def test_bytes_behind_links_count_as_stored(tmp_path: Path) -> None:
    """Else a large store of linked folders is refused as one that holds nothing."""
    store = tmp_path / "a.zarr"
    write(store, 3)
    move(store / "c", tmp_path / "elsewhere")
    size = sum(path.stat().st_size for path in (tmp_path / "elsewhere").rglob("*") if path.is_file())
    with open_volume(VolumeSource(paths=(store,))) as volume:
        assert volume.stores(size)
        assert not volume.stores(size + (store / "zarr.json").stat().st_size + 1)
