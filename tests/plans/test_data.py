"""The patch loader: lazy, deterministic, oversampled, padded, resampled and inside its split."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
import torch
from scipy import ndimage

from voxplan.plans import case_reader, sampling
from voxplan.plans.build import Plan
from voxplan.plans.case_reader import CaseReader
from voxplan.plans.data import PatchDataset, PatchSampler, make_dataset, make_loader
from voxplan.plans.resampling import AxisGrid, resample, resample_labels
from voxplan.plans.schema import Fold, SpatialBlock, Split
from voxplan.plans.targets import LabelError
from voxplan.plans.volume_cache import hold_on_disk
from voxplan.profiling.formats import open_volume
from voxplan.profiling.formats.base import CaseSource, FormatError, ReadOptions, Region, Volume, VolumeSource

PlanMaker = Callable[..., Plan]
CaseWriter = Callable[..., CaseSource]
Array = np.ndarray[Any, Any]


def coded(shape: tuple[int, int, int]) -> Array:
    """Every voxel holds its own index, so that a patch says where it came from."""
    return np.arange(int(np.prod(shape)), dtype=np.float32).reshape(shape)


def volume_pair(seed: int, shape: tuple[int, int, int] = (20, 48, 40)) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.uint8)
    labels[6:12, 10:20, 10:20] = 1
    labels[8:10, 30:34, 30:34] = 2
    return rng.integers(0, 255, shape).astype(np.uint8), labels


class Spy(Volume):
    """Counts the voxels that are read from a real volume."""

    def __init__(self, inner: Volume, log: list[int]) -> None:
        self.inner = inner
        self.header, self.source, self.log = inner.header, inner.source, log

    def read(self, region: Region, channel: int | None = None) -> Array:
        block = self.inner.read(region, channel)
        self.log.append(block.size)
        return block

    def close(self) -> None:
        self.inner.close()


@contextmanager
def spied(reader: CaseReader, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    log: list[int] = []
    opened = reader._opened
    with monkeypatch.context() as patch:
        patch.setattr(reader, "_opened", lambda source: Spy(opened(source), log))
        yield log


def test_a_patch_is_the_region_bit_for_bit(make_plan: PlanMaker, write_case: CaseWriter) -> None:
    image, labels = volume_pair(1)
    dataset = make_dataset(make_plan(), [write_case("a", image, labels)], training=False)
    seen = set()
    for index in range(20):
        spot, sample = dataset.locate(index), dataset[index]
        where = tuple(slice(o, o + n) for o, n in zip(spot.origin, (8, 16, 16), strict=True))
        assert sample["image"].dtype == torch.float32
        assert np.array_equal(sample["image"][0].numpy(), image[where].astype(np.float32))
        assert sample["target"].dtype == torch.int16
        assert np.array_equal(sample["target"][0].numpy(), labels[where])
        seen.add(spot.origin)
    assert len(seen) > 10


@pytest.mark.parametrize("kind", ["h5", "tif", "nii"])
def test_only_the_patch_is_read(
    kind: str, make_plan: PlanMaker, write_case: CaseWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, labels = volume_pair(2)
    case = write_case("a", image, labels)
    if kind != "h5":
        sources = []
        for name, array in (("image", image), ("label", labels)):
            path = tmp_path / f"{name}.{kind}"
            if kind == "tif":
                tifffile.imwrite(path, array, photometric="minisblack")
            else:
                sitk.WriteImage(sitk.GetImageFromArray(array), str(path))
            sources.append(VolumeSource(paths=(path,)))
        case = CaseSource(id="a", images=(sources[0],), label=sources[1])
    dataset = make_dataset(make_plan(loader={"oversample_foreground": 0.0}), [case])
    with spied(dataset.reader, monkeypatch) as log:
        for index in range(5):
            assert dataset[index]["image"].shape == (1, 8, 16, 16)
    assert log == [8 * 16 * 16] * 10


def test_foreground_takes_one_pass_over_the_labels(
    make_plan: PlanMaker, write_case: CaseWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, labels = volume_pair(3)
    dataset = make_dataset(make_plan(), [write_case("a", image, labels)])
    with spied(dataset.reader, monkeypatch) as log:
        dataset.prepare()
        dataset.prepare()
        assert sum(log) == image.size
    found = dataset.places(0).classes
    assert {tuple(voxel) for voxel in found[0]} == set(zip(*np.nonzero(labels == 1), strict=True))
    assert {tuple(voxel) for voxel in found[1]} == set(zip(*np.nonzero(labels == 2), strict=True))


def test_samples_depend_on_seed_and_number_alone(make_plan: PlanMaker, write_case: CaseWriter) -> None:
    cases = [write_case(name, *volume_pair(seed)) for seed, name in enumerate("abc")]
    first, second = (make_dataset(make_plan(), cases, seed=5) for _ in range(2))
    other = make_dataset(make_plan(), cases, seed=6)
    forwards = [first[index] for index in range(12)]
    backwards = [second[index] for index in reversed(range(12))][::-1]
    for one, two in zip(forwards, backwards, strict=True):
        assert torch.equal(one["image"], two["image"])
        assert torch.equal(one["target"], two["target"])
    assert [first.locate(i) for i in range(12)] != [other.locate(i) for i in range(12)]
    assert len({first.locate(i).case for i in range(30)}) == 3


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_workers_change_nothing(method: str, make_plan: PlanMaker, write_case: CaseWriter) -> None:
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} here")
    plan = make_plan(batch_size=3, global_batch_size=3)
    dataset = make_dataset(plan, [write_case("a", *volume_pair(4))], seed=1)
    alone = list(make_loader(plan, dataset, steps=3, workers=0))
    workers = list(make_loader(plan, dataset, steps=3, workers=2, context=method))
    assert len(alone) == len(workers) == 3
    for one, two in zip(alone, workers, strict=True):
        assert one["image"].shape == (3, 1, 8, 16, 16)
        assert torch.equal(one["image"], two["image"])
        assert torch.equal(one["target"], two["target"])


def test_ranks_and_resumed_runs_share_no_sample() -> None:
    whole = list(PatchSampler(2, 6))
    assert whole == list(range(12))
    assert list(PatchSampler(2, 2)) + list(PatchSampler(2, 4, start=2)) == whole
    ranks = [list(PatchSampler(2, 3, rank=rank, world_size=2)) for rank in range(2)]
    assert sorted(ranks[0] + ranks[1]) == whole
    assert len(PatchSampler(2, 3, rank=1, world_size=2)) == len(ranks[1])


@pytest.mark.parametrize(("batch", "share"), [(1, 1 / 3), (2, 1 / 2), (3, 1 / 3), (6, 1 / 3), (12, 1 / 3)])
def test_share_of_foreground_patches(
    batch: int, share: float, make_plan: PlanMaker, write_case: CaseWriter
) -> None:
    """nnU-Net's rounding: at batch 2 one of two, else a third; a forced patch holds a foreground voxel."""
    image, labels = volume_pair(5, (20, 96, 96))
    plan = make_plan(batch_size=batch, global_batch_size=batch)
    dataset = make_dataset(plan, [write_case("a", image, labels)], training=False)
    spots = [dataset.locate(index) for index in range(120)]
    assert sum(spot.forced for spot in spots) == pytest.approx(120 * share)
    classes: Counter[int] = Counter()
    for spot in spots:
        where = tuple(slice(o, o + n) for o, n in zip(spot.origin, (8, 16, 16), strict=True))
        if spot.forced:
            assert labels[where].any()
            classes[int(labels[where].max())] += 1
    assert min(classes[1], classes[2]) > 0.25 * sum(classes.values())


