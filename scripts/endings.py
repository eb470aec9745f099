"""Being ended by a signal as by Ctrl-C: workers end too, the lock is given back, a line says what is kept.

SIGTERM is what ``kill``, batch systems at the end of a job's time and containers that stop send; SIGHUP comes
when a terminal closes. Without a handler either ends this process on the spot, and its workers go on.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class EndedBySignal(KeyboardInterrupt):
    """Another process asked this one to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.status = 128 + number
        """The exit status that shells give to a process that a signal ends."""


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Raise :class:`EndedBySignal` where the first SIGTERM or SIGHUP arrives; the second ends at once.

    A signal that is ignored (``nohup``) or has a handler keeps that; other threads than the main get none.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    names = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    taken = [number for number in names if signal.getsignal(number) is signal.SIG_DFL]

    def end(number: int, frame: FrameType | None) -> None:
        del frame
        give_back()
        raise EndedBySignal(number)

    def give_back() -> None:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)

    for number in taken:
        signal.signal(number, end)
    try:
        yield
    finally:
        give_back()
