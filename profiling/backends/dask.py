"""Running one function over many tasks on a Dask cluster, whose workers may die, hang, come and go.

When a worker dies, the scheduler gives its tasks to the next one, and blames all of them: the one that it
computed and those that only waited there; by default it takes four workers until a task is given up. So a
task creates a mark in the shared folder, exclusively, when it really begins. Who finds the mark of a task
that it was given has a suspect at hand and gives it back at once; a suspect is tried a second time, and the
second worker that it costs makes it a failure. A task that exceeds its time ends its own worker, by a
watchdog thread that needs no interpreter lock (``faulthandler``); the worker's nanny starts another.

A worker process computes one task at a time, whatever its number of threads: memory is bounded by worker,
and the mark names who was at work.
"""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast
from uuid import uuid4

from .base import Backend, Crash, Work, WorkerPoolError

if TYPE_CHECKING:
    from distributed import Client, Future

T = TypeVar("T")
R = TypeVar("R")

FEWEST_AHEAD = 64
"""Tasks that the scheduler holds at least: an adaptive cluster grows with what waits there."""
AHEAD_PER_WORKER = 4
"""So that no worker waits for this process."""
CONNECT_SECONDS = 20
"""Until a scheduler that does not answer is given up; one that is just being started takes a few."""
PATIENCE_SECONDS = 3600.0
"""Until a cluster without any worker is given up: batch systems let jobs wait."""
CHECK_SECONDS = 2.0
"""Between two looks at whether workers are there."""
POLL_SECONDS = 0.02
ATTEMPTS = 2
"""Workers that a task may cost; one may have been bad luck."""
HUNG_GRACE_SECONDS = 1.0
"""What the trace of a worker that ended itself may take to arrive on a network file system."""


@dataclass(frozen=True, slots=True)
class _Call(Generic[T, R]):
    """One attempt at a task, as it travels."""

    function: Callable[[T], R]
    task: T
    mark: Path
    """Created when the attempt begins; of a name that no machine has ever asked for."""
    timeout: float | None
    folder: Path
    """Relative paths in the task start here."""
    sees: tuple[Path, ...]
    version: str


@dataclass(frozen=True, slots=True)
class _Finished(Generic[R]):
    result: R


@dataclass(frozen=True, slots=True)
class _Lost:
    """The attempt had begun on another worker, which did not finish it."""

    host: str
    hung: bool


@dataclass(frozen=True, slots=True)
class _Unfit:
    """A worker on which no task can run."""

    reason: str


@dataclass(frozen=True, slots=True)
class _Attempt(Generic[T]):
    task: T
    number: int
    mark: Path
    unlucky: int = 0
    """Times that the scheduler gave it up although it had not begun."""


