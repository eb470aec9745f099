"""Predicted bytes of candidates, by as few traces as the search can do with."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from voxplan.plans.architectures.base import Architecture
from voxplan.plans.schema import Ints, Task

from .hardware import Budget
from .search import Candidate
from .training_choice import TrainingChoice

if TYPE_CHECKING:
    from .memory import MemoryEstimate, MemoryModel

Key = tuple[str, bool]
Measured = tuple[Ints, int, bool]
"""Patch, batch, checkpointing."""


@contextmanager
def uncollected() -> Iterator[None]:
    """No cyclic garbage collection, which would free tensors at a moment that differs from trace to trace."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@dataclass(slots=True, kw_only=True)
class TracedMemory:
    """Memory of one architecture's training steps on one device.

    Each topology is traced twice, small, the first time that it is asked for; everything else is arithmetic.
    """

    architecture: Architecture
    dimensions: int
    in_channels: int
    out_channels: int
    task: Task
    training: TrainingChoice
    budget: Budget
    num_gpus: int = 1
    models: dict[Key, MemoryModel] = field(default_factory=dict)
    """Fitted so far, by network arguments and checkpointing."""
    totals: dict[Measured, int] = field(default_factory=dict)
    """All that was asked for."""
    confirmations: int = 0
    """Full-size traces."""
    _margin: float = 1.0
    """Largest ratio of a confirmed total to a quick one: learnt when a confirmation exceeds the budget."""

    def total(self, candidate: Candidate, batch_size: int, *, checkpointing: bool = False) -> int:
        """Bytes of the whole process, quick."""
        model = self._model(candidate, checkpointing)
        with uncollected():
            value = int(model.total(candidate.patch, batch_size) * self._margin)
        self.totals[candidate.patch, batch_size, checkpointing] = value
        return value

    def fits(self, candidate: Candidate, batch_size: int, *, checkpointing: bool = False) -> bool:
        """Whether the quick total stays within the budget."""
        return self.total(candidate, batch_size, checkpointing=checkpointing) <= self.budget.bytes

    def confirm(
        self, candidate: Candidate, batch_size: int, *, checkpointing: bool = False
    ) -> MemoryEstimate:
        """The estimate of one full trace, which also proves that network, loss and step run."""
        with uncollected():
            estimate = self._model(candidate, checkpointing).confirm(candidate.patch, batch_size)
        self.confirmations += 1
        quick = self.total(candidate, batch_size, checkpointing=checkpointing)
        if estimate.total > self.budget.bytes >= quick:
            self._margin *= estimate.total / quick
            self.totals.clear()
        return estimate

    def inference(self, candidate: Candidate, window: Ints, batch_size: int) -> int:
        """Bytes of the process that slides a window over a volume, whose logits stay in main memory."""
        from .memory import estimate_inference_memory

        return estimate_inference_memory(
            self.architecture.name,
            window=window,
            batch_size=batch_size,
            in_channels=self.in_channels,
            out_channels=self.out_channels,
            precision=self.training.precision,
            device=self.budget.kind,
            compute_capability=self.budget.compute_capability,
            **candidate.arguments,
        ).total

    def _model(self, candidate: Candidate, checkpointing: bool) -> MemoryModel:
        from .memory import MemoryModel

        key = (json.dumps(candidate.arguments, sort_keys=True), checkpointing)
        if key not in self.models:
            training = self.training
            self.models[key] = MemoryModel(
                self.architecture.name,
                candidate.arguments,
                dimensions=self.dimensions,
                in_channels=self.in_channels,
                out_channels=self.out_channels,
                precision=training.precision,
                deep_supervision=training.deep_supervision,
                optimizer=training.optimizer,
                loss=training.loss_for(self.architecture, candidate.arguments, self.dimensions),
                task=self.task,
                checkpointing=checkpointing,
                device=self.budget.kind,
                compute_capability=self.budget.compute_capability,
                num_gpus=self.num_gpus,
            )
        return self.models[key]