def test_sparse_annotations(make_plan: PlanMaker, write_case: CaseWriter) -> None:
    """Where most voxels are ignored, patches show annotated ones, as nnU-Net does; a third show classes."""
    labels = np.full((20, 96, 96), 9, np.uint8)
    labels[9:11, 40:60, 70:76] = 0
    labels[10, 41, 71] = 2
    plan = make_plan(ignore=9, batch_size=3, global_batch_size=3)
    dataset = make_dataset(plan, [write_case("a", labels, labels)], training=False)
    dataset.prepare()
    origins = set()
    for index in range(30):
        spot, target = dataset.locate(index), dataset[index]["target"]
        assert spot.forced == (index % 3 == 2)
        assert ((target == 2) if spot.forced else (target != -1)).any()
        origins.add(spot.origin)
    assert len(origins) > 15
    nothing = make_dataset(plan, [write_case("b", labels, np.full_like(labels, 9))], training=False)
    assert not any(nothing.locate(index).forced for index in range(9))
    assert (nothing[0]["target"] == -1).all()


@pytest.mark.parametrize("task", ["affinity", "boundary"])
def test_ignored_objects_are_no_foreground(task: str, make_plan: PlanMaker, write_case: CaseWriter) -> None:
    labels = np.zeros((20, 48, 40), np.uint16)
    labels[:, :, 20:] = 60_000
    labels[4, 5, 6] = 7
    plan = make_plan(
        task=task, offsets=((0, 0, -1),), out_channels=1, classes={}, loss={"name": "bce"}, ignore=60_000
    )
    dataset = make_dataset(plan, [write_case("a", labels.astype(np.uint8), labels)])
    assert [voxels.tolist() for voxels in dataset.places(0).classes] == [[[4, 5, 6]]]
    annotated = dataset.places(0).annotated
    assert annotated is not None
    assert len(annotated) == 10_000
    assert annotated[:, 2].max() == 19


