"""The contract that every architecture keeps: what the planner asks before it chooses, and how to build.

Only :meth:`Architecture.build` imports torch or monai. Sizes are ZYX (YX in 2D).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import ValidationError

from ..schema import Floats, Ints, Model, OptimizerChoice, Precision

if TYPE_CHECKING:
    from torch import nn

Arguments = Mapping[str, Any]
"""JSON-able arguments of one network, as they stand in the plan."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How the authors of an architecture train it."""

    optimizer: OptimizerChoice
    schedule: Literal["poly", "cosine", "constant"]
    epochs: int
    steps_per_epoch: int
    precisions: tuple[Precision, ...]
    """GPU precisions in order of preference; the planner takes the first that the hardware has."""
    source: str
    """Paper or code that the recipe is taken from."""


class NoArguments(Model):
    """For networks that nothing but their name decides."""


class Architecture(ABC):
    """One architecture; instances are stateless."""

    name: ClassVar[str]
    """Registered name, as it stands in plans: ``unet``, ``mednext_s``."""
    title: ClassVar[str]
    """For tables."""
    dimensions: ClassVar[tuple[int, ...]] = (2, 3)
    deep_supervision: ClassVar[bool] = False
    """Whether it has deep-supervision heads, and its authors train with them."""
    checkpointing: ClassVar[bool] = False
    """Whether ``build`` takes ``checkpointing``."""
    smaller: ClassVar[str | None] = None
    """Registered name of the next smaller variant, where there is one."""
    arguments_model: ClassVar[type[Model]] = NoArguments
    """What ``arguments`` may hold: names, types and bounds."""

    @abstractmethod
    def topology(self, patch_size: Ints, spacing: tuple[float, ...] | None) -> dict[str, Any]:
        """Arguments of ``build`` for a patch of about this size at this spacing.

        For fixed networks the patch does not matter. ``spacing`` None means unknown: taken as isotropic.
        """

    def with_base_features(self, arguments: Arguments, base_features: int, dimensions: int) -> dict[str, Any]:
        """The arguments with another number of channels at full resolution; deeper stages follow.

        Raises:
            ValueError: the architecture has one width only.
        """
        msg = (
            f"base_features={base_features}: {self.name} has one width; unet, resenc_unet and monai_unet can "
            "be narrower or wider"
        )
        raise ValueError(msg)

    @abstractmethod
    def divisors(self, arguments: Arguments, dimensions: int) -> Ints:
        """Per axis, what the patch must be a multiple of."""

    @abstractmethod
    def minimum_patch(self, arguments: Arguments, dimensions: int) -> Ints:
        """Per axis, the smallest patch that trains: more than one voxel is left at the bottleneck."""

    @abstractmethod
    def recipe(self, dimensions: int) -> Recipe:
        """Training recipe, with its source."""

    @abstractmethod
    def build(
        self,
        arguments: Arguments,
        *,
        dimensions: int,
        in_channels: int,
        out_channels: int,
        deep_supervision: bool = False,
        checkpointing: bool = False,
    ) -> nn.Module:
        """The network on the current default device (``with torch.device("meta"):`` works).

        ``forward`` takes ``(batch, channels, *patch)`` and returns, in training mode with deep supervision, a
        list of logits, full resolution first, each at its own scale; else one tensor of logits.
        """

    def deep_supervision_scales(self, arguments: Arguments, dimensions: int) -> tuple[Ints, ...]:
        """Per output, full resolution first, the factor by which each axis is coarser than the patch."""
        return ((1,) * dimensions,)

    def deep_supervision_weights(self, arguments: Arguments, dimensions: int) -> Floats:
        """Weight of each output in the loss, full resolution first; they sum to 1.

        Halved at every scale, and 0 for the coarsest (nnU-Net 2.8.1, ``_build_loss``).
        """
        outputs = len(self.deep_supervision_scales(arguments, dimensions))
        weights = [1 / 2**i for i in range(outputs)]
        if outputs > 1:
            weights[-1] = 0.0
        return tuple(weight / sum(weights) for weight in weights)

    def validate_arguments(self, arguments: Arguments, *, dimensions: int) -> Any:
        """Check arguments that a plan holds; nothing in them is ever executed or imported.

        Returns:
            The arguments as an instance of :attr:`arguments_model`.

        Raises:
            ValueError: naming every argument that is unknown, missing, of a wrong type or out of bounds.
        """
        try:
            return self.arguments_model.model_validate(dict(arguments), context={"dimensions": dimensions})
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(map(str, problem['loc'])) or 'arguments'}: {problem['msg']}"
                for problem in error.errors(include_url=False, include_input=False)
            )
            known = ", ".join(self.arguments_model.model_fields) or "none"
            msg = f"{self.name}: wrong architecture.arguments ({problems}); known arguments: {known}"
            raise ValueError(msg) from None

    def validate(self, arguments: Arguments, *, dimensions: int, patch_size: Ints) -> None:
        """Check a patch against divisors and minimum.

        Raises:
            ValueError: naming the argument, the value and what would do.
        """
        if dimensions not in self.dimensions:
            msg = f"{self.name}: dimensions must be one of {self.dimensions}, got {dimensions}"
            raise ValueError(msg)
        if len(patch_size) != dimensions:
            msg = f"{self.name}: patch_size must have {dimensions} axes, got {tuple(patch_size)}"
            raise ValueError(msg)
        divisors = self.divisors(arguments, dimensions)
        minimum = self.minimum_patch(arguments, dimensions)
        for axis, (size, divisor, least) in enumerate(zip(patch_size, divisors, minimum, strict=True)):
            if size < least or size % divisor:
                msg = (
                    f"{self.name}: patch_size {tuple(patch_size)} does not work on axis {axis}: {size} must "
                    f"be a multiple of {divisor} and at least {least}"
                )
                raise ValueError(msg)
