"""``profile-dataset --shard I/N`` and ``profile-dataset merge``: one data set in several runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from voxplan.profiling.report.console import say, say_json

from .parser import Parser
from .profile_cluster import chosen_backend
from .profile_output import (
    EXIT_FAILED,
    EXIT_OK,
    fingerprint_output_problem,
    make_console,
    make_progress,
    tell,
    tell_nothing_profiled,
)
from .report_option import add_report_option, report_problem, write_dataset_report

if TYPE_CHECKING:
    from voxplan.profiling.case import ProfileOptions
    from voxplan.profiling.fingerprint import LabelKind
    from voxplan.profiling.layouts import DiscoveredDataset

MERGE = "merge"
"""The word behind ``profile-dataset``; a data folder of that name is written ``./merge``."""


def run_shard(
    dataset: DiscoveredDataset,
    options: ProfileOptions,
    kind: LabelKind | None,
    arguments: argparse.Namespace,
    stated: Mapping[str, str],
) -> int:
    """Profile the cases of one shard, write them, and say so; the exit status."""
    from voxplan.profiling.json_text import json_text
    from voxplan.profiling.report.terminal import print_failures
    from voxplan.profiling.shard_file import Shard
    from voxplan.profiling.shards import profile_shard

    shard = Shard(*arguments.shard)
    with chosen_backend(arguments, dataset) as backend, make_progress(arguments) as progress:
        head = profile_shard(
            dataset,
            options,
            shard,
            arguments.output,
            jobs=arguments.jobs,
            backend=backend,
            label_kind=kind,
            on_event=progress,
            case_timeout=arguments.case_timeout,
            stated_options=stated,
        )
    if arguments.json:
        reasons = [failure.model_dump(mode="json") for failure in head.failures]
        say_json(json_text({"output": str(arguments.output), "shard": str(shard), "failures": reasons}))
    elif not arguments.quiet:
        there = len(head.entries) + len(head.failures)
        say(f"shard {shard}: {there:,} of {len(head.cases):,} cases")
        say(f"written: {arguments.output}")
    print_failures(head.failures, len(head.entries), make_console(stderr=True))
    return EXIT_FAILED if arguments.strict and head.failures else EXIT_OK


def merge_parser() -> argparse.ArgumentParser:
    """The command line of ``profile-dataset merge``."""
    parser = Parser(
        prog=f"profile-dataset {MERGE}",
        description="Put the shards of a data set together: the same fingerprint as of one run.",
    )
    parser.add_argument("shards", nargs="+", type=Path, metavar="SHARD", help="all files of --shard I/N")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE", help="e.g. fingerprint.json"
    )
    add_report_option(parser)
    parser.add_argument("--strict", action="store_true", help="exit 1 if any case fails or stands out")
    parser.add_argument("--json", action="store_true", help="print the summary and the failures as JSON")
    parser.add_argument("-q", "--quiet", action="store_true", help="only failures and errors")
    parser.add_argument("-v", "--verbose", action="store_true", help="remarks about every case")
    parser.add_argument("--debug", action="store_true", help="tracebacks of errors")
    return parser


def run_merge(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Merge, save, report; the exit status."""
    output: Path = arguments.output
    if output.resolve() in {path.resolve() for path in arguments.shards}:
        parser.error(f"--output {output}: is one of the shards")
    if (problem := fingerprint_output_problem(output)) is not None:
        parser.error(problem)
    if (problem := report_problem(arguments)) is not None:
        parser.error(problem)
    from voxplan.profiling.combine import NothingProfiledError
    from voxplan.profiling.fingerprint import save_fingerprint
    from voxplan.profiling.run_lock import output_locked
    from voxplan.profiling.shards import merge_shards
    from voxplan.profiling.sidecar import sidecar_path

    with output_locked(output):
        try:
            fingerprint = merge_shards(arguments.shards, sidecar_path(output))
        except NothingProfiledError as error:
            return tell_nothing_profiled(error, arguments)
        save_fingerprint(fingerprint, output)
        reported = write_dataset_report(fingerprint, None, sidecar_path(output), arguments)
    return tell(fingerprint, arguments, reported)


def given_merge(argv: Sequence[str] | None) -> list[str] | None:
    """What stands behind ``merge``; None where the command is another."""
    given = list(sys.argv[1:] if argv is None else argv)
    return given[1:] if given[:1] == [MERGE] else None
