"""What a traced step is made of: blocks of memory, and the order in which they come and go."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

Kind = Literal["parameters", "gradients", "optimizer", "activations", "workspace"]
KINDS: tuple[Kind, ...] = ("parameters", "gradients", "optimizer", "activations", "workspace")
Phase = Literal["setup", "forward", "loss", "backward", "optimizer"]
Direction = Literal["forward", "data_gradient", "weight_gradient"]


class Operation(NamedTuple):
    """One operator call."""

    name: str
    """As torch names it, e.g. ``aten.convolution.default``."""
    phase: Phase
    step: int
    """0 for the first training step, 1 for the second, which stands for all that follow."""


class Convolution(NamedTuple):
    """What a convolution kernel works on, for its workspace."""

    direction: Direction
    input: tuple[int, ...]
    """Shape, batch and channels first."""
    weight: tuple[int, ...]
    output: tuple[int, ...]
    itemsize: int
    """Bytes per element of the type it computes in."""
    depthwise: bool
    """One input channel per group, not transposed."""


@dataclass(slots=True)
class Trace:
    """Memory events of a training step, in order.

    A block is one storage, or one temporary that a kernel holds. ``events`` holds ``(block, operation)`` for
    an allocation and ``(~block, operation)`` for a release.
    """

    operations: list[Operation] = field(default_factory=list)
    events: list[tuple[int, int]] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    """Bytes of each block, as asked for (not rounded)."""
    shapes: list[tuple[int, ...] | None] = field(default_factory=list)
    """Of the tensor that fills the block, where one does."""
    kinds: list[Kind] = field(default_factory=list)
    convolutions: dict[int, Convolution] = field(default_factory=dict)
    """By workspace block, whose size is 0 until a workspace model fills it in."""

    def structure(self) -> tuple[object, ...]:
        """Everything but sizes: equal for two traces of one network at two sizes if their steps are alike."""
        return ([name for name, _, _ in self.operations], self.events, self.kinds, sorted(self.convolutions))
