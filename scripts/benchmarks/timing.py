"""Whole processes, timed from outside: wall and CPU seconds, peak memory, nothing cached, A B A B.

Absolute times drift with the machine's other work; compare the medians of runs made in turn and quote ratios.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

SAMPLE_SECONDS = 0.05
"""How often the tree's memory is looked at; a kernel high-water mark (VmHWM) is read, so no peak is missed
but that of a process which lives shorter than this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One competitor."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One finished process tree."""

    wall: float
    """Seconds from start to exit."""
    cpu: float
    """User and system seconds of the tree."""
    peak_process: int
    """Resident high-water mark in bytes of the largest single process of the tree."""
    peak_parent: int
    """The same of the first process."""


def forget_cached(paths: Iterable[Path]) -> None:
    """Ask the kernel to drop the page cache of files, as far as an ordinary user may."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def high_water(pid: int) -> int:
    """VmHWM of a process in bytes; 0 once it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def measure(command: Command) -> Run:
    """Run a command to its end, its output thrown away.

    Raises:
        RuntimeError: it failed; the message holds the end of its output.
    """
    peaks = {"parent": 0, "largest": 0}
    finished = threading.Event()
    # as an installed program runs: its modules compiled beforehand
    env = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    before = os.times()
    start = time.perf_counter()
    process = subprocess.Popen(
        command.argv,
        env={**env, **command.env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
    )

    def watch() -> None:
        while not finished.wait(SAMPLE_SECONDS):
            peaks["parent"] = max(peaks["parent"], high_water(process.pid))
            try:
                children = psutil.Process(process.pid).children(recursive=True)
            except psutil.NoSuchProcess:
                return
            for child in children:
                peaks["largest"] = max(peaks["largest"], high_water(child.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    output, _ = process.communicate()
    wall = time.perf_counter() - start
    finished.set()
    watcher.join()
    after = os.times()
    if process.returncode != 0:
        tail = output.decode(errors="replace")[-2000:]
        msg = f"{command.name} ended with status {process.returncode}: {tail}"
        raise RuntimeError(msg)
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Run(wall=wall, cpu=cpu, peak_process=max(peaks.values()), peak_parent=peaks["parent"])


def in_turn(
    commands: Sequence[Command], *, rounds: int, before_each: Callable[[], None], warm_up: bool = True
) -> dict[str, list[Run]]:
    """Run all commands, one after another, ``rounds`` times; the warm-up round is not counted."""
    runs: dict[str, list[Run]] = {command.name: [] for command in commands}
    for number in range(-1 if warm_up else 0, rounds):
        for command in commands:
            before_each()
            run = measure(command)
            if number >= 0:
                runs[command.name].append(run)
            print(f"  {command.name}: {run.wall:.2f} s", flush=True)
    return runs


def median_wall(runs: Sequence[Run]) -> float:
    """Median wall seconds."""
    return statistics.median(run.wall for run in runs)


def table(runs: Mapping[str, Sequence[Run]], *, reference: str) -> str:
    """A Markdown table: medians, and each command's wall time over the reference's."""
    base = median_wall(runs[reference])
    lines = [
        f"| program | wall s (median) | min to max | CPU s | ratio to {reference} "
        "| largest process, MiB | parent, MiB |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, done in runs.items():
        walls = [run.wall for run in done]
        cpu = statistics.median(run.cpu for run in done)
        largest = max(run.peak_process for run in done) / 2**20
        parent = max(run.peak_parent for run in done) / 2**20
        lines.append(
            f"| {name} | {median_wall(done):.2f} | {min(walls):.2f} to {max(walls):.2f} | {cpu:.2f} "
            f"| {median_wall(done) / base:.2f} | {largest:.0f} | {parent:.0f} |"
        )
    return "\n".join(lines)


def write_results(path: Path, title: str, results: Mapping[str, Mapping[str, Sequence[Run]]]) -> None:
    """All runs as JSON, with the machine's kind; groups that were not run stay as the file has them.

    Raises:
        ValueError: those groups were measured on another machine.
    """
    kept = read_results(path) if path.exists() else {}
    if kept and machine() != machine_of(path):
        msg = f"{path} holds results of another machine: move it away, or name another file with -o"
        raise ValueError(msg)
    document = {
        "title": title,
        "machine": machine(),
        "results": {
            group: {name: [asdict(run) for run in runs] for name, runs in named.items()}
            for group, named in {**kept, **results}.items()
        },
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n")


def read_results(path: Path) -> dict[str, dict[str, list[Run]]]:
    """The groups of a file that :func:`write_results` wrote."""
    groups = json.loads(path.read_text())["results"]
    return {
        group: {name: [Run(**run) for run in runs] for name, runs in named.items()}
        for group, named in groups.items()
    }


def machine_of(path: Path) -> dict[str, str | int]:
    """The machine of a file that :func:`write_results` wrote."""
    measured: dict[str, str | int] = json.loads(path.read_text())["machine"]
    return measured


def machine() -> dict[str, str | int]:
    """What was measured on."""
    model = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.processor() or platform.machine(),
    )
    return {
        "processor": model,
        "cores": os.cpu_count() or 1,
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "system": platform.system(),
        "python": platform.python_version(),
    }


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
