"""Cubic splines overshoot at edges; resampled intensities keep to the range that nnU-Net's would."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage

from voxplan.plans import case_grid, prepared
from voxplan.plans.build import Plan
from voxplan.plans.data import PatchDataset, make_dataset, make_loader
from voxplan.plans.schema import SpatialBlock, Split
from voxplan.profiling.formats.base import CaseSource

PlanMaker = Callable[..., Plan]
CaseWriter = Callable[..., CaseSource]
Array = np.ndarray[Any, Any]
SHAPE = (14, 40, 36)


def edges(shape: Sequence[int] = SHAPE) -> Array:
    """Black and white blocks, grey by plane: every plane has a range of its own, and every edge is hard."""
    rng = np.random.default_rng(4)
    blocks = rng.integers(0, 2, [-(-size // 4) for size in shape])
    image = np.kron(blocks, np.ones((4, 4, 4), np.int64))[tuple(slice(size) for size in shape)] * 100
    image += np.arange(shape[0])[:, None, None] * 5 + np.arange(shape[2])[None, None, :]
    return image.astype(np.uint8)


def resized(image: Array, shape: Sequence[int]) -> Array:
    """scikit-image's ``resize(order=3, mode="edge", anti_aliasing=False)``, which nnU-Net calls; it clips."""
    factors = [new / old for new, old in zip(shape, image.shape, strict=True)]
    values: Any = ndimage.zoom(image.astype(np.float64), factors, order=3, mode="nearest", grid_mode=True)
    return np.clip(values, image.min(), image.max())


def resampled(image: Array, shape: Sequence[int], thick: int | None) -> Array:
    """A whole volume as nnU-Net 2.8.1 resamples it: plane by plane, then the nearest plane, if one axis is
    thick.
    """
    if thick is None:
        return resized(image, shape)
    planes = np.moveaxis(image, thick, 0)
    flat = [size for axis, size in enumerate(shape) if axis != thick]
    planes = np.stack([resized(plane, flat) for plane in planes])
    centres = (np.arange(shape[thick]) + 0.5) * image.shape[thick] / shape[thick] - 0.5
    nearest = np.clip(np.floor(centres + 0.5).astype(int), 0, image.shape[thick] - 1)
    return np.moveaxis(planes[nearest], 0, thick)


CASES = {
    "isotropic": ((10, 10, 10), (7, 8, 13), None),
    "thick z": ((50, 10, 10), (50, 8, 13), 0),
    "thick z, resampled": ((50, 10, 10), (30, 8, 13), 0),
    "thick x": ((10, 10, 50), (7, 8, 60), 2),
    "thick target": ((20, 10, 10), (32, 8, 9), 0),
    "one axis": ((10, 10, 10), (10, 7, 10), None),
}


@pytest.fixture
def make(make_plan: PlanMaker, write_case: CaseWriter, tmp_path: Path) -> Callable[..., PatchDataset]:
    def dataset(
        image: Array, stored: Sequence[float], target: Sequence[float], cache: str = "none", **changes: Any
    ) -> PatchDataset:
        labels = (image > 100).astype(np.uint8)
        case = write_case("a", image, labels, resolution=stored)
        spacing = tuple(float(value) for value in target)
        plan = make_plan(
            (8, 8, 8), spacing=spacing, target_spacing=spacing, loader={"cache": cache}, **changes
        )
        return make_dataset(plan, [case], training=False, cache_folder=tmp_path / "cache")

    return dataset


