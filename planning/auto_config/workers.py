"""Loader workers by the documented rule."""

from __future__ import annotations

from ..machine import detect_cores

WORKERS_PER_GPU = 4
"""The documented rule of the system that this API comes from."""


def get_optimal_num_workers(num_gpus: int = 1) -> int:
    """Loader workers for all GPUs of the machine together: 4 a GPU, at most the *usable* cores.

    Args:
        num_gpus: training processes; 0 counts as one, which computes on the CPU.

    Raises:
        ValueError: ``num_gpus`` is negative.
    """
    return workers_for(num_gpus, detect_cores())


def workers_for(num_gpus: int, cores: int) -> int:
    """The same for a number of usable cores."""
    if num_gpus < 0:
        msg = f"num_gpus must be 0 or more, got {num_gpus}"
        raise ValueError(msg)
    return min(WORKERS_PER_GPU * max(1, num_gpus), cores)