class DaskBackend(Backend):
    """The workers of a Dask cluster; they must see the same files under the same paths."""

    remote = True

    def __init__(
        self,
        scheduler: str,
        *,
        sees: Sequence[Path] = (),
        tell: Callable[[str], None] = lambda text: None,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        """Connect.

        Args:
            scheduler: address (``tcp://host:8786``), or the file that ``dask scheduler --scheduler-file``
                writes.
            sees: files or folders that every worker must see.
            tell: gets a line when there is nobody to work, or a worker is lost.
            patience: seconds without any worker after which a run is given up.

        Raises:
            WorkerPoolError: the extra is not installed, or no scheduler answers.
        """
        self._scheduler = scheduler
        self._sees = tuple(path.absolute() for path in sees)
        self._tell, self._patience = tell, patience
        self._client = _connect(scheduler)
        self._deserted: float | None = None
        self._looked = time.monotonic()
        self._present = self._count_workers()
        self.workers = self._present or 2  # none yet: a cluster that grows when there is work

    def run(self, work: Work[T, R], tasks: Sequence[T]) -> Iterator[tuple[T, R | Crash]]:
        """See :meth:`.base.Backend.run`."""
        from distributed import as_completed

        run = uuid4().hex[:12]
        folder = work.folder.absolute()
        waiting = iter(tasks)
        again: list[_Attempt[T]] = []
        out: dict[str, tuple[Future[Any], _Attempt[T]]] = {}
        completed = as_completed(loop=self._client.loop, with_results=True, raise_errors=False)

        def submit() -> bool:
            """Hand out one more; False if there is none."""
            if again:
                attempt = again.pop()
            else:
                task = next(waiting, None)
                if task is None:
                    return False
                attempt = _Attempt(task, 1, folder / f"{work.name(task)}.{run}-1.running")
            call = _Call(
                work.function, attempt.task, attempt.mark, work.timeout, Path.cwd(), self._sees, _version()
            )
            key = f"{attempt.mark.stem}-{attempt.unlucky}"
            future = self._client.submit(run_in_worker, call, key=key, pure=False)
            out[key] = future, attempt
            completed.add(future)
            return True

        try:
            while True:
                while len(out) < max(FEWEST_AHEAD, AHEAD_PER_WORKER * self._present) and submit():
                    pass
                if not out:
                    return
                ready = completed.next_batch(block=False)
                if not ready:
                    time.sleep(POLL_SECONDS)
                    self._look()
                for future, result in ready:
                    _, attempt = out.pop(future.key)
                    outcome = self._outcome(future.status, result, attempt)
                    if isinstance(outcome, _Attempt):
                        again.append(outcome)
                        continue
                    for number in range(1, attempt.number + 1):
                        _clear(attempt.mark.with_name(f"{work.name(attempt.task)}.{run}-{number}.running"))
                    yield attempt.task, outcome
        finally:
            self._cancel([future for future, _ in out.values()])

    def stop(self) -> None:
        """Leave the cluster to itself; see :meth:`.base.Backend.stop`."""
        self._client.close()

    def _outcome(self, status: str, result: Any, attempt: _Attempt[T]) -> Any:
        """What the task returned, how it crashed, or the attempt to be made next.

        Raises:
            WorkerPoolError: the scheduler is gone, or a worker cannot run our tasks at all.
        """
        from distributed import KilledWorker

        # By the result, whatever the status: while results are gathered from a worker that dies, the client
        # may set futures back to pending whose results it has delivered already.
        if isinstance(result, _Finished):
            return result.result
        if isinstance(result, _Lost):
            return self._lost(result, attempt)
        if isinstance(result, _Unfit):
            msg = f"a worker of {self._scheduler} cannot profile: {result.reason}"
            raise WorkerPoolError(msg)
        if status == "error":
            error = cast("BaseException", result[1])
            if isinstance(error, KilledWorker):
                if attempt.mark.exists():
                    return self._lost(_read_mark(attempt.mark, grace=HUNG_GRACE_SECONDS), attempt)
                if attempt.unlucky < ATTEMPTS:
                    return _Attempt(attempt.task, attempt.number, attempt.mark, attempt.unlucky + 1)
                return Crash(timed_out=False, detail="")
            if isinstance(error, OSError):
                raise error
            msg = (
                f"{self._scheduler}: a task ended with {type(error).__name__}: {error}; scheduler and "
                "workers need the environment of this program"
            )
            raise WorkerPoolError(msg) from error
        if status == "pending" and attempt.unlucky < ATTEMPTS:  # its result went with the worker that held it
            return _Attempt(attempt.task, attempt.number, attempt.mark, attempt.unlucky + 1)
        msg = (
            f"the scheduler {self._scheduler} has gone or was restarted; run the same command again to go on"
        )
        raise WorkerPoolError(msg)

    def _lost(self, lost: _Lost, attempt: _Attempt[T]) -> Crash | _Attempt[T]:
        if lost.hung:
            return Crash(timed_out=True, detail="", host=lost.host)
        if attempt.number == ATTEMPTS:
            return Crash(timed_out=False, detail="", host=lost.host)
        self._tell(f"a worker on {lost.host} was lost; what it held is tried once more")
        number = attempt.number + 1
        stem = attempt.mark.stem.rpartition("-")[0]
        return _Attempt(attempt.task, number, attempt.mark.with_name(f"{stem}-{number}.running"))

    def _look(self) -> None:
        """See from time to time whether there is anybody to work."""
        now = time.monotonic()
        if now - self._looked < CHECK_SECONDS:
            return
        self._looked = now
        try:
            self._present = self._count_workers()
        except (OSError, RuntimeError) as error:
            msg = f"{self._scheduler} does not answer any more ({error}); run the same command again to go on"
            raise WorkerPoolError(msg) from error
        if self._present:
            self._deserted = None
            return
        if self._deserted is None:
            self._deserted = now
            self._tell(f"{self._scheduler} has no workers: waiting up to {self._patience / 60:.0f} minutes")
        if now - self._deserted > self._patience:
            msg = (
                f"{self._scheduler} has had no worker for {self._patience / 60:.0f} minutes; start some and "
                "run the same command again: finished cases are kept"
            )
            raise WorkerPoolError(msg)

    def _count_workers(self) -> int:
        workers: Mapping[str, int] = cast("Mapping[str, int]", self._client.nthreads())
        return len(workers)

    def _cancel(self, futures: Sequence[Future[Any]]) -> None:
        if futures and self._client.status == "running":
            with contextlib.suppress(OSError, RuntimeError):
                self._client.cancel(list(futures), force=True)


def run_in_worker(call: _Call[T, R]) -> _Finished[R] | _Lost | _Unfit:
    """One attempt, in a thread of a worker."""
    with _ONE_AT_A_TIME:
        host = socket.gethostname()
        if call.version != _version():
            return _Unfit(
                f"{host} has voxplan {_version()}, this program is {call.version}; install the same"
            )
        for path in (call.folder, call.mark.parent, *call.sees):
            if not path.exists():
                return _Unfit(
                    f"{host} does not see {path}; data, output and the folder that the command is started in "
                    "must lie on a file system that all workers share, under the same path"
                )
        try:
            descriptor = os.open(call.mark, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        except FileExistsError:
            return _read_mark(call.mark, grace=HUNG_GRACE_SECONDS if call.timeout else 0.0)
        except OSError as error:
            return _Unfit(f"{host} cannot write to {call.mark.parent} ({error.strerror})")
        with os.fdopen(descriptor, "w") as mark:
            mark.write(f"{os.getpid()} {host}")
        try:
            with contextlib.chdir(call.folder):
                return _Finished(_in_time(call))
        finally:
            call.mark.unlink(missing_ok=True)


_ONE_AT_A_TIME = threading.Lock()


def _in_time(call: _Call[T, R]) -> R:
    """What the function returns, unless the time limit ends this process."""
    if call.timeout is None:
        return call.function(call.task)
    trace = _trace(call.mark)
    with trace.open("w") as file:
        faulthandler.dump_traceback_later(call.timeout, exit=True, file=file)
        try:
            result = call.function(call.task)
        finally:
            faulthandler.cancel_dump_traceback_later()
    trace.unlink(missing_ok=True)
    return result


def _trace(mark: Path) -> Path:
    return mark.with_suffix(".hung")


def _read_mark(mark: Path, *, grace: float) -> _Lost:
    """Who had begun, and whether the time limit ended it."""
    try:
        host = mark.read_text().partition(" ")[2]
    except OSError:
        host = ""
    hung = _has_text(_trace(mark))
    if not hung and grace:
        time.sleep(grace)
        hung = _has_text(_trace(mark))
    return _Lost(host or "an unknown machine", hung)


def _has_text(path: Path) -> bool:
    """By opening: only that makes a network file system ask again for the size."""
    try:
        with path.open("rb") as file:
            return bool(file.read(1))
    except OSError:
        return False


def _clear(mark: Path) -> None:
    mark.unlink(missing_ok=True)
    _trace(mark).unlink(missing_ok=True)


@functools.cache
def _version() -> str:
    from ..extract import installed_version

    return installed_version()


def _connect(scheduler: str) -> Client:
    try:
        from distributed import Client
    except ImportError as error:
        msg = "the Dask backend needs an extra: pip install 'voxplan[dask]'"
        raise WorkerPoolError(msg) from error
    where: dict[str, Any] = {"address": scheduler}
    if scheduler.endswith(".json"):
        began = time.monotonic()
        while not Path(scheduler).is_file() and time.monotonic() - began < CONNECT_SECONDS:
            time.sleep(POLL_SECONDS)
        if not Path(scheduler).is_file():
            msg = f"{scheduler}: no such file; dask scheduler --scheduler-file {scheduler} writes it"
            raise WorkerPoolError(msg)
        where = {"scheduler_file": scheduler}
    try:
        return Client(**where, timeout=CONNECT_SECONDS, set_as_default=False, name="profile-dataset")
    except (OSError, ValueError) as error:
        msg = f"no Dask scheduler answers at {scheduler} ({error}); is it running, and is the address right?"
        raise WorkerPoolError(msg) from error
