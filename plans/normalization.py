"""Intensities to network input, as the plan says, channel by channel. numpy only.

The formulas are nnU-Net's (2.8.1, ``preprocessing/normalization/default_normalization_schemes.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .schema import CaseNumbers, ChannelNormalization, DatasetPlan

SMALLEST_DIVISOR = 1e-8
"""Least standard deviation or range that is divided by, in intensities (nnU-Net)."""


def needs_case_numbers(channels: Sequence[ChannelNormalization]) -> bool:
    """Whether some channel is normalized by each case's own mean and std."""
    return any(channel.scheme == "zscore" for channel in channels)


class CaseMoments:
    """Mean and std of a case, channel by channel, from blocks that arrive one by one.

    They cover the crop box (the bounds of all voxels that are not zero in some channel), or the channel's
    non-zero voxels where the scheme is masked. Voxels outside the box are zero in every channel, so only
    their number matters: one pass is enough. Non-finite voxels are left out. Sums are float64.
    """

    def __init__(self, channels: int) -> None:
        self._sums = np.zeros(channels)
        self._squares = np.zeros(channels)
        self._nonzero = np.zeros(channels, np.int64)
        self._non_finite = np.zeros(channels, np.int64)
        self._low: NDArray[np.int64] | None = None
        self._high: NDArray[np.int64] | None = None

    def add(self, block: NDArray[Any], origin: tuple[int, int, int]) -> None:
        """A block of intensities ``(C, z, y, x)`` whose first voxel stands at ``origin`` (ZYX)."""
        occupied = np.any(block != 0, axis=0)
        if not occupied.any():
            return
        for axis in range(3):
            others = tuple(other for other in range(3) if other != axis)
            where = np.flatnonzero(occupied.any(axis=others))
            self._widen(axis, origin[axis] + int(where[0]), origin[axis] + int(where[-1]) + 1)
        for index, channel in enumerate(block):
            values = channel[channel != 0].astype(np.float64)
            finite = values[np.isfinite(values)]
            self._sums[index] += finite.sum()
            self._squares[index] += np.square(finite).sum()
            self._nonzero[index] += finite.size
            self._non_finite[index] += values.size - finite.size

    def _widen(self, axis: int, low: int, high: int) -> None:
        if self._low is None or self._high is None:
            self._low, self._high = np.full(3, np.iinfo(np.int64).max), np.zeros(3, np.int64)
        self._low[axis] = min(self._low[axis], low)
        self._high[axis] = max(self._high[axis], high)

    def numbers(self, channels: Sequence[ChannelNormalization]) -> CaseNumbers:
        """Population mean and std of each channel; 0 and 1 where there is no voxel to count."""
        box = 0 if self._low is None or self._high is None else int(np.prod(self._high - self._low))
        means, stds = [], []
        for index, channel in enumerate(channels):
            count = int(self._nonzero[index]) if channel.masked else box - int(self._non_finite[index])
            if count == 0:
                means.append(0.0)
                stds.append(1.0)
                continue
            mean = float(self._sums[index]) / count
            variance = max(float(self._squares[index]) / count - mean * mean, 0.0)
            means.append(mean)
            stds.append(variance**0.5)
        return CaseNumbers(mean=tuple(means), std=tuple(stds))


def measure_case(volume: NDArray[Any], channels: Sequence[ChannelNormalization]) -> CaseNumbers:
    """Mean and std of each channel of a whole case ``(C, *shape)`` in intensities."""
    if volume.ndim == 3:
        volume = volume[:, np.newaxis]
    moments = CaseMoments(len(volume))
    moments.add(volume, (0, 0, 0))
    return moments.numbers(channels)


def normalize(volume: NDArray[Any], dataset: DatasetPlan, case_id: str | None = None) -> NDArray[np.float32]:
    """Network input from the intensities of a case, as the plan's data set says.

    Args:
        volume: intensities ``(C, *shape)``, or ``(Z, Y, X)`` where there is a single channel; is not changed.
        dataset: its normalization and its numbers by case.
        case_id: the case; its mean and std stand in the plan where a scheme needs them. For a case that the
            plan does not know (or None) they are measured on ``volume``, which must then be the whole case.

    Returns:
        float32 ``(C, *shape)``. Voxels outside a mask, and non-finite voxels, are 0.

    Raises:
        ValueError: the volume has not the plan's channels.
    """
    numbers = None if case_id is None else dataset.case_numbers.get(case_id)
    return normalize_channels(volume, dataset.normalization, numbers)


def normalize_channels(
    volume: NDArray[Any],
    channels: Sequence[ChannelNormalization],
    numbers: CaseNumbers | None = None,
) -> NDArray[np.float32]:
    """As :func:`normalize`, from the choices themselves and a case's numbers (measured where None)."""
    if volume.ndim == 3 and len(channels) == 1 and len(volume) != 1:
        volume = volume[np.newaxis]
    if volume.ndim not in (3, 4) or len(volume) != len(channels):
        names = ", ".join(channel.channel for channel in channels)
        msg = (
            f"the plan normalizes {len(channels)} channels ({names}): expected an array (C, Z, Y, X) with "
            f"C={len(channels)}, got shape {volume.shape}"
        )
        raise ValueError(msg)
    if not needs_case_numbers(channels):
        numbers = None
    elif numbers is None:
        numbers = measure_case(volume, channels)
    elif len(numbers.mean) != len(channels) or len(numbers.std) != len(channels):
        msg = f"mean and std are given for {len(numbers.mean)} channels, but the plan has {len(channels)}"
        raise ValueError(msg)
    result = np.empty(volume.shape, np.float32)
    for index, channel in enumerate(channels):
        result[index] = volume[index]
        if numbers is not None and channel.scheme == "zscore":
            _normalize_channel(result[index], channel, numbers.mean[index], numbers.std[index])
        else:
            _normalize_channel(result[index], channel, channel.mean, channel.std)
    return result


def _normalize_channel(
    values: NDArray[np.float32], channel: ChannelNormalization, mean: float | None, std: float | None
) -> None:
    """In place. Bounds and divisors are Python floats, so that float32 arrays stay float32."""
    outside = ~np.isfinite(values)
    if channel.scheme == "zscore" and channel.masked:
        outside |= values == 0
    if channel.scheme in ("ct", "zscore"):
        if channel.scheme == "ct":
            np.clip(values, _given(channel, "low"), _given(channel, "high"), out=values)
        if mean is None or std is None:
            mean, std = _given(channel, "mean"), _given(channel, "std")
        values -= np.float32(mean)
        values /= np.float32(max(std, SMALLEST_DIVISOR))
    elif channel.scheme == "scale":
        low, high = _given(channel, "low"), _given(channel, "high")
        values -= np.float32(low)
        values /= np.float32(max(high - low, SMALLEST_DIVISOR))
    values[outside] = 0


def _given(channel: ChannelNormalization, field: str) -> float:
    value = getattr(channel, field)
    if value is None:
        msg = (
            f"normalization of channel {channel.channel!r}: scheme {channel.scheme!r} needs {field!r}, but "
            "the plan has none: make the plan again, or write the number into it"
        )
        raise ValueError(msg)
    return float(value)
