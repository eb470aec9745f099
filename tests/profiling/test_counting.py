"""Counting of blocks that are mostly one value, or hold few, beside numpy's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from voxplan.profiling.counting import count_distinct, decode, encode
from voxplan.profiling.dense import count_dense, count_divided

DENSE = ("bool", "uint8", "int8", "uint16", "int16", "float16")
WIDE = ("int32", "uint32", "int64", "uint64", "float32", "float64")


def mostly(dtype: str, share: float, size: int, first: int) -> np.ndarray[Any, np.dtype[Any]]:
    """Random values, among which a share is equal; ``first`` says whether the block begins with it."""
    rng = np.random.default_rng(size)
    high = 2 if dtype == "bool" else 120
    low = -100 if np.dtype(dtype).kind in "if" else 0
    values = rng.integers(low, high, size).astype(dtype)
    values[rng.random(size) < share] = first
    if size:
        values[0] = first
    return values


@pytest.mark.parametrize("size", [0, 1, 2, 3, 1000, 140_001])
@pytest.mark.parametrize("share", [0.0, 0.49, 0.51, 0.9, 1.0])
@pytest.mark.parametrize("dtype", DENSE)
def test_dense_counts_are_numpys(dtype: str, share: float, size: int) -> None:
    values = mostly(dtype, share, size, first=1)
    counts = np.zeros(1 << 8 * values.dtype.itemsize, np.int64)
    count_dense(values, counts)
    count_dense(values, counts)
    expected, occurrences = np.unique(values, return_counts=True)
    used = np.flatnonzero(counts)
    stored = decode(used, values.dtype)
    order = np.argsort(stored)
    assert np.array_equal(stored[order], expected)
    assert np.array_equal(counts[used][order], 2 * occurrences)
    assert np.array_equal(np.sort(encode(expected)), used)


@pytest.mark.parametrize("size", [0, 1, 15, 16, 1000, 140_001, 1_100_003])
@pytest.mark.parametrize("share", [0.0, 0.9, 1.0])
@pytest.mark.parametrize("dtype", DENSE)
def test_values_in_a_mask_are_counted_apart(dtype: str, share: float, size: int) -> None:
    values = mostly(dtype, share, size, first=1)
    rng = np.random.default_rng(3)
    mask = rng.random(size) < 0.3
    mask[: size // 2] &= rng.random() < 0.5
    if size > 10_000:  # long runs of background, in the mask too
        values[2000:9000] = values[0]
        mask[3000:4000], mask[5000:8000] = True, False
    outside, inside = (np.zeros(1 << 8 * values.dtype.itemsize, np.int64) for _ in range(2))
    count_divided(values, mask, outside, inside)
    for counts, part in ((outside, values[~mask]), (inside, values[mask])):
        expected = np.bincount(encode(part), minlength=counts.size)
        assert np.array_equal(counts, expected)


@pytest.mark.parametrize("span", [1, 255, 8192, 8193, 16_384, 16_385, 65_536])
@pytest.mark.parametrize("dtype", ["uint16", "int16"])
def test_every_span_of_16_bits(dtype: str, span: int) -> None:
    rng = np.random.default_rng(span)
    ordinals = rng.integers(65_536 - span, 65_536, 200_001)
    ordinals[1000:90_000] = 65_535
    values, mask = decode(ordinals, np.dtype(dtype)), rng.random(ordinals.size) < 0.2
    counts, outside, inside = (np.zeros(1 << 16, np.int64) for _ in range(3))
    count_dense(values, counts)
    count_divided(values, mask, outside, inside)
    assert np.array_equal(counts, np.bincount(ordinals, minlength=1 << 16))
    assert np.array_equal(inside, np.bincount(ordinals[mask], minlength=1 << 16))
    assert np.array_equal(outside + inside, counts)


def test_a_mask_that_begins_at_any_byte() -> None:
    stored = np.random.default_rng(5).integers(0, 3, 1000).astype(np.int16)
    for start in range(9):
        values, mask = stored[start:], (stored > 1)[start:]
        outside, inside = np.zeros(1 << 16, np.int64), np.zeros(1 << 16, np.int64)
        count_divided(values, mask, outside, inside)
        assert inside[(1 << 15) + 2] == np.count_nonzero(values == 2) == inside.sum()
        assert outside.sum() == values.size - inside.sum()


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
@pytest.mark.parametrize("largest", [0, 1, 7, 8, 9, 100])
def test_few_values_of_a_byte(dtype: str, largest: int) -> None:
    values = np.random.default_rng(largest).integers(0, largest + 1, 5001).astype(dtype)
    if dtype == "int8":
        values[:9] = -1
    counts = np.zeros(256, np.int64)
    count_dense(values, counts)
    stored = decode(np.flatnonzero(counts), values.dtype)
    expected, occurrences = np.unique(values, return_counts=True)
    assert np.array_equal(stored, expected)
    assert np.array_equal(counts[counts > 0], occurrences)


@pytest.mark.parametrize("size", [0, 1, 2, 1000])
@pytest.mark.parametrize("share", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("dtype", WIDE)
def test_distinct_counts_are_numpys(dtype: str, share: float, size: int) -> None:
    values = mostly(dtype, share, size, first=0)
    values[::7] *= 3
    found, counts = count_distinct(values)
    expected, occurrences = np.unique(values, return_counts=True)
    assert found.dtype == values.dtype
    assert np.array_equal(found, expected)
    assert np.array_equal(counts, occurrences)


def test_minus_zero_is_zero_also_where_it_is_the_commonest() -> None:
    values = np.array([-0.0, -0.0, 0.0, 1.5, -0.0, -2.25], np.float32)
    found, counts = count_distinct(values)
    assert found.tolist() == [-2.25, 0.0, 1.5]
    assert counts.tolist() == [1, 4, 1]
    assert not np.signbit(found[1])
