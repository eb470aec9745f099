from __future__ import annotations

import math
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from voxplan.profiling import histogram as histogram_module
from voxplan.profiling.binning import stored_zero
from voxplan.profiling.histogram import ValueHistogram
from voxplan.profiling.statistics import Distribution

DTYPES = ["b1", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"]
WIDE = ["u4", "i4", "u8", "i8", "f4", "f8"]
QUANTILES = (0.005, 0.1, 0.5, 0.9, 0.995)
Array = np.ndarray[Any, Any]


@st.composite
def voxels(draw: st.DrawFn, names: list[str], *, finite: bool = False) -> Array:
    dtype = np.dtype(draw(st.sampled_from(names)))
    if dtype.kind != "f":
        return draw(hnp.arrays(dtype, st.integers(1, 120)))
    width = 8 * dtype.itemsize
    if draw(st.booleans()):  # whole numbers are counted another way
        elements: Any = st.integers(-200, 200).map(float)
    else:
        elements = st.floats(width=width, allow_nan=not finite, allow_infinity=not finite)
    return draw(hnp.arrays(dtype, st.integers(1, 120), elements=elements))


scalings = st.sampled_from(
    [(1.0, 0.0), (1.0, 1.0), (2.2086, 0.0), (-0.5, 3.0), (1.0, -1024.0), (-1e-3, 0.25)]
)


def histogram(
    values: Array, zero: Any = None, limit: int = 1 << 20, cuts: tuple[int, ...] = ()
) -> ValueHistogram:
    result = ValueHistogram(values.dtype, zero, limit)
    for part in np.split(values, sorted(cuts)):
        result.add(part)
    return result


def quantiles(values: Array) -> list[float]:
    return [float(np.quantile(values, q, method="inverted_cdf")) for q in QUANTILES]


def stated(distribution: Distribution) -> list[float]:
    s = distribution.statistics()
    return [s.percentile_00_5, s.percentile_10, s.median, s.percentile_90, s.percentile_99_5]


@settings(deadline=None, max_examples=60)
@given(voxels(DTYPES), scalings)
def test_statistics_equal_numpy_on_the_whole_array(values: Array, scaling: tuple[float, float]) -> None:
    slope, intercept = scaling
    counted = histogram(values)
    distribution = Distribution.of(counted, slope, intercept)
    finite = values[np.isfinite(values)]
    assert counted.non_finite == values.size - finite.size
    if not finite.size:
        assert distribution is None
        return
    assert distribution is not None
    largest = np.finfo(np.float64).max
    with np.errstate(over="ignore"):
        intensities = np.clip(finite.astype(np.float64) * slope + intercept, -largest, largest)
    result = distribution.statistics()
    assert result.count == finite.size
    assert (result.min, result.max) == (intensities.min(), intensities.max())
    assert stated(distribution) == quantiles(intensities)
    assert result.quantile_error == 0.0
    scale = float(np.abs(intensities).max())
    if scale < 1e150:
        assert result.mean == pytest.approx(intensities.mean(), rel=1e-12, abs=1e-12 * scale)
        assert result.std == pytest.approx(intensities.std(), rel=1e-6, abs=1e-7 * scale)


@settings(deadline=None, max_examples=60)
@given(voxels(DTYPES), scalings)
def test_zeros_are_the_voxels_whose_intensity_is_zero(values: Array, scaling: tuple[float, float]) -> None:
    slope, intercept = scaling
    counted = histogram(values, stored_zero(values.dtype, slope, intercept))
    counted.table()
    finite = values[np.isfinite(values)].astype(np.float64)
    with np.errstate(over="ignore"):
        intensities = finite * slope + intercept
    assert counted.zeros == np.count_nonzero(intensities == 0.0)
    rest = Distribution.of(counted, slope, intercept)
    assert (0 if rest is None else rest.count) == np.count_nonzero(intensities)
    again = Distribution.of(counted, slope, intercept, zeros=counted.zeros)
    if again is not None:
        assert stated(again) == quantiles(np.clip(intensities, -np.finfo("f8").max, np.finfo("f8").max))


@pytest.mark.parametrize(
    ("dtype", "slope", "intercept", "expected"),
    [
        ("i2", 1.0, -1024.0, (1024, 1024)),
        ("i2", 2.2086, 0.0, (0, 0)),
        ("u1", 1.0, 3.0, None),
        ("u2", -0.5, 100.0, (200, 200)),
        ("f4", 1.0, 0.0, (0.0, 0.0)),
        ("u8", 1.0, -(2.0**53), (2**53 - 0, 2**53 + 1)),
        ("i4", 0.0, 0.0, (-(2**31), 2**31 - 1)),
        ("b1", 1.0, 0.0, (False, False)),
    ],
)
def test_stored_zero(dtype: str, slope: float, intercept: float, expected: tuple[Any, Any] | None) -> None:
    assert stored_zero(np.dtype(dtype), slope, intercept) == expected


@settings(deadline=None, max_examples=100)
@given(voxels(WIDE), st.data())
def test_neither_cuts_nor_merging_change_a_bit(values: Array, data: st.DataObject) -> None:
    zero = stored_zero(values.dtype, 1.0, 0.0)
    limit = data.draw(st.sampled_from([4, 16, 1 << 20]))
    whole = histogram(values, zero, limit)
    cuts = tuple(data.draw(st.lists(st.integers(0, values.size), max_size=6)))
    shuffled = data.draw(st.permutations(range(values.size)))
    parts = [histogram(part, zero, limit) for part in np.split(values[list(shuffled)], sorted(cuts))]
    merged = ValueHistogram(values.dtype, zero, limit)
    for i in data.draw(st.permutations(range(len(parts)))):
        merged.merge(parts[i])
    for other in (histogram(values, zero, limit, cuts), merged):
        assert pickle.dumps(plain(other)) == pickle.dumps(plain(whole))


def plain(counted: ValueHistogram) -> list[Any]:
    values, counts = counted.table()
    extent = counted.extent()
    ends = None if extent is None else [np.asarray(v).tobytes() for v in extent]
    return [
        counted.zeros,
        counted.non_finite,
        counted.step,
        counted.sums(),
        ends,
        values.tobytes(),
        counts.tobytes(),
    ]


@settings(deadline=None, max_examples=100)
@given(voxels(WIDE, finite=True), st.sampled_from([4, 16, 64]))
@example(np.array([0.5, 0.0, 1.0, 2.0, np.finfo(np.float64).max]), 4)
def test_shared_bins_keep_their_bound(values: Array, limit: int) -> None:
    counted = histogram(values, None, limit)
    distribution = Distribution.of(counted)
    assert distribution is not None
    exact = Distribution.of(histogram(values))
    assert exact is not None
    result, truth = distribution.statistics(), exact.statistics()
    assert (result.count, result.mean, result.std) == (truth.count, truth.mean, truth.std)
    assert (result.min, result.max) == (truth.min, truth.max)
    distinct = np.unique(values).size
    assert (result.quantile_error == 0.0) == (distinct <= limit)
    assert counted.table()[0].size <= limit
    half_range = truth.max / 2 - truth.min / 2
    rounding = math.ulp(max(abs(truth.min), abs(truth.max)))
    assert result.quantile_error / 2 <= half_range / (limit - 1) * (1 + 1e-12) + rounding
    for got, true in zip(stated(distribution), stated(exact), strict=True):
        assert abs(got / 2 - true / 2) <= result.quantile_error / 2 * (1 + 1e-12)


@contextmanager
def little_at_a_time() -> Iterator[None]:
    """Bins are made, counted and merged while values still come, as of millions of voxels."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(histogram_module, "_PENDING", 8)
        patch.setattr(histogram_module, "_WINDOW", 16)
        yield


@settings(deadline=None, max_examples=200)
@given(voxels(WIDE), st.sampled_from([4, 16]), st.booleans(), st.data())
def test_values_that_come_when_bins_are_shared_already(
    values: Array, limit: int, with_zero: bool, data: st.DataObject
) -> None:
    """Zeros of a scan with millions of distinct values were taken out by code that no test reached."""
    zero = stored_zero(values.dtype, 1.0, 0.0) if with_zero else None
    cuts = tuple(data.draw(st.lists(st.integers(0, values.size), max_size=6)))
    whole = histogram(values, zero, limit)
    with little_at_a_time():
        counted = histogram(values, zero, limit, cuts)
        counted.table()
    assert plain(counted) == plain(whole)
    finite = values[np.isfinite(values)]
    assert counted.zeros == (np.count_nonzero(finite == 0) if with_zero else 0)
    rest = finite[finite != 0] if with_zero else finite
    assert counted.table()[1].sum() == rest.size
    assert counted.extent() == ((rest.min(), rest.max()) if rest.size else None)


@pytest.mark.parametrize(("slope", "intercept"), [(1.0, 0.0), (2.0, -6.0), (1.0, -(2.0**53))])
@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", "u8"])
def test_zeros_among_millions_of_values(dtype: str, slope: float, intercept: float) -> None:
    """A background of zeros around a noisy object, slab by slab."""
    rng = np.random.default_rng(11)
    zero = stored_zero(np.dtype(dtype), slope, intercept)
    background = 0 if zero is None else zero[0]
    values = (np.abs(rng.normal(4e6, 1e6, 1_500_000)) + 1e5).astype(dtype)
    values[rng.random(values.size) < 0.3] = background
    counted = histogram(values, zero, limit=1 << 12, cuts=tuple(range(100_000, values.size, 100_000)))
    assert counted.step > 0
    counted.table()
    is_zero = values == background if zero is not None else np.zeros(values.size, bool)
    assert counted.zeros == np.count_nonzero(is_zero)
    rest = values[~is_zero]
    assert counted.extent() == (rest.min(), rest.max())
    distribution = Distribution.of(counted)
    assert distribution is not None
    result = distribution.statistics()
    assert result.count == rest.size
    assert result.mean == pytest.approx(rest.mean(dtype=np.float64), rel=1e-12)
    assert stated(distribution) == pytest.approx(quantiles(rest), abs=result.quantile_error)


def test_ids_beyond_what_float64_tells_apart_keep_their_bound() -> None:
    values = np.uint64(2**63) + np.arange(100, dtype=np.uint64)
    distribution = Distribution.of(histogram(values, None, 16))
    assert distribution is not None
    result = distribution.statistics()
    assert result.quantile_error >= 2048.0  # one step of float64 there
    assert abs(result.median - float(values[49])) <= result.quantile_error


def test_more_than_a_million_distinct_values_stay_within_a_thousandth() -> None:
    rng = np.random.default_rng(7)
    values = np.concatenate([rng.normal(1000, 1, 1_300_000), rng.exponential(1e-6, 100_000), [5e4]])
    distribution = Distribution.of(histogram(values))
    assert distribution is not None
    result = distribution.statistics()
    span = result.max - result.min
    assert 0 < result.quantile_error <= 2**-19 * span
    assert stated(distribution) == pytest.approx(quantiles(values), abs=2**-19 * span)
    assert result.std == pytest.approx(values.std(), rel=1e-12)


@pytest.mark.parametrize("size", [0, 1, 2, 3, 131_071, 262_145, 600_001])
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2"])
def test_every_value_of_a_long_array_is_counted(dtype: str, size: int) -> None:
    info = np.iinfo(dtype)
    values = np.random.default_rng(size).integers(info.min, info.max, size, dtype, endpoint=True)
    found, counts = histogram(values).table()
    expected, expected_counts = np.unique(values, return_counts=True)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(counts, expected_counts)


def test_strided_blocks_are_counted() -> None:
    values = np.arange(60, dtype="i2").reshape(3, 4, 5)
    np.testing.assert_array_equal(histogram_of_view(values[:, ::2, 1:]), np.sort(values[:, ::2, 1:].ravel()))


def histogram_of_view(view: Array) -> Array:
    counted = ValueHistogram(view.dtype)
    counted.add(view)
    return counted.table()[0]


def test_negative_zero_is_zero() -> None:
    for dtype in ("f2", "f4", "f8"):
        values, counts = histogram(np.array([-0.0, 0.0, 0.5, -0.0], dtype)).table()
        assert values.tolist() == [0.0, 0.5]
        assert not np.signbit(values).any()
        assert counts.tolist() == [3, 1]


@settings(deadline=None, max_examples=60)
@given(voxels(DTYPES), st.sampled_from([8, 1 << 20]))
def test_state_comes_back(values: Array, limit: int) -> None:
    counted = histogram(values, stored_zero(values.dtype, 1.0, 0.0), limit)
    again = ValueHistogram.from_state(pickle.loads(pickle.dumps(counted.state())))
    assert plain(again) == plain(counted)
    distribution = Distribution.of(counted)
    if distribution is not None:
        assert Distribution.from_state(distribution.state()).statistics() == distribution.statistics()


def test_wrong_types_are_refused() -> None:
    with pytest.raises(TypeError, match="complex"):
        ValueHistogram(np.complex64)
    with pytest.raises(TypeError, match="int16"):
        ValueHistogram(np.uint8).add(np.zeros(3, np.int16))
    with pytest.raises(ValueError, match="do not merge"):
        ValueHistogram(np.uint8).merge(ValueHistogram(np.int8))
    with pytest.raises(ValueError, match="zero"):
        Distribution.of(histogram(np.ones(2)), zeros=3)


@settings(deadline=None, max_examples=60)
@given(voxels(DTYPES), scalings, st.randoms(use_true_random=False))
def test_divided_by_a_mask_each_side_is_numpys(
    values: Array, scaling: tuple[float, float], random: Any
) -> None:
    zero = stored_zero(values.dtype, *scaling)
    mask = np.array([random.random() < 0.4 for _ in range(values.size)])
    outside, inside = ValueHistogram(values.dtype, zero), ValueHistogram(values.dtype, zero)
    outside.add_divided(values, mask, inside)
    for side, part in ((inside, values[mask]), (outside, values[~mask])):
        finite = part[np.isfinite(part)]
        is_zero = np.zeros(finite.size, bool)
        if zero is not None:
            is_zero = (finite >= zero[0]) & (finite <= zero[1])
        assert side.empty == part.size - finite.size + np.count_nonzero(is_zero)
        distinct, counts = np.unique(finite[~is_zero], return_counts=True)
        stored, found = side.table()
        assert np.array_equal(stored, distinct)
        assert np.array_equal(found, counts)
        assert side.empty == part.size - finite.size + np.count_nonzero(is_zero)


def test_a_two_hundredth_to_the_voxel() -> None:
    """Ranks 500, 10,000, 50,000, 90,000 and 99,500 of 100,000 different values."""
    distribution = Distribution.of(histogram(np.arange(100_000, dtype="u4")))
    assert distribution is not None
    assert stated(distribution) == [499, 9_999, 49_999, 89_999, 99_499]


@pytest.mark.parametrize("limit", [8, 1 << 20])
@pytest.mark.parametrize("given", [range(-3000, -1024), range(-1023, 900), range(-900, 2000)])
def test_zeros_by_number_are_zeros_as_voxels(given: range, limit: int) -> None:
    """An intercept of -1024: the stored zero is 1024, below, above and among the other values."""
    stored = np.array(given, "i4") + 1024
    stored = stored[stored != 1024]
    with_zeros = np.concatenate([stored, np.full(7, 1024, "i4")])
    counted = histogram(stored, (1024, 1024), limit)
    distribution = Distribution.of(counted, 1.0, -1024.0, zeros=7)
    assert distribution is not None
    result = distribution.statistics()
    intensities = with_zeros.astype("f8") - 1024
    assert result.count == with_zeros.size
    assert (result.min, result.max) == (intensities.min(), intensities.max())
    assert result.mean == pytest.approx(intensities.mean(), rel=1e-12)
    assert result.std == pytest.approx(intensities.std(), rel=1e-12)
    assert stated(distribution) == pytest.approx(quantiles(intensities), abs=result.quantile_error)


@pytest.mark.parametrize("slope", [1.0, -2.0])
def test_the_middle_of_a_shared_bin_never_lies_beyond_the_values(slope: float) -> None:
    values = np.concatenate([np.linspace(0.0, 1.0, 50), [8.0, 8.0625]])
    distribution = Distribution.of(histogram(values, None, 4), slope)
    assert distribution is not None
    intensities, counts = distribution.table()
    low, high = sorted((0.0, 8.0625 * slope))
    assert low <= intensities.min()
    assert intensities.max() <= high
    assert counts.sum() == values.size


def test_one_more_is_one_more() -> None:
    """An intercept without a slope is not passed over."""
    distribution = Distribution.of(histogram(np.array([3, 4, 4], "u1")), 1.0, 1.0)
    assert distribution is not None
    assert distribution.range == (4.0, 5.0)
    assert distribution.table()[0].tolist() == [4.0, 5.0]
