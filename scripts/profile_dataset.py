"""``profile-dataset``: what a data set is, as fingerprint.json and a table.

A thin shell over :func:`voxplan.profiling.layouts.discover` and
:func:`voxplan.profiling.extract.profile_dataset`. Exit status: 0 when a fingerprint was written (failed
cases are reported loudly), 1 when nothing could be profiled or, with ``--strict``, when anything failed, 2
for wrong usage, 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from voxplan.profiling.report.console import say

from .endings import EndedBySignal, ended_by_signals
from .error_line import error_line
from .parser import Parser, existing_place
from .profile_again import own_globs, state_before
from .profile_cluster import add_cluster_options, check_cluster_usage, chosen_backend, name_shard
from .profile_output import (
    DEFAULT_OUTPUT,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    fingerprint_output_problem,
    foreign_output,
    make_progress,
    tell,
    tell_nothing_profiled,
    tell_unchanged,
)
from .profile_shards import MERGE, given_merge, merge_parser, run_merge, run_shard
from .report_option import add_report_option, report_problem, write_dataset_report

if TYPE_CHECKING:
    from voxplan.profiling.fingerprint import LabelKind

KINDS = ("semantic", "instance", "none")
BYTES = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}

EPILOG = """\
examples:
  profile-dataset Dataset501_Heads
  profile-dataset volumes/ --spacing 45 4.6 4.6 --unit nm -o fingerprint.json
  profile-dataset --images 'raw/*.tif' --labels 'seg/*.tif'
  profile-dataset cremi.h5 --image-key volumes/raw \\
      --label-key volumes/labels/neuron_ids