def test_cases_without_labels_are_said_at_once(make_plan: PlanMaker, write_case: CaseWriter) -> None:
    case = write_case("a", *volume_pair(21))
    bare = CaseSource(id="bare", images=case.images, label=None)
    with pytest.raises(FormatError, match="case bare: has no label map"):
        make_dataset(make_plan(), [case, bare])
    split = Split(train=("a",), validation=("bare",))
    assert len(make_dataset(make_plan(splits=(split,)), [case, bare]).cases) == 1


def test_cases_without_foreground(make_plan: PlanMaker, write_case: CaseWriter) -> None:
    """They are drawn as often as others, at random places."""
    image, labels = volume_pair(22)
    cases = [write_case("with", image, labels), write_case("without", image, np.zeros_like(labels))]
    dataset = make_dataset(make_plan(), cases)
    spots = [dataset.locate(index) for index in range(200)]
    assert {spot.case for spot in spots if spot.forced} == {0}
    without = [spot for spot in spots if spot.case == 1]
    assert 70 < len(without) < 130
    assert len({spot.origin for spot in without}) > 50


def test_samples_of_voxels_do_not_depend_on_blocks() -> None:
    """Dense labels, in one piece and plane by plane, against ranks that are computed one by one."""
    labels = np.random.default_rng(23).integers(0, 3, (6, 50, 60)).astype(np.uint8)
    whole = sampling.LocationReservoir([(1,), (2,)], labels.shape, 4, ignore=0)
    whole.add(labels, (0, 0, 0))
    parts = sampling.LocationReservoir([(1,), (2,)], labels.shape, 4, ignore=0)
    for z in reversed(range(6)):
        for y in (25, 0):
            parts.add(labels[z : z + 1, y : y + 25], (z, y, 0))
    for one, two in zip(whole.locations(), parts.locations(), strict=True):
        assert np.array_equal(one, two)
    annotated = whole.annotated()
    assert annotated is not None
    assert np.array_equal(annotated, parts.annotated())
    assert len(annotated) == 10_000
    assert (labels[tuple(annotated.T)] > 0).all()

    def rank(index: int) -> int:
        word = (index + 4 * 0x9E3779B97F4A7C15 + 0x9E3779B97F4A7C15) % 2**64
        word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        word = (word ^ (word >> 27)) * 0x94D049BB133111EB % 2**64
        return word ^ (word >> 31)

    lowest = sorted(np.flatnonzero(labels > 0).tolist(), key=rank)[:10_000]
    assert np.ravel_multi_index(tuple(annotated.T), labels.shape).tolist() == sorted(lowest)


def test_patches_reach_every_corner(make_plan: PlanMaker, write_case: CaseWriter) -> None:
    image, labels = volume_pair(6, (9, 17, 17))
    dataset = make_dataset(make_plan(), [write_case("a", image, labels)])
    origins = {dataset.locate(index).origin for index in range(200)}
    assert origins == {(z, y, x) for z in (0, 1) for y in (0, 1) for x in (0, 1)}


def test_small_volumes_are_padded(make_plan: PlanMaker, write_case: CaseWriter) -> None:
    image = np.full((5, 16, 13), 7, np.uint8)
    labels = np.ones((5, 16, 13), np.uint8)
    plan = make_plan(normalization=({"channel": "EM", "scheme": "scale", "low": 6.0, "high": 8.0},))
    sample = make_dataset(plan, [write_case("a", image, labels)], training=False)[0]
    expected = np.zeros((8, 16, 16), np.float32)
    expected[1:6, :, 1:14] = 1
    assert np.array_equal(sample["image"][0].numpy(), expected * 0.5)
    assert np.array_equal(sample["target"][0].numpy(), expected)


def test_padding_is_ignored_by_affinities(make_plan: PlanMaker, write_case: CaseWriter) -> None:
    labels = np.ones((8, 16, 12), np.uint16)
    plan = make_plan(task="affinity", offsets=((0, 0, -1),), out_channels=1, classes={}, loss={"name": "bce"})
    case = write_case("a", labels.astype(np.uint8), labels)
    target = make_dataset(plan, [case], training=False)[0]["target"]
    assert target.dtype == torch.uint8
    assert target[0, 3, 3].tolist() == [255] * 3 + [1] * 11 + [255] * 2


