from __future__ import annotations

import itertools
import tracemalloc
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxplan.profiling.fingerprint import IntensityStatistics
from voxplan.profiling.statistics import QUANTILES, Distribution, ValueHistogram, case_weighted, pooled

Array = np.ndarray[Any, Any]
Case = tuple[Array, float, float]


@st.composite
def cases(draw: st.DrawFn) -> list[Case]:
    result = []
    for _ in range(draw(st.integers(1, 5))):
        dtype = draw(st.sampled_from(["u1", "i2", "i4", "f4", "f8"]))
        stored = draw(st.lists(st.integers(0, 12), min_size=1, max_size=30))
        slope, intercept = draw(st.sampled_from([(1.0, 0.0), (0.5, -3.0), (-1.0, 5.0), (2.2086, 0.1)]))
        result.append((np.array(stored, dtype), slope, intercept))
    return result


def distribution(case: Case, limit: int = 1 << 20) -> Distribution:
    values, slope, intercept = case
    counted = ValueHistogram(values.dtype, limit=limit)
    counted.add(values)
    result = Distribution.of(counted, slope, intercept)
    assert result is not None
    return result


def intensities(case: Case) -> Array:
    return case[0].astype(np.float64) * case[1] + case[2]


def stated(result: IntensityStatistics) -> list[float]:
    return [
        result.percentile_00_5,
        result.percentile_10,
        result.median,
        result.percentile_90,
        result.percentile_99_5,
    ]


def mixture_quantile(arrays: list[Array], share: Fraction) -> float:
    """The definition itself, in fractions."""
    for value in np.unique(np.concatenate(arrays)):
        if sum(Fraction(int(np.count_nonzero(a <= value)), a.size) for a in arrays) >= share * len(arrays):
            return float(value)
    raise AssertionError


@settings(deadline=None, max_examples=60)
@given(cases())
def test_every_case_weighs_the_same(drawn: list[Case]) -> None:
    arrays = [intensities(case) for case in drawn]
    result = case_weighted([distribution(case) for case in drawn])
    assert result is not None
    assert stated(result) == [mixture_quantile(arrays, q) for q in QUANTILES]
    assert result.count == sum(a.size for a in arrays)
    mean = np.mean([a.mean() for a in arrays])
    assert result.mean == pytest.approx(mean, rel=1e-12, abs=1e-12)
    variance = np.mean([(a * a).mean() for a in arrays]) - mean**2
    assert result.std == pytest.approx(np.sqrt(max(variance, 0.0)), rel=1e-6, abs=1e-6)
    everything = np.concatenate(arrays)
    assert (result.min, result.max) == (everything.min(), everything.max())


@settings(deadline=None, max_examples=60)
@given(cases())
def test_every_voxel_weighs_the_same(drawn: list[Case]) -> None:
    everything = np.concatenate([intensities(case) for case in drawn])
    result = pooled([distribution(case) for case in drawn])
    assert result is not None
    expected = [float(np.quantile(everything, float(q), method="inverted_cdf")) for q in QUANTILES]
    assert stated(result) == expected
    assert result.mean == pytest.approx(everything.mean(), rel=1e-12, abs=1e-12)
    assert result.std == pytest.approx(everything.std(), rel=1e-9, abs=1e-7)


@settings(deadline=None, max_examples=30)
@given(cases())
def test_order_changes_no_bit(drawn: list[Case]) -> None:
    distributions = [distribution(case) for case in drawn]
    for combine in (case_weighted, pooled):
        results = {
            combine(list(order)) for order in itertools.islice(itertools.permutations(distributions), 6)
        }
        assert len({repr(r) for r in results}) == 1


def test_cases_without_voxels_weigh_nothing() -> None:
    case = (np.array([1, 2, 3], "u1"), 1.0, 0.0)
    assert case_weighted([None, distribution(case), None]) == case_weighted([distribution(case)])
    assert case_weighted([None]) is None
    assert pooled([]) is None


def test_one_case_is_itself() -> None:
    case = (np.random.default_rng(3).normal(0, 5, 1000).astype("f4"), 1.5, 2.0)
    alone = distribution(case)
    assert case_weighted([alone]) == pooled([alone]) == alone.statistics()


def test_ties_are_decided_exactly() -> None:
    """A third and two thirds make one only in fractions: the median is the lower value."""
    first = (np.array([0, 9, 9], "u1"), 1.0, 0.0)
    second = (np.array([0, 0, 9], "u1"), 1.0, 0.0)
    result = case_weighted([distribution(first), distribution(second)])
    assert result is not None
    assert result.median == 0.0


def test_outliers_and_many_cases() -> None:
    rng = np.random.default_rng(5)
    drawn = [(rng.normal(40, 9, int(n)).astype("f4"), 1.0, 0.0) for n in rng.integers(20, 60, 15)]
    drawn.append((np.array([1e30, -1e30, 3.0], "f4"), 1.0, 0.0))
    result = case_weighted([distribution(case) for case in drawn])
    assert result is not None
    assert stated(result) == [mixture_quantile([intensities(c) for c in drawn], q) for q in QUANTILES]


def test_the_error_of_a_mixture_is_that_of_its_coarsest_case() -> None:
    rng = np.random.default_rng(6)
    drawn = [(rng.normal(0, s, 3000), 2.0, 0.0) for s in (1.0, 50.0)]
    parts = [distribution(case, limit=100) for case in drawn]
    result = case_weighted(parts)
    assert result is not None
    assert result.quantile_error == max(part.statistics().quantile_error for part in parts) > 0
    truth = [mixture_quantile([intensities(c) for c in drawn], q) for q in QUANTILES]
    assert stated(result) == pytest.approx(truth, abs=result.quantile_error)


def test_very_many_small_cases_take_little_memory_and_the_definition_holds() -> None:
    """Candidates of cases of one size are added up, and no case keeps arrays of its own (4 kB each)."""
    rng = np.random.default_rng(8)
    arrays = [rng.integers(0, 200, int(n)).astype("u1") for n in rng.integers(20, 24, 6000)]
    parts = [distribution((a, 1.0, 0.0)) for a in arrays]
    case_weighted(parts)  # what a distribution remembers once it was asked
    tracemalloc.start()
    result = case_weighted(parts)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak / len(parts) < 2400
    assert result is not None
    exact = [
        sum((Fraction(int(np.count_nonzero(a <= v)), a.size) for a in arrays), Fraction(0)) / len(arrays)
        for v in (int(result.median) - 1, int(result.median))
    ]
    assert exact[0] < Fraction(1, 2) <= exact[1]
