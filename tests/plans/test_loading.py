"""Which samples each epoch, rank and resumed run takes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from voxplan.plans.build import Plan
from voxplan.plans.data import PatchDataset, make_dataset, make_loader
from voxplan.plans.loading import PatchLoader, PatchSampler
from voxplan.plans.targets import LabelError
from voxplan.profiling.formats.base import CaseSource, FormatError

PlanMaker = Callable[..., Plan]
CaseWriter = Callable[..., CaseSource]


@pytest.fixture
def plan(make_plan: PlanMaker) -> Plan:
    return make_plan(batch_size=4, global_batch_size=4)


@pytest.fixture
def dataset(plan: Plan, write_case: CaseWriter) -> PatchDataset:
    image = np.random.default_rng(0).integers(1, 255, (10, 40, 40)).astype(np.uint8)
    return make_dataset(plan, [write_case("a", image, (image > 200).astype(np.uint8))])


def sums(loader: PatchLoader) -> list[float]:
    return [float(image.sum()) for batch in loader for image in batch["image"]]


def test_epochs_follow_each_other() -> None:
    sampler = PatchSampler(2, 3, rank=1, world_size=2)
    assert list(sampler) == [2, 3, 6, 7, 10, 11]
    sampler.set_epoch(1)
    assert list(sampler) == [14, 15, 18, 19, 22, 23]
    sampler.skip = 2
    assert list(sampler) == [22, 23]
    assert list(sampler) == [14, 15, 18, 19, 22, 23]


def test_rank_and_world_come_together() -> None:
    assert list(PatchSampler(1, 2)) == [0, 1]
    with pytest.raises(ValueError, match="give rank and world_size both, or neither"):
        PatchSampler(1, 2, rank=0)
    with pytest.raises(ValueError, match="rank must be between 0 and world_size - 1 = 1, got 2"):
        PatchSampler(1, 2, rank=2, world_size=2)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_epoch_goes_on_with_another_batch_size(workers: int, plan: Plan, dataset: PatchDataset) -> None:
    """Two of six batches of four, then the rest in batches of two: the samples of a whole epoch."""
    whole = sums(make_loader(plan, dataset, steps=6, workers=0))
    assert len(set(whole)) == 24
    loader = make_loader(plan, dataset, steps=6, workers=workers)
    first = []
    for batch in loader:
        first += [float(image.sum()) for image in batch["image"]]
        if len(first) == 8:
            state = loader.state_dict()
            break
    assert state == {"samples": 8}
    smaller = plan.with_batch(2, 2, why="test")
    resumed = make_loader(smaller, dataset, steps=6, workers=workers)
    resumed.load_state_dict(state)
    assert first + sums(resumed) == whole
    assert resumed.state_dict() == {"samples": 24}
    resumed.load_state_dict({"samples": 24})
    assert sums(resumed) == whole


@pytest.mark.parametrize("workers", [0, 2])
def test_what_is_wrong_with_a_file_is_one_line(workers: int, plan: Plan, write_case: CaseWriter) -> None:
    """From a worker too, where torch puts a traceback before it; of its own type, and of its own kind."""
    image = np.ones((10, 40, 40), np.uint8)
    unknown = write_case("odd", image, image + 6)
    dataset = make_dataset(plan, [unknown])
    with pytest.raises(
        LabelError, match=r"^case odd: the label map holds values .* know: 7 \(known: 0, 1, 2\)"
    ):
        next(iter(make_loader(plan, dataset, steps=1, workers=workers)))
    gone = write_case("gone", image, image)
    dataset = make_dataset(plan, [gone])
    loader = make_loader(plan, dataset, steps=1, workers=workers)
    gone.images[0].paths[0].unlink()
    with pytest.raises(FormatError) as caught:
        next(iter(loader))
    assert str(caught.value).startswith(f"{gone.images[0].paths[0]}: cannot be opened as HDF5")
    assert not {"\n", "Traceback"} & {*str(caught.value), *str(caught.value).split()}
    assert caught.value.kind == "unreadable"
