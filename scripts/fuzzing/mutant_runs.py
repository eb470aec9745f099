"""Runs the tests on mutants of one file, each in a fork of a process that has everything else imported.

A change is made in memory only: an import hook gives the changed module to the tests, so that the tree stays
as it is. A fork takes milliseconds where importing torch, MONAI and pydantic models takes seconds.
"""

from __future__ import annotations

import ast
import importlib
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import SourceFileLoader
from importlib.util import resolve_name, spec_from_file_location
from pathlib import Path
from typing import Any, Literal

from .source_changes import ROOT, Change

Verdict = Literal["killed", "endless", "survived"]

TIMES_AS_LONG = 3
"""A mutant's tests may take so many times the processor time of the unchanged file's; a loop without end
counts as killed. Not time on the clock: on a busy or suspended machine that would kill what only waits.
"""
PROCESSOR_SECONDS = 5
"""And so much more, for tests that take no time at all."""
WAITING_SECONDS = 900
"""Time that a mutant's process may be watched without ending, for one that waits and does not compute."""
LONGEST_TICK = 1.0
"""Seconds that one look at the processes counts for at most: a suspended machine makes none."""


def run_mutants(path: Path, mutants: Sequence[Change], tests: Sequence[Path], jobs: int) -> list[Verdict]:
    """The verdict on each mutant of a file.

    Raises:
        SystemExit: the tests fail without any change, so that every mutant would seem to be killed.
    """
    if not mutants:
        return []
    reading, writing = os.pipe()
    nursery = os.fork()
    if nursery == 0:
        code = 1
        try:
            os.close(reading)
            verdicts = _in_nursery(path, mutants, tests, jobs)
            with os.fdopen(writing, "w") as pipe:
                json.dump(verdicts, pipe)
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    _, status = os.waitpid(nursery, 0)
    if status:
        sys.exit(f"{path}: the process that runs its mutants ended with status {status}")
    found: list[Verdict] = json.loads(text)
    if found[0] != "survived":
        sys.exit(f"{path}: its tests ({', '.join(map(str, tests))}) fail without any change")
    return found[1:]


def _in_nursery(path: Path, mutants: Sequence[Change], tests: Sequence[Path], jobs: int) -> list[Verdict]:
    """Verdicts on the file as it is, and on its mutants."""
    name = _module_name(path)
    _import_all_but(name, tests)
    same = Change(path.relative_to(ROOT).as_posix(), 0, "", path.read_text(encoding="utf-8"))
    good = _run([same], name, tests, 1, WAITING_SECONDS)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    limit = PROCESSOR_SECONDS + TIMES_AS_LONG * (used.ru_utime + used.ru_stime)
    return [*good, *_run(mutants, name, tests, jobs, limit)]


def _run(
    mutants: Sequence[Change], name: str, tests: Sequence[Path], jobs: int, limit: float
) -> list[Verdict]:
    """The verdicts; ``limit`` is the processor time of each, in seconds."""
    verdicts: dict[int, Verdict] = {}
    running: dict[int, tuple[int, float]] = {}
    waiting = list(reversed(range(len(mutants))))
    last = time.monotonic()
    while waiting or running:
        while waiting and len(running) < jobs:
            number = waiting.pop()
            running[_start(mutants[number], name, tests, limit)] = number, 0.0
        time.sleep(0.05)
        now = time.monotonic()
        tick, last = min(now - last, LONGEST_TICK), now
        for child, (number, age) in list(running.items()):
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                del running[child]
                verdicts[number] = _verdict(status)
                print(
                    {"killed": ".", "endless": "e", "survived": "s"}[verdicts[number]],
                    end="",
                    file=sys.stderr,
                )
                sys.stderr.flush()
            elif age > WAITING_SECONDS:
                os.kill(child, signal.SIGKILL)
            else:
                running[child] = number, age + tick
    return [verdicts[number] for number in range(len(mutants))]


def _verdict(status: int) -> Verdict:
    if os.WIFSIGNALED(status):
        return "endless" if os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL) else "killed"
    return "killed" if os.WEXITSTATUS(status) else "survived"


def _start(change: Change, name: str, tests: Sequence[Path], seconds: float) -> int:
    """Run the tests with a change in a fork of this process; its number."""
    child = os.fork()
    if child:
        return child
    code = 99
    try:
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        used = resource.getrusage(resource.RUSAGE_SELF)
        limit = int(used.ru_utime + used.ru_stime + seconds) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 5))
        sys.meta_path.insert(0, _Finder(name, change))
        code = _pytest(tests)
    finally:
        os._exit(code)


def _pytest(tests: Sequence[Path]) -> int:
    """Up to the first failure; Hypothesis draws the same examples every time, and does not shrink them."""
    import pytest
    from hypothesis import Phase, settings

    settings.register_profile(
        "mutants", database=None, derandomize=True, phases=(Phase.explicit, Phase.generate)
    )
    settings.load_profile("mutants")
    folder = tempfile.mkdtemp(prefix="voxplan-mutate-")
    options = ["-x", "-q", "--tb=no", "-p", "no:cacheprovider", "-p", "no:xdist", "-W", "ignore"]
    options += ["--timeout=0", "--override-ini=addopts=--import-mode=importlib", f"--basetemp={folder}/tmp"]
    code = int(pytest.main([*options, *map(str, tests)]))
    shutil.rmtree(folder, ignore_errors=True)
    return code


class _Changed(SourceFileLoader):
    """Gives a module its changed source."""

    def __init__(self, name: str, path: Path, text: str) -> None:
        super().__init__(name, str(path))
        self._text = text

    def get_code(self, fullname: str) -> Any:
        """Compiled anew, whatever lies in ``__pycache__``."""
        return self.source_to_code(self._text.encode(), self.path)


class _Finder(MetaPathFinder):
    def __init__(self, name: str, change: Change) -> None:
        self.name = name
        self.loader = _Changed(name, ROOT / change.file, change.text)

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        """The changed module; all others as ever."""
        if fullname != self.name:
            return None
        return spec_from_file_location(fullname, self.loader.path, loader=self.loader)


def _import_all_but(name: str, tests: Sequence[Path]) -> None:
    """Import what the tests import, except the named module and whatever has taken something from it."""
    import hypothesis.extra.numpy
    import pytest

    del hypothesis, pytest
    for test in tests:
        for wanted in sorted(set(_imported(test, ""))):
            try:
                importlib.import_module(wanted)
            except ImportError:
                continue  # a class or function, or an extra that is not installed
    stale = {name}
    loaded = {key: module for key, module in sys.modules.items() if key.startswith("voxplan.")}
    uses = {
        key: set(_imported(Path(module.__file__), _package(module)))
        for key, module in loaded.items()
        if module.__file__
    }
    while more := {key for key, used in uses.items() if key not in stale and used & stale}:
        stale |= more
    for key in stale & loaded.keys():
        del sys.modules[key]
        parent, _, last = key.rpartition(".")
        vars(sys.modules.get(parent, loaded.get(parent))).pop(last, None)


def _imported(path: Path, package: str) -> Iterator[str]:
    """Modules that a file imports; of ``from a import b`` both ``a`` and ``a.b``, which may be one."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = (
                resolve_name("." * node.level + (node.module or ""), package) if node.level else node.module
            )
            yield str(module)
            yield from (f"{module}.{alias.name}" for alias in node.names)


def _package(module: Any) -> str:
    return str(module.__package__)


def _module_name(path: Path) -> str:
    return "voxplan." + path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
