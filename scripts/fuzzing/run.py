"""Many mutants in several processes, each ended when it hangs; resumable, and reproducible by seed.

``scripts/fuzz`` runs it. Verdicts stand in a JSON Lines file; a second run with the same file skips the seeds
that it has.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from voxplan.profiling.case import ProfileOptions

from .judge import LONGEST_STRUCK, try_seed

POLL_SECONDS = 0.2


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 1 if there is a finding."""
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=10_000, help="mutants (default %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="first seed (default %(default)s)")
    parser.add_argument("--seed", type=int, help="this one alone, in this process, with its reason")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--limit", type=float, default=LONGEST_STRUCK, help="seconds a mutant may take")
    parser.add_argument("-o", "--output", type=Path, default=Path("fuzz.jsonl"), help="default %(default)s")
    arguments = parser.parse_args(argv)
    if arguments.seed is not None:
        verdict = try_seed(arguments.seed, ProfileOptions())
        print(json.dumps(asdict(verdict), indent=1))
        return int(verdict.finding is not None)
    seeds = range(arguments.first, arguments.first + arguments.count)
    verdicts = run_seeds(seeds, arguments.output, arguments.jobs, arguments.limit)
    print_summary(verdicts)
    return int(any(verdict["finding"] for verdict in verdicts))


def run_seeds(seeds: Iterable[int], output: Path, jobs: int, limit: float) -> list[dict[str, Any]]:
    """Verdicts of all seeds, those of an earlier run included."""
    wanted = set(seeds)
    done = {verdict["seed"] for verdict in _read(output)}
    waiting = sorted(wanted - done)
    runners = [_Runner(waiting[i::jobs], output, i, limit) for i in range(min(jobs, len(waiting)))]
    began = time.monotonic()
    while any(runner.alive() for runner in runners):
        time.sleep(POLL_SECONDS)
    if waiting:
        print(f"{len(waiting)} mutants in {time.monotonic() - began:.0f} s", file=sys.stderr)
    return [verdict for verdict in _read(output) if verdict["seed"] in wanted]


class _Runner:
    """One process at a time over some seeds; started again behind the seed that ended it."""

    def __init__(self, seeds: list[int], output: Path, number: int, limit: float) -> None:
        self.seeds, self.output, self.limit = seeds, output, limit
        self.trace = output.with_name(f"{output.name}.{number}.trace")
        self.process: BaseProcess
        self._start()

    def _start(self) -> None:
        self.trace.write_bytes(b"")
        context = multiprocessing.get_context("spawn")
        self.process = context.Process(target=_work, args=(self.seeds, self.output, self.trace, self.limit))
        self.process.start()

    def alive(self) -> bool:
        """Whether there is more to come; deals with a process that ended."""
        if self.process.is_alive():
            return True
        if self.process.exitcode == 0:
            self.trace.unlink(missing_ok=True)
            return False
        done = {verdict["seed"] for verdict in _read(self.output)}
        left = [seed for seed in self.seeds if seed not in done]
        if not left:
            return False
        trace = self.trace.read_text(errors="replace")
        hung = self.process.exitcode == 1 and trace.startswith("Timeout")
        how = "hang" if hung else f"crash (exit {self.process.exitcode})"
        struck = {
            "seed": left[0],
            "what": "",
            "outcome": how,
            "reason": _culprit(trace),
            "finding": how,
            "peak": 0,
        }
        _append(self.output, struck)
        self.seeds = left[1:]
        if self.seeds:
            self._start()
        return bool(self.seeds)


def _culprit(trace: str) -> str:
    """What the thread that crashed was doing, or of a hang the main one: the last in the list."""
    _, found, current = trace.partition("Current thread")
    return current[:3000] if found else trace[-3000:]


def _work(seeds: list[int], output: Path, trace: Path, limit: float) -> None:
    """In a process of its own."""
    _silence()
    options = ProfileOptions()
    with trace.open("w") as file:
        faulthandler.enable(file)
        for seed in seeds:
            faulthandler.dump_traceback_later(limit, exit=True, file=file)
            verdict = asdict(try_seed(seed, options))
            faulthandler.cancel_dump_traceback_later()
            _append(output, verdict)


def _silence() -> None:
    """Libraries in C print what they find odd in a file."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)


def _append(output: Path, verdict: dict[str, Any]) -> None:
    """One write, so that lines of several processes do not mix."""
    line = json.dumps(verdict).encode() + b"\n"
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(descriptor, line)
    finally:
        os.close(descriptor)


def _read(output: Path) -> list[dict[str, Any]]:
    if not output.exists():
        return []
    lines = output.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if line.endswith("}")]


def print_summary(verdicts: Sequence[dict[str, Any]]) -> None:
    """Counts by outcome, and every finding with the seed that shows it again."""
    outcomes = Counter(verdict["outcome"] for verdict in verdicts)
    print(f"{len(verdicts)} mutants: " + ", ".join(f"{n} {name}" for name, n in outcomes.most_common()))
    if verdicts:
        peak = max(verdicts, key=lambda verdict: verdict["peak"])
        print(f"highest memory: {peak['peak'] / 2**20:.0f} MiB (seed {peak['seed']})")
    findings = [verdict for verdict in verdicts if verdict["finding"]]
    print(f"{len(findings)} findings" + (":" if findings else ""))
    for verdict in findings:
        reason = " ".join(verdict["reason"].split())[:300]
        print(f"  --seed {verdict['seed']}: {verdict['finding']} [{verdict['what']}] {reason}")


if __name__ == "__main__":
    sys.exit(main())