@pytest.mark.parametrize("cache", ["none", "ram", "disk"])
@pytest.mark.parametrize("name", CASES)
def test_patches_equal_the_whole_volume(
    name: str, cache: str, make: Callable[..., PatchDataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    stored, target, thick = CASES[name]
    image = edges()
    monkeypatch.setattr(case_grid, "SCAN_BYTES", 4 * 9 * 36 * 40)
    monkeypatch.setattr(prepared, "PREPARE_BYTES", 4 * 5 * 40 * 50)
    dataset = make(image, stored, target, cache)
    shape = [grid.target for grid in dataset.cases[0].grids]
    whole = resampled(image, shape, thick)
    for index in range(24):
        where = tuple(slice(start, start + 8) for start in dataset.locate(index).origin)
        np.testing.assert_allclose(dataset[index]["image"][0].numpy(), whole[where], atol=5e-3)


def test_the_range_is_that_of_normalized_channels(
    make_plan: PlanMaker, write_case: CaseWriter, make: Callable[..., PatchDataset]
) -> None:
    """CT, cut off at 50 and 120, two channels: each has its own range; nnU-Net normalizes first, too."""
    image = edges()
    first = write_case("first", image, (image > 100).astype(np.uint8), resolution=(10, 10, 10))
    second = write_case("second", 255 - image, (image > 100).astype(np.uint8), resolution=(10, 10, 10))
    case = CaseSource(id="a", images=(*first.images, *second.images), label=first.label)
    ct = {"scheme": "ct", "low": 50.0, "high": 120.0, "mean": 80.0, "std": 10.0}
    plan = make_plan(
        (8, 8, 8),
        spacing=(7.0, 8.0, 13.0),
        target_spacing=(7.0, 8.0, 13.0),
        channel_names=("a", "b"),
        normalization=({"channel": "a", **ct}, {"channel": "b", "scheme": "none"}),
    )
    dataset = make_dataset(plan, [case], training=False)
    shape = [grid.target for grid in dataset.cases[0].grids]
    whole = np.stack([resampled((np.clip(image, 50, 120) - 80.0) / 10.0, shape, None)])
    whole = np.concatenate([whole, resampled(255 - image, shape, None)[None]])
    for index in range(12):
        where = tuple(slice(start, start + 8) for start in dataset.locate(index).origin)
        np.testing.assert_allclose(dataset[index]["image"].numpy(), whole[:, *where], atol=5e-3)


def test_other_blocks_do_not_widen_the_range(make: Callable[..., PatchDataset]) -> None:
    """A held-out block of 0 to 255 beside one of 100 to 150: nothing of it is looked at."""
    image = (edges((8, 80, 20)) > 60).astype(np.uint8) * 50 + 100
    image[:, 40:] = edges((8, 40, 20))
    split = Split(
        train_blocks=(SpatialBlock(case="a", axis=1, start=40, stop=80),),
        validation_blocks=(SpatialBlock(case="a", axis=1, start=0, stop=40),),
    )
    dataset = make(image, (10, 10, 10), (10, 7, 8), splits=(split,))
    values = np.concatenate([dataset[index]["image"].numpy().ravel() for index in range(40)])
    assert (values.min(), values.max()) == (100, 150)


def test_the_range_is_looked_for_once(
    make: Callable[..., PatchDataset], make_plan: PlanMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before workers start."""
    image = edges()
    dataset = make(image, (10, 10, 10), (7, 8, 13))
    loader = make_loader(make_plan((8, 8, 8)), dataset, steps=2, workers=2)
    expected = [dataset[index]["image"] for index in range(4)]

    def unexpected(*_: Any, **__: Any) -> Any:
        msg = "a pass over the volume"
        raise AssertionError(msg)

    monkeypatch.setattr(case_grid, "scan_regions", unexpected)
    assert torch.equal(torch.cat([batch["image"] for batch in loader]), torch.stack(expected))


@pytest.mark.parametrize("target", [(50, 10, 10), (40, 10, 10)])
def test_without_splines_there_is_no_pass_over_the_image(
    target: tuple[int, int, int], make: Callable[..., PatchDataset]
) -> None:
    """Nothing is resampled, or only the thick axis, by its nearest plane."""
    dataset = make(edges(), (50, 10, 10), target)
    (grid,) = dataset.cases
    assert grid.value_range(dataset.reader, grid.boxes[0]) is None
