"""One run at a time for each output: a lock file beside it says who writes.

The file is linked into place with its whole content, which is atomic on local disks and on NFS, and says the
process, its start, the machine and when. A lock whose process is gone is stale: on the same machine that is
looked up (number and start of the process, so that a number used again is not taken for it); of another
machine's process, or of one in another container, its heartbeat tells, compared with the file server's own
clock. A stale lock is broken by renaming it away, which only one of several runs can do.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import platform
import secrets
import stat
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from .files import read_regular, remove_leftovers

HEARTBEAT_SECONDS: Final = 20.0
SILENT_SECONDS: Final = 300.0
"""Silence after which another machine's run counts as dead: far longer than NFS caches attributes (60 s)."""
LONGEST_LOCK: Final = 1 << 16
"""Bytes; a larger file is no lock."""
ATTEMPTS: Final = 20
"""Stale locks broken in a row, by this run and others, before giving up."""


class OutputInUseError(RuntimeError):
    """Another run is writing the same output."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who holds a lock."""

    token: str
    """Drawn for each lock, so that a run never takes another's lock for its own."""
    pid: int
    started: float
    """When the process started, in seconds since the epoch."""
    host: str
    space: str
    """Boot and process-number space (containers have their own) in which ``pid`` means something."""
    since: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}"


def lock_path(output: Path) -> Path:
    """Where the lock of an output file lies: beside it."""
    return output.with_name(f"{output.name}.lock")


@contextlib.contextmanager
def output_locked(output: Path) -> Iterator[None]:
    """Hold the lock of an output file; its heart beats as long.

    Nothing is locked where the output's folder does not exist: saying so is left to who writes.

    Raises:
        OutputInUseError: another run holds it.
        OSError: the folder cannot be written.
    """
    path = lock_path(output)
    if not path.parent.is_dir():
        yield
        return
    mine = _myself()
    _acquire(path, mine, output)
    over = threading.Event()
    heart = threading.Thread(target=_beat, args=(path, over), name="lock heartbeat", daemon=True)
    heart.start()
    try:
        for written in (output, output.with_name(f"{output.stem}.histograms.npz")):
            remove_leftovers(written)
        yield
    finally:
        over.set()
        heart.join()
        _release(path, mine)


def read_holder(path: Path) -> Holder | None:
    """Who holds the lock; None where there is no lock, or one that says nothing (cut short, another's)."""
    try:
        content = json.loads(read_regular(path, LONGEST_LOCK))
        holder = Holder(**{name: content[name] for name in Holder.__dataclass_fields__})
        texts = (holder.token, holder.host, holder.space, holder.since)
        if type(holder.pid) is not int or holder.pid < 1 or not all(isinstance(text, str) for text in texts):
            return None
        return holder if isinstance(holder.started, float) and math.isfinite(holder.started) else None
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None


def _myself() -> Holder:
    return Holder(
        token=secrets.token_hex(16),
        pid=os.getpid(),
        started=_start_of(os.getpid()) or 0.0,
        host=platform.node(),
        space=_process_space(),
        since=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _process_space() -> str:
    """Differs after a restart, and between containers."""
    parts = [platform.node()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
        parts.append(os.readlink("/proc/self/ns/pid"))  # noqa: PTH115 - text that is no path
    return " ".join(parts)


def _start_of(pid: int) -> float | None:
    """When a process started; None where there is none with this number."""
    import psutil

    try:
        process = psutil.Process(pid)
        started: float = process.create_time()
        return None if process.status() == psutil.STATUS_ZOMBIE else started
    except psutil.NoSuchProcess:
        return None
    except psutil.Error:
        return 0.0


def _acquire(path: Path, mine: Holder, output: Path) -> None:
    for _ in range(ATTEMPTS):
        if _create(path, mine):
            return
        if _is_foreign(path):
            msg = (
                f"{output}: its lock {path} is no file that a run made (a folder, link, pipe or device); "
                "remove it, or choose another --output"
            )
            raise OutputInUseError(msg)
        holder = read_holder(path)
        if not _is_stale(path, holder):
            who = holder or "a run that left no name"
            msg = (
                f"{output}: {who} is writing it; wait for that run, or choose another --output "
                f"(if it is surely not running, remove {path})"
            )
            raise OutputInUseError(msg)
        _break(path, holder)
    msg = f"{output}: its lock {path} cannot be taken; several runs start at once: choose another --output"
    raise OutputInUseError(msg)


def _is_foreign(path: Path) -> bool:
    """Whether there is something that cannot be a lock; False where there is nothing."""
    try:
        return not stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def _create(path: Path, mine: Holder) -> bool:
    """Put the lock into place with its content; False where there is one."""
    temporary = path.with_name(f".{path.name}.{mine.token}.tmp")
    content = (json.dumps(asdict(mine)) + "\n").encode()
    try:
        try:
            temporary.write_bytes(content)
        except OSError as error:
            raise type(error)(error.errno, error.strerror, os.fspath(path)) from error
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        except OSError:  # a file system without hard links
            return _create_exclusively(path, content)
        return True
    finally:
        temporary.unlink(missing_ok=True)


def _create_exclusively(path: Path, content: bytes) -> bool:
    try:
        with path.open("xb") as file:
            file.write(content)
    except FileExistsError:
        return False
    return True


def _is_stale(path: Path, holder: Holder | None) -> bool:
    if holder is not None and holder.space == _process_space():
        started = _start_of(holder.pid)
        # a tick of the clock apart at most; 0 where the system hides either
        return started is None or (min(started, holder.started) > 0 and abs(started - holder.started) > 1.0)
    return _silence(path) > SILENT_SECONDS


def _silence(path: Path) -> float:
    """Seconds since the lock's last heartbeat, by the clock of the file server; 0 where it has gone."""
    probe = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        last = path.stat().st_mtime
        probe.write_bytes(b"")
        return probe.stat().st_mtime - last
    except FileNotFoundError:
        return 0.0
    finally:
        probe.unlink(missing_ok=True)


def _break(path: Path, seen: Holder | None) -> None:
    """Take a stale lock away, unless it is another by now."""
    aside = path.with_name(f".{path.name}.{secrets.token_hex(8)}.stale")
    if read_holder(path) != seen:
        return
    try:
        path.rename(aside)
    except FileNotFoundError:
        return
    try:
        if read_holder(aside) != seen:  # a run that started meanwhile: give it back
            with contextlib.suppress(OSError):
                os.link(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def _beat(path: Path, over: threading.Event) -> None:
    while not over.wait(HEARTBEAT_SECONDS):
        with contextlib.suppress(OSError):
            os.utime(path)


def _release(path: Path, mine: Holder) -> None:
    with contextlib.suppress(OSError):
        if read_holder(path) == mine:
            path.unlink()
