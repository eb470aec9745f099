"""The batch, against brute force."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from voxplan.planning.rules.batch import LARGEST_BATCH, choose_batch, largest_batch, per_gpu_cap


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
