"""From two traces of one network to its step at any patch and batch.

In a fixed topology every axis of every tensor is constant, proportional to the batch, or affine in one edge
of the patch (a transposed convolution makes ``2 n - 1``), and follows from two traces. The events, with their
sizes scaled, then replay through the allocator. Where no tensor fills a block, its bytes are taken as
constant, proportional to the batch or to batch x voxels, or affine in batch x voxels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil, prod

from .events import Trace

Scale = Callable[["Size"], int]


@dataclass(frozen=True, slots=True)
class Size:
    """Batch and patch of one step."""

    batch: int
    patch: tuple[int, ...]

    @property
    def voxels(self) -> int:
        """Of one sample."""
        return prod(self.patch)

    @property
    def volume(self) -> int:
        """Batch x voxels."""
        return self.batch * self.voxels


def _number(first: int, second: int, one: Size, other: Size) -> Scale:
    """A number that is known at two sizes, at any size."""
    if first == second:
        return lambda size: first
    if first * other.batch == second * one.batch:
        return lambda size: ceil(first * size.batch / one.batch)
    if first * other.volume == second * one.volume:
        return lambda size: ceil(first * size.volume / one.volume)
    if first * other.voxels == second * one.voxels:
        return lambda size: ceil(first * size.voxels / one.voxels)
    slope = (second - first) / (other.volume - one.volume)
    return lambda size: max(0, round(first + slope * (size.volume - one.volume)))


def _edge(first: int, second: int, one: Size, other: Size, axis: int) -> Scale:
    """Length of a spatial axis, or of all of them flattened into one."""
    if (
        first == second
        or first * other.voxels == second * one.voxels
        or first * other.volume == second * one.volume
    ):
        return _number(first, second, one, other)
    start, stop = one.patch[axis], other.patch[axis]
    return lambda size: max(1, round(first + (second - first) * (size.patch[axis] - start) / (stop - start)))


def _shape(
    first: tuple[int, ...], second: tuple[int, ...], one: Size, other: Size
) -> Callable[[Size], tuple[int, ...]]:
    if first == second:
        return lambda size: first
    leading = len(first) - len(one.patch)
    lengths = [
        _edge(a, b, one, other, position - leading)
        if leading > 0 and position >= leading
        else _number(a, b, one, other)
        for position, (a, b) in enumerate(zip(first, second, strict=True))
    ]
    return lambda size: tuple(length(size) for length in lengths)


class ScaledTrace:
    """A trace whose sizes follow from two.

    Args:
        first: trace at ``one``.
        second: trace at ``other``, of the same network; the batch and every edge differ.
        one: batch and patch of the first.
        other: batch and patch of the second.

    Raises:
        ValueError: the steps are not alike, so that one cannot be scaled to the other.
    """

    def __init__(self, first: Trace, second: Trace, one: Size, other: Size) -> None:
        if first.structure() != second.structure():
            msg = f"the step at {one} and the step at {other} run different operators"
            raise ValueError(msg)
        self._first = first
        self._bytes = [self._block(first, second, block, one, other) for block in range(len(first.sizes))]
        self._tensors = {
            block: (
                _shape(convolution.input, second.convolutions[block].input, one, other),
                _shape(convolution.output, second.convolutions[block].output, one, other),
            )
            for block, convolution in first.convolutions.items()
        }

    @staticmethod
    def _block(first: Trace, second: Trace, block: int, one: Size, other: Size) -> Scale:
        size, shape, wide = first.sizes[block], first.shapes[block], second.shapes[block]
        if shape is None or wide is None or len(shape) != len(wide) or not size:
            return _number(size, second.sizes[block], one, other)
        itemsize = size // prod(shape)
        scaled = _shape(shape, wide, one, other)
        return lambda size: itemsize * prod(scaled(size))

    def at(self, size: Size) -> Trace:
        """The trace at another batch and patch."""
        convolutions = {}
        for block, convolution in self._first.convolutions.items():
            source, output = self._tensors[block]
            convolutions[block] = convolution._replace(input=source(size), output=output(size))
        return replace(self._first, sizes=[scale(size) for scale in self._bytes], convolutions=convolutions)
