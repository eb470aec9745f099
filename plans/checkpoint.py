"""Checkpoints with the plan inside: weights, optimizer, schedule, step; loaded without executing anything.

A checkpoint is rebuilt with nothing but itself: :func:`load_network` reads the plan from it.
"""

from __future__ import annotations

import os
import pickle
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from .build import Plan
from .schema import DatasetPlan, ExperimentPlan

if TYPE_CHECKING:
    from .training import TrainingState

FORMAT = "voxplan-checkpoint"
VERSION = 1
CONTENT = ("version", "plan", "step", "batch_size", "network", "optimizer", "scheduler", "scaler")
"""What :func:`save_checkpoint` writes, beside the format."""


class CheckpointError(ValueError):
    """A file that is no usable checkpoint; says which and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What a file holds."""

    plan: Plan
    step: int
    content: dict[str, Any]
    """State dictionaries by name: ``network``, ``optimizer``, ``scheduler``, ``scaler`` (may be None)."""


def save_checkpoint(path: Path, plan: Plan, state: TrainingState) -> None:
    """Write atomically: a temporary file in the same folder, flushed and renamed."""
    content = {
        "format": FORMAT,
        "version": VERSION,
        "plan": plan_content(plan),
        "step": state.step,
        "batch_size": state.batch_size,
        "network": state.network.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "scheduler": state.scheduler.state_dict(),
        "scaler": None if state.scaler is None else state.scaler.state_dict(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def plan_content(plan: Plan) -> dict[str, str]:
    """A plan as text, for a checkpoint."""
    return {
        "name": plan.name,
        "experiment": plan.experiment.model_dump_json(),
        "dataset": plan.dataset.model_dump_json(),
    }


def _plan(content: dict[str, str]) -> Plan:
    return Plan(
        str(content["name"]),
        ExperimentPlan.model_validate_json(content["experiment"]),
        DatasetPlan.model_validate_json(content["dataset"]),
    )


def _plan_in(content: Any, path: Path) -> Plan:
    try:
        return _plan(content)
    except (KeyError, TypeError, ValueError) as error:  # ValidationError is a ValueError
        reason = f"no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())[:200]
        msg = f"{path}: its plan cannot be read ({reason}); the checkpoint is damaged or of another program"
        raise CheckpointError(msg) from error


def load_plan(path: Path) -> Plan:
    """The plan inside a checkpoint of this program, or of Lightning with a ``PlanCallback``.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: there is no plan in it.
    """
    content = _read(path, "cpu")
    inside = content.get("voxplan", content if content.get("format") == FORMAT else {})
    if not isinstance(inside, dict) or "plan" not in inside:
        msg = f"{path}: holds no plan: it was written without PlanCallback"
        raise CheckpointError(msg)
    return _plan_in(inside["plan"], path)


def load_checkpoint(path: Path, device: torch.device | str = "cpu") -> Checkpoint:
    """Read a checkpoint; only tensors, numbers and text are ever unpickled.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it is not a checkpoint of this program, or of a newer one.
    """
    content = _read(path, device)
    if content.get("format") != FORMAT:
        msg = f"{path}: is no voxplan checkpoint"
        raise CheckpointError(msg)
    version = content.get("version")
    if isinstance(version, int) and version > VERSION:
        msg = f"{path}: version {version} is newer than this program knows ({VERSION}): update it"
        raise CheckpointError(msg)
    missing = [name for name in CONTENT if name not in content]
    counts = [content.get("step"), content.get("batch_size")]
    if missing or not all(isinstance(count, int) and count >= 0 for count in counts):
        what = (
            f"has no {missing[0]}" if missing else f"step and batch_size are {counts[0]!r} and {counts[1]!r}"
        )
        msg = f"{path}: {what}; the checkpoint is damaged or of another program"
        raise CheckpointError(msg)
    return Checkpoint(plan=_plan_in(content["plan"], path), step=content["step"], content=content)


def _read(path: Path, device: torch.device | str) -> dict[str, Any]:
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        reason = type(error).__name__
        if not isinstance(error, pickle.UnpicklingError):  # whose text advises to load it unsafely
            reason = " ".join(str(error).split())[:200] or reason
        msg = f"{path}: is no checkpoint that can be read safely ({reason}); it is damaged, or holds code"
        raise CheckpointError(msg) from error
    return content if isinstance(content, dict) else {}


def restore(checkpoint: Checkpoint, state: TrainingState) -> None:
    """Put a checkpoint's state into one that was prepared from the same plan.

    Raises:
        CheckpointError: the weights do not fit the network.
    """
    content = checkpoint.content
    try:
        state.network.load_state_dict(content["network"])
        state.optimizer.load_state_dict(content["optimizer"])
        state.scheduler.load_state_dict(content["scheduler"])
    except (RuntimeError, ValueError) as error:
        msg = (
            f"the checkpoint of plan {checkpoint.plan.name!r} does not fit this plan's network: "
            f"{str(error).splitlines()[0]}"
        )
        raise CheckpointError(msg) from error
    if state.scaler is not None and content["scaler"] is not None:
        state.scaler.load_state_dict(content["scaler"])
    state.step = checkpoint.step
    state.batch_size = content["batch_size"]


def load_network(path: Path, device: torch.device | str = "cpu") -> tuple[nn.Module, Plan]:
    """The trained network in evaluation mode, rebuilt from the plan inside the checkpoint, and that plan."""
    checkpoint = load_checkpoint(path, device)
    network = checkpoint.plan.build_network(device=device)
    network.load_state_dict(checkpoint.content["network"])
    return network.eval(), checkpoint.plan
