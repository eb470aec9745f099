"""Mutation testing: one small change of the source at a time, and whether its tests notice.

The score is the share of mutants that the tests kill. A change is made in memory only: an import hook gives
the changed module to the tests, so that the tree stays as it is. Operators: comparisons and arithmetic
exchanged, numbers moved by one, conditions negated, ``and`` for ``or``, ``min`` for ``max``, returns emptied.
"""

from __future__ import annotations

import argparse
import ast
import copy
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
TESTS = {
    "planning/rules": ("tests/planning/rules",),
    "profiling/statistics.py": (
        "tests/profiling/test_statistics_histogram.py",
        "tests/profiling/test_statistics_mixture.py",
        "tests/profiling/test_results.py",
    ),
}
"""What is mutated, and the tests that must notice."""
SECONDS = 120
"""A mutant whose tests take longer (a loop without end) counts as killed."""
COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}
NAMES = {"min": "max", "max": "min", "any": "all", "all": "any", "floor": "ceil", "ceil": "floor"}


@dataclass(frozen=True)
class Change:
    """One mutant."""

    file: str
    line: int
    what: str
    text: str
    """The whole changed source."""


def changes(path: Path) -> Iterator[Change]:
    """Every mutant of a file, in order of the source; what only types or documents is left alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    count = sum(1 for _ in _sites(tree))
    for number in range(count):
        changed = copy.deepcopy(tree)
        node, what, apply = list(_sites(changed))[number]
        apply()
        line = getattr(node, "lineno", 0)
        yield Change(
            path.relative_to(ROOT).as_posix(), line, what, ast.unparse(ast.fix_missing_locations(changed))
        )


def _sites(tree: ast.AST) -> Iterator[tuple[ast.AST, str, Any]]:
    """Places, what happens there, and the function that does it."""
    for node in _code(tree):
        if isinstance(node, ast.Compare):
            for i, op in enumerate(node.ops):
                if (other := COMPARISONS.get(type(op))) is not None:
                    what = f"{type(op).__name__} -> {other.__name__}"
                    yield node, what, lambda n=node, i=i, o=other: n.ops.__setitem__(i, o())
        elif isinstance(node, ast.BinOp | ast.AugAssign) and type(node.op) in ARITHMETIC:
            new = ARITHMETIC[type(node.op)]
            yield (
                node,
                f"{type(node.op).__name__} -> {new.__name__}",
                lambda n=node, o=new: setattr(n, "op", o()),
            )
        elif isinstance(node, ast.BoolOp):
            swapped = ast.Or if isinstance(node.op, ast.And) else ast.And
            yield node, f"-> {swapped.__name__}", lambda n=node, o=swapped: setattr(n, "op", o())
        elif isinstance(node, ast.If | ast.While | ast.IfExp):
            yield node, "condition negated", lambda n=node: setattr(n, "test", ast.UnaryOp(ast.Not(), n.test))
        elif isinstance(node, ast.Constant) and _is_number(node.value):
            number: Any = node.value
            yield node, f"{number} -> {number + 1}", lambda n=node, v=number: setattr(n, "value", v + 1)
        elif isinstance(node, ast.Name) and node.id in NAMES and isinstance(node.ctx, ast.Load):
            yield node, f"{node.id} -> {NAMES[node.id]}", lambda n=node: setattr(n, "id", NAMES[n.id])
        elif isinstance(node, ast.Return) and node.value is not None and not _is_none(node.value):
            yield node, "returns None", lambda n=node: setattr(n, "value", ast.Constant(None))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _code(tree: ast.AST) -> Iterator[ast.AST]:
    """Nodes that run: no annotations, no messages of exceptions, no documentation."""
    for name, value in ast.iter_fields(tree):
        if name in ("annotation", "returns", "decorator_list"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or isinstance(child, ast.JoinedStr | ast.Raise):
                continue
            yield child
            yield from _code(child)


class _Changed(SourceFileLoader):
    """Gives a module its changed source."""

    def __init__(self, name: str, path: Path, text: str) -> None:
        super().__init__(name, str(path))
        self._text = text

    def get_code(self, fullname: str) -> Any:
        """Compiled anew, whatever lies in ``__pycache__``."""
        return self.source_to_code(self._text.encode(), self.path)


class _Finder(MetaPathFinder):
    def __init__(self, change: Change) -> None:
        self.name = "voxplan." + change.file.removesuffix(".py").replace("/", ".")
        self.loader = _Changed(self.name, ROOT / change.file, change.text)

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        """The changed module; all others as ever."""
        return (
            spec_from_file_location(fullname, self.loader.path, loader=self.loader)
            if fullname == self.name
            else None
        )


def start(change: Change, tests: Sequence[str]) -> int:
    """Run the tests with a change in a fork of this process, which has the libraries loaded; its number."""
    child = os.fork()
    if child:
        return child
    code = 99
    try:
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        signal.alarm(SECONDS)
        sys.meta_path.insert(0, _Finder(change))
        folder = tempfile.mkdtemp(prefix="voxplan-mutate-")
        import pytest

        options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-W", "ignore"]
        options += ["--override-ini=addopts=--import-mode=importlib", f"--basetemp={folder}/tmp"]
        code = int(pytest.main([*options, *tests]))
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os._exit(code)


def _require_green(work: Sequence[tuple[Change, Sequence[str]]], jobs: int) -> None:
    """The tests must pass on the unchanged files, or every mutant would seem to be killed."""
    files = {change.file: tests for change, tests in work}
    same = [(Change(f, 0, "", (ROOT / f).read_text(encoding="utf-8")), tests) for f, tests in files.items()]
    for (change, tests), failed in zip(same, run(same, jobs), strict=True):
        if failed:
            sys.exit(f"{change.file}: its tests {', '.join(tests)} fail without any change")


def _load_libraries() -> None:
    """What takes seconds to import, and is not mutated."""
    import hypothesis.extra.numpy
    import hypothesis.strategies
    import pydantic
    import pytest

    del hypothesis, pydantic, pytest


def run(work: Sequence[tuple[Change, Sequence[str]]], jobs: int) -> list[bool]:
    """For each mutant, whether it was killed."""
    killed: dict[int, bool] = {}
    running: dict[int, int] = {}
    for number, (change, tests) in enumerate(work):
        running[start(change, tests)] = number
        while len(running) >= jobs:
            _reap(running, killed)
    while running:
        _reap(running, killed)
    return [killed[number] for number in range(len(work))]


def _reap(running: dict[int, int], killed: dict[int, bool]) -> None:
    child, status = os.wait()
    if child in running:
        killed[running.pop(child)] = status != 0
        print("." if status else "s", end="", file=sys.stderr, flush=True)


def tests_of(path: Path, tests: Sequence[str]) -> list[str]:
    """Those of the file's own name where there are some, else all."""
    own = [
        f"{folder}/test_{path.stem}.py"
        for folder in tests
        if (ROOT / folder / f"test_{path.stem}.py").exists()
    ]
    return own or list(tests)


