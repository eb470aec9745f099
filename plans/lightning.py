"""Training a plan with Lightning (``pip install voxplan[lightning]``).

    from voxplan.plans.lightning import fit_with_plan

    fitted = fit_with_plan(Trainer, module, lambda plan: make_loader(plan, dataset, steps=...), plan)

Works with ``lightning`` and with ``pytorch_lightning``: the trainer must come from the same of the two as the
module. One of them must be installed; importing :mod:`voxplan.plans` imports neither.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed as dist
from torch import nn

from .lightning_ranks import Agreement, PeerOutOfMemoryError, agreeing_strategy
from .plan_callback import PlanCallback
from .training import BatchHalved, TrainingError, is_out_of_memory

if TYPE_CHECKING:
    from .build import Plan

__all__ = ["FitResult", "PlanCallback", "fit_with_plan"]

NAMESPACES = {"lightning": "lightning.pytorch", "pytorch_lightning": "pytorch_lightning"}
"""The package that a module's class comes from, and where its classes lie."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class FitResult:
    """What came of :func:`fit_with_plan`."""

    trainer: Any
    """The trainer that came to the end."""
    plan: Plan
    """As it was trained: with the batch that fitted."""
    callback: PlanCallback
    """With the peaks of memory."""
    halvings: tuple[BatchHalved, ...]
    """One for each time that memory ran out."""


def fit_with_plan(
    trainer_factory: Callable[..., Any],
    module: Any,
    data: Any,
    plan: Plan,
    *,
    ckpt_path: Path | str | None = None,
) -> FitResult:
    """Fit a module as planned; where memory runs out, again from the last checkpoint with half the batch.

    The accumulation is doubled, so that a step sees the same samples as before; an odd batch is cut into more
    than two equal parts. Under several processes all
    ranks do so together, whichever of them ran out. Without a checkpoint, training starts anew from the
    weights that the module came with. Only errors while training are treated so: validation keeps its batch.

    Args:
        trainer_factory: called as ``Trainer`` is, with :meth:`~voxplan.plans.build.Plan.trainer_kwargs`, the
            callback and, for several devices, a strategy; once an attempt. ``Trainer`` itself will do, or a
            function that adds settings and callbacks of its own to those it is given.
        module: a ``LightningModule`` of ``lightning`` or ``pytorch_lightning``.
        data: a function of a plan that returns what ``Trainer.fit`` takes: a training loader, a pair of
            training and validation loaders, or a data module, with that plan's batch size
            (:func:`~voxplan.plans.data.make_loader` does). Or a data module with an attribute ``batch_size``
            that its loaders obey.
        plan: what to train.
        ckpt_path: a checkpoint to begin from.

    Raises:
        TrainingError: not even batches of one sample fit.
        TypeError: the module is no ``LightningModule``, or ``data`` cannot change its batch size.
        ValueError: the factory left out the callback or the strategy.
    """
    namespace = _namespace(module)
    if not callable(data) and not hasattr(data, "batch_size"):
        msg = (
            f"data ({type(data).__name__}) has a fixed batch size: give a function of a plan that makes "
            "loaders with plan.batch_size, or a data module with an attribute batch_size"
        )
        raise TypeError(msg)
    initial = {name: tensor.detach().to("cpu", copy=True) for name, tensor in module.state_dict().items()}
    begin = None if ckpt_path is None else str(ckpt_path)
    halvings: list[BatchHalved] = []
    while True:
        attempt = _Attempt(trainer_factory, namespace, plan, begin)
        reason = attempt.run(module, data)
        if reason is None:
            attempt.end()
            return FitResult(
                trainer=attempt.trainer, plan=plan, callback=attempt.callback, halvings=tuple(halvings)
            )
        halvings.append(_halved(plan, attempt.trainer.global_step + 1, reason))
        plan = replace_batch(plan, halvings[-1])
        begin = attempt.last_checkpoint() or begin
        attempt.end()
        if attempt.trainer.global_rank == 0:
            log.warning(
                "out of memory (%s): from now on batches of %d, %d of them a step; again from %s",
                reason,
                plan.batch_size,
                plan.accumulation,
                begin or "the start",
            )
        del attempt
        _free(module)
        if begin is None:
            module.load_state_dict(initial)


