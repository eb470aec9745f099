"""Bins of a power-of-two width, and the order of numbers, for every type that voxels have."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_SAFE_POWER = 1000
"""Below, 2^power and its inverse are ordinary float64 numbers."""
_MAX_INDEX = 2.0**51
"""Bins are numbered up to here, so that numbers relative to a window stay exact."""


def smallest_power(dtype: np.dtype[Any]) -> int:
    """The ``p`` for which bins of width 2^p hold one value each."""
    if dtype.kind == "f":
        info = np.finfo(dtype)
        return int(info.minexp) - int(info.nmant)
    return 0


def bins(values: NDArray[Any], power: int) -> NDArray[Any]:
    """Lower edges of the bins [k * 2^power, (k + 1) * 2^power), in the type of the values."""
    if values.dtype.kind != "f":
        if power >= 8 * values.dtype.itemsize:
            return np.where(values < 0, np.iinfo(values.dtype).min, 0).astype(values.dtype)
        shift = values.dtype.type(power)
        return np.asarray((values >> shift) << shift)
    wide = values.astype(np.float64)
    with np.errstate(over="ignore", under="ignore"):
        scaled = wide * 2.0**-power if abs(power) < _SAFE_POWER else np.ldexp(wide, -power)
        floor = np.floor(scaled)
        floor[(floor == 0) & (wide < 0)] = -1.0  # scaled below the smallest number
        edges = floor * 2.0**power if abs(power) < _SAFE_POWER else np.ldexp(floor, power)
    edges = np.where(np.isfinite(scaled), edges, wide)
    lowest = float(np.finfo(values.dtype).min)
    return np.asarray(np.maximum(edges, lowest) + 0.0, values.dtype)


def has_indices(low: Any, high: Any, power: int) -> bool:
    """Whether the bins of all values from ``low`` to ``high`` have numbers that float64 holds exactly."""
    largest = max(abs(float(low)), abs(float(high)))
    return abs(power) < _SAFE_POWER and largest * 2.0**-power < _MAX_INDEX


def bin_indices(values: NDArray[Any], power: int) -> NDArray[np.int64]:
    """The k of the bins [k * 2^power, (k + 1) * 2^power); see :func:`has_indices`."""
    if values.dtype.kind != "f":
        return np.asarray(values >> values.dtype.type(power), np.int64)
    scaled = values * np.float64(2.0**-power)
    indices = np.floor(scaled, out=scaled).astype(np.int64)
    if power > 0:
        indices[(indices == 0) & (values < 0)] = -1  # scaled below the smallest number
    return indices


def edges_of(indices: NDArray[np.int64], power: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Lower edges of the bins with these numbers, the inverse of :func:`bin_indices`."""
    if dtype.kind != "f":
        return (indices << power).astype(dtype)
    return np.asarray(np.maximum(indices * 2.0**power, float(np.finfo(dtype).min)), dtype)


def fitting_power(values: NDArray[Any], power: int, limit: int) -> int:
    """Smallest power above ``power`` for which ascending values use at most ``limit`` bins."""
    low, high = power, power
    step = 1
    extent = float(values[-1]) / 2 - float(values[0]) / 2
    likely = int(np.frexp(extent / limit)[1]) - 2
    if likely > low and _used(values, likely) > limit:
        low = likely
    high = low + step
    while _used(values, high) > limit:
        low, step = high, 2 * step
        high = low + step
    while high - low > 1:
        middle = (low + high) // 2
        if _used(values, middle) > limit:
            low = middle
        else:
            high = middle
    return high


def _used(values: NDArray[Any], power: int) -> int:
    edges = bins(values, power)
    return 1 + int(np.count_nonzero(edges[1:] != edges[:-1]))


def stored_zero(dtype: np.dtype[Any], slope: float, intercept: float) -> tuple[Any, Any] | None:
    """Smallest and largest stored value for which ``slope`` * stored + ``intercept`` is 0 in float64.

    The intensity is monotone in the stored value, so that two bisections find them. None: no value gives 0.
    """
    if dtype.kind == "b":
        zero = [v for v in (False, True) if slope * v + intercept == 0.0]
        return (zero[0], zero[-1]) if zero else None
    sign = -1.0 if slope < 0 else 1.0
    low, high = _ordinal_range(dtype)
    first = _bisect(lambda k: sign * (slope * float(_value(k, dtype)) + intercept) >= 0.0, low, high)
    after = _bisect(lambda k: sign * (slope * float(_value(k, dtype)) + intercept) > 0.0, low, high)
    return (_value(first, dtype), _value(after - 1, dtype)) if after > first else None


def _bisect(holds: Any, low: int, high: int) -> int:
    """Smallest integer in [low, high) from which a monotone condition holds; ``high`` if it never does."""
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low


def _ordinal_range(dtype: np.dtype[Any]) -> tuple[int, int]:
    if dtype.kind == "f":
        largest = int(np.array(np.finfo(dtype).max).view(f"i{dtype.itemsize}"))
        return -largest, largest + 1
    info = np.iinfo(dtype)
    return int(info.min), int(info.max) + 1


def _value(ordinal: int, dtype: np.dtype[Any]) -> Any:
    """The finite value at a place of the ascending order of a type."""
    if dtype.kind != "f":
        return dtype.type(ordinal)
    magnitude = np.array(abs(ordinal), f"i{dtype.itemsize}").view(dtype)[()]
    return -magnitude if ordinal < 0 else magnitude