def test_mirroring_moves_image_and_target_together(make_plan: PlanMaker, write_case: CaseWriter) -> None:
    """Affinities are made after mirroring: each is what it would be for the mirrored label map."""
    rng = np.random.default_rng(8)
    labels = rng.integers(0, 3, (8, 16, 16)).astype(np.uint8)
    offsets = ((-1, 0, 0), (0, -1, 0), (0, 0, -2))
    plan = make_plan(task="affinity", offsets=offsets, out_channels=3, classes={}, loss={"name": "bce"})
    dataset = make_dataset(plan, [write_case("a", labels, labels)])
    seen = set()
    for index in range(40):
        spot, sample = dataset.locate(index), dataset[index]
        flipped = labels
        for axis, mirrored in enumerate(spot.mirrored):
            flipped = np.flip(flipped, axis) if mirrored else flipped
        assert np.array_equal(sample["image"][0].numpy(), flipped)
        assert np.array_equal(
            sample["target"][1][:, 1:].numpy(), (flipped[:, 1:] == flipped[:, :-1]) & (flipped[:, 1:] > 0)
        )
        seen.add(spot.mirrored)
    assert len(seen) == 8


def test_2d_patches_are_slices(make_plan: PlanMaker, write_case: CaseWriter) -> None:
    image, labels = volume_pair(9)
    plan = make_plan((16, 32))
    dataset = make_dataset(plan, [write_case("a", image, labels)], training=False)
    sample, (z, y, x) = dataset[0], dataset.locate(0).origin
    assert sample["image"].shape == (1, 16, 32)
    assert np.array_equal(sample["image"][0].numpy(), image[z, y : y + 16, x : x + 32])
    assert np.array_equal(sample["target"][0].numpy(), labels[z, y : y + 16, x : x + 32])
    assert len({dataset.locate(index).origin[0] for index in range(60)}) > 10


def test_patches_of_one_section(make_plan: PlanMaker, write_case: CaseWriter) -> None:
    image, labels = volume_pair(20)
    dataset = make_dataset(make_plan((1, 16, 16)), [write_case("a", image, labels)])
    spot = next(dataset.locate(index) for index in range(20) if dataset.locate(index).mirrored[0])
    assert spot.mirrored[0]
    for index in range(8):
        (z, y, x), mirrored = dataset.locate(index).origin, dataset.locate(index).mirrored
        expected = image[z, y : y + 16, x : x + 16][:: -1 if mirrored[1] else 1, :: -1 if mirrored[2] else 1]
        assert np.array_equal(dataset[index]["image"][0, 0].numpy(), expected)


def test_blocks_of_a_split_are_kept_apart(make_plan: PlanMaker, write_case: CaseWriter) -> None:
    shape = (8, 80, 20)
    split = Split(
        train_blocks=tuple(
            SpatialBlock(case="a", axis=1, start=low, stop=high) for low, high in ((0, 30), (50, 80))
        ),
        validation_blocks=(SpatialBlock(case="a", axis=1, start=30, stop=50),),
    )
    labels = np.zeros(shape, np.uint8)
    labels[:, 29:32] = 1
    case = write_case("a", coded(shape), labels)
    plan = make_plan(splits=(split,))
    rows: dict[bool, set[int]] = {}
    for training in (True, False):
        dataset = make_dataset(plan, [case], training=training)
        images = np.concatenate([dataset[index]["image"].numpy().ravel() for index in range(300)])
        rows[training] = set(np.unravel_index(images.astype(int), shape)[1].tolist())
    assert rows[True] == {*range(30), *range(50, 80)}
    assert rows[False] == set(range(30, 50))


def test_resampling_does_not_look_beyond_a_block(make_plan: PlanMaker, write_case: CaseWriter) -> None:
    """The other block holds 1000: a single voxel of it would show."""
    image = np.full((8, 80, 20), 1, np.float32)
    image[:, 40:] = 1000
    split = Split(
        train_blocks=(SpatialBlock(case="a", axis=1, start=0, stop=40),),
        validation_blocks=(SpatialBlock(case="a", axis=1, start=40, stop=80),),
    )
    case = write_case("a", image, np.zeros(image.shape, np.uint8), resolution=(10, 10, 10))
    plan = make_plan(splits=(split,), spacing=(10.0, 6.0, 7.0), target_spacing=(10.0, 6.0, 7.0))
    for training, value in ((True, 1), (False, 1000)):
        dataset = make_dataset(plan, [case], training=training)
        for index in range(20):
            assert dataset[index]["image"].numpy() == pytest.approx(value, rel=1e-5)


