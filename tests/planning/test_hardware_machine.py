"""Parsers of what Linux, cgroups and SLURM say, on real text samples."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from voxplan.planning.machine import (
    detect_cores,
    detect_ram,
    detect_shared_memory,
    parse_cgroup_path,
    parse_cpu_max,
    parse_cpu_quota,
    parse_memory_limit,
    parse_reclaimable,
    parse_slurm_cores,
    usable_cores,
)

V1 = """\
12:cpuset:/
9:cpu,cpuacct:/slurm/uid_1000/job_42/step_0
4:memory:/slurm/uid_1000/job_42
1:name=systemd:/init.scope
0::/init.scope
"""
V2 = "0::/user.slice/user-1000.slice/session-3.scope\n"


def test_cgroup_paths() -> None:
    assert parse_cgroup_path(V1, "memory") == "/slurm/uid_1000/job_42"
    assert parse_cgroup_path(V1, "cpu") == "/slurm/uid_1000/job_42/step_0"
    assert parse_cgroup_path(V1, "") == "/init.scope"
    assert parse_cgroup_path(V2) == "/user.slice/user-1000.slice/session-3.scope"
    assert parse_cgroup_path(V2, "memory") is None
    assert parse_cgroup_path("") is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("max\n", None),
        ("8589934592\n", 8 * 1024**3),
        ("9223372036854771712\n", None),  # cgroup v1 without a limit
        ("", None),
    ],
)
def test_memory_limit(text: str, expected: int | None) -> None:
    assert parse_memory_limit(text) == expected


def test_reclaimable_cache_of_v1_counts_the_whole_tree() -> None:
    v1 = "cache 500\ninactive_file 100\ntotal_cache 900\ntotal_inactive_file 300\n"
    assert parse_reclaimable(v1) == 300
    assert parse_reclaimable("anon 5\nfile 9\ninactive_file 7\n") == 7
    assert parse_reclaimable("") == 0


def test_cpu_quota() -> None:
    assert parse_cpu_max("max 100000\n") is None
    assert parse_cpu_max("250000 100000\n") == 2.5
    assert parse_cpu_max("") is None
    assert parse_cpu_quota("-1\n", "100000\n") is None
    assert parse_cpu_quota("400000\n", "100000\n") == 4.0
    assert parse_cpu_quota("400000\n", "0\n") is None


def test_slurm() -> None:
    assert parse_slurm_cores({}) is None
    assert parse_slurm_cores({"SLURM_CPUS_PER_TASK": "6", "SLURM_CPUS_ON_NODE": "48"}) == 6
    assert parse_slurm_cores({"SLURM_CPUS_ON_NODE": "48"}) == 48
    assert parse_slurm_cores({"SLURM_CPUS_PER_TASK": "4(x2)"}) is None


@pytest.mark.parametrize(
    ("affinity", "quota", "slurm", "expected"),
    [(64, None, None, 64), (64, 2.5, None, 2), (64, 0.5, None, 1), (64, 16.0, 8, 8), (4, 16.0, 8, 4)],
)
def test_least_limit_wins(affinity: int, quota: float | None, slurm: int | None, expected: int) -> None:
    assert usable_cores(affinity, quota, slurm) == expected


def test_this_machine_within_its_bounds() -> None:
    total, available = detect_ram()
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < available <= total <= physical
    assert 1 <= detect_cores({}) <= (os.cpu_count() or 1)
    assert detect_cores({"SLURM_CPUS_PER_TASK": "1"}) == 1


def test_shared_memory(tmp_path: Path) -> None:
    status = os.statvfs(tmp_path)
    assert detect_shared_memory(tmp_path) == status.f_blocks * status.f_frsize
    assert detect_shared_memory(tmp_path / "absent") is None
