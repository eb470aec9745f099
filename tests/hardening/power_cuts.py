"""A program for tests: runs ``profile-dataset`` again and again, struck at each step of writing in turn.

Usage: ``python power_cuts.py kill|full OLD NEW FOLDER``. Every child is a fork of this warm process, in which
each write, flush to disk, renaming, removal, link and new folder counts as a step; at the n-th the child is
killed in the middle of it (half of the bytes written), or told that the disk is full. Prints JSON.
"""

from __future__ import annotations

import builtins
import errno
import io
import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

from voxplan.profiling.fingerprint import load_fingerprint
from voxplan.profiling.sidecar import load_histograms
from voxplan.scripts.profile_dataset import main

STEPS = ("rename", "replace", "unlink", "link", "mkdir", "fsync", "open")
taken: list[str] = []
strike_at = 0
how = "kill"


def step(what: str, half: Any = None, name: Any = None) -> None:
    """Count a step; at the chosen one do half of it and die, or refuse it as a full disk does."""
    taken.append(what)
    if len(taken) != strike_at and not (how == "full" and 0 < strike_at <= len(taken) and what == "write"):
        return
    if how == "kill":
        if half is not None:
            half()
        os.kill(os.getpid(), signal.SIGKILL)
    elif what in ("write", "fsync", "mkdir", "open"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)


class CountingFile(io.FileIO):
    """Each call of ``write`` is one system call."""

    def write(self, data: Any) -> int:
        step("write", half=lambda: super(CountingFile, self).write(bytes(data)[: len(data) // 2]))
        return super().write(data)


def counting_open(real: Any) -> Any:
    def opened(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if not set(mode) & set("wxa") or "+" in mode:
            return real(file, mode, *args, **kwargs)
        binary = io.BufferedWriter(CountingFile(file, mode.replace("b", "").replace("t", "")))
        return binary if "b" in mode else io.TextIOWrapper(binary, encoding=kwargs.get("encoding") or "utf-8")

    return opened


def arm() -> None:
    """Count from here on."""
    for name in STEPS:
        real = getattr(os, name)

        def counted(*args: Any, real: Any = real, name: str = name, **kwargs: Any) -> Any:
            if name != "open" or args[1] & (os.O_WRONLY | os.O_RDWR):
                step(name, name=None if isinstance(args[0], int) else os.fspath(args[0]))
            return real(*args, **kwargs)

        setattr(os, name, counted)
    builtins.open = io.open = counting_open(io.open)
    os.fdopen = io.open


def arguments(data: Path, folder: Path) -> list[str]:
    return [str(data), "-o", str(folder / "f.json"), "-j", "1", "-q"]


def child(data: Path, folder: Path, at: int) -> tuple[int, list[str], str]:
    """Run in a fork that is struck at a step: how it ended, its steps, and what it said."""
    global strike_at
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(reading)
        os.dup2(writing, 2)
        strike_at = at
        arm()
        code = 70
        try:
            code = main(arguments(data, folder))
        finally:
            os.write(2, ("\0" + " ".join(taken)).encode())
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        told, _, steps = pipe.read().decode().partition("\0")
    _, status = os.waitpid(process, 0)
    return os.waitstatus_to_exitcode(status), steps.split(), told


def numbers(folder: Path) -> Any:
    """The fingerprint without its provenance; its histograms must be readable too."""
    found = load_fingerprint(folder / "f.json")
    histograms = load_histograms(folder / "f.histograms.npz")
    assert all(histograms[case.id].foreground is not None for case in found.cases)
    return found.model_dump(mode="json", exclude={"provenance"})


def state(folder: Path) -> str:
    """``none``, or the first case's mean of what the output says: old and new files differ in it."""
    if not (folder / "f.json").exists():
        return "none"
    return repr(numbers(folder)["cases"][0]["channels"][0]["crop"]["mean"])


def strike_everywhere(old: Path, new: Path, folder: Path) -> None:
    """First without an earlier output, then over one of other data."""
    reference = folder / "reference"
    reference.mkdir()
    assert main(arguments(new, reference)) == 0
    truth = numbers(reference)
    for begin in ("nothing", "old output"):
        at, steps = 1, [""]
        while at <= len(steps):
            here = folder / "run"
            here.mkdir()
            if begin == "old output":
                assert main(arguments(old, here)) == 0
            before = state(here)
            code, told_steps, told = child(new, here, at)
            steps = told_steps or [*steps, ""]
            record = {"begin": begin, "at": at, "code": code, "told": told, "before": before}
            record["after"] = state(here)
            record["struck"] = told_steps[at - 1] if len(told_steps) >= at else ""
            record["steps"] = told_steps
            record["entries"] = sum(1 for _ in here.glob("*.journal/*.case*"))
            again = main(arguments(new, here))
            record["again"] = again == 0 and numbers(here) == truth
            record["left"] = sorted(
                p.name for p in here.rglob("*") if p.name.endswith((".tmp", ".lock", ".stale"))
            )
            sys.stdout.write(json.dumps(record) + "\n")
            sys.stdout.flush()
            shutil.rmtree(here)
            at += 1


if __name__ == "__main__":
    how = sys.argv[1]
    strike_everywhere(Path(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4]))
