"""Progress of a run: a bar with rate and time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from ..events import Event

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

SECONDS_BETWEEN_LINES = 10.0
"""Plain lines are for logs: seldom enough to read, often enough to see life."""


class PlainProgress:
    """Lines without control characters; every failure at once, counts every few seconds."""

    def __init__(self, write: Callable[[str], None], *, every_case: bool = False) -> None:
        self._write = write
        self._every_case = every_case
        self._began = time.monotonic()
        self._last = self._began
        self._resumed = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def __call__(self, event: Event) -> None:
        """Tell one event."""
        now = time.monotonic()
        if event.kind == "begin":
            self._write(f"profiling {_count(event.total, 'case')} with {_count(event.jobs, 'worker')}")
            return
        if event.kind == "resumed":
            self._resumed += 1
            if self._every_case:
                self._write(f"{event.finished}/{event.total} {event.case_id} (unchanged)")
            return
        if event.kind == "failed":
            self._write(f"FAILED {event.case_id}: {event.reason}")
        if event.kind == "summary":
            resumed = f", {self._resumed} of them unchanged since the last run" if self._resumed else ""
            self._write(f"{event.finished}/{event.total} cases{resumed}, {event.failed} failed")
        elif self._every_case and event.kind != "failed":
            self._write(f"{event.finished}/{event.total} {event.case_id}")
        elif now - self._last >= SECONDS_BETWEEN_LINES:
            self._last = now
            read = event.finished - self._resumed
            rate = read / (now - self._began)
            left = (event.total - event.finished) / rate if rate else 0.0
            self._write(f"{event.finished}/{event.total} cases, {rate:.2g} a second, about {left:.0f} s left")


class BarProgress:
    """A bar on a terminal."""

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
            TextColumn("profiling"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._task: TaskID | None = None
        self._began = time.monotonic()
        self._resumed = 0

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def __call__(self, event: Event) -> None:
        """Tell one event."""
        if self._task is None:
            self._task = self._progress.add_task("profiling", total=event.total, rate="")
        if event.kind == "resumed":
            self._resumed += 1
        if event.kind == "failed":
            from rich.text import Text

            self._console.print(Text(f"FAILED {event.case_id}: {event.reason}", style="red"))
        seconds = time.monotonic() - self._began
        rate = (event.finished - self._resumed) / seconds if seconds > 0 else 0.0
        self._progress.update(self._task, completed=event.finished, rate=f"{rate:.2g}/s")


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")
