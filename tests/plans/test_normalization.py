"""Normalization against nnU-Net's formulas written out, and against numpy on the whole array."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from voxplan.plans.normalization import CaseMoments, measure_case, normalize_channels
from voxplan.plans.schema import CaseNumbers, ChannelNormalization


def channel(scheme: str, **fields: Any) -> ChannelNormalization:
    return ChannelNormalization.model_validate({"channel": "x", "scheme": scheme, **fields})


@pytest.fixture
def volume() -> np.ndarray[Any, Any]:
    """Two channels, intensities in a box, zeros around."""
    rng = np.random.default_rng(3)
    array = np.zeros((2, 9, 12, 11), np.float32)
    array[:, 2:7, 3:10, 1:9] = rng.normal(120, 40, (2, 5, 7, 8)).round()
    array[0, 3, 4, 5] = 0
    return array


def test_ct_clips_then_scales(volume: np.ndarray[Any, Any]) -> None:
    choice = channel("ct", mean=100.0, std=50.0, low=60.0, high=160.0)
    expected = (np.clip(volume[:1].astype(np.float64), 60, 160) - 100) / 50
    result = normalize_channels(volume[:1], [choice])
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, atol=1e-6)


def test_scale_does_not_clip() -> None:
    values = np.array([0, 51, 255, 510]).reshape(1, 1, 1, 4)
    result = normalize_channels(values, [channel("scale", low=0.0, high=255.0)])
    np.testing.assert_allclose(result.ravel(), [0, 0.2, 1, 2], rtol=1e-6)


def test_none_keeps_every_bit() -> None:
    values = np.arange(256, dtype=np.uint8).reshape(1, 4, 8, 8)
    assert np.array_equal(normalize_channels(values, [channel("none")]), values)


def test_zscore_uses_the_given_numbers(volume: np.ndarray[Any, Any]) -> None:
    numbers = CaseNumbers(mean=(10.0, 20.0), std=(2.0, 4.0))
    result = normalize_channels(volume, [channel("zscore"), channel("zscore")], numbers)
    np.testing.assert_allclose(result[0], (volume[0] - 10) / 2, rtol=1e-6)
    np.testing.assert_allclose(result[1], (volume[1] - 20) / 4, rtol=1e-6)


def test_zscore_measures_the_crop_box(volume: np.ndarray[Any, Any]) -> None:
    """The box is that of all channels: a zero inside it counts."""
    box = volume[0, 2:7, 3:10, 1:9].astype(np.float64)
    result = normalize_channels(volume, [channel("zscore")] * 2)
    np.testing.assert_allclose(result[0], (volume[0] - box.mean()) / box.std(), rtol=1e-5, atol=1e-6)


def test_masked_zscore_touches_only_nonzero_voxels(volume: np.ndarray[Any, Any]) -> None:
    inside = volume[0][volume[0] != 0].astype(np.float64)
    result = normalize_channels(volume, [channel("zscore", masked=True)] * 2)
    assert (result[0][volume[0] == 0] == 0).all()
    normalized = result[0][volume[0] != 0]
    np.testing.assert_allclose(normalized, (inside - inside.mean()) / inside.std(), rtol=1e-5, atol=1e-6)


def test_moments_do_not_depend_on_blocks(volume: np.ndarray[Any, Any]) -> None:
    volume[1, 4, 4, 4] = np.nan
    channels = [channel("zscore"), channel("zscore", masked=True)]
    whole = measure_case(volume, channels)
    moments = CaseMoments(2)
    for start in (6, 0, 3):
        moments.add(volume[:, start : start + 3, :5], (start, 0, 0))
        moments.add(volume[:, start : start + 3, 5:], (start, 5, 0))
    assert moments.numbers(channels).mean == pytest.approx(whole.mean, rel=1e-12)
    assert moments.numbers(channels).std == pytest.approx(whole.std, rel=1e-12)
    box = volume[:, 2:7, 3:10, 1:9].astype(np.float64)
    assert whole.mean == pytest.approx((box[0].mean(), np.nanmean(np.where(box[1] == 0, np.nan, box[1]))))


def test_non_finite_voxels_become_zero() -> None:
    values = np.array([1.0, np.nan, np.inf, 3.0]).reshape(1, 1, 1, 4)
    result = normalize_channels(values, [channel("scale", low=0.0, high=1.0)])
    assert result.ravel().tolist() == [1, 0, 0, 3]


def test_constant_case_divides_by_no_zero() -> None:
    values = np.full((1, 2, 2, 2), 7.0)
    assert (normalize_channels(values, [channel("zscore")]) == 0).all()


def test_empty_case_stays_zero() -> None:
    assert (normalize_channels(np.zeros((1, 2, 2, 2)), [channel("zscore", masked=True)]) == 0).all()


def test_wrong_channels_are_named() -> None:
    with pytest.raises(ValueError, match=r"2 channels.*got shape \(1, 2, 2, 2\)"):
        normalize_channels(np.zeros((1, 2, 2, 2)), [channel("none")] * 2)


def test_missing_number_says_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"scheme 'scale' needs 'high'.*make the plan again"):
        normalize_channels(np.zeros((1, 2, 2, 2)), [channel("scale", low=0.0)])