def test_cases_follow_the_fold(make_plan: PlanMaker, write_case: CaseWriter) -> None:
    cases = [write_case(name, *volume_pair(seed)) for seed, name in enumerate("abcd")]
    splits = (Split(train=("a", "b"), validation=("c",)), Split(train=("b", "c"), validation=("a",)))
    plan = make_plan(splits=splits)

    def ids(training: bool, fold: Fold) -> list[str]:
        return [grid.source.id for grid in make_dataset(plan, cases, training=training, fold=fold).cases]

    assert ids(True, 0) == ["a", "b", "d"]
    assert ids(False, 0) == ["c"]
    assert ids(True, 1) == ["b", "c", "d"]
    assert ids(False, 1) == ["a"]
    assert ids(True, "all") == ids(False, "all") == ["a", "b", "c", "d"]
    assert "not in the plan's splits (first: d)" in make_dataset(plan, cases).warnings[0]
    with pytest.raises(ValueError, match="fold must be between 0 and 1, or 'all', got 2"):
        make_dataset(plan, cases, fold=2)
    with pytest.raises(FormatError, match="no validation data"):
        make_dataset(plan, cases[:1], training=False)


@pytest.mark.parametrize("sizes", [(40, 55, 60), (14, 30, 25), (20, 96, 40)])
def test_resampled_patches_equal_the_resampled_volume(sizes: tuple[int, int, int]) -> None:
    """scipy's cubic spline of the whole volume (what nnU-Net resamples with), against patches of it."""
    rng = np.random.default_rng(10)
    image = rng.normal(size=(20, 48, 40)).astype(np.float32)
    factors = [new / old for new, old in zip(sizes, image.shape, strict=True)]
    whole = ndimage.zoom(image.astype(np.float64), factors, order=3, mode="nearest", grid_mode=True)
    grids = [AxisGrid(old, new) for old, new in zip(image.shape, sizes, strict=True)]
    for origin in ((0, 0, 0), (3, 7, 5), tuple(size - 8 for size in sizes)):
        target = [(o, o + 8) for o in origin]
        ranges = [grid.source_range(*t, 3) for grid, t in zip(grids, target, strict=True)]
        region = tuple(slice(max(0, a), min(n, b)) for (a, b), n in zip(ranges, image.shape, strict=True))
        patch = resample(image[region], grids, [part.start for part in region], target, (3, 3, 3))
        expected = whole[tuple(slice(*t) for t in target)]
        np.testing.assert_allclose(patch, expected, atol=2e-5)


def test_resampling_does_not_depend_on_threads() -> None:
    """A loader worker has one, the training process many; torch's setting stays as it was."""
    block = np.random.default_rng(24).normal(size=(2, 30, 70, 90)).astype(np.float32)
    grids = [AxisGrid(30, 41), AxisGrid(70, 99), AxisGrid(90, 61)]
    target = [(2, 34), (3, 99), (0, 60)]
    before = torch.get_num_threads()
    results = []
    for threads in (1, 2, 4):
        torch.set_num_threads(threads)
        results.append(resample(block, grids, (0, 0, 0), target, (3, 3, 3)))
        assert torch.get_num_threads() == threads
    torch.set_num_threads(before)
    assert results[0].shape == (2, 32, 96, 60)
    assert all(np.array_equal(results[0], other) for other in results[1:])


def test_workers_do_not_compete_for_cores() -> None:
    """Resampling in a process that may use every core uses one: numpy's own products took all of them."""
    if (os.cpu_count() or 1) < 2:
        pytest.skip("needs two cores")
    program = (
        "import time\n"
        "import numpy as np\n"
        "import torch\n"
        "from voxplan.plans.resampling import AxisGrid, resample\n"
        "block = np.ones((1, 32, 300, 300), np.float32)\n"
        "grids = [AxisGrid(32, 32), AxisGrid(300, 310), AxisGrid(300, 310)]\n"
        "def work(shifts):\n"
        "    for shift in shifts:\n"
        "        resample(block, grids, (0, 0, 0), [(0, 32), (0, 300 - shift), (shift, 300)], (0, 3, 3))\n"
        "work(range(2))\n"
        "own, all_threads = time.thread_time(), time.process_time()\n"
        "work(range(2, 12))\n"
        "print(time.thread_time() - own, time.process_time() - all_threads)\n"
    )
    free = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=free
    )
    own, all_threads = map(float, done.stdout.split())
    assert all_threads < 1.2 * own


def test_resampled_labels_by_hand() -> None:
    """Twice as fine: positions -0.25, 0.25, 0.75, ...: the nearer voxel has three quarters of the weight."""
    labels = np.array([0, 5, 5, 2], np.uint8).reshape(1, 1, 4)
    grids = (AxisGrid(1, 1), AxisGrid(1, 1), AxisGrid(4, 8))
    linear = resample_labels(labels, grids, (0, 0, 0), [(0, 1), (0, 1), (0, 8)], (1, 1, 1))
    assert linear.ravel().tolist() == [0, 0, 5, 5, 5, 5, 2, 2]
    assert linear.dtype == np.uint8
    half = (AxisGrid(1, 1), AxisGrid(1, 1), AxisGrid(4, 2))
    tie = resample_labels(labels, half, (0, 0, 0), [(0, 1), (0, 1), (0, 2)], (1, 1, 1))
    assert tie.ravel().tolist() == [5, 5]


