"""Cached cases that are resampled: once, with the same patches as without a cache."""

from __future__ import annotations

import multiprocessing
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from voxplan.plans import prepared
from voxplan.plans.build import Plan
from voxplan.plans.case_reader import CaseReader
from voxplan.plans.data import PatchDataset, make_dataset, make_loader
from voxplan.plans.schema import SpatialBlock, Split
from voxplan.profiling.formats.base import CaseSource

PlanMaker = Callable[..., Plan]
CaseWriter = Callable[..., CaseSource]
SPLIT = Split(
    train_blocks=tuple(SpatialBlock(case="a", axis=1, start=a, stop=b) for a, b in ((0, 30), (50, 80))),
    validation_blocks=(SpatialBlock(case="a", axis=1, start=30, stop=50),),
)


@pytest.fixture
def case(write_case: CaseWriter) -> CaseSource:
    rng = np.random.default_rng(3)
    image = rng.integers(0, 255, (12, 80, 40)).astype(np.uint8)
    labels = (rng.random(image.shape) < 0.3).astype(np.uint8) * rng.integers(1, 3, image.shape)
    return write_case("a", image, labels.astype(np.uint16), resolution=(30, 10, 10))


@pytest.fixture
def make(make_plan: PlanMaker, case: CaseSource, tmp_path: Path) -> Callable[..., PatchDataset]:
    def dataset(cache: str, **changes: Any) -> PatchDataset:
        plan = make_plan(
            spacing=(30.0, 14.0, 8.0),
            target_spacing=(30.0, 14.0, 8.0),
            normalization=({"channel": "EM", "scheme": "zscore"},),
            loader={"cache": cache},
            splits=(SPLIT,),
            **changes,
        )
        return make_dataset(plan, [case], cache_folder=tmp_path / "cache")

    return dataset


@pytest.mark.parametrize("cache", ["ram", "disk"])
@pytest.mark.parametrize("budget", [2**30, 4 * 8 * 22 * 50])
def test_patches_are_those_of_the_files(
    cache: str, budget: int, make: Callable[..., PatchDataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both in one piece and slab by slab; patches at borders are padded alike, and blocks stay apart."""
    monkeypatch.setattr(prepared, "PREPARE_BYTES", budget)
    plain, kept = make("none"), make(cache)
    boxes = set()
    for index in range(16):
        one, two = plain[index], kept[index]
        torch.testing.assert_close(two["image"], one["image"], atol=2e-5, rtol=1e-5)
        assert torch.equal(two["target"], one["target"])
        boxes.add(kept.locate(index).box)
    assert boxes == {0, 1}


def test_a_cache_is_filled_once(
    make: Callable[..., PatchDataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = make("disk")
    first.prepare()
    files = sorted((tmp_path / "cache").glob("*.npy"))
    assert len(files) == 4
    assert not list((tmp_path / "cache").glob("*.part"))
    shape = np.load(files[0]).shape
    assert shape[-3:] == (12, 21, 50)
    again = pickle.loads(pickle.dumps(first))

    def unexpected(*_: Any) -> Any:
        msg = "voxels were read"
        raise AssertionError(msg)

    expected = [first[index]["image"] for index in range(6)]
    monkeypatch.setattr(CaseReader, "image", unexpected)
    for index in range(6):
        assert torch.equal(again[index]["image"], expected[index])


def test_other_normalization_is_another_cache(make: Callable[..., PatchDataset], tmp_path: Path) -> None:
    make("disk").prepare()
    make("disk", case_numbers={"a": {"mean": (1.0,), "std": (2.0,)}}).prepare()
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 8


@pytest.mark.parametrize("cache", ["ram", "disk"])
def test_spawned_workers_give_the_same(
    cache: str, make: Callable[..., PatchDataset], make_plan: PlanMaker
) -> None:
    """Bit for bit: they map or make the cache as the parent did."""
    dataset = make(cache)
    plan = make_plan()
    alone = list(make_loader(plan, dataset, steps=2, workers=0))
    workers = list(make_loader(plan, dataset, steps=2, workers=2, context="spawn"))
    for one, two in zip(alone, workers, strict=True):
        assert torch.equal(one["image"], two["image"])
        assert torch.equal(one["target"], two["target"])


@pytest.mark.parametrize(("cache", "room"), [("ram", "free_ram"), ("disk", "free_disk")])
def test_without_room_patches_are_resampled_one_by_one(
    cache: str, room: str, make: Callable[..., PatchDataset], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Centres of 80 / 57 source rows: 21 lie in rows 0 to 30, 21 in 50 to 80; float32 and a label of one byte.
    needed = 12 * (21 + 21) * 50 * 5
    monkeypatch.setattr(f"voxplan.plans.data.{room}", lambda _: needed)
    assert make(cache).cases[0].keep == cache
    monkeypatch.setattr(f"voxplan.plans.data.{room}", lambda _: needed - 1)
    dataset = make(cache)
    dataset.prepare()
    assert dataset.cases[0].keep is None
    assert not list(tmp_path.glob("cache/*.npy"))
    assert torch.equal(dataset[3]["image"], make("none")[3]["image"])


def test_workers_share_a_cache_in_memory(
    make: Callable[..., PatchDataset],
    make_plan: PlanMaker,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """By fork, where Python's default would be another; workers that cannot share must each have room."""
    plan, dataset = make_plan(), make("ram")
    if "fork" in multiprocessing.get_all_start_methods():
        context: Any = make_loader(plan, dataset, steps=2, workers=2).multiprocessing_context
        assert context.get_start_method() == "fork"
    held = 12 * (21 + 21) * 50 * (4 + 2)
    assert dataset.held_bytes() == held
    monkeypatch.setattr("voxplan.plans.loading.free_ram", lambda _: held)
    make_loader(plan, dataset, steps=2, workers=1, context="spawn")
    assert dataset.held_bytes() == held
    expected = [dataset[index]["image"] for index in range(4)]
    loader = make_loader(plan, dataset, steps=1, workers=2, context="spawn")
    assert dataset.held_bytes() == 0
    assert (
        "each of 2 workers would hold 0.0 GiB, since spawn shares no memory: nothing is cached" in caplog.text
    )
    torch.testing.assert_close(next(iter(loader))["image"], torch.stack(expected[:2]), atol=2e-5, rtol=1e-5)
    assert make("none").held_bytes() == 0
