"""What the profiler may make of a mutant, and what is a finding."""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from voxplan.profiling.case import CaseResult, ProfileOptions
from voxplan.profiling.fingerprint import Failure
from voxplan.profiling.json_text import json_text
from voxplan.profiling.parts import Split
from voxplan.profiling.tasks import CaseTask, run_case

from .mutants import Mutant, make_mutant

LONGEST_REASON: Final = 1500
"""Characters; more is no line that a person reads."""
LONGEST_STRUCK: Final = 20.0
"""Seconds a mutant of a few kilobytes may take."""


@dataclass(frozen=True)
class Verdict:
    """What became of one mutant."""

    seed: int
    what: str
    outcome: str
    """``profiled``, or the failure's kind."""
    reason: str
    finding: str | None
    """What is wrong with that, or None."""
    peak: int
    """Bytes of memory of this process at its highest during the case; 0 where the system does not tell."""


def try_seed(seed: int, options: ProfileOptions) -> Verdict:
    """Make a mutant, profile it as a worker does, and judge."""
    folder = Path(tempfile.mkdtemp(prefix=f"voxplan-mutant-{seed}-"))
    try:
        mutant = make_mutant(seed, folder)
        journal = folder / "journal"
        journal.mkdir()
        forget_peak()
        before = peak_bytes()
        result = run_case(CaseTask(mutant.case, folder, options, f"m{seed}", journal))
        return judge(mutant, result, options, (before, peak_bytes()))
    finally:
        shutil.rmtree(folder)


def judge(
    mutant: Mutant, result: CaseResult | Failure | Split, options: ProfileOptions, memory: tuple[int, int]
) -> Verdict:
    """A verdict on what came back, and on the memory before and at its highest."""
    before, peak = memory
    finding = None
    if isinstance(result, Failure):
        outcome, reason = result.kind, result.reason
        finding = _wrong_failure(mutant, result)
    elif isinstance(result, Split):
        outcome, reason = "split", ""
    else:
        outcome, reason = "profiled", ""
        finding = _wrong_result(result)
    if finding is None and peak > options.memory_per_worker >= before:
        finding = f"took {peak / 2**20:.0f} MiB, more than {options.memory_per_worker / 2**20:.0f}"
    return Verdict(mutant.seed, mutant.what, outcome, reason, finding, peak)


def _wrong_failure(mutant: Mutant, failure: Failure) -> str | None:
    if failure.kind in ("error", "killed", "timeout"):
        return f"unforeseen {failure.kind}"
    if "\n" in failure.reason or len(failure.reason) > LONGEST_REASON:
        return f"the reason is no line of at most {LONGEST_REASON} characters"
    sources = [*mutant.case.images, *([mutant.case.label] if mutant.case.label is not None else [])]
    names = {str(p) for s in sources for p in s.paths} | {str(p.parent) for s in sources for p in s.paths}
    if not any(name in failure.reason for name in names):
        return "the reason names no file"
    return None


def _wrong_result(result: CaseResult) -> str | None:
    """A profiled case must be writable, and must not count more voxels than there are."""
    case = result.fingerprint
    json_text(case.model_dump(mode="json"))
    voxels = case.shape[0] * case.shape[1] * case.shape[2]
    for channel in case.channels:
        for region in (channel.foreground, channel.crop, channel.nonzero):
            if region is not None and not 0 < region.count + channel.non_finite <= voxels:
                return f"counts {region.count} voxels of {voxels}"
    if case.spacing.values is not None and min(case.spacing.values) <= 0:
        return f"spacing {case.spacing.values}"
    return None


def forget_peak() -> None:
    """Start a new measurement of this process's highest memory (Linux)."""
    if sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5")


def peak_bytes() -> int:
    """Highest resident memory since :func:`forget_peak`; 0 where it cannot be known."""
    if sys.platform != "linux":
        return 0
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    return int(found[1]) * 1024 if found else 0
