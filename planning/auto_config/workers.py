"""Loader workers by the documented rule."""

from __future__ import annotations

from voxplan.plans.schema import Decision, ExperimentPlan, Hardware

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
    if isinstance(num_gpus, bool) or not isinstance(num_gpus, int) or num_gpus < 0:
        msg = f"num_gpus must be a whole number from 0 on, got {num_gpus!r}"
        raise ValueError(msg)
    return min(WORKERS_PER_GPU * max(1, num_gpus), cores)


def with_cores_for(hardware: Hardware) -> Hardware:
    """The machine with as many cores as 4 workers a GPU need.

    The planner's own rule keeps a core free and then asks main memory and /dev/shm: of those only the
    latter two may lower the documented number.
    """
    processes = _processes(hardware)
    return hardware.model_copy(update={"cores": processes * (_each(hardware) + 1)})


def decide_workers(plan: ExperimentPlan, hardware: Hardware) -> Decision:
    """Why a plan has its loader workers: by the documented rule, or fewer as the planner says."""
    if plan.loader.workers < _each(hardware):
        return plan.decisions["workers"]
    processes = _processes(hardware)
    share = f", shared by {processes} processes" if processes > 1 else ""
    why = f"{WORKERS_PER_GPU} a GPU (or for the CPU), at most the usable cores: {hardware.cores}{share}"
    return Decision(by="rule", why=why)


def _each(hardware: Hardware) -> int:
    processes = _processes(hardware)
    return workers_for(processes, hardware.cores) // processes


def _processes(hardware: Hardware) -> int:
    return max(1, len(hardware.gpus))
