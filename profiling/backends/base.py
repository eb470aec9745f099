"""The seam between what is to be computed and where: tasks go out, finished results come back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class WorkerPoolError(RuntimeError):
    """Workers die before they take a task: nothing can be computed in processes here."""


@dataclass(frozen=True, slots=True)
class Crash:
    """What comes back for a task whose worker died or was ended by the time limit."""

    timed_out: bool
    detail: str
    """The worker's exit as the pool names it, e.g. ``SIGKILL(-9)``; may be empty."""
    host: str = ""
    """The machine it died on, if it is not this one."""


@dataclass(frozen=True, slots=True)
class Work(Generic[T, R]):
    """One function to be run over tasks."""

    function: Callable[[T], R]
    """Of a module's top level, so that it can be pickled; journals what it computes, and returns little."""
    name: Callable[[T], str]
    """Unique among the tasks, and usable as a file name."""
    recover: Callable[[T], R | None]
    """Result of a task that was finished before its pool broke, from the journal; None if there is none."""
    folder: Path
    """Seen by all workers; for the marks that they leave while they hold a task."""
    timeout: float | None = None
    """Seconds after which a task is ended."""


class Backend(ABC):
    """Runs tasks; a worker that dies costs its task and nothing else."""

    workers: int
    """Tasks that run at the same time, for progress and for cutting work into parts."""
    remote: bool = False
    """Whether workers are on other machines. A file that one of them has just written may be invisible here
    for up to a minute (NFS remembers that a name was missing: ``lookupcache`` in nfs(5)), so that this
    process journals the results of cases itself instead of looking for what workers wrote."""

    @abstractmethod
    def run(self, work: Work[T, R], tasks: Sequence[T]) -> Iterator[tuple[T, R | Crash]]:
        """Results as they come, in any order, exactly one for every task.

        May be called again when its results have all been taken; workers are kept until :meth:`stop`.

        Raises:
            WorkerPoolError: workers die before they take up any task.
        """

    def stop(self) -> None:  # noqa: B027 - nothing to end where there are no processes
        """End the workers at once, with what they are doing."""
