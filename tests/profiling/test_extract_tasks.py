"""Workers that die or hang cost their task, not the run."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from voxplan.profiling.backends.base import Crash, Work, WorkerPoolError
from voxplan.profiling.backends.local import LocalBackend, stop_workers, usable_cores


@pytest.fixture(autouse=True)
def _no_workers_left() -> Iterator[None]:
    yield
    stop_workers()


def run(
    work: Callable[[int], int | None],
    folder: Path,
    *,
    tasks: int = 8,
    jobs: int = 2,
    timeout: float | None = None,
    recover: Callable[[int], int | None] = lambda task: None,
) -> dict[int, int | Crash | None]:
    backend = LocalBackend(jobs)
    results = list(backend.run(Work(work, str, recover, folder, timeout), range(tasks)))
    assert len(results) == tasks, "one result for every task"
    assert not list(folder.glob("*.running"))
    assert not list(folder.glob("*.hung"))
    return dict(results)


def test_the_killer_is_named_and_the_rest_finishes(tmp_path: Path) -> None:
    def work(task: int) -> int:
        if task == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return task * task

    results = run(work, tmp_path, tasks=12, jobs=3)
    crash = results.pop(3)
    assert isinstance(crash, Crash)
    assert (crash.timed_out, crash.detail) == (False, "SIGKILL(-9)")
    assert results == {task: task * task for task in range(12) if task != 3}


def test_several_killers(tmp_path: Path) -> None:
    def work(task: int) -> int:
        if task % 4 == 1:
            os._exit(7)
        return task

    results = run(work, tmp_path, tasks=9)
    assert {task for task, result in results.items() if isinstance(result, Crash)} == {1, 5}
    assert {result for result in results.values() if not isinstance(result, Crash)} == {0, 2, 3, 4, 6, 7, 8}


def test_a_worker_killed_once_by_bad_luck_is_no_failure(tmp_path: Path) -> None:
    flag = tmp_path / "unlucky"

    def work(task: int) -> int:
        if task == 2 and not flag.exists():
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return task

    assert run(work, tmp_path) == {task: task for task in range(8)}


def test_finished_results_lost_with_the_pool_are_recovered_not_repeated(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()

    def work(task: int) -> int:
        with (kept / str(task)).open("a") as file:
            file.write("x")
        if task == 0:
            time.sleep(1.0)
            os.kill(os.getpid(), signal.SIGKILL)
        return task

    def recover(task: int) -> int | None:
        return task if task and (kept / str(task)).exists() else None

    results = run(work, tmp_path, recover=recover)
    assert isinstance(results.pop(0), Crash)
    assert results == {task: task for task in range(1, 8)}
    assert {path.name: path.read_text() for path in kept.iterdir()} == {
        str(task): "xx" if task == 0 else "x" for task in range(8)
    }


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_hang_is_ended_by_the_time_limit(tmp_path: Path, jobs: int) -> None:
    def work(task: int) -> int:
        if task == 1:
            time.sleep(600)
        return task

    began = time.monotonic()
    results = run(work, tmp_path, tasks=4, jobs=jobs, timeout=1.0)
    crash = results.pop(1)
    assert isinstance(crash, Crash)
    assert crash.timed_out
    assert results == {0: 0, 2: 2, 3: 3}
    assert time.monotonic() - began < 60


def test_one_job_runs_here(tmp_path: Path) -> None:
    assert set(run(lambda task: os.getpid(), tmp_path, jobs=1).values()) == {os.getpid()}


def test_several_jobs_run_elsewhere(tmp_path: Path) -> None:
    assert os.getpid() not in run(lambda task: os.getpid(), tmp_path, jobs=2).values()


def test_workers_that_never_start_are_said_to(tmp_path: Path) -> None:
    class Poison:
        """Kills whoever unpickles it, before any task is taken up."""

        def __reduce__(self) -> tuple[Callable[[int], None], tuple[int]]:
            return os._exit, (9,)

        def __call__(self, task: int) -> int:
            return task

    work: Work[int, int] = Work(Poison(), str, lambda task: None, tmp_path)
    with pytest.raises(WorkerPoolError, match="--jobs 1"):
        list(LocalBackend(2).run(work, range(3)))


def test_cores_respect_affinity() -> None:
    assert 1 <= usable_cores() <= len(os.sched_getaffinity(0))
