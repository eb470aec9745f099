from __future__ import annotations

import math
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from voxplan.profiling.moments import (
    FIXED_BITS,
    SQUARE_BITS,
    SUM_BITS,
    moments_of_intensity,
    standard_deviation,
    sum_and_squares,
    to_fixed,
)

DTYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"]


@st.composite
def finite_arrays(draw: st.DrawFn) -> np.ndarray[Any, Any]:
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    elements = {"allow_nan": False, "allow_infinity": False} if dtype.kind == "f" else None
    return draw(hnp.arrays(dtype, st.integers(0, 40), elements=elements))


def true_sums(values: np.ndarray[Any, Any], counts: list[int]) -> tuple[Fraction, Fraction]:
    exact = [Fraction(v) for v in values.tolist()]
    total = sum((v * c for v, c in zip(exact, counts, strict=True)), Fraction(0))
    return total, sum((v * v * c for v, c in zip(exact, counts, strict=True)), Fraction(0))


@settings(deadline=None, max_examples=60)
@given(finite_arrays())
def test_sums_equal_those_of_fractions(values: np.ndarray[Any, Any]) -> None:
    total, squares = sum_and_squares(values)
    expected = true_sums(values, [1] * values.size)
    assert (Fraction(total, 1 << SUM_BITS), Fraction(squares, 1 << SQUARE_BITS)) == expected


@settings(deadline=None, max_examples=60)
@given(finite_arrays(), st.data())
def test_weighted_sums_equal_those_of_fractions(values: np.ndarray[Any, Any], data: st.DataObject) -> None:
    counts = data.draw(st.lists(st.integers(0, 2**40), min_size=values.size, max_size=values.size))
    total, squares = sum_and_squares(values, np.array(counts, np.int64))
    expected = true_sums(values, counts)
    assert (Fraction(total, 1 << SUM_BITS), Fraction(squares, 1 << SQUARE_BITS)) == expected


def test_sums_of_a_long_array_are_exact() -> None:
    values = np.random.default_rng(1).normal(0, 1e3, 200_000)
    total, _ = sum_and_squares(values)
    assert total / (1 << SUM_BITS) == math.fsum(values)


def test_too_many_voxels_are_refused() -> None:
    with pytest.raises(OverflowError, match="at most"):
        sum_and_squares(np.ones(2), np.array([2**60, 1]))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20), st.floats(-10, 10), st.floats(-1e3, 1e3))
def test_standard_deviation_is_rounded_once(values: list[float], slope: float, intercept: float) -> None:
    total, squares = sum_and_squares(np.array(values))
    mean, square = moments_of_intensity(total, squares, len(values), slope, intercept)
    exact = [Fraction(slope) * Fraction(v) + Fraction(intercept) for v in values]
    true_mean = sum(exact) / len(exact)
    assert mean == true_mean
    variance = sum((v - true_mean) ** 2 for v in exact) / len(exact)
    with localcontext() as context:
        context.prec, context.Emin, context.Emax = 1600, -999999, 999999
        root = (Decimal(variance.numerator) / Decimal(variance.denominator)).sqrt()
        assert standard_deviation(mean, square) == float(root)


def test_fixed_point_rounds_down() -> None:
    assert to_fixed(Fraction(-1, 3)) == -((1 << FIXED_BITS) // 3 + 1)
    assert to_fixed(Fraction(5, 4)) * 4 == 5 << FIXED_BITS