Images and labels are paired by name: the names without suffix must be equal,
or equal without the image's trailing channel number (_0000), or without a word
such as img/image/raw and label/seg/mask at either end. A single image and a
single label map are a pair whatever their names, also in a sub-folder of each
case. Files that a glob names are volumes of their own; a folder of numbered
slices is one volume.
A killed run goes on where it stopped: run the same command again.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    merged = given_merge(argv)
    parser = build_parser() if merged is None else merge_parser()
    arguments = parser.parse_args(argv if merged is None else merged)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file name must not stop an ASCII terminal
    from voxplan.profiling.run_lock import output_locked

    try:
        with ended_by_signals():
            if merged is not None:
                return run_merge(arguments, parser)
            name_shard(arguments)
            with output_locked(arguments.output):
                return run(arguments, parser)
    except KeyboardInterrupt as interrupt:
        status = interrupt.status if isinstance(interrupt, EndedBySignal) else EXIT_INTERRUPTED
        return status if merged is not None else _interrupted(arguments, status)
    except Exception as error:  # noqa: BLE001 - one line for people, a traceback for --debug
        return _report(error, debug=arguments.debug)


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = Parser(
        prog="profile-dataset",
        description="Find out what a segmentation data set is: shapes, spacing, intensities, classes.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.subcommands = {MERGE: merge_parser}
    parser.add_argument(
        "data",
        nargs="?",
        type=existing_place,
        metavar="DATA",
        help="a data folder, a single volume file, or the address of a Zarr store",
    )
    where = parser.add_argument_group("where the data lie")
    where.add_argument("--images", metavar="PLACE", help="folder, file or quoted glob of the images")
    where.add_argument(
        "--labels",
        metavar="PLACE|KIND",
        help="folder, file or quoted glob of the label maps; or their kind: semantic, instance, none",
    )
    where.add_argument("--label-kind", choices=KINDS, help="what the labels are, else proposed from the data")
    where.add_argument("--image-key", metavar="KEY", help="data set of the image in HDF5 and Zarr files")
    where.add_argument("--label-key", metavar="KEY", help="data set of the label map in HDF5 and Zarr files")
    where.add_argument(
        "--exclude", action="append", default=[], metavar="GLOB", help="files to leave out; may be repeated"
    )
    reading = parser.add_argument_group("what the files do not say")
    reading.add_argument(
        "--spacing", nargs=3, type=_positive, metavar=("Z", "Y", "X"), help="wins over the files"
    )
    reading.add_argument(
        "--unit", choices=("mm", "um", "nm"), help="of --spacing, or of a spacing without unit"
    )
    reading.add_argument("--axes", metavar="ORDER", help="stored axes, e.g. czyx or xyz")
    reading.add_argument(
        "--spacing-order", choices=("zyx", "xyz"), default="zyx", help="in attributes, sidecars"
    )
    reading.add_argument(
        "--ignore-label", type=int, metavar="VALUE", help="label of voxels nobody has annotated, e.g. 255"
    )
    running = parser.add_argument_group("running")
    running.add_argument(
        "--jobs", "-j", type=_count, metavar="N", help="worker processes (default: usable cores)"
    )
    running.add_argument(
        "--memory-per-worker",
        type=_size,
        default=512 * 2**20,
        metavar="SIZE",
        help="e.g. 512M, 2G (default 512M)",
    )
    running.add_argument(
        "--case-timeout", type=_positive, metavar="S", help="end a case after so many seconds"
    )
    running.add_argument("--headers-only", action="store_true", help="shapes, spacing and types; no voxels")
    running.add_argument(
        "--fresh", action="store_true", help="read every case again, whatever the journal knows"
    )
    add_cluster_options(parser)
    output = parser.add_argument_group("output")
    output.add_argument(
        "-o",
        "--output",
        type=Path,
        default=DEFAULT_OUTPUT,
        metavar="FILE",
        help="default: %(default)s",
    )
    add_report_option(output)
    output.add_argument("--strict", action="store_true", help="exit 1 if any case fails or stands out")
    output.add_argument("--json", action="store_true", help="print the summary and the failures as JSON")
    output.add_argument("-q", "--quiet", action="store_true", help="only failures and errors")
    output.add_argument("-v", "--verbose", action="store_true", help="every case as it comes")
    output.add_argument("--debug", action="store_true", help="tracebacks of errors")
    output.add_argument("--version", action=_ShowVersion, nargs=0, help="show the version and exit")
    return parser


class _ShowVersion(argparse.Action):
    """Looks the version up only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from voxplan.profiling.extract import installed_version

        say(f"profile-dataset {installed_version()}")
        parser.exit()


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        msg = f"{text!r} is not a positive number"
        raise argparse.ArgumentTypeError(msg)
    return number


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        msg = f"{text!r} is not a number of workers (1 or more)"
        raise argparse.ArgumentTypeError(msg)
    return int(text)


def _size(text: str) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]?)(?:I?B)?", text.strip().upper())
    if match is None or not float(match[1]):
        msg = f"{text!r} is not a size such as 512M or 2G"
        raise argparse.ArgumentTypeError(msg)
    count = int(float(match[1]) * BYTES[match[2]])
    if count < 2**20:
        msg = f"{text!r} is {count} bytes, in which nothing can be read; write e.g. 512M or 2G"
        raise argparse.ArgumentTypeError(msg)
    return count


def run(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Discover, profile, save, report."""
    kind, labels = _kind_and_place(arguments, parser)
    _check_usage(arguments, parser)
    from voxplan.profiling.case import ProfileOptions
    from voxplan.profiling.combine import NothingProfiledError
    from voxplan.profiling.extract import profile_dataset
    from voxplan.profiling.fingerprint import save_fingerprint
    from voxplan.profiling.formats.base import ReadOptions
    from voxplan.profiling.journal import Journal, journal_folder
    from voxplan.profiling.layouts import discover
    from voxplan.profiling.sidecar import sidecar_path
    from voxplan.profiling.unchanged import inputs_of, note_finished, unchanged_fingerprint

    options = ProfileOptions(
        read=ReadOptions(
            spacing=None if arguments.spacing is None else tuple(arguments.spacing),
            unit=arguments.unit,
            axes=arguments.axes,
            spacing_order=arguments.spacing_order,
        ),
        ignore_label=arguments.ignore_label,
        memory_per_worker=arguments.memory_per_worker,
        headers_only=arguments.headers_only,
    )
    journal = journal_folder(arguments.output)
    state = None if arguments.shard is not None else state_before(arguments, labels, kind, options)
    if state is not None and not arguments.fresh and arguments.report is None:
        known = unchanged_fingerprint("", journal, data=state)
        if known is not None:
            return tell_unchanged(known, arguments)
    dataset = discover(
        arguments.data,
        images=arguments.images,
        labels=labels,
        image_key=arguments.image_key,
        label_key=arguments.label_key,
        exclude=[*arguments.exclude, *own_globs(arguments)],
        use_labels=kind != "none",
    )
    if (problem := foreign_output(arguments.output, dataset)) is not None:
        parser.error(problem)
    if arguments.fresh and journal.is_dir():
        Journal(journal, ()).prune(())
    if arguments.shard is not None:
        return run_shard(dataset, options, kind, arguments, _stated(arguments))
    inputs = inputs_of(dataset, options, kind, os.fspath(arguments.output.absolute()))
    if not arguments.fresh and (known := unchanged_fingerprint(inputs, journal)) is not None:
        reported = write_dataset_report(
            known, dataset, sidecar_path(arguments.output), arguments, options.read
        )
        return tell_unchanged(known, arguments, reported)
    try:
        with chosen_backend(arguments, dataset) as backend, make_progress(arguments) as progress:
            fingerprint = profile_dataset(
                dataset,
                options,
                jobs=arguments.jobs,
                backend=backend,
                label_kind=kind,
                on_event=progress,
                journal=journal,
                case_timeout=arguments.case_timeout,
                stated_options=_stated(arguments),
                histograms=sidecar_path(arguments.output),
            )
    except NothingProfiledError as error:
        return tell_nothing_profiled(error, arguments)
    save_fingerprint(fingerprint, arguments.output)
    written = (arguments.output, sidecar_path(arguments.output))
    note_finished(inputs, fingerprint, written, journal, data=state)
    reported = write_dataset_report(
        fingerprint, dataset, sidecar_path(arguments.output), arguments, options.read
    )
    return tell(fingerprint, arguments, reported)


def _kind_and_place(
    arguments: argparse.Namespace, parser: argparse.ArgumentParser
) -> tuple[LabelKind | None, str | None]:
    """``--labels`` takes a kind or a place; a folder called like a kind is written ``./none``."""
    labels: str | None = arguments.labels
    kind: str | None = arguments.label_kind
    if labels in KINDS:
        if kind is not None and kind != labels:
            parser.error(f"--labels {labels} and --label-kind {kind} contradict each other")
        kind, labels = labels, None
    return cast("LabelKind | None", kind), labels


def _check_usage(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """What argparse cannot see; ends the program with status 2."""
    if arguments.data is None and arguments.images is None:
        parser.error("give a data folder, a volume file, or --images")
    from voxplan.profiling.formats.address import address_text, lives_in_a_process, place_exists

    if arguments.data is not None and not place_exists(arguments.data):
        parser.error(f"{arguments.data}: no such file or folder")
    for place in (arguments.data, arguments.images, arguments.labels):
        if place is not None and lives_in_a_process(place):
            why = "what lies in memory is not there for another program; write it to a folder"
            parser.error(f"{address_text(place)}: {why}")
    if (problem := fingerprint_output_problem(arguments.output)) is not None:
        parser.error(problem)
    check_cluster_usage(arguments, parser)
    if (problem := report_problem(arguments)) is not None:
        parser.error(problem)
    axes: str | None = arguments.axes
    if axes is not None and (len(set(axes)) != len(axes) or not set(axes) <= set("ctzyx") or len(axes) < 2):
        parser.error(f"--axes {axes}: use each of the letters c, t, z, y, x at most once, e.g. czyx")


def _stated(arguments: argparse.Namespace) -> dict[str, str]:
    """Options that were given, for the provenance."""
    from voxplan.profiling.formats.address import address_text

    defaults = vars(build_parser().parse_args([]))

    def text(value: object) -> str:
        if isinstance(value, list):
            return " ".join(map(str, value))
        return address_text(value) if isinstance(value, Path) else str(value)

    return {name: text(value) for name, value in vars(arguments).items() if value != defaults[name]}


def _interrupted(arguments: argparse.Namespace, status: int) -> int:
    from voxplan.profiling.journal import journal_folder

    say(
        f"\nprofile-dataset: interrupted; finished cases are kept in {journal_folder(arguments.output)}: "
        "run the same command again to go on",
        sys.stderr,
    )
    return status


def _report(error: Exception, *, debug: bool) -> int:
    """One line on stderr."""
    from voxplan.profiling.formats.base import FormatError

    if debug:
        traceback.print_exc()
    known = isinstance(error, FormatError | OSError | ValueError | RuntimeError)
    text = error_line(error)
    if not known:
        text = f"{type(error).__name__}: {text} (a defect; --debug shows where)"
    say(f"profile-dataset: error: {text}", sys.stderr)
    return EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main())
