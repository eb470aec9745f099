"""What the tests of the commands share: a terminal of 80 columns, as a person has it."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

COLUMNS, LINES = 80, 24


class Terminal:
    """A command in a pseudo-terminal: what it writes, with control characters, and its exit status."""

    def __init__(self, command: Sequence[str], cwd: Path, env: Mapping[str, str]) -> None:
        self._main, end = pty.openpty()
        fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        self.process = subprocess.Popen(
            command,
            stdin=end,
            stdout=end,
            stderr=end,
            cwd=cwd,
            env=dict(env),
            start_new_session=True,
            # a test run that was started in the background ignores SIGINT, and its children inherit that
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        os.close(end)
        self.said = ""

    def read(self, until: Callable[[str], bool], seconds: float = 60.0) -> str:
        """What was written until it satisfies a condition, or the command has ended."""
        ends = time.monotonic() + seconds
        while not until(self.said) and time.monotonic() < ends:
            if not select.select([self._main], [], [], 0.2)[0]:
                if self.process.poll() is not None:
                    break
                continue
            try:
                data = os.read(self._main, 1 << 16)
            except OSError:  # Linux: the other end is closed
                break
            self.said += data.decode(errors="replace")
        return self.said

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._main, text.encode())

    def interrupt(self) -> None:
        """As Ctrl-C does: every process of the foreground group gets SIGINT."""
        os.killpg(self.process.pid, signal.SIGINT)

    def finish(self, seconds: float = 60.0) -> int:
        """Read to the end; the exit status."""
        self.read(lambda _: False, seconds)
        status = self.process.wait(timeout=seconds)
        os.close(self._main)
        return status

    def kill(self) -> None:
        """End it whatever it does."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@pytest.fixture
def terminal(tmp_path: Path) -> object:
    """Start commands in terminals of 80 columns."""
    started: list[Terminal] = []

    def start(*command: str, **environment: str) -> Terminal:
        env = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "COLUMNS", "CI")}
        env |= {"TERM": "xterm-256color", "OMP_NUM_THREADS": "1", **environment}
        started.append(Terminal(command, tmp_path, env))
        return started[-1]

    yield start
    for one in started:
        one.kill()
