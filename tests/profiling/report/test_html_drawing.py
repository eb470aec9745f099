"""Bars, scales, colours, orientation and PNG: numbers computed another way."""

from __future__ import annotations

import imagecodecs
import numpy as np
import pytest

from voxplan.profiling.fingerprint import IntensityStatistics
from voxplan.profiling.histogram import ValueHistogram
from voxplan.profiling.report.html.charts import CaseRange, Strip, range_chart, strip_chart
from voxplan.profiling.report.html.colours import FULL_PALETTE, IGNORE_INDEX, LabelColours
from voxplan.profiling.report.html.histograms import are_whole, collect_bars
from voxplan.profiling.report.html.orientation import view_across
from voxplan.profiling.report.html.png import encode_indexed
from voxplan.profiling.report.html.svg import element, linear_ticks, number, scale_of
from voxplan.profiling.statistics import Distribution, pooled


def distribution(values: np.ndarray, slope: float = 1.0) -> Distribution:
    histogram = ValueHistogram(values.dtype, None)
    histogram.add(values)
    found = Distribution.of(histogram, slope)
    assert found is not None
    return found


def numbers_of(*cases: Distribution) -> IntensityStatistics:
    found = pooled(cases)
    assert found is not None
    return found


def test_bars_of_whole_numbers_are_numpys_histogram() -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.normal(100, 40, 5000).astype(np.int16), rng.normal(300, 90, 900).astype(np.int16)]
    cases = [distribution(array) for array in arrays]
    together = numbers_of(*cases)
    bars = collect_bars([cases[0], None, cases[1]], together, whole=True)
    assert bars.width == int(bars.width)
    edges = bars.start + bars.width * np.arange(bars.by_voxel.size + 1)
    everything = np.concatenate(arrays)
    counts = np.histogram(everything, edges)[0]
    np.testing.assert_allclose(bars.by_voxel, counts / everything.size)
    shares = [np.histogram(array, edges)[0] / array.size for array in arrays]
    np.testing.assert_allclose(bars.by_case, np.mean(shares, axis=0))
    assert bars.below == pytest.approx((everything < edges[0]).mean())
    assert bars.above == pytest.approx((everything > edges[-1]).mean())
    assert bars.by_voxel.sum() + bars.below + bars.above == pytest.approx(1)


def test_bars_of_fractions_hold_the_largest_value() -> None:
    values = np.linspace(-1, 1, 1001).astype(np.float32)
    case = distribution(values)
    bars = collect_bars([case], numbers_of(case), whole=False)
    assert bars.by_voxel.sum() == pytest.approx(1)
    assert bars.stop == pytest.approx(1)


def test_one_value_is_one_bar() -> None:
    case = distribution(np.full(10, 7, np.uint8))
    bars = collect_bars([case], numbers_of(case), whole=True)
    assert bars.by_voxel.tolist() == [1.0]
    assert (bars.start, bars.stop) == (6.5, 7.5)


def test_slopes_make_fractions() -> None:
    array = np.arange(200, dtype=np.uint8)
    assert are_whole(["uint8", "uint8,int16"], numbers_of(distribution(array)))
    assert not are_whole(["uint8"], numbers_of(distribution(array, slope=2.2086)))
    assert not are_whole(["uint8", "float32"], numbers_of(distribution(array)))


@pytest.mark.parametrize(
    ("low", "high", "wanted", "ticks"),
    [(0.0, 100.0, 5, [0, 20, 40, 60, 80, 100]), (0.13, 0.71, 3, [0.2, 0.4, 0.6]), (-3.0, 3.0, 3, [-2, 0, 2])],
)
def test_ticks_are_round(low: float, high: float, wanted: int, ticks: list[float]) -> None:
    assert linear_ticks(low, high, wanted) == pytest.approx(ticks)


def test_wide_ranges_are_logarithmic() -> None:
    scale = scale_of([1.0, 1000.0], 0.0, 300.0)
    assert scale.log
    assert scale(1000.0) - scale(100.0) == pytest.approx(scale(100.0) - scale(10.0))
    assert {1, 10, 100, 1000} <= set(scale.ticks())
    assert not scale_of([100.0, 200.0], 0.0, 300.0).log
    assert not scale_of([-1.0, 1000.0], 0.0, 300.0).log


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (12345, "12,345"), (0.5, "0.5"), (2.5e7, "2.5·10⁷"), (1e-5, "10⁻⁵"), (-1.25, "-1.25")],
)
def test_numbers_are_short(value: float, shown: str) -> None:
    assert number(value) == shown


