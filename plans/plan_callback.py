"""A Lightning callback: real peak memory of each stage beside the prediction, and the plan in checkpoints."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch

from .checkpoint import plan_content
from .lightning_ranks import Agreement
from .peak_memory import Peak, read_peak, restart_peak
from .training import is_out_of_memory

if TYPE_CHECKING:
    from lightning.pytorch import Callback

    from .build import Plan
else:
    try:
        from lightning.pytorch import Callback
    except ImportError:
        try:
            from pytorch_lightning import Callback
        except ImportError as error:
            msg = "Lightning is not installed: pip install voxplan[lightning]"
            raise ImportError(msg) from error

CONTENT = "voxplan"
"""Key of a Lightning checkpoint under which the plan and the peaks stand."""


class PlanCallback(Callback):
    """For any trainer that trains a plan; :func:`~voxplan.plans.lightning.fit_with_plan` adds it itself.

    ``peaks`` has the highest marks of memory by stage (``train``, ``validate``, ``test``, ``predict``), over
    all ranks from the first end of an epoch on. Checkpoints hold, under ``voxplan``, the plan (read it with
    :func:`~voxplan.plans.checkpoint.load_plan`), the peaks and the prediction.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.peaks: dict[str, Peak] = {}
        self.failed_in_training = False
        self._stage: str | None = None
        self._device = torch.device("cpu")

    @property
    def predicted(self) -> dict[str, Peak]:
        """What the plan predicts of each stage; a GPU's process is ``reserved`` and its context."""
        memory, window = self.plan.memory, self.plan.inference.memory
        if memory.device == "cpu":
            return {"train": Peak(process=memory.total), "validate": Peak(process=window)}
        train = Peak(allocated=memory.allocated, reserved=memory.reserved, process=memory.total)
        return {"train": train, "validate": Peak(process=window)}

    def compare(self) -> dict[str, dict[str, Any]]:
        """By stage: the device, the measured marks, and the predicted ones where there are any (bytes)."""
        self._measure()
        predicted = self.predicted
        return {
            stage: {
                "device": str(self._device),
                "measured": asdict(peak),
                "predicted": asdict(predicted[stage]) if stage in predicted else None,
            }
            for stage, peak in self.peaks.items()
        }

    def _begin(self, trainer: Any, stage: str) -> None:
        self._measure()
        self._device = trainer.strategy.root_device
        restart_peak(self._device)
        self._stage = stage

    def _measure(self) -> None:
        if self._stage is not None:
            self.peaks[self._stage] = self.peaks.get(self._stage, Peak()).highest(read_peak(self._device))

    def _end(self) -> None:
        self._measure()
        self._stage = None

    def on_sanity_check_start(self, trainer: Any, pl_module: Any) -> None:
        """Counts as validation."""
        self._begin(trainer, "validate")

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Weights are on the device, optimizer state is not yet."""
        self._begin(trainer, "train")

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """From here on another stage."""
        self._begin(trainer, "validate")

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Back to training, if it was training."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._begin(trainer, "train")
        else:
            self._end()

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """The highest marks of all ranks."""
        self._measure()
        self._agree(trainer)

    def _agree(self, trainer: Any) -> None:
        """Take the highest marks of all ranks, each of which must call this."""
        if trainer.world_size == 1:
            return
        for stage, peak in sorted(self.peaks.items()):
            marks = {name: value for name, value in asdict(peak).items() if value is not None}
            highest = {
                name: int(trainer.strategy.reduce(self._mark(value), reduce_op="max").item())
                for name, value in marks.items()
            }
            self.peaks[stage] = Peak(**highest)

    def _mark(self, value: int) -> torch.Tensor:
        return torch.tensor(value, dtype=torch.int64, device=self._device)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """The end of the last stage; loggers get the marks of all ranks."""
        self._end()
        self._agree(trainer)
        marks = {
            f"memory/{stage}/{name}": float(value)
            for stage, peak in self.peaks.items()
            for name, value in asdict(peak).items()
            if value is not None
        }
        for logger in trainer.loggers:
            logger.log_metrics(marks, step=trainer.global_step)

    def on_test_start(self, trainer: Any, pl_module: Any) -> None:
        """A stage of its own."""
        self._begin(trainer, "test")

    def on_test_end(self, trainer: Any, pl_module: Any) -> None:
        """The end of the stage."""
        self._end()

    def on_predict_start(self, trainer: Any, pl_module: Any) -> None:
        """A stage of its own."""
        self._begin(trainer, "predict")

    def on_predict_end(self, trainer: Any, pl_module: Any) -> None:
        """The end of the stage."""
        self._end()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Tell the other ranks, which wait for this one at the end of their batch."""
        self._end()
        if not is_out_of_memory(exception) or not trainer.training:
            return
        self.failed_in_training = True
        agreement: Agreement | None = getattr(trainer.strategy, "agreement", None)
        if agreement is not None:
            agreement.exchange(out_of_memory=True)

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """The plan and the marks so far go into the checkpoint."""
        checkpoint[CONTENT] = {"plan": plan_content(self.plan), "memory": self.compare()}

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Count the batches of a half-done epoch anew where the accumulation is another than before."""
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        before = self.plan.accumulation
        if CONTENT in checkpoint:
            before = json.loads(checkpoint[CONTENT]["plan"]["experiment"])["accumulation"]
        if before == self.plan.accumulation:
            return
        for counts in (progress["total"], progress["current"]):
            # Within a batch's end, Lightning has counted it as processed but not yet as completed.
            unfinished = counts["processed"] - counts["completed"]
            for name in ("ready", "started", "processed"):
                counts[name] = counts[name] * self.plan.accumulation // before
            counts["completed"] = counts["processed"] - unfinished
