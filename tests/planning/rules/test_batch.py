"""The batch, against brute force."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from voxplan.planning.rules.batch import (
    LARGEST_BATCH,
    choose_batch,
    compute_cap,
    largest_batch,
    per_gpu_cap,
)


@pytest.mark.parametrize("start", [1, 2, 3])
@pytest.mark.parametrize("limit", [3, 7, 8, 100])
@pytest.mark.parametrize("true_limit", [3, 4, 6, 8, 57, 1000])
def test_largest_batch_is_found(start: int, limit: int, true_limit: int) -> None:
    expected = max(batch for batch in range(start, limit + 1) if batch <= true_limit)
    assert largest_batch(lambda batch: batch / true_limit, start, limit) == expected


@pytest.mark.parametrize("true_limit", [3, 17, 100, 399])
@pytest.mark.parametrize("shape", [lambda x: 0.6 + 0.4 * x, lambda x: x**3, lambda x: x**0.2, math.ceil])
def test_largest_batch_is_found_where_memory_is_not_affine(
    true_limit: int, shape: Callable[[float], float]
) -> None:
    tried: list[int] = []

    def load(batch: int) -> float:
        tried.append(batch)
        return shape(batch / true_limit)

    assert largest_batch(load, 2, 512) == true_limit
    assert len(tried) <= 20


def test_dataset_share_is_over_all_gpus() -> None:
    # 5 % of 1e8 voxels are 5e6, five patches of 1e6.
    assert per_gpu_cap(1e8, (100, 100, 100), gpus=1) == 5
    assert per_gpu_cap(1e8, (100, 100, 100), gpus=2) == 2
    assert per_gpu_cap(1e7, (100, 100, 100), gpus=1) == 2


@pytest.mark.parametrize(
    ("fitting", "voxels", "step", "expected"),
    [
        (2, 1e9, None, (2, "memory")),
        (9, 1e9, None, (9, "memory")),
        (99, 1e8, None, (5, "dataset share")),
        (99, 1e6, None, (2, "dataset share")),
        (9999, 1e12, None, (LARGEST_BATCH, "recipe")),
        (9999, 1e9, 4_000_000, (4, "compute")),
        (9999, 1e9, 500_000, (2, "compute")),
    ],
)
def test_what_stops_the_batch(
    fitting: int, voxels: float, step: int | None, expected: tuple[int, str]
) -> None:
    choice = choose_batch(
        lambda batch: batch / fitting,
        start=2,
        dataset_voxels=voxels,
        patch_size=(100, 100, 100),
        step_voxels=step,
    )
    assert (choice.batch_size, choice.stopped_by) == expected


@pytest.mark.parametrize(("fixed", "slope"), [(0.1, 0.003), (0.5, 0.001), (0.0, 0.01), (0.9, 0.0001)])
def test_an_affine_load_is_asked_for_a_handful_of_times(fixed: float, slope: float) -> None:
    """Each trial traces a network. Start, its double, eight times as many twice, where the line reaches 1,
    and the one beyond.
    """
    tried: list[int] = []

    def load(batch: int) -> float:
        tried.append(batch)
        return fixed + slope * batch

    expected = max(batch for batch in range(2, 513) if fixed + slope * batch <= 1)
    assert largest_batch(load, 2, 512) == expected
    assert len(tried) <= 6


def test_the_last_batch_before_the_limit_of_memory_is_tried_once() -> None:
    """Two and three fit, four does not: two trials beyond the start say so."""
    tried: list[int] = []

    def load(batch: int) -> float:
        tried.append(batch)
        return batch / 3

    assert largest_batch(load, 2, 512) == 3
    assert sorted(tried) == [2, 3, 4]


@pytest.mark.parametrize(
    ("loads", "stop"),
    [
        ({1: 0.5, 2: 0.9, 3: 1.5, 4: 1.9}, "memory"),
        ({1: 0.5, 2: 0.9, 3: 1.0, 4: 2.5}, "dataset share"),
    ],
)
def test_memory_is_named_where_one_sample_more_does_not_fit(loads: dict[int, float], stop: str) -> None:
    """Of 1e6 voxels in patches of 1e6 the share allows the minimum of 2, the start, in any case."""
    choice = choose_batch(loads.__getitem__, start=2, dataset_voxels=1e6, patch_size=(100, 100, 100))
    assert (choice.batch_size, choice.stopped_by) == (2, stop)


def test_a_patch_larger_than_a_step_is_computed_one_by_one() -> None:
    assert compute_cap((100, 100, 100), 999_999) == 1
    assert compute_cap((100, 100, 100), 3_500_000) == 3
    assert compute_cap((100, 100, 100), None) is None