def test_text_and_attributes_are_escaped() -> None:
    made = element("text", "<script>", title='"><script>')
    assert "<script>" not in str(made)
    assert str(made) == '<text title="&#34;&gt;&lt;script&gt;">&lt;script&gt;</text>'


def test_hostile_case_names_stay_text_in_drawings() -> None:
    chart = strip_chart("k", "t", "u", [Strip(label="Z", values=[1, 2, 3], cases=["<b>", "b", "c"])], {"<b>"})
    assert chart is not None
    assert "<b>" not in str(chart.svg)
    assert "&lt;b&gt; stands out" in str(chart.svg)


def test_thousands_of_dots_are_one_path() -> None:
    values = [float(n % 97) for n in range(5000)]
    cases = [f"case_{n}" for n in range(5000)]
    chart = strip_chart("k", "t", "u", [Strip(label="Z", values=values, cases=cases)], {"case_7"})
    assert chart is not None
    assert str(chart.svg).count("<circle") == 1
    assert len(chart.svg) < 120_000


def test_indexed_png_decodes_to_its_colours() -> None:
    indices = np.array([[0, 1, 2], [13, 0, 5]], np.uint8)
    decoded = imagecodecs.png_decode(encode_indexed(indices, FULL_PALETTE))
    assert decoded.shape == (2, 3, 4)
    assert decoded[0, 0, 3] == 0
    for (row, column), index in np.ndenumerate(indices):
        if index:
            assert tuple(decoded[row, column]) == (*FULL_PALETTE[index - 1], 255)


def test_png_refuses_an_index_without_colour() -> None:
    with pytest.raises(ValueError, match="14 has no colour"):
        encode_indexed(np.array([[14]], np.uint8), FULL_PALETTE)


def test_colours_follow_classes_and_ids() -> None:
    colours = LabelColours({"background": (0,), "cell": (4,), "both": (2, 4)}, ignore=9)
    found = colours.indices(np.array([[0, 2, 4, 9]], np.uint64))[0].tolist()
    assert found == [0, 1, 2, IGNORE_INDEX]
    assert [name for name, _ in colours.legend()] == ["both", "cell"]
    ids = LabelColours({}, None).indices(np.array([2**63, 2**63 + 1, 17], np.uint64))
    assert ids.min() >= 1
    assert ids.max() < IGNORE_INDEX


@pytest.mark.parametrize(
    ("axis", "flips", "edges"),
    [
        # Z to the head, Y to the nose, X to the patient's right: nose and head up, the right on the left
        (0, (True, True), ("A", "P", "R", "L")),
        (1, (True, True), ("S", "I", "R", "L")),
        (2, (True, True), ("S", "I", "A", "P")),
    ],
)
def test_anatomical_views(axis: int, flips: tuple[bool, bool], edges: tuple[str, ...]) -> None:
    view = view_across(axis, "SAR")
    assert (view.flip_down, view.flip_right) == flips
    assert view.edges == edges


def test_other_orientations() -> None:
    view = view_across(0, "IPL")
    assert (view.flip_down, view.flip_right) == (False, False)
    assert view.edges == ("A", "P", "R", "L")
    assert view_across(1, "IPL").edges == ("S", "I", "R", "L")
    for unknown in (None, "XYZ", ""):
        view = view_across(0, unknown)
        assert (view.flip_down, view.flip_right, view.edges) == (False, False, ("", "", "", ""))
    assert view_across(2, None).name == "z × y"


def test_a_narrow_range_that_stands_out_is_seen() -> None:
    """Its bar is as thin as the dot of its median, which hid the red."""
    ranges = [CaseRange(case=f"c{n}", low=100, middle=120, high=160) for n in range(400)]
    ranges[44] = CaseRange(case="c44", low=17, middle=17, high=17)
    chart = range_chart("r", "Ranges", "intensity", ranges, {"c44"})
    assert chart is not None
    assert chart.svg.count('class="dot odd"') == 1
    assert "c44 stands out: median 17" in chart.svg
    assert chart.svg.index('class="dot odd"') > chart.svg.index('class="middles thin"'), "drawn over it"