def main(argv: Sequence[str] | None = None) -> int:
    """Print survivors and the score."""
    parser = argparse.ArgumentParser(prog="scripts/mutate", description=__doc__)
    parser.add_argument(
        "files", nargs="*", type=Path, help="default: all of planning/rules, profiling/statistics.py"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--limit", type=int, help="every n-th mutant only, so that at most so many run")
    parser.add_argument("-o", "--output", type=Path, help="JSON of all mutants")
    arguments = parser.parse_args(argv)
    work: list[tuple[Change, list[str]]] = []
    for place, tests in TESTS.items():
        base = ROOT / place
        for path in sorted(base.glob("*.py")) if base.is_dir() else [base]:
            if not arguments.files or any(path == wanted.resolve() for wanted in arguments.files):
                work += [(change, tests_of(path, tests)) for change in changes(path)]
    total = len(work)
    if arguments.limit and total > arguments.limit:
        work = work[:: -(-total // arguments.limit)]
    began = time.monotonic()
    _load_libraries()
    os.chdir(ROOT)
    _require_green(work, arguments.jobs)
    killed = run(work, arguments.jobs)
    survivors = [change for (change, _), dead in zip(work, killed, strict=True) if not dead]
    for change in survivors:
        print(f"survived: {change.file}:{change.line}: {change.what}")
    print(
        f"{sum(killed)} of {len(work)} mutants killed ({100 * sum(killed) / max(1, len(work)):.1f} %)", end=""
    )
    print(f"; {total} possible; {time.monotonic() - began:.0f} s")
    if arguments.output is not None:
        record = [
            {"file": c.file, "line": c.line, "what": c.what, "killed": k}
            for (c, _), k in zip(work, killed, strict=True)
        ]
        arguments.output.write_text(json.dumps(record, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
