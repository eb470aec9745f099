"""What kept arrays are called by: the state of their files, looked at once for all boxes of a case."""

from __future__ import annotations

import itertools
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from voxplan.plans.build import Plan
from voxplan.plans.data import PatchDataset, make_dataset, make_loader
from voxplan.plans.schema import SpatialBlock, Split
from voxplan.plans.volume_cache import source_stamp
from voxplan.profiling.formats.base import CaseSource, ReadOptions, VolumeSource

PlanMaker = Callable[..., Plan]
OPTIONS = ReadOptions()
SHAPE = (16, 32, 32)


def write_store(path: Path, values: np.ndarray[Any, Any]) -> VolumeSource:
    """A Zarr array in chunks of 4 x 8 x 8, with its spacing."""
    array = zarr.create_array(path, shape=values.shape, chunks=(4, 8, 8), dtype=values.dtype)
    array[...] = values
    array.attrs["resolution"] = [30, 10, 10]
    array.attrs["unit"] = "nm"
    return VolumeSource(paths=(path,))


@pytest.fixture
def case(tmp_path: Path) -> CaseSource:
    rng = np.random.default_rng(1)
    return CaseSource(
        id="a",
        images=(write_store(tmp_path / "a.zarr", rng.integers(0, 255, SHAPE).astype(np.uint8)),),
        label=write_store(tmp_path / "a_labels.zarr", rng.integers(0, 3, SHAPE).astype(np.uint8)),
    )


@pytest.fixture
def make(make_plan: PlanMaker, case: CaseSource, tmp_path: Path) -> Callable[[int], PatchDataset]:
    def dataset(boxes: int) -> PatchDataset:
        edges = np.linspace(0, 30, boxes + 1).astype(int)
        split = Split(
            train_blocks=tuple(
                SpatialBlock(case="a", axis=1, start=int(low), stop=int(high))
                for low, high in itertools.pairwise(edges)
            ),
            validation_blocks=(SpatialBlock(case="a", axis=1, start=30, stop=32),),
        )
        spacing = (30.0, 8.0, 8.0)
        plan = make_plan(
            (4, 8, 8), spacing=spacing, target_spacing=spacing, splits=(split,), loader={"cache": "disk"}
        )
        return make_dataset(plan, [case], cache_folder=tmp_path / f"cache{boxes}")

    return dataset


class Looks:
    """Counts how often files below a store are looked at."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        for name in ("scandir", "walk"):
            monkeypatch.setattr(os, name, self._counted(getattr(os, name)))

    def _counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(place: Any = ".", *arguments: Any, **options: Any) -> Any:
            self.count += ".zarr" in str(place)
            return function(place, *arguments, **options)

        return call


def test_files_are_looked_at_once_whatever_the_number_of_boxes(
    make: Callable[[int], PatchDataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty thousand chunks took half a second, for each box and each of two questions."""
    counts = {}
    for boxes in (1, 6):
        with monkeypatch.context() as patch:
            looks = Looks(patch)
            dataset = make(boxes)
            dataset.prepare()
            counts[boxes] = looks.count
        assert len(list(Path(str(dataset.reader.folder)).glob("*.npy"))) == 2 * boxes
    assert counts[1] > 0
    assert counts[6] == counts[1]


@pytest.mark.parametrize("when", ["before the loader", "in another process", "in another run"])
def test_changes_are_noticed(
    when: str, make: Callable[[int], PatchDataset], make_plan: PlanMaker, case: CaseSource
) -> None:
    """A chunk that is written again changes neither the store's own size nor its time."""
    dataset = make(2)
    if when != "before the loader":
        make_loader(make_plan((4, 8, 8)), dataset, steps=1)
    zarr.open_array(case.images[0].paths[0])[...] = 7
    if when == "in another process":
        dataset = pickle.loads(pickle.dumps(dataset))
    elif when == "in another run":
        dataset = make(2)
    dataset.prepare()
    for index in range(6):
        np.testing.assert_allclose(dataset[index]["image"], 7, rtol=1e-5)


def test_a_stamp_changes_with_links(tmp_path: Path) -> None:
    """A slice that is a link, and then one to another file of the same size and time."""
    folder = tmp_path / "slices"
    folder.mkdir()
    for name in ("one", "two"):
        (tmp_path / name).write_bytes(b"1234")
        os.utime(tmp_path / name, ns=(5, 5))
    (folder / "0.tif").symlink_to(tmp_path / "one")
    source = VolumeSource(paths=(folder,))
    before = source_stamp(source, OPTIONS)
    (folder / "0.tif").unlink()
    (folder / "0.tif").symlink_to(tmp_path / "two")
    assert source_stamp(source, OPTIONS) != before


def test_stores_at_an_address(tmp_path: Path) -> None:
    """Their files are listed as profiling lists them; a path of this machine is not looked for."""
    pytest.importorskip("fsspec")
    write_store(tmp_path / "a.zarr", np.zeros(SHAPE, np.uint8))
    source = VolumeSource(paths=(Path(f"file:{tmp_path}/a.zarr"),))
    before = source_stamp(source, OPTIONS)
    assert source_stamp(source, OPTIONS) == before
    zarr.open_array(tmp_path / "a.zarr")[...] = 7
    assert source_stamp(source, OPTIONS) != before
