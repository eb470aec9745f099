"""Exact sums of values and of their squares, and what follows from them, rounded once.

Sums are Python integers in fixed point, so that neither the order of blocks nor merging changes a bit.
Block by block they are built by error-free extraction: the leading bits of all values are cut at one common
bit position where their float64 sum cannot round, and the remainders go through the same again
(Rump, Ogita, Oishi: Accurate floating-point summation I, SIAM J. Sci. Comput. 31, 2008).
"""

from __future__ import annotations

import math
import sys
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

SUM_BITS = 1074
"""Fractional bits of an exact sum: every finite float64 is a multiple of 2^-1074 (IEEE 754)."""
SQUARE_BITS = 2 * SUM_BITS
"""Fractional bits of an exact sum of squares."""
FIXED_BITS = 4400
"""Fractional bits of the moments of a mixture: (slope * value)^2 of float64 numbers needs 4296."""

_LARGEST = sys.float_info.max
_FLOAT64_BITS = 53
_MAX_WEIGHT = 1 << 48
"""Voxels of one sum: beyond, the common bit position leaves too few bits (256 TiB of uint8)."""
_CHUNK = 1 << 15
"""Values a step, so that the float64 temporaries stay in a second-level cache of 512 KiB."""
_SAFE_EXPONENT = 400
"""Squares and products of numbers within 2^-400 .. 2^400 neither overflow nor lose bits in float64."""
_RESCALE = 600
"""Power of two that brings float64 numbers outside that range into one that is as safe."""


def exact_sum(values: NDArray[np.float64], counts: NDArray[np.float64] | None = None) -> int:
    """Sum of finite values below 2^900, each times its count, in units of 2^-:data:`SUM_BITS`; exact."""
    weight = values.size if counts is None else int(counts.sum())
    if weight > _MAX_WEIGHT:
        msg = f"exact sums are made for at most {_MAX_WEIGHT} voxels, got {weight}"
        raise OverflowError(msg)
    spare = max(2, weight.bit_length())
    total = 0
    rest = values
    while rest.size and (largest := max(float(rest.max()), -float(rest.min()))) > 0.0:
        cut = math.ldexp(1.5, math.frexp(largest)[1] + spare - 1)
        leading = rest + cut
        leading -= cut
        part = float(leading.sum() if counts is None else np.dot(leading, counts))
        numerator, denominator = part.as_integer_ratio()
        total += numerator << (SUM_BITS + 1 - denominator.bit_length())
        rest = np.subtract(rest, leading, out=leading)
        if 4 * np.count_nonzero(rest) < rest.size:
            left = np.flatnonzero(rest)
            rest = rest[left]
            counts = None if counts is None else counts[left]
    return total


def sum_and_squares(values: NDArray[Any], counts: NDArray[np.int64] | None = None) -> tuple[int, int]:
    """Exact sums of finite stored values and of their squares, each value counted ``counts`` times.

    Returns:
        The sum in units of 2^-:data:`SUM_BITS` and the sum of squares in units of 2^-:data:`SQUARE_BITS`.
    """
    total = squares = 0
    for start in range(0, values.size, _CHUNK):
        part = values[start : start + _CHUNK]
        weights = None if counts is None else counts[start : start + _CHUNK].astype(np.float64)
        if part.dtype == np.float64:
            added, added_squares = _sum_wide_floats(part, weights)
        else:
            added, added_squares = _sum_pieces(_pieces(part), weights)
        total += added
        squares += added_squares
    return total, squares


def _sum_wide_floats(values: NDArray[np.float64], counts: NDArray[np.float64] | None) -> tuple[int, int]:
    """As :func:`sum_and_squares`, for float64: very large and very small magnitudes are rescaled first."""
    size = np.abs(values)
    large, small = size >= 2.0**_SAFE_EXPONENT, (size < 2.0**-_SAFE_EXPONENT) & (size > 0)
    if not (large.any() or small.any()):
        return _sum_doubles(values, counts)
    total = squares = 0
    for chosen, power in ((large, -_RESCALE), (small, _RESCALE), (~(large | small), 0)):
        part = np.ldexp(values[chosen], power)
        added, added_squares = _sum_doubles(part, None if counts is None else counts[chosen])
        total += added << -power if power < 0 else added >> power
        squares += added_squares << -2 * power if power < 0 else added_squares >> 2 * power
    return total, squares


def _sum_pieces(pieces: list[NDArray[np.float64]], counts: NDArray[np.float64] | None) -> tuple[int, int]:
    total = squares = 0
    for i, piece in enumerate(pieces):
        total += exact_sum(piece, counts)
        squares += exact_sum(piece * piece, counts)
        for other in pieces[:i]:
            squares += 2 * exact_sum(piece * other, counts)
    return total, squares << (SQUARE_BITS - SUM_BITS)


def _sum_doubles(values: NDArray[np.float64], counts: NDArray[np.float64] | None) -> tuple[int, int]:
    """For float64 of safe magnitude: the square as its rounded value and its exact error (Dekker 1971)."""
    scaled = values * 134217729.0  # 2^27 + 1, Veltkamp's splitting
    high = scaled - (scaled - values)
    low = values - high
    square = values * values
    error = ((high * high - square) + 2.0 * high * low) + low * low
    squares = exact_sum(square, counts) + exact_sum(error, counts)
    return exact_sum(values, counts), squares << (SQUARE_BITS - SUM_BITS)


def _pieces(values: NDArray[Any]) -> list[NDArray[np.float64]]:
    """Float64 arrays of at most 26 significant bits that add up to the values: their products are exact."""
    if values.dtype.kind == "f" or values.dtype.itemsize <= 2:
        return [values.astype(np.float64)]
    width, parts = (16, 2) if values.dtype.itemsize == 4 else (22, 3)
    mask = values.dtype.type((1 << width) - 1)
    pieces = []
    for i in range(parts):
        limb = values >> values.dtype.type(width * i)
        if i < parts - 1:
            limb = limb & mask
        pieces.append(np.ldexp(limb.astype(np.float64), width * i))
    return pieces


def moments_of_intensity(
    total: int, squares: int, count: int, slope: float, intercept: float
) -> tuple[Fraction, Fraction]:
    """Exact mean of ``slope`` * stored + ``intercept`` and of its square, from sums of stored values."""
    a, b = Fraction(slope), Fraction(intercept)
    mean = Fraction(total, count << SUM_BITS)
    square = Fraction(squares, count << SQUARE_BITS)
    return a * mean + b, a * a * square + 2 * a * b * mean + b * b


def to_fixed(value: Fraction) -> int:
    """A fraction in units of 2^-:data:`FIXED_BITS`, rounded down."""
    return (value.numerator << FIXED_BITS) // value.denominator


def nearest_float(value: Fraction) -> float:
    """The float64 next to a fraction; beyond its range the largest finite number."""
    try:
        return float(value)
    except OverflowError:
        return -_LARGEST if value < 0 else _LARGEST


def standard_deviation(mean: Fraction, square: Fraction) -> float:
    """Square root of ``square`` - ``mean``^2, rounded to float64 once; at most its largest number."""
    variance = square - mean * mean
    if variance <= 0:
        return 0.0
    top, bottom = variance.numerator, variance.denominator
    shift = max(0, 2 * _FLOAT64_BITS - (top.bit_length() - bottom.bit_length()) // 2)
    scaled, left_over = divmod(top << 2 * shift, bottom)
    root = math.isqrt(scaled)
    inexact = bool(left_over) or root * root != scaled
    try:
        return (root << 1 | inexact) / (1 << shift + 1)
    except OverflowError:
        return _LARGEST
