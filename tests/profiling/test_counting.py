"""Counting of blocks that are mostly one value, or hold few, beside numpy's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from voxplan.profiling.counting import count_dense, count_distinct, decode, encode

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
