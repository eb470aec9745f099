"""Memory of one network over patch and batch: two small traces, then any size in milliseconds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from voxplan.plans.architectures import Architecture, get_architecture
from voxplan.plans.schema import Ints, LossChoice, OptimizerChoice, Precision, Task

from .estimate import estimate_request, peak_total
from .prediction import MemoryEstimate
from .request import Request, make_request
from .scaling import ScaledTrace, Size

if TYPE_CHECKING:
    from torch import nn

    from .step import Loss

FIT_BATCHES = (2, 3)
"""Not 1: some operators take a shorter way then. Differing batches tell what grows with the batch alone."""
FIT_MULTIPLES = (2, 3)
"""Of the smallest patch: far enough from it that no axis shrinks to one voxel inside the network."""


class MemoryModel:
    """Predicts the memory of training steps of one network with fixed arguments.

    Two traces are made when the first prediction is asked for. They cost no more for large patches than for
    small ones. Sizes follow per tensor, and the allocator is replayed for every prediction, so that reserved
    memory and workspaces are never extrapolated.

    Args:
        architecture: a registered name, or a callable that builds the network.
        arguments: of the registered architecture's ``build``; the topology stays what they say.
        dimensions: 2 or 3.
        patch_unit: for a callable, what its patch sizes are multiples of, per axis; for a registered
            architecture its own smallest patch.
        options: further arguments of ``estimate_training_memory``, by the same names.
    """

    def __init__(
        self,
        architecture: str | Architecture | Callable[[], nn.Module],
        arguments: Mapping[str, Any] | None = None,
        *,
        dimensions: int = 3,
        in_channels: int = 1,
        out_channels: int = 2,
        precision: Precision = "fp16",
        deep_supervision: bool = True,
        optimizer: str | OptimizerChoice = "adamw",
        loss: LossChoice | Loss | None = None,
        task: Task = "semantic",
        checkpointing: bool = False,
        device: str = "cuda",
        compute_capability: tuple[int, int] | None = None,
        num_gpus: int = 1,
        patch_unit: Ints | None = None,
        **options: Any,
    ) -> None:
        found = get_architecture(architecture) if isinstance(architecture, str) else architecture
        if isinstance(found, Architecture):
            if arguments is None:
                arguments = found.topology((128,) * 3 if dimensions == 3 else (512,) * 2, None)
            patch_unit = patch_unit or found.minimum_patch(arguments, dimensions)
        self._unit = tuple(patch_unit or (32,) * dimensions)
        self._base: Request = make_request(
            found,
            arguments=arguments,
            patch_size=tuple(FIT_MULTIPLES[0] * edge for edge in self._unit),
            batch_size=FIT_BATCHES[0],
            in_channels=in_channels,
            out_channels=out_channels,
            precision=precision,
            deep_supervision=deep_supervision,
            optimizer=optimizer,
            loss=loss,
            task=task,
            checkpointing=checkpointing,
            device=device,
            compute_capability=compute_capability,
            num_gpus=num_gpus,
            **options,
        )
        self._scaled: ScaledTrace | None = None
        self._unlike = False
        self._totals: dict[Size, int] = {}

    @property
    def minimum_patch(self) -> Ints:
        """The smallest patch, as the architecture or ``patch_unit`` says."""
        return self._unit

    def total(self, patch_size: Ints, batch_size: int) -> int:
        """Predicted bytes of the process.

        Raises:
            ValueError: naming the argument that does not work.
        """
        size = Size(batch_size, tuple(patch_size))
        known = self._totals.get(size)
        if known is None:
            request = self._base.at(size.patch, size.batch)
            self._fit()
            if self._scaled is None:
                known = peak_total(request.trace(), request)
            else:
                known = peak_total(self._scaled.at(size), request)
            self._totals[size] = known
        return known

    def confirm(self, patch_size: Ints, batch_size: int) -> MemoryEstimate:
        """The estimate from a trace at exactly this patch and batch.

        Raises:
            ValueError: naming the argument that does not work.
        """
        return estimate_request(self._base.at(tuple(patch_size), batch_size))

    def _fit(self) -> None:
        if self._scaled is not None or self._unlike:
            return
        sizes = [
            Size(batch, tuple(multiple * edge for edge in self._unit))
            for batch, multiple in zip(FIT_BATCHES, FIT_MULTIPLES, strict=True)
        ]
        one, other = (self._base.at(size.patch, size.batch).trace() for size in sizes)
        try:
            self._scaled = ScaledTrace(one, other, *sizes)
        except ValueError:
            # A network whose operators depend on the size: every prediction is then a trace of its own.
            self._unlike = True
