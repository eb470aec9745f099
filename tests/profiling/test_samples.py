"""Voxels at fixed places: the same however the volume is cut into blocks."""

from __future__ import annotations

import numpy as np
import pytest

from voxplan.profiling.blocks import iterate_blocks
from voxplan.profiling.samples import VoxelSamples

VOLUME = np.random.default_rng(3).integers(0, 60000, (5, 40, 67)).astype(np.uint16)


def sampled(volume: np.ndarray, block: tuple[int, int, int]) -> VoxelSamples:
    samples = VoxelSamples(volume.shape, volume.dtype)  # type: ignore[arg-type]
    for region in iterate_blocks(volume.shape, block):  # type: ignore[arg-type]
        samples.add(volume[region], region)
    return samples


@pytest.mark.parametrize("block", [(5, 40, 67), (1, 40, 67), (2, 7, 13), (1, 1, 67), (5, 1, 1)])
def test_same_places_whatever_the_blocks(block: tuple[int, int, int]) -> None:
    samples = sampled(VOLUME, block)
    assert samples.seen.all()
    assert samples.values.shape == (5, 16, 16)
    # the centres of 16 equal parts: 40 / 16 = 2.5 and 67 / 16 = 4.1875 voxels wide
    expected = VOLUME[:, [int(2.5 * (i + 0.5)) for i in range(16)]]
    expected = expected[:, :, [int(4.1875 * (i + 0.5)) for i in range(16)]]
    np.testing.assert_array_equal(samples.values, expected)


def test_parts_merge_to_the_whole() -> None:
    whole = sampled(VOLUME, (5, 40, 67))
    one, two = (VoxelSamples(VOLUME.shape, VOLUME.dtype) for _ in range(2))  # type: ignore[arg-type]
    for number, region in enumerate(iterate_blocks(VOLUME.shape, (2, 11, 30))):  # type: ignore[arg-type]
        (one if number % 3 else two).add(VOLUME[region], region)
    assert not one.seen.all()
    one.merge(two.values, two.seen)
    np.testing.assert_array_equal(one.values, whole.values)
    assert one.seen.all()


def test_intensities_compare_across_types() -> None:
    stored = VOLUME.astype(np.float64)
    scaled = (stored * 2 - 4).astype(np.float32)
    assert sampled(VOLUME, (5, 9, 9)).intensities(2.0, -4.0) == sampled(scaled, (1, 40, 67)).intensities(
        1.0, 0.0
    )
    odd = np.array([[[np.nan, -np.nan, -0.0]]], np.float32)
    same = np.array([[[np.nan, np.nan, 0.0]]], np.float64)
    assert sampled(odd, (1, 1, 3)).intensities(1.0, 0.0) == sampled(same, (1, 1, 3)).intensities(1.0, 0.0)
