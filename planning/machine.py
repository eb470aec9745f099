"""What the machine gives this process: cores, main memory, shared memory. Parsers are apart from reading.

Sources: Linux ``proc(5)``, the kernel's cgroup v1 and v2 documentation, SLURM's ``sbatch`` environment.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil

SHARED_MEMORY = Path("/dev/shm")
"""Where torch's loader workers put batches on Linux."""
NO_LIMIT = 1 << 60
"""Bytes above which a cgroup v1 limit means none (the kernel writes a page-rounded 2^63)."""
_V2_MOUNT = Path("/sys/fs/cgroup")
_V1_MEMORY = _V2_MOUNT / "memory"
_V1_CPU = _V2_MOUNT / "cpu"


def parse_cgroup_path(text: str, controller: str = "") -> str | None:
    """The path of this process in ``/proc/self/cgroup``, for a v1 controller or (empty) the unified v2
    tree.
    """
    for line in text.splitlines():
        parts = line.split(":", 2)
        if len(parts) == 3 and controller in parts[1].split(","):
            return parts[2]
    return None


def parse_memory_limit(text: str) -> int | None:
    """Bytes of ``memory.max`` (v2) or ``memory.limit_in_bytes`` (v1); None where there is no limit."""
    word = text.strip()
    return int(word) if word.isdigit() and int(word) < NO_LIMIT else None


def parse_reclaimable(text: str) -> int:
    """Bytes of file cache in ``memory.stat`` that the kernel gives back under pressure: counted as
    available.
    """
    numbers = {
        key: int(value)
        for key, _, value in (line.partition(" ") for line in text.splitlines())
        if value.strip().isdigit()
    }
    return numbers.get("total_inactive_file", numbers.get("inactive_file", 0))


def parse_cpu_max(text: str) -> float | None:
    """Cores of a v2 ``cpu.max`` (``quota period`` in microseconds); None for ``max``."""
    words = text.split()
    if not words or not words[0].isdigit():
        return None
    period = int(words[1]) if len(words) > 1 else 100_000
    return int(words[0]) / period


def parse_cpu_quota(quota: str, period: str) -> float | None:
    """Cores of the v1 pair ``cpu.cfs_quota_us`` and ``cpu.cfs_period_us``; None where the quota is -1."""
    if not quota.strip().isdigit() or not period.strip().isdigit() or int(period) == 0:
        return None
    return int(quota) / int(period)


def parse_slurm_cores(environment: Mapping[str, str]) -> int | None:
    """Cores that SLURM gave the task: ``SLURM_CPUS_PER_TASK``, else the node's share of the job."""
    for name in ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"):
        word = environment.get(name, "")
        if word.isdigit() and int(word) > 0:
            return int(word)
    return None


def usable_cores(
    affinity: int, quota: float | None = None, slurm: int | None = None, physical_limit: int | None = None
) -> int:
    """The least of what limits the process; a quota of 2.5 cores counts as 2, one below 1 as 1."""
    limits = [affinity, *(value for value in (slurm, physical_limit) if value is not None)]
    if quota is not None:
        limits.append(math.floor(quota))
    return max(1, min(limits))


def _read(path: Path) -> str | None:
    """Contents of a small kernel file, or None where it is not there or not readable."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return None


def _upwards(mount: Path, inside: str) -> Iterator[Path]:
    """The cgroup of the process and all above it: the tightest limit of them holds."""
    folder = mount / inside.lstrip("/")
    while folder != mount and mount in folder.parents:
        yield folder
        folder = folder.parent
    yield mount


def _memory_groups() -> Iterator[tuple[Path, str, str]]:
    """Folders with the names of their limit and usage files, v2 and v1."""
    text = _read(Path("/proc/self/cgroup")) or ""
    for folder in _upwards(_V2_MOUNT, parse_cgroup_path(text) or ""):
        yield folder, "memory.max", "memory.current"
    for folder in _upwards(_V1_MEMORY, parse_cgroup_path(text, "memory") or ""):
        yield folder, "memory.limit_in_bytes", "memory.usage_in_bytes"


def detect_ram() -> tuple[int, int]:
    """Bytes of main memory that the process may use in all, and that are available now."""
    memory = psutil.virtual_memory()
    total, available = int(memory.total), int(memory.available)
    for folder, limit_name, usage_name in _memory_groups():
        limit = parse_memory_limit(_read(folder / limit_name) or "")
        if limit is None:
            continue
        usage = (_read(folder / usage_name) or "").strip()
        used = int(usage) if usage.isdigit() else 0
        reclaimable = parse_reclaimable(_read(folder / "memory.stat") or "")
        total = min(total, limit)
        available = min(available, max(0, limit - max(0, used - reclaimable)))
    return total, available


def detect_cores(environment: Mapping[str, str] | None = None) -> int:
    """Cores that the process may use: affinity, cgroup quota and SLURM counted."""
    try:
        affinity = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        affinity = os.cpu_count() or 1
    text = _read(Path("/proc/self/cgroup")) or ""
    quotas = [
        parse_cpu_max(_read(folder / "cpu.max") or "")
        for folder in _upwards(_V2_MOUNT, parse_cgroup_path(text) or "")
    ]
    quotas += [
        parse_cpu_quota(_read(folder / "cpu.cfs_quota_us") or "", _read(folder / "cpu.cfs_period_us") or "")
        for folder in _upwards(_V1_CPU, parse_cgroup_path(text, "cpu") or "")
    ]
    known = [quota for quota in quotas if quota is not None]
    slurm = parse_slurm_cores(os.environ if environment is None else environment)
    return usable_cores(affinity, min(known, default=None), slurm)


def detect_shared_memory(folder: Path = SHARED_MEMORY) -> int | None:
    """Size of the shared-memory file system in bytes; None where there is none (then workers use files)."""
    return shutil.disk_usage(folder).total if folder.is_dir() else None
