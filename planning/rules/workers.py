"""Loader workers and caching, from cores, main memory, shared memory and how the files are stored. Pure
numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from voxplan.plans.schema import Decision
from voxplan.plans.workers_here import PREFETCH, workers_by_cores, workers_by_shared_memory

MAXIMUM_WORKERS = 12
"""Per training process; nnU-Net's default number of augmentation workers (``nnUNet_n_proc_DA``)."""
WORKER_MEMORY = 700 * 1024**2
"""Bytes of one loader worker before any data: what a process that imports torch holds (nnU-Net's workers:
675 MiB, measured)."""
WORKER_RAM_SHARE = 0.5
"""Share of the available main memory that all workers together may take."""
CACHE_RAM_SHARE = 0.5
"""Share of the available main memory that a cache of all volumes may take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerChoice:
    """Workers per training process, and why."""

    workers: int
    decision: Decision
    warnings: tuple[str, ...] = ()


def choose_workers(
    *,
    cores: int,
    ram_available: int,
    shared_memory: int | None,
    batch_bytes: int,
    processes: int = 1,
    on_cpu: bool = False,
) -> WorkerChoice:
    """Loader workers of one of ``processes`` training processes on the machine.

    Each process keeps one core for itself; when the network too computes on the CPU, one worker is enough to
    read ahead. Main memory bounds how many workers can live, /dev/shm how many batches can wait.

    Args:
        cores: usable by all processes together.
        ram_available: bytes, for all processes together.
        shared_memory: bytes of /dev/shm; None where there is none.
        batch_bytes: one batch as the worker hands it over, image and target.
        processes: one a GPU.
        on_cpu: the network computes on the CPU.
    """
    limits = {
        "cores": workers_by_cores(cores, processes),
        "nnU-Net's maximum": MAXIMUM_WORKERS,
        "main memory": int(
            ram_available * WORKER_RAM_SHARE / processes / (WORKER_MEMORY + (PREFETCH + 1) * batch_bytes)
        ),
    }
    if on_cpu:
        limits["the CPU, which computes the network"] = 1
    warnings: tuple[str, ...] = ()
    if shared_memory is not None:
        limits["/dev/shm"] = workers_by_shared_memory(shared_memory, batch_bytes, processes)
        if limits["/dev/shm"] == 0 and limits["cores"] > 0:
            warnings = (
                f"/dev/shm of {shared_memory / 1024**2:.0f} MiB cannot hold two waiting batches of "
                f"{batch_bytes / 1024**2:.0f} MiB: batches are loaded in the training process; "
                "give the container more (docker run --shm-size 8g)",
            )
    reason = min(limits, key=lambda name: limits[name])
    workers = limits[reason]
    share = f" for each of {processes} processes" if processes > 1 else ""
    count = f"{workers} worker{'s' if workers != 1 else ''}"
    return WorkerChoice(
        workers=workers,
        decision=Decision(by="hardware", why=f"{count}{share}: limited by {reason}"),
        warnings=warnings,
    )


def choose_cache(
    *, dataset_bytes: int, compressed_streams: bool, ram_available: int, processes: int = 1
) -> tuple[Literal["none", "ram", "disk"], Decision]:
    """Whether decoded volumes are kept.

    A compressed stream (``.nii.gz``) must be inflated from its start for every random patch: it is worth
    keeping in RAM where it fits, else on disk. Other files are read patch by patch, and the page cache does
    the rest.

    Args:
        dataset_bytes: all volumes and labels, uncompressed.
        compressed_streams: whether any case is one.
        ram_available: bytes.
        processes: that train on the machine: each holds a cache of its own (its workers share it).
    """
    if not compressed_streams:
        why = "patches are read straight from the files; nothing has to be inflated whole"
        return "none", Decision(by="data", why=why)
    times = f", {processes} times (each process holds its own)," if processes > 1 else ""
    size = f"{dataset_bytes / 1024**3:.1f} GiB uncompressed{times}"
    limit = ram_available * CACHE_RAM_SHARE
    if dataset_bytes * processes <= limit:
        why = f"compressed files would be inflated for every patch; {size} fit in half of the RAM"
        return "ram", Decision(by="hardware", why=why)
    why = f"compressed files would be inflated for every patch; {size} exceed half of the RAM"
    return "disk", Decision(by="hardware", why=why)
