"""``--report FILE`` of ``profile-dataset`` and ``plan-experiment``: an HTML file beside the JSON."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from voxplan.plans.schema import PlansDocument
    from voxplan.profiling.fingerprint import Fingerprint
    from voxplan.profiling.formats.base import ReadOptions
    from voxplan.profiling.layouts.base import DiscoveredDataset

HTML_SUFFIXES = (".html", ".htm")


def add_report_option(group: argparse._ActionsContainer) -> None:
    """The option itself."""
    group.add_argument(
        "--report", type=Path, metavar="FILE", help="also write an HTML report (one file, e.g. report.html)"
    )


def report_problem(arguments: argparse.Namespace) -> str | None:
    """What is wrong with the option; None if nothing is."""
    report: Path | None = arguments.report
    if report is None:
        return None
    if report.suffix.lower() not in HTML_SUFFIXES:
        return f"--report {report}: name an .html file, e.g. {report.with_suffix('.html')}"
    from voxplan.profiling.files import unwritable

    if (problem := unwritable(report, "report.html")) is not None:
        return f"--report {problem}"
    if report.absolute() == arguments.output.absolute():
        return f"--report {report}: is what --output names too; give the two files different names"
    return None


def write_dataset_report(
    fingerprint: Fingerprint,
    dataset: DiscoveredDataset | None,
    sidecar: Path,
    arguments: argparse.Namespace,
    read: ReadOptions | None = None,
) -> str | None:
    """The report of a data set, if one is asked for; what to say about it.

    Without ``dataset`` (the data are not at hand) there are no pictures in it.
    """
    if arguments.report is None:
        return None
    from voxplan.profiling.codec import CodecError
    from voxplan.profiling.formats.base import ReadOptions
    from voxplan.profiling.report.html.report import DEFAULT_MEMORY, write_report
    from voxplan.profiling.sidecar import load_histograms

    try:
        histograms = load_histograms(sidecar)
    except CodecError:
        histograms = None  # the report says that its histograms are missing
    written = write_report(
        fingerprint,
        arguments.report,
        dataset=dataset,
        histograms=histograms,
        read=read or ReadOptions(),
        memory=getattr(arguments, "memory_per_worker", DEFAULT_MEMORY),
    )
    if dataset is None:
        return f"report: {written.path} (without pictures: merge reads no data)"
    return f"report: {written.path} ({written.pictured} of {written.cases} cases pictured)"


def write_plans_report(document: PlansDocument, arguments: argparse.Namespace) -> str | None:
    """The report of plans, if one is asked for; what to say about it."""
    if arguments.report is None:
        return None
    from voxplan.planning.report_html.report import write_report

    write_report(document, arguments.report)
    return f"report: {arguments.report}"
