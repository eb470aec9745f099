"""Mutation testing: one small change of the source at a time, and whether its tests notice.

The score is the share of mutants that the tests kill. The tests of the changed file's own name run first,
then those of its neighbours, up to the first that fails.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from .mutant_runs import Verdict, run_mutants
from .source_changes import ROOT, Change, changes

TESTS = {
    "planning/rules": ("tests/planning/rules",),
    "profiling/statistics.py": (
        "tests/profiling/test_statistics_mixture.py",
        "tests/profiling/test_statistics_histogram.py",
        "tests/profiling/test_results.py",
    ),
}
"""What is mutated, and the tests that must notice."""


def main(argv: Sequence[str] | None = None) -> int:
    """Print survivors and the score."""
    parser = argparse.ArgumentParser(prog="scripts/mutate", description=__doc__)
    parser.add_argument(
        "files", nargs="*", type=Path, help="default: all of planning/rules, profiling/statistics.py"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--limit", type=int, help="every n-th mutant only, so that at most so many run")
    parser.add_argument("-o", "--output", type=Path, help="JSON of all mutants")
    parser.add_argument("--survivors-of", type=Path, help="only those that survived in such a JSON")
    arguments = parser.parse_args(argv)
    os.chdir(ROOT)
    work = {path: list(changes(path)) for path in mutated_files(arguments.files)}
    if arguments.survivors_of is not None:
        work = _survivors(work, json.loads(arguments.survivors_of.read_text(encoding="utf-8")))
    total = sum(map(len, work.values()))
    step = -(-total // arguments.limit) if arguments.limit else 1
    began = time.monotonic()
    done: list[tuple[Change, Verdict]] = []
    before = 0
    for path, mutants in work.items():
        chosen = mutants[-before % step :: step]
        before += len(mutants)
        done += zip(chosen, run_mutants(path, chosen, tests_of(path), arguments.jobs), strict=True)
        if arguments.output is not None:
            arguments.output.write_text(json.dumps([_record(*pair) for pair in done], indent=1))
    for change, verdict in done:
        if verdict == "survived":
            print(f"survived: {change.file}:{change.line}: {change.what}")
    killed = sum(verdict != "survived" for _, verdict in done)
    endless = sum(verdict == "endless" for _, verdict in done)
    share = 100 * killed / max(1, len(done))
    print(
        f"{killed} of {len(done)} mutants killed ({share:.1f} %), {endless} of them by the limit of time",
        end="",
    )
    print(f"; {total} possible; {time.monotonic() - began:.0f} s")
    return 0


def mutated_files(wanted: Sequence[Path]) -> list[Path]:
    """All files of :data:`TESTS`, or those of them that are wanted."""
    names = {path.resolve() for path in wanted}
    every = [
        path
        for place in TESTS
        for path in (sorted((ROOT / place).glob("*.py")) if (ROOT / place).is_dir() else [ROOT / place])
    ]
    if unknown := names.difference(every):
        sys.exit(f"scripts/mutate: no tests are known for {', '.join(map(str, sorted(unknown)))}")
    return [path for path in every if not names or path in names]


def tests_of(path: Path) -> list[Path]:
    """The tests that must notice a change of the file, those of its own name first."""
    place = path.relative_to(ROOT).as_posix()
    named = TESTS.get(place) or TESTS[str(Path(place).parent)]
    files = [
        file
        for test in named
        for file in (sorted((ROOT / test).glob("test_*.py")) if (ROOT / test).is_dir() else [ROOT / test])
    ]
    return sorted(files, key=lambda file: file.name != f"test_{path.stem}.py")


def _survivors(
    work: Mapping[Path, Sequence[Change]], records: Sequence[Mapping[str, object]]
) -> dict[Path, list[Change]]:
    """The changes that a run before did not kill; their files must be as they were."""
    alive = {(r["file"], r["line"], r["what"]) for r in records if r["verdict"] == "survived"}
    return {
        path: [change for change in mutants if (change.file, change.line, change.what) in alive]
        for path, mutants in work.items()
    }


def _record(change: Change, verdict: Verdict) -> dict[str, object]:
    return {"file": change.file, "line": change.line, "what": change.what, "verdict": verdict}


if __name__ == "__main__":
    sys.exit(main())