def test_plan_resamples_to_its_spacing(make_plan: PlanMaker, write_case: CaseWriter) -> None:
    """A ramp keeps its slope: scale 2 in Y puts target voxel j at source 2 j + 0.5."""
    image = np.broadcast_to(np.arange(64, dtype=np.float32)[None, :, None], (12, 64, 32)).copy()
    labels = (image >= 32).astype(np.uint8)
    case = write_case("a", image, labels, resolution=(40, 8, 8))
    plan = make_plan(spacing=(40.0, 16.0, 8.0), target_spacing=(40.0, 16.0, 8.0))
    dataset = make_dataset(plan, [case], training=False)
    assert [(grid.source, grid.target) for grid in dataset.cases[0].grids] == [(12, 12), (64, 32), (32, 32)]
    for index in range(10):
        y = dataset.locate(index).origin[1]
        sample = dataset[index]
        expected = 2 * np.arange(y, y + 16) + 0.5
        inner = (expected > 16) & (expected < 47)
        rows = sample["image"][0, 3, :, 5].numpy()
        np.testing.assert_allclose(rows[inner], expected[inner], atol=1e-2)
        np.testing.assert_array_equal(sample["target"][0, 3, :, 5].numpy(), expected > 31.5)


def test_thick_sections_are_not_blended(make_plan: PlanMaker, write_case: CaseWriter) -> None:
    """Spacing ratio 5: along Z the nearest section, as nnU-Net's separate Z."""
    image = np.broadcast_to(np.arange(10, dtype=np.float32)[:, None, None] ** 2, (10, 32, 32)).copy()
    case = write_case("a", image, np.zeros(image.shape, np.uint8), resolution=(50, 10, 10))
    plan = make_plan(spacing=(25.0, 10.0, 10.0), target_spacing=(25.0, 10.0, 10.0))
    dataset = make_dataset(plan, [case], training=False)
    for index in range(5):
        z = dataset.locate(index).origin[0]
        sections = dataset[index]["image"][0, :, 0, 0].numpy()
        assert sections.tolist() == [float((number // 2) ** 2) for number in range(z, z + 8)]


def test_units_are_converted_and_missing_spacing_is_refused(
    make_plan: PlanMaker, write_case: CaseWriter
) -> None:
    image, labels = volume_pair(11)
    plan = make_plan(spacing=(0.04, 0.01, 0.01), target_spacing=(0.04, 0.01, 0.01), spacing_unit="um")
    with_spacing = write_case("a", image, labels, resolution=(40, 20, 10))
    grids = make_dataset(plan, [with_spacing]).cases[0].grids
    assert [grid.target for grid in grids] == [20, 96, 40]
    without = write_case("b", image, labels)
    with pytest.raises(FormatError, match=r"case b: .* no spacing.*--spacing Z Y X and --unit"):
        make_dataset(plan, [without])
    stated = ReadOptions(spacing=(40.0, 20.0, 10.0), unit="nm")
    grids = make_dataset(plan, [without], read=stated).cases[0].grids
    assert [grid.target for grid in grids] == [20, 96, 40]


def test_unseen_cases_are_measured_once(
    make_plan: PlanMaker, write_case: CaseWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, labels = volume_pair(12)
    image[:3] = 0
    plan = make_plan(
        normalization=({"channel": "EM", "scheme": "zscore"},), loader={"oversample_foreground": 0.0}
    )
    dataset = make_dataset(plan, [write_case("new", image, labels)], training=False)
    inside = image[3:].astype(np.float64)
    with spied(dataset.reader, monkeypatch) as log:
        for index in range(4):
            z, y, x = dataset.locate(index).origin
            expected = (image[z : z + 8, y : y + 16, x : x + 16] - inside.mean()) / inside.std()
            np.testing.assert_allclose(dataset[index]["image"][0], expected, atol=1e-5)
    assert sum(log) == image.size + 4 * 2 * 8 * 16 * 16


def test_known_cases_use_the_plans_numbers(make_plan: PlanMaker, write_case: CaseWriter) -> None:
    image, labels = volume_pair(13)
    plan = make_plan(
        normalization=({"channel": "EM", "scheme": "zscore"},),
        case_numbers={"a": {"mean": (10.0,), "std": (4.0,)}},
    )
    dataset = make_dataset(plan, [write_case("a", image, labels)], training=False)
    z, y, x = dataset.locate(0).origin
    expected = (image[z : z + 8, y : y + 16, x : x + 16].astype(np.float32) - 10) / 4
    np.testing.assert_array_equal(dataset[0]["image"][0], expected)


@pytest.mark.parametrize("cache", ["none", "ram", "disk"])
def test_compressed_streams(
    cache: str, make_plan: PlanMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same patches whatever the cache; with one, each stream is inflated once."""
    image, labels = volume_pair(14)
    sources = []
    for name, array in (("image", image), ("label", labels)):
        path = tmp_path / f"{name}.nii.gz"
        sitk.WriteImage(sitk.GetImageFromArray(array), str(path), useCompression=True)
        sources.append(VolumeSource(paths=(path,)))
    case = CaseSource(id="a", images=(sources[0],), label=sources[1])
    folder = tmp_path / "cache"
    plan = make_plan(loader={"cache": cache})
    dataset = make_dataset(plan, [case], training=False, cache_folder=folder)
    with spied(dataset.reader, monkeypatch) as log:
        for index in range(6):
            z, y, x = dataset.locate(index).origin
            assert np.array_equal(
                dataset[index]["image"][0].numpy(), image[z : z + 8, y : y + 16, x : x + 16]
            )
    assert sum(log) == 2 * image.size
    assert len(list(folder.glob("*.npy"))) == (2 if cache == "disk" else 0)
    assert not list(folder.glob("*.part"))
    again = pickle.loads(pickle.dumps(dataset))
    with spied(again.reader, monkeypatch) as log:
        assert torch.equal(again[5]["image"], dataset[5]["image"])
    if cache == "disk":
        assert sum(log) == 0


def test_streams_are_held_within_bounds_without_a_cache(
    make_plan: PlanMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Room for one of two pairs: the other is let go; no room at all: every region from its file."""
    cases = []
    for seed in range(2):
        sources = []
        for name, array in zip(("image", "label"), volume_pair(seed), strict=True):
            path = tmp_path / f"{name}{seed}.nii.gz"
            sitk.WriteImage(sitk.GetImageFromArray(array), str(path), useCompression=True)
            sources.append(VolumeSource(paths=(path,)))
        cases.append(CaseSource(id=str(seed), images=(sources[0],), label=sources[1]))
    size = volume_pair(0)[0].size
    whole: Region = (slice(0, 2), slice(0, 4), slice(0, 4))
    for limit, kept in ((2 * size, 2), (size - 1, 0), (4 * size, 4)):
        monkeypatch.setattr(case_reader, "HELD_STREAM_BYTES", limit)
        reader = CaseReader()
        with spied(reader, monkeypatch) as log:
            for seed in (0, 1, 0):
                image, labels = volume_pair(seed)
                assert np.array_equal(reader.image(cases[seed], whole)[0], image[whole])
                assert np.array_equal(reader.label(cases[seed], whole), labels[whole])
            assert len(reader._held) == kept
            # Volumes are inflated whole, six or four times, or six regions of 2 x 4 x 4 are read.
            assert sum(log) == {2: 6 * size, 0: 6 * 32, 4: 4 * size}[kept]


def test_workers_inflate_a_stream_once(tmp_path: Path) -> None:
    image = np.random.default_rng(15).integers(0, 9, (40, 128, 128)).astype(np.uint8)
    path = tmp_path / "image.nii.gz"
    sitk.WriteImage(sitk.GetImageFromArray(image), str(path), useCompression=True)
    barrier = threading.Barrier(4)

    def inflate(_: int) -> int:
        with Spy(open_volume(VolumeSource(paths=(path,))), []) as volume:
            barrier.wait(timeout=30)
            held = hold_on_disk(volume, ReadOptions(), tmp_path / "cache")
            assert np.array_equal(held.read((slice(0, 40), slice(0, 128), slice(0, 128)), 0), image)
            return sum(volume.log)

    with ThreadPoolExecutor(4) as pool:
        read = sorted(pool.map(inflate, range(4)))
    assert read == [0, 0, 0, image.size]


def test_changed_files_are_inflated_again(tmp_path: Path) -> None:
    path = tmp_path / "image.nii.gz"
    for value in (1, 2):
        array = np.full((8 + value, 16, 16), value, np.uint8)
        sitk.WriteImage(sitk.GetImageFromArray(array), str(path), useCompression=True)
        with open_volume(VolumeSource(paths=(path,))) as volume:
            held = hold_on_disk(volume, ReadOptions(), tmp_path / "cache")
        assert (held.read((slice(0, 8), slice(0, 16), slice(0, 16))) == value).all()


def test_channels_from_several_files_and_shape_mismatch(make_plan: PlanMaker, write_case: CaseWriter) -> None:
    image, labels = volume_pair(16)
    first, second = write_case("one", image, labels), write_case("two", image[::-1].copy(), labels)
    both = CaseSource(id="both", images=(*first.images, *second.images), label=first.label)
    plan = make_plan(
        channel_names=("a", "b"), normalization=tuple({"channel": c, "scheme": "none"} for c in "ab")
    )
    dataset = make_dataset(plan, [both], training=False)
    z, y, x = dataset.locate(0).origin
    expected = np.stack([image, image[::-1]])[:, z : z + 8, y : y + 16, x : x + 16]
    assert np.array_equal(dataset[0]["image"].numpy(), expected)
    with pytest.raises(FormatError, match="case one: has 1 channels, the plan expects 2"):
        make_dataset(plan, [first])
    other = write_case("small", image[:, :40], labels[:, :40])
    mixed = CaseSource(id="mixed", images=first.images, label=other.label)
    with pytest.raises(
        FormatError, match=r"case mixed: .*one\.h5.*\(20, 48, 40\).*small\.h5.*\(20, 40, 40\)"
    ):
        make_dataset(make_plan(), [mixed])


def test_unknown_labels_name_the_case(make_plan: PlanMaker, write_case: CaseWriter) -> None:
    image, labels = volume_pair(17)
    dataset = make_dataset(make_plan(), [write_case("odd", image, labels + 7)])
    with pytest.raises(LabelError, match="case odd"):
        dataset[0]


def test_regions_and_ignored_voxels(make_plan: PlanMaker, write_case: CaseWriter) -> None:
    image, labels = volume_pair(18)
    labels[0] = 9
    plan = make_plan(
        classes={"background": (0,), "whole": (1, 2), "core": (2,)},
        out_channels=2,
        ignore=9,
        loss={"name": "dice_bce"},
    )
    dataset = make_dataset(plan, [write_case("a", image, labels)], training=False)
    assert dataset.channel_names == ("whole", "core")
    for index in range(10):
        z, y, x = dataset.locate(index).origin
        part = labels[z : z + 8, y : y + 16, x : x + 16]
        expected = np.stack([part > 0, part == 2]).astype(np.uint8)
        expected[:, part == 9] = 255
        assert np.array_equal(dataset[index]["target"].numpy(), expected)


def test_dataset_is_a_map_of_an_epoch(make_plan: PlanMaker, write_case: CaseWriter) -> None:
    dataset = make_dataset(make_plan(accumulation=3), [write_case("a", *volume_pair(19))])
    assert isinstance(dataset, PatchDataset)
    assert len(dataset) == 20 * 3 * 2


def test_forced_patches_of_a_case_without_foreground_are_on_annotated_voxels(
    make_plan: PlanMaker, write_case: CaseWriter
) -> None:
    """Where most voxels are ignored, a patch anywhere would teach nothing."""
    image, _ = volume_pair(30)
    labels = np.full(image.shape, 9, np.uint8)
    labels[3, 40, 30] = 0
    plan = make_plan(ignore=9, loader={"oversample_foreground": 1.0})
    dataset = make_dataset(plan, [write_case("a", image, labels)], training=False)
    for index in range(10):
        assert not dataset.locate(index).forced
        assert (dataset[index]["target"] == 0).sum() == 1


@pytest.mark.parametrize("cache", ["none", "ram", "disk"])
def test_object_ids_as_one_class(
    cache: str, make_plan: PlanMaker, write_case: CaseWriter, tmp_path: Path
) -> None:
    """Ids above 0 are foreground, but for the ignored one; before resampling, where ids cannot be blended."""
    rng = np.random.default_rng(31)
    names = rng.integers(1, 900, (5, 6, 5)) * rng.integers(0, 2, (5, 6, 5))
    ids = np.kron(names, np.ones((4, 8, 8), np.int64)).astype(np.uint32)
    ids[rng.random(ids.shape) < 0.02] = 70000
    image = rng.integers(0, 255, ids.shape).astype(np.uint8)
    case = write_case("a", image, ids, resolution=(10, 10, 10))
    binary = np.where(ids == 70000, 9, ids > 0).astype(np.uint8)
    plain = write_case("b", image, binary, resolution=(10, 10, 10))
    common = {"classes": {"background": (0,), "foreground": (1,)}, "out_channels": 2}
    folder = tmp_path / "cache"
    for spacing in (None, (10.0, 7.0, 12.0)):
        resampled = {"spacing": spacing, "target_spacing": spacing, "loader": {"cache": cache}}
        by_ids = make_plan(object_ids=True, ignore=70000, **common, **resampled)
        by_class = make_plan(ignore=9, **common, **resampled)
        one = make_dataset(by_ids, [case], training=False, cache_folder=folder)
        two = make_dataset(by_class, [plain], training=False, cache_folder=folder)
        for index in range(8):
            assert one.locate(index).origin == two.locate(index).origin
            assert one.locate(index).forced == (index % 2 == 1)
            assert torch.equal(one[index]["target"], two[index]["target"])
        assert {-1, 0, 1} == {int(v) for i in range(8) for v in one[i]["target"].unique()}
