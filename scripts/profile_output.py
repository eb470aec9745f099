"""What ``profile-dataset`` says: progress, summary, failures, JSON; and which file it may write."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from voxplan.profiling.report.console import safe_console, say, say_json

from .output_option import output_problem

if TYPE_CHECKING:
    from rich.console import Console

    from voxplan.profiling.combine import NothingProfiledError
    from voxplan.profiling.fingerprint import Fingerprint
    from voxplan.profiling.layouts import DiscoveredDataset
    from voxplan.profiling.report.progress import BarProgress, PlainProgress

DEFAULT_OUTPUT = Path("fingerprint.json")
"""Known by identity: a file of this name that the user gave is another object."""
EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130


def make_progress(arguments: argparse.Namespace) -> PlainProgress | BarProgress:
    """A bar on a terminal, lines elsewhere and with --verbose."""
    from voxplan.profiling.report.progress import BarProgress, PlainProgress

    if arguments.quiet:
        return PlainProgress(lambda text: None)
    errors = make_console(stderr=True)
    if errors.is_terminal and not arguments.verbose:
        return BarProgress(errors)
    return PlainProgress(lambda text: say(text, sys.stderr), every_case=arguments.verbose)


def make_console(*, stderr: bool = False) -> Console:
    """Colour only on a terminal and without NO_COLOR; never wider than 80 columns where it is not."""
    from voxplan.profiling.report.terminal import MAX_WIDTH

    console = safe_console(stderr=stderr, soft_wrap=False)
    if not console.is_terminal or console.width > MAX_WIDTH:
        console.width = MAX_WIDTH
    return console


def tell(fingerprint: Fingerprint, arguments: argparse.Namespace, reported: str | None = None) -> int:
    """Summary on stdout, failures on stderr; the exit status."""
    from voxplan.profiling.report import terminal

    errors = make_console(stderr=True)
    if arguments.verbose:
        terminal.print_remarks(fingerprint, errors)
    if arguments.json:
        _print_json(fingerprint, arguments)
    elif not arguments.quiet:
        console = make_console()
        terminal.print_summary(fingerprint, console)
        console.print(f"written: {arguments.output}", markup=False, soft_wrap=True)
        if reported is not None:
            console.print(reported, markup=False, soft_wrap=True)
    terminal.print_failures(fingerprint.failures, fingerprint.summary.cases, errors)
    if not arguments.strict or not (fingerprint.failures or fingerprint.outliers):
        return EXIT_OK
    if arguments.json or arguments.quiet:
        terminal.print_outliers(fingerprint.outliers, errors)
    said = [
        f"{count} {what if count == 1 else plural}"
        for count, what, plural in (
            (len(fingerprint.failures), "case failed", "cases failed"),
            (
                len({outlier.case_id for outlier in fingerprint.outliers}),
                "case stands out",
                "cases stand out",
            ),
        )
        if count
    ]
    say(f"profile-dataset: --strict: {' and '.join(said)}", sys.stderr)
    return EXIT_FAILED


def tell_unchanged(known: Fingerprint, arguments: argparse.Namespace, reported: str | None = None) -> int:
    """As :func:`tell`, of a fingerprint that an earlier run wrote."""
    if not arguments.quiet:
        say(f"nothing has changed since {arguments.output} was written", sys.stderr)
    return tell(known, arguments, reported)


def tell_nothing_profiled(error: NothingProfiledError, arguments: argparse.Namespace) -> int:
    """Every failure, and what the layout has to say; the exit status."""
    from voxplan.profiling.json_text import json_text
    from voxplan.profiling.report.terminal import print_failures, print_warnings

    if arguments.json:
        reasons = [failure.model_dump(mode="json") for failure in error.failures]
        say_json(json_text({"output": None, "failures": reasons, "warnings": list(error.warnings)}))
    console = make_console(stderr=True)
    print_warnings(error.warnings, console)
    print_failures(error.failures, 0, console)
    say(f"profile-dataset: {error}; {arguments.output} is not written", sys.stderr)
    return EXIT_FAILED


def fingerprint_output_problem(output: Path) -> str | None:
    """What is wrong with the file that a fingerprint, or a shard of one, is to be written to."""
    from voxplan.profiling.fingerprint import described_dataset
    from voxplan.profiling.shard_file import is_shard
    from voxplan.profiling.sidecar import sidecar_path

    def is_own(path: Path) -> bool:
        return is_shard(path) or described_dataset(path) is not None

    if (problem := output_problem(output, DEFAULT_OUTPUT.name, "fingerprint", is_own)) is not None:
        return problem
    beside = sidecar_path(output)
    if beside.exists() and not beside.is_file():
        return (
            f"--output {output}: its histograms go to {beside}, which is no file; remove it, or name another "
            "output"
        )
    return None


def foreign_output(output: Path, dataset: DiscoveredDataset) -> str | None:
    """Why a file that the user did not name must not be written: it holds something else.

    Two data sets profiled in one folder would otherwise replace each other's fingerprint silently.
    """
    from voxplan.profiling.fingerprint import described_dataset

    if output is not DEFAULT_OUTPUT or not output.exists():
        return None
    known = described_dataset(output)
    if known is None or (known.name, known.root) == (dataset.name, dataset.place):
        return None
    remedy = f"name another file, e.g. -o {dataset.name}.json, or replace it with -o {output}"
    return f"{output} is the fingerprint of {known.name} in {known.root}: {remedy}"


def _print_json(fingerprint: Fingerprint, arguments: argparse.Namespace) -> None:
    from voxplan.profiling.json_text import json_text

    content = fingerprint.model_dump(mode="json", include={"dataset", "summary", "failures", "outliers"})
    say_json(json_text({"output": str(arguments.output), **content}))
