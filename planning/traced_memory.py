"""Predicted bytes of candidates, by as few traces as the search can do with."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any

from voxplan.plans.architectures.base import Architecture
from voxplan.plans.schema import Ints, Task

from .hardware import Budget
from .memory.uncollected import uncollected
from .search import Candidate
from .training_choice import TrainingChoice

if TYPE_CHECKING:
    from .memory import MemoryEstimate, MemoryModel

Models = dict[str, "MemoryModel"]
"""Networks measured so far, by everything that their memory depends on but patch, batch and budget."""
Measured = tuple[Ints, int, bool]
"""Patch, batch, checkpointing."""

ROUGH_MARGIN = 0.3
"""Of the load: by how much another topology's prediction must miss 1 to be believed. Between UNets of three
to six poolings such predictions differ by up to 6 %, between residual-encoder UNets by up to 28 % (small
patches).
"""
PATIENCE = 3
"""Confirmations that may exceed the budget before every further one adds to the margin."""
STRICTER = 1.05
"""What each of those adds, so that the search ends."""
BORROWED_SCALE = 1.3
"""Largest ratio of voxels to the patch that another topology takes."""


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
    models: Models = field(default_factory=dict)
    """Fitted so far; may be shared between plans."""
    own: dict[bool, Models] = field(default_factory=lambda: {False: {}, True: {}})
    """Those of this plan, by checkpointing."""
    totals: dict[Measured, int] = field(default_factory=dict)
    """All that was asked for."""
    confirmations: int = 0
    """Full-size traces."""
    _margin: float = 1.0
    """Largest ratio of a confirmed total to a quick one: learnt when a confirmation exceeds the budget."""
    _misses: int = 0
    """Confirmations that exceeded the budget."""

    def total(self, candidate: Candidate, batch_size: int, *, checkpointing: bool = False) -> int:
        """Bytes of the whole process, quick."""
        model = self._model(candidate, checkpointing)
        with uncollected():
            value = int(model.total(candidate.patch, batch_size) * self._margin)
        self.totals[candidate.patch, batch_size, checkpointing] = value
        return value

    def load(self, candidate: Candidate, batch_size: int, *, checkpointing: bool = False) -> float:
        """The quick total over the budget."""
        return self.total(candidate, batch_size, checkpointing=checkpointing) / self.budget.bytes

    def rough_load(self, candidate: Candidate, batch_size: int, *, checkpointing: bool = False) -> float:
        """The load; where a network like the candidate's leaves no doubt on which side of 1, from that one.

        Topologies of neighbouring patches differ only in their deepest stages, which hold few voxels.
        """
        if self._key(candidate, checkpointing) not in self.models:
            for model in reversed(self.own[checkpointing].values()):
                value = self._borrowed(model, candidate.patch, batch_size)
                if abs(value - 1) > ROUGH_MARGIN:
                    return value
        return self.load(candidate, batch_size, checkpointing=checkpointing)

    def _borrowed(self, model: MemoryModel, patch: Ints, batch_size: int) -> float:
        """Load by another topology's model, at the patch nearest to this one that it takes."""
        near = tuple(
            max(2, round(2 * edge / unit)) * unit // 2
            for edge, unit in zip(patch, model.minimum_patch, strict=True)
        )
        scale = prod(patch) / prod(near)
        if not 1 / BORROWED_SCALE <= scale <= BORROWED_SCALE:
            return 1.0
        try:
            total = model.total(near, batch_size)
        except ValueError:  # half of this minimum is no multiple of its divisor
            return 1.0
        return total * self._margin * scale / self.budget.bytes

    def confirm(
        self, candidate: Candidate, batch_size: int, *, checkpointing: bool = False
    ) -> MemoryEstimate:
        """The estimate of one full trace, which also proves that network, loss and step run.

        One that exceeds the budget against the quick total makes all quick totals larger from then on: the
        same candidate does not look as if it fitted again.
        """
        with uncollected():
            estimate = self._model(candidate, checkpointing).confirm(candidate.patch, batch_size)
        self.confirmations += 1
        quick = self.total(candidate, batch_size, checkpointing=checkpointing)
        if estimate.total > self.budget.bytes >= quick:
            self._misses += 1
            patience = STRICTER if self._misses > PATIENCE else 1.0
            self._margin *= patience * estimate.total / quick
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

    def _key(self, candidate: Candidate, checkpointing: bool) -> str:
        settings = self._settings(candidate, checkpointing)
        settings |= {key: settings[key].model_dump() for key in ("optimizer", "loss")}
        return json.dumps([self.architecture.name, settings, candidate.arguments], sort_keys=True)

    def _settings(self, candidate: Candidate, checkpointing: bool) -> dict[str, Any]:
        """What a model depends on besides architecture and arguments."""
        training = self.training
        return {
            "dimensions": self.dimensions,
            "in_channels": self.in_channels,
            "out_channels": self.out_channels,
            "precision": training.precision,
            "deep_supervision": training.deep_supervision,
            "optimizer": training.optimizer,
            "loss": training.loss_for(self.architecture, candidate.arguments, self.dimensions),
            "task": self.task,
            "checkpointing": checkpointing,
            "device": self.budget.kind,
            "compute_capability": self.budget.compute_capability,
            "num_gpus": self.num_gpus,
        }

    def _model(self, candidate: Candidate, checkpointing: bool) -> MemoryModel:
        from .memory import MemoryModel

        key = self._key(candidate, checkpointing)
        if key not in self.models:
            settings = self._settings(candidate, checkpointing)
            self.models[key] = MemoryModel(self.architecture.name, candidate.arguments, **settings)
        self.own[checkpointing][key] = self.models[key]
        return self.models[key]
