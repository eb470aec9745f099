"""Running one function over many tasks in worker processes that may die or hang.

joblib's loky pool breaks as a whole when a worker is killed: it does not say which task the worker held, and
drops results that were finished but not yet handed over. So tasks go one by one, each worker leaves a
marker file while it holds a task, and after a break the pool starts again: finished tasks are recovered
(from the journal that the function itself writes), those with a marker are suspects and run again one at a
time, alone. A suspect that breaks its pool again is the culprit. A task that exceeds its time ends its own
worker, by a watchdog thread that needs no interpreter lock (``faulthandler``), so that a hang inside a
codec is ended as well.
"""

from __future__ import annotations

import faulthandler
import os
import re
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from .base import Backend, Crash, Work, WorkerPoolError
from .orphans import end_with

T = TypeVar("T")
R = TypeVar("R")

QUEUED_PER_WORKER = 2
"""Tasks handed out ahead: one running, one waiting, so that a worker never idles and a break costs little."""
FRUITLESS_BREAKS = 3
"""Breaks in a row without a single finished task after which the machine, not a task, is to blame."""


class LocalBackend(Backend):
    """Worker processes of this machine; one job without a time limit runs in this process."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._started = False

    def run(self, work: Work[T, R], tasks: Sequence[T]) -> Iterator[tuple[T, R | Crash]]:
        """See :meth:`.base.Backend.run`."""
        jobs = min(self.workers, len(tasks))
        if jobs <= 1 and work.timeout is None:
            for task in tasks:
                yield task, work.function(task)
            return
        self._started = True
        yield from _Pool(work, jobs).run(tasks)

    def stop(self) -> None:
        """See :meth:`.base.Backend.stop`."""
        if self._started:
            stop_workers()
            self._started = False


class _Pool(Generic[T, R]):
    """One function over tasks, in processes."""

    def __init__(self, work: Work[T, R], jobs: int) -> None:
        self.work, self.jobs = work, jobs

    def run(self, tasks: Sequence[T]) -> Iterator[tuple[T, R | Crash]]:
        """One result for every task, whatever becomes of the pool."""
        waiting = {self.work.name(task): task for task in tasks}
        for name in waiting:
            self._clear(name)
        fruitless = 0
        while waiting:
            progress = False
            try:
                for name, result in self._in_pool(list(waiting.values()), self.jobs):
                    progress = True
                    yield waiting.pop(name), result
            except _pool_errors() as error:
                suspects = []
                for name, task in list(waiting.items()):
                    recovered = self.work.recover(task)
                    if recovered is not None:
                        progress = True
                        self._clear(name)
                        yield waiting.pop(name), recovered
                    elif self._marker(name).exists():
                        suspects.append(waiting.pop(name))
                fruitless = 0 if progress or suspects else fruitless + 1
                if fruitless == FRUITLESS_BREAKS:
                    msg = f"worker processes end before they take a case ({_exit_codes(error)}); try --jobs 1"
                    raise WorkerPoolError(msg) from error
                for task in suspects:
                    yield task, self._alone(task)

    def _alone(self, task: T) -> R | Crash:
        """A suspect, in a pool where nothing else runs; one ended by the time limit is not tried again."""
        name = self.work.name(task)
        if self._hung(name):
            self._clear(name)
            return Crash(timed_out=True, detail="")
        self._clear(name)
        try:
            for _, result in self._in_pool([task], 1):
                return result
        except _pool_errors() as error:
            recovered = self.work.recover(task)
            hung = self._hung(name)
            self._clear(name)
            return recovered if recovered is not None else Crash(hung, _exit_codes(error))
        msg = f"the pool returned nothing for {name}"
        raise WorkerPoolError(msg)

    def _in_pool(self, tasks: Sequence[T], jobs: int) -> Iterator[tuple[str, R]]:
        from joblib import Parallel, delayed, parallel_config

        calls = (
            delayed(_guarded)(
                self.work.function, task, self.work.name(task), self.work.folder, self.work.timeout
            )
            for task in tasks
        )
        # joblib runs a single job in this process: the pool gets two workers, and one task at a time
        with parallel_config("loky", n_jobs=max(2, jobs), inner_max_num_threads=1):
            ahead = QUEUED_PER_WORKER * jobs if jobs > 1 else 1
            # joblib's hints know neither numbers for these two nor what the calls return
            parallel: Any = Parallel(
                return_as="generator_unordered",
                batch_size=cast("Any", 1),
                pre_dispatch=cast("Any", ahead),
                initializer=end_with,
                initargs=(os.getpid(),),
            )
            with _workers_deaf_to_interrupts():
                results: Iterable[tuple[str, R]] = parallel(calls)
        yield from results

    def _marker(self, name: str) -> Path:
        return self.work.folder / f"{name}.running"

    def _hung(self, name: str) -> bool:
        trace = self.work.folder / f"{name}.hung"
        return trace.exists() and trace.stat().st_size > 0

    def _clear(self, name: str) -> None:
        self._marker(name).unlink(missing_ok=True)
        (self.work.folder / f"{name}.hung").unlink(missing_ok=True)


@contextmanager
def _workers_deaf_to_interrupts() -> Iterator[None]:
    """Processes started meanwhile do not get Ctrl-C, which a terminal sends to all of them.

    Else each would print a traceback of its own; this process hears it, and ends them. The signal mask is
    inherited by processes and threads; what arrives meanwhile is delivered at the end.
    """
    from multiprocessing import resource_tracker

    from joblib.externals.loky.backend import resource_tracker as loky_tracker

    for tracker in (resource_tracker, loky_tracker):
        tracker.ensure_running()  # at their own start they take SIGINT out of the mask
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def stop_workers() -> None:
    """End the worker processes of this program at once, and what they are doing with them."""
    from joblib.externals.loky import get_reusable_executor

    get_reusable_executor().shutdown(wait=True, kill_workers=True)


def usable_cores() -> int:
    """Cores that this process may use: affinity, cgroup quota and ``LOKY_MAX_CPU_COUNT`` considered."""
    from joblib import cpu_count

    cores: int = cpu_count()
    slurm = os.environ.get("SLURM_CPUS_PER_TASK", "")
    return max(1, min(cores, int(slurm)) if slurm.isdecimal() and int(slurm) > 0 else cores)


def _guarded(
    work: Callable[[T], R], task: T, name: str, markers: Path, timeout: float | None
) -> tuple[str, R]:
    """Runs in the worker: the marker stands from the first moment to the last."""
    marker = markers / f"{name}.running"
    marker.write_text(str(os.getpid()))
    if timeout is None:
        result = work(task)
    else:
        trace = markers / f"{name}.hung"
        with trace.open("w") as file:
            faulthandler.dump_traceback_later(timeout, exit=True, file=file)
            try:
                result = work(task)
            finally:
                faulthandler.cancel_dump_traceback_later()
        trace.unlink()
    marker.unlink()
    return name, result


def _pool_errors() -> tuple[type[BaseException], ...]:
    from joblib.externals.loky.process_executor import BrokenProcessPool

    return (BrokenProcessPool,)


def _exit_codes(error: BaseException) -> str:
    """``SIGKILL(-9)`` out of the pool's message; empty where it says nothing of the kind."""
    match = re.search(r"exit codes of the workers are \{([^}]*)\}", str(error))
    return match[1] if match else ""
