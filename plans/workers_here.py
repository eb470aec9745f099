"""Loader workers on the machine at hand, which need not be the one that a plan was made for."""

from __future__ import annotations

import logging
import os
import shutil
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from .schema import DatasetPlan, ExperimentPlan

if TYPE_CHECKING:
    from .build import Plan

PREFETCH = 2
"""Batches that each worker holds ready (torch's ``prefetch_factor``)."""
SHARED_MEMORY = Path("/dev/shm")
"""Where torch's loader workers put batches on Linux."""
SHARED_MEMORY_SHARE = 0.5
"""Share of it that ready batches may fill."""

log = logging.getLogger(__name__)


def batch_bytes(plan: ExperimentPlan, dataset: DatasetPlan) -> int:
    """One batch as a loader worker hands it over: fp32 image, int16 classes or one byte a channel."""
    target = 2 if plan.loss.name == "dice_ce" else dataset.out_channels
    return plan.batch_size * prod(plan.patch_size) * (4 * dataset.in_channels + target)


def workers_by_cores(cores: int, processes: int) -> int:
    """Workers of one of ``processes`` training processes, each of which keeps a core for itself."""
    return max(0, cores // processes - 1)


def workers_by_shared_memory(size: int, batch: int, processes: int) -> int:
    """Workers whose ready batches (of ``batch`` bytes) fit into a /dev/shm of ``size`` bytes."""
    return int(size * SHARED_MEMORY_SHARE / processes / (PREFETCH * max(1, batch)))


def workers_here(plan: Plan) -> int:
    """The plan's workers, as many as this machine bears; a number that the user has set stays.

    A worker too many for /dev/shm would be killed by a bus error.
    """
    planned, decision = plan.loader.workers, plan.decisions.get("workers")
    if planned == 0 or (decision is not None and decision.by == "user"):
        return planned
    limits = {"the plan": planned, "its cores": workers_by_cores(_cores(), plan.devices)}
    if SHARED_MEMORY.is_dir():
        size = shutil.disk_usage(SHARED_MEMORY).total
        batch = batch_bytes(plan.experiment, plan.dataset)
        limits["its /dev/shm"] = workers_by_shared_memory(size, batch, plan.devices)
    reason = min(limits, key=lambda name: limits[name])
    if limits[reason] < planned:
        log.warning(
            "the plan has %d loader workers, this machine bears %d: limited by %s",
            planned,
            limits[reason],
            reason,
        )
    return limits[reason]


def _cores() -> int:
    """Those that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count() or 1
