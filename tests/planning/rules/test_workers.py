"""Loader workers and caching, limit by limit."""

from __future__ import annotations

import pytest

from voxplan.planning.rules.workers import MAXIMUM_WORKERS, choose_cache, choose_workers

MIB, GIB = 1024**2, 1024**3
ROOMY = {"cores": 64, "ram_available": 256 * GIB, "shared_memory": 64 * GIB, "batch_bytes": 64 * MIB}


def test_ample_machine_takes_nnunets_number() -> None:
    choice = choose_workers(**ROOMY)  # type: ignore[arg-type]
    assert choice.workers == MAXIMUM_WORKERS == 12
    assert "maximum" in choice.decision.why


@pytest.mark.parametrize(
    ("change", "workers", "reason"),
    [
        ({"cores": 8}, 7, "cores"),
        ({"cores": 1}, 0, "cores"),
        ({"cores": 8, "processes": 4}, 1, "cores"),
        # Half of 4 GiB, 700 MiB a worker and three batches of 64 MiB: 2048 / 892 = 2.3
        ({"ram_available": 4 * GIB}, 2, "main memory"),
        # Half of 1 GiB, two batches of 64 MiB a worker: 512 / 128
        ({"shared_memory": GIB}, 4, "/dev/shm"),
        ({"on_cpu": True}, 1, "CPU"),
        ({"shared_memory": None}, 12, "maximum"),
    ],
)
def test_least_limit_decides_and_is_named(change: dict[str, object], workers: int, reason: str) -> None:
    choice = choose_workers(**{**ROOMY, **change})  # type: ignore[arg-type]
    assert choice.workers == workers
    assert reason in choice.decision.why
    assert not choice.warnings


def test_dockers_tiny_shared_memory_is_said() -> None:
    choice = choose_workers(**{**ROOMY, "shared_memory": 64 * MIB})  # type: ignore[arg-type]
    assert choice.workers == 0
    assert "--shm-size" in choice.warnings[0]


def test_cache() -> None:
    assert choose_cache(dataset_bytes=GIB, compressed_streams=False, ram_available=64 * GIB)[0] == "none"
    assert choose_cache(dataset_bytes=32 * GIB, compressed_streams=True, ram_available=64 * GIB)[0] == "ram"
    assert choose_cache(dataset_bytes=33 * GIB, compressed_streams=True, ram_available=64 * GIB)[0] == "disk"


def test_each_training_process_holds_a_cache_of_its_own() -> None:
    facts = {"compressed_streams": True, "ram_available": 64 * GIB, "processes": 4}
    assert choose_cache(dataset_bytes=8 * GIB, **facts)[0] == "ram"
    choice, decision = choose_cache(dataset_bytes=9 * GIB, **facts)
    assert choice == "disk"
    assert (
        "9.0 GiB uncompressed, 4 times (each process holds its own), exceed half of the RAM" in decision.why
    )


def limited(**change: object) -> tuple[int, str, tuple[str, ...]]:
    choice = choose_workers(**{**ROOMY, **change})  # type: ignore[arg-type]
    return choice.workers, choice.decision.why, choice.warnings


@pytest.mark.parametrize("processes", [1, 2])
def test_main_memory_to_the_byte(processes: int) -> None:
    """700 MiB and three batches of 64 MiB a worker, from half of what each process has."""
    needed = 2 * processes * 3 * (700 + 3 * 64) * MIB
    assert limited(ram_available=needed, processes=processes)[0] == 3
    assert limited(ram_available=needed - 2 * processes, processes=processes)[0] == 2


@pytest.mark.parametrize("processes", [1, 2])
def test_shared_memory_to_the_byte(processes: int) -> None:
    """Two batches of 64 MiB wait for each worker, in half of /dev/shm."""
    needed = 2 * processes * 3 * 2 * 64 * MIB
    assert limited(shared_memory=needed, processes=processes)[0] == 3
    assert limited(shared_memory=needed - 2 * processes, processes=processes)[0] == 2
    assert limited(shared_memory=24, batch_bytes=0)[0] == 6


def test_one_core_is_no_fault_of_shared_memory() -> None:
    """With no core for a worker nothing is said of a /dev/shm that could not hold its batches either."""
    assert limited(shared_memory=MIB, cores=1)[2] == ()
    assert len(limited(shared_memory=MIB, cores=2)[2]) == 1


def test_a_share_of_processes_is_said_where_there_are_several() -> None:
    assert limited()[1] == "12 workers: limited by nnU-Net's maximum"
    assert limited(processes=2, cores=8)[1] == "3 workers for each of 2 processes: limited by cores"


def test_a_cache_of_every_process_counts_and_is_said() -> None:
    alone = choose_cache(dataset_bytes=GIB, compressed_streams=True, ram_available=4 * GIB)
    assert alone[0] == "ram"
    assert "1.0 GiB uncompressed fit in half" in alone[1].why
    both = choose_cache(dataset_bytes=GIB, compressed_streams=True, ram_available=4 * GIB, processes=2)
    assert both[0] == "ram"
    assert "1.0 GiB uncompressed, 2 times (each process holds its own), fit" in both[1].why
