from __future__ import annotations

import numpy as np
import pytest

from voxplan.planning.rules.spacing import (
    coarser_spacing,
    median_shape_at_spacing,
    needs_separate_z,
    shape_at_spacing,
    target_spacing,
    transpose_axes,
)


def test_the_target_is_the_median_of_each_axis() -> None:
    spacings = [(2.0, 0.5, 0.7), (4.0, 0.9, 0.6), (3.0, 0.8, 0.8)]
    assert target_spacing(spacings, [(100, 100, 100)] * 3) == (3.0, 0.8, 0.7)


def test_a_thick_axis_with_few_voxels_takes_its_tenth_percentile() -> None:
    """Eleven cases at 3, 3.1 ... 4: the tenth percentile is the second, 3.1."""
    spacings = [(3.0 + step / 10, 0.5, 0.5) for step in range(11)]
    z, y, x = target_spacing(spacings, [(40, 400, 400)] * 11)
    assert (z, y, x) == (pytest.approx(3.1), 0.5, 0.5)


def test_a_thick_axis_with_many_voxels_keeps_its_median() -> None:
    spacings = [(3.0 + step / 10, 0.5, 0.5) for step in range(11)]
    assert target_spacing(spacings, [(140, 400, 400)] * 11)[0] == pytest.approx(3.5)


def test_a_thick_axis_never_gets_finer_than_the_others() -> None:
    """Two cases in eleven are finer along z than the plane: their percentile would turn the volume round."""
    spacings = [(0.2, 0.5, 0.5)] * 2 + [(4.0, 0.5, 0.5)] * 9
    assert target_spacing(spacings, [(40, 400, 400)] * 11)[0] == pytest.approx(0.5 + 1e-5, abs=1e-12)


@pytest.mark.parametrize(
    ("spacing", "forward", "backward"),
    [
        ((5.0, 1.0, 1.0), (0, 1, 2), (0, 1, 2)),
        ((1.0, 5.0, 2.0), (1, 0, 2), (1, 0, 2)),
        ((1.0, 2.0, 5.0), (2, 0, 1), (1, 2, 0)),
        ((1.0, 1.0, 1.0), (0, 1, 2), (0, 1, 2)),
    ],
)
def test_the_coarsest_axis_comes_first(
    spacing: tuple[float, ...], forward: tuple[int, ...], backward: tuple[int, ...]
) -> None:
    assert transpose_axes(spacing) == (forward, backward)
    data = np.arange(24).reshape(2, 3, 4)
    np.testing.assert_array_equal(data.transpose(forward).transpose(backward), data)


def test_resampled_shapes_round_half_to_even() -> None:
    assert shape_at_spacing((5, 7, 10), (1.0, 1.0, 3.0), (2.0, 2.0, 1.0)) == (2, 4, 30)


def test_the_median_shape_of_an_even_number_of_cases_may_hold_halves() -> None:
    shapes = [(10, 20, 30), (13, 20, 30)]
    assert median_shape_at_spacing(shapes, [(1.0, 2.0, 1.0)] * 2, (1.0, 1.0, 1.0)) == (11.5, 40.0, 30.0)


def test_lagging_axes_are_coarsened_alone() -> None:
    assert coarser_spacing((5.0, 1.0, 2.5)) == pytest.approx((5.0, 1.03, 2.5))
    assert coarser_spacing((2.0, 1.0, 1.5)) == pytest.approx((2.06, 1.03, 1.545))


def test_repeated_coarsening_ends_balanced() -> None:
    spacing: tuple[float, ...] = (45.0, 4.6, 4.6)
    for _ in range(60):
        spacing = coarser_spacing(spacing)
    assert max(spacing) / min(spacing) <= 2.0


def test_separate_resampling_of_a_thick_axis() -> None:
    assert needs_separate_z((3.1, 1.0, 1.0))
    assert not needs_separate_z((3.0, 1.0, 1.0))


def test_one_row_a_case_is_needed() -> None:
    with pytest.raises(ValueError, match="one row a case"):
        target_spacing([1.0, 1.0, 1.0], [[1, 1, 1]])


def thick(spacing: tuple[float, float, float], shape: tuple[int, int, int]) -> bool:
    """Whether z takes its 10th percentile, the first of eleven cases being finer there."""
    spacings = [(spacing[0] * 0.9, *spacing[1:])] * 2 + [spacing] * 9
    return target_spacing(spacings, [shape] * 11)[0] != pytest.approx(spacing[0])


def test_an_axis_is_thick_beyond_three_times_the_largest_other_one() -> None:
    assert thick((3.1, 1.0, 0.5), (40, 400, 400))
    assert not thick((3.0, 1.0, 0.5), (40, 400, 400))
    assert not thick((2.9, 1.0, 0.5), (40, 400, 400))


def test_a_thick_axis_has_fewer_voxels_than_a_third_of_the_smallest_other_one() -> None:
    assert thick((5.0, 1.0, 1.0), (99, 300, 900))
    assert not thick((5.0, 1.0, 1.0), (100, 300, 900))
    assert not thick((5.0, 1.0, 1.0), (101, 300, 900))


def test_the_voxels_are_the_median_over_cases() -> None:
    """z of 100 and 101 at equal odds: their median, not a higher percentile, is compared with 301.4."""
    spacings = [(4.0, 1.0, 1.0), (5.0, 1.0, 1.0)]
    shapes = [(100, 301.51, 900), (101, 301.51, 900)]
    assert target_spacing(spacings, shapes)[0] == pytest.approx(4.1)


def test_a_thick_axis_as_fine_as_the_others_stays_what_it_is() -> None:
    spacings = [(1.0, 1.0, 1.0)] * 2 + [(4.0, 1.0, 1.0)] * 9
    assert target_spacing(spacings, [(40, 400, 400)] * 11)[0] == 1.0


def test_separate_resampling_goes_by_the_ratio() -> None:
    assert needs_separate_z((0.5, 0.1, 0.1))
    assert not needs_separate_z((3.0, 2.0, 2.0))
