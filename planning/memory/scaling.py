"""From two traces of one network to its step at any patch and batch.

In a fixed topology every block is constant, or proportional to the batch (statistics), or to batch x voxels
(feature maps), so that its size follows from two traces; the events then replay through the allocator. What fits
none of the three is taken as affine in batch x voxels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from .events import Convolution, Trace

Law = Literal["constant", "batch", "voxels", "affine"]


@dataclass(frozen=True, slots=True)
class Size:
    """Batch and voxels of one step."""

    batch: int
    patch: tuple[int, ...]

    @property
    def volume(self) -> int:
        """Batch x voxels."""
        volume = self.batch
        for edge in self.patch:
            volume *= edge
        return volume


def _law(first: int, second: int, one: Size, other: Size) -> Law:
    if first == second:
        return "constant"
    if first * other.batch == second * one.batch:
        return "batch"
    if first * other.volume == second * one.volume:
        return "voxels"
    return "affine"


class ScaledTrace:
    """A trace whose sizes follow from two.

    Args:
        first: trace at ``one``.
        second: trace at ``other``, of the same network; batch and voxels both differ.
        one: batch and patch of the first.
        other: batch and patch of the second.

    Raises:
        ValueError: the steps are not alike, so that one cannot be scaled to the other.
    """

    def __init__(self, first: Trace, second: Trace, one: Size, other: Size) -> None:
        if first.structure() != second.structure():
            msg = f"the step at {one} and the step at {other} run different operators"
            raise ValueError(msg)
        self._first, self._second, self._one, self._other = first, second, one, other
        self._laws = [_law(a, b, one, other) for a, b in zip(first.sizes, second.sizes, strict=True)]
        self._tensors = {
            block: (
                _law(convolution.input, second.convolutions[block].input, one, other),
                _law(convolution.output, second.convolutions[block].output, one, other),
            )
            for block, convolution in first.convolutions.items()
        }

    def at(self, size: Size) -> Trace:
        """The trace at another batch and patch."""
        first = self._first
        sizes = [
            self._scaled(law, a, b, size)
            for law, a, b in zip(self._laws, first.sizes, self._second.sizes, strict=True)
        ]
        return replace(
            first,
            sizes=sizes,
            convolutions={
                block: self._convolution(block, convolution, size)
                for block, convolution in first.convolutions.items()
            },
        )

    def _convolution(self, block: int, convolution: Convolution, size: Size) -> Convolution:
        other = self._second.convolutions[block]
        source, output = self._tensors[block]
        return convolution._replace(
            input=self._scaled(source, convolution.input, other.input, size),
            output=self._scaled(output, convolution.output, other.output, size),
        )

    def _scaled(self, law: Law, first: int, second: int, size: Size) -> int:
        one, other = self._one, self._other
        if law == "constant":
            return first
        if law == "batch":
            return -(-first * size.batch // one.batch)
        if law == "voxels":
            return -(-first * size.volume // one.volume)
        slope = (second - first) / (other.volume - one.volume)
        return max(0, round(first + slope * (size.volume - one.volume)))