class _Attempt:
    """One trainer, until it is done or out of memory."""

    def __init__(
        self, trainer_factory: Callable[..., Any], namespace: str, plan: Plan, begin: str | None
    ) -> None:
        self.plan = plan
        self.begin = begin
        self.callback = PlanCallback(plan)
        settings = plan.trainer_kwargs() | {"callbacks": [self.callback]}
        if plan.devices > 1:
            settings["strategy"] = agreeing_strategy(namespace)()
        self.trainer = trainer_factory(**settings)
        agreeing = isinstance(self.trainer.strategy, agreeing_strategy(namespace))
        if self.callback not in self.trainer.callbacks or (self.trainer.world_size > 1 and not agreeing):
            msg = (
                "trainer_factory must pass on the callbacks and, with several devices, the strategy that it "
                "is given: without them ranks cannot agree after an out-of-memory error"
            )
            raise ValueError(msg)

    def run(self, module: Any, data: Any) -> str | None:
        """Why memory ran out; None where training came to its end."""
        if callable(data):
            loaders = data(self.plan)
        else:
            data.batch_size = self.plan.batch_size
            loaders = data
        arguments = _fit_arguments(loaders)
        try:
            self.trainer.fit(module, ckpt_path=self.begin, **arguments)
        except (RuntimeError, MemoryError) as error:
            peer = isinstance(error, PeerOutOfMemoryError)
            if not peer and not (is_out_of_memory(error) and self.callback.failed_in_training):
                raise
            # The text alone leaves this block: the exception holds the tensors of its frames.
            return str(error).partition("\n")[0]
        return None

    def last_checkpoint(self) -> str | None:
        """The newest checkpoint that this run wrote, and that it can go on from; the same for all ranks."""
        paths = set()
        for callback in self.trainer.checkpoint_callbacks:
            if getattr(callback, "save_weights_only", False):
                continue
            for name in ("last_model_path", "best_model_path"):
                paths.add(getattr(callback, name, ""))
            paths |= set(getattr(callback, "best_k_models", {}))
        found = [Path(path) for path in paths if path and Path(path).exists()]
        newest = max(found, key=lambda path: path.stat().st_mtime_ns, default=None)
        chosen = None if newest is None else str(newest)
        agreement = self._agreement()
        return agreement.share(chosen) if agreement is not None and dist.is_initialized() else chosen

    def end(self) -> None:
        """Ranks need to agree no more."""
        if (agreement := self._agreement()) is not None:
            agreement.end()
            self.trainer.strategy.agreement = None

    def _agreement(self) -> Agreement | None:
        agreement: Agreement | None = getattr(self.trainer.strategy, "agreement", None)
        return agreement


def _fit_arguments(loaders: Any) -> dict[str, Any]:
    """Keyword arguments of ``Trainer.fit``."""
    if isinstance(loaders, tuple):
        train, validation = loaders
        return {"train_dataloaders": train, "val_dataloaders": validation}
    return {"datamodule" if hasattr(loaders, "train_dataloader") else "train_dataloaders": loaders}


def _namespace(module: Any) -> str:
    for base in type(module).__mro__:
        package = base.__module__.partition(".")[0]
        if base.__name__ == "LightningModule" and package in NAMESPACES:
            return NAMESPACES[package]
    msg = f"expected a LightningModule of lightning or pytorch_lightning, got {type(module).__name__}"
    raise TypeError(msg)


def _halved(plan: Plan, step: int, reason: str) -> BatchHalved:
    if plan.batch_size == 1:
        msg = (
            f"memory ran out with a single sample of {tuple(plan.patch_size)} ({reason}): plan again for "
            "this device, with a smaller patch or --memory-fraction"
        )
        raise TrainingError(msg)
    # An odd batch goes to its largest divisor below a half: a step must see the same samples as before.
    size = next(size for size in range(plan.batch_size // 2, 0, -1) if plan.batch_size % size == 0)
    pieces = plan.accumulation * plan.batch_size // size
    return BatchHalved(step=step, batch_size=size, accumulation=pieces, reason=reason)


def replace_batch(plan: Plan, halved: BatchHalved) -> Plan:
    """The plan with the batch that is left; its decisions say why."""
    return plan.with_batch(
        halved.batch_size,
        halved.accumulation,
        why=f"memory ran out at step {halved.step} with batches of {plan.batch_size}",
    )


def _free(module: nn.Module) -> None:
    """Let go of everything that the last attempt left on the device."""
    module.trainer = None  # type: ignore[assignment]
    module.zero_grad(set_to_none=True)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
