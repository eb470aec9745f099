"""Progress of a run: a bar with rate and time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Self

from ..events import Event

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

SECONDS_BETWEEN_LINES = 10.0
"""Plain lines are for logs: seldom enough to read, often enough to see life."""


class PlainProgress:
    """Lines without control characters; that a case failed at once, why at the end; counts now and then."""

    def __init__(self, write: Callable[[str], None], *, every_case: bool = False) -> None:
        self._write = write
        self._every_case = every_case
        self._began = time.monotonic()
        self._last = self._began
        self._resumed = 0
        self._parts: _Parts | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def __call__(self, event: Event) -> None:
        """Tell one event."""
        now = time.monotonic()
        if event.total == 0:
            return
        if event.kind == "begin":
            self._write(f"profiling {_count(event.total, 'case')} with {_count(event.jobs, 'worker')}")
            return
        if event.kind == "resumed":
            self._resumed += 1
            if self._every_case:
                self._write(f"{event.finished}/{event.total} {event.case_id} (unchanged)")
            return
        if event.kind == "failed":
            self._write(f"{event.finished}/{event.total} {event.case_id} FAILED")
        if event.kind == "summary":
            resumed = f", {self._resumed} of them unchanged since the last run" if self._resumed else ""
            failed = f", {event.failed} FAILED" if event.failed else ""
            self._write(f"done: {_count(event.total, 'case')}{resumed}{failed}")
        elif event.kind == "part":
            self._tell_part(event, now)
        elif self._every_case and event.kind != "failed":
            self._write(f"{event.finished}/{event.total} {event.case_id}")
        elif now - self._last >= SECONDS_BETWEEN_LINES:
            self._last = now
            read = event.finished - self._resumed
            rate = read / (now - self._began)
            left = f", about {_duration((event.total - event.finished) / rate)} left" if rate else ""
            failed = f", {event.failed} FAILED" if event.failed else ""
            self._write(f"{event.finished}/{event.total} cases, {rate:.2g} a second{left}{failed}")

    def _tell_part(self, event: Event, now: float) -> None:
        if self._parts is None:
            self._parts = _Parts(event.parts_finished, now)
            self._write(f"large volumes are shared by the workers, in {_count(event.parts, 'part')}")
        elif now - self._last >= SECONDS_BETWEEN_LINES:
            self._last = now
            rate = (event.parts_finished - self._parts.at_first) / (now - self._parts.began)
            left = f", about {_duration((event.parts - event.parts_finished) / rate)} left" if rate else ""
            self._write(f"{event.parts_finished}/{event.parts} parts{left}")


class _Parts(NamedTuple):
    """When the parts of large volumes began, and how many were counted by an earlier run."""

    at_first: int
    began: float


class BarProgress:
    """A bar on a terminal: of the cases, then of the parts of those that are large."""

    def __init__(self, console: Console) -> None:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._console = console
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=16),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("left{task.fields[failed]}"),
            console=console,
            transient=True,
        )
        self._task: TaskID | None = None
        self._began = time.monotonic()
        self._resumed = 0
        self._parts: _Parts | None = None

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def __call__(self, event: Event) -> None:
        """Tell one event."""
        if event.total == 0:
            return
        if self._task is None:
            self._task = self._progress.add_task("profiling", total=event.total, rate="", failed="")
        if event.kind == "resumed":
            self._resumed += 1
        if event.kind == "part":
            self._tell_part(self._task, event)
            return
        seconds = time.monotonic() - self._began
        read = event.finished - self._resumed
        rate = f"{read / seconds:.2g}/s" if read and seconds > 0 else ""
        failed = f", [red]{event.failed} FAILED[/red]" if event.failed else ""
        self._progress.update(
            self._task,
            description="profiling",
            total=event.total,
            completed=event.finished,
            rate=rate,
            failed=failed,
        )

    def _tell_part(self, task: TaskID, event: Event) -> None:
        now = time.monotonic()
        if self._parts is None:
            self._parts = _Parts(event.parts_finished, now)
            self._progress.reset(task, description="large volumes, parts", total=event.parts)
        read = event.parts_finished - self._parts.at_first
        rate = f"{read / (now - self._parts.began):.2g}/s" if read and now > self._parts.began else ""
        self._progress.update(task, completed=event.parts_finished, rate=rate)


def _duration(seconds: float) -> str:
    """``40 s``, ``3 min``, ``2.5 h``."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")
