"""The fingerprint on a terminal: tables within 80 columns, failures last and loud."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..fingerprint import ChannelSummary, Failure, Fingerprint, IntensityStatistics, Summary

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

MAX_WIDTH = 80
"""Columns: what a terminal, a log and a README have in common."""
SHOWN_FAILURES = 20
SHOWN_WARNINGS = 12
SHOWN_CLASSES = 12
SHOWN_CLUSTERS = 5
NO_UNIT = "(no unit)"


def print_summary(fingerprint: Fingerprint, console: Console) -> None:
    """The data set in numbers."""
    from rich.text import Text

    info, summary = fingerprint.dataset, fingerprint.summary
    console.print(Text(f"{info.name}  ({info.layout}, {info.file_format})", style="bold"))
    console.print(_overview(fingerprint))
    console.print(_geometry(summary))
    if summary.channels:
        console.print(_intensities(summary.channels, info.channel_names))
    if summary.class_frequencies:
        console.print(_classes(summary.class_frequencies))
    print_warnings(summary.warnings, console)


def print_warnings(warnings: Sequence[str], console: Console) -> None:
    """Remarks, the first dozen in full."""
    from rich.text import Text

    for warning in warnings[:SHOWN_WARNINGS]:
        console.print(Text("! ", style="yellow") + Text(warning, style="default"), soft_wrap=True)
    if len(warnings) > SHOWN_WARNINGS:
        console.print(f"! and {len(warnings) - SHOWN_WARNINGS} more warnings in the file", markup=False)


def print_failures(failures: Sequence[Failure], profiled: int, console: Console) -> None:
    """Every case that could not be profiled, with its reason; many are cut short and counted."""
    from rich.text import Text

    if not failures:
        return
    total = profiled + len(failures)
    console.print(
        Text(f"{len(failures)} of {total} cases FAILED and are not in the numbers:", style="bold red")
    )
    shown = (
        SHOWN_FAILURES if profiled else len(failures)
    )  # without a case there is no file to look them up in
    for failure in failures[:shown]:
        console.print(
            Text(f"  {failure.id} [{failure.kind}] ", style="red") + Text(failure.reason), soft_wrap=True
        )
    if len(failures) > shown:
        console.print(f"  and {len(failures) - shown} more; all stand in the file", markup=False)


def _overview(fingerprint: Fingerprint) -> Table:
    info, summary = fingerprint.dataset, fingerprint.summary
    table = _plain_table()
    cases = f"{summary.cases}" + (f"  ({summary.failures} failed)" if summary.failures else "")
    if info.declared_cases is not None:
        cases += f"  ({info.declared_cases} declared)"
    table.add_row("cases", cases)
    table.add_row("voxels", f"{summary.voxels:,}  ({_bytes(summary.stored_bytes)} stored)")
    settled = "proposed" if info.labels.proposed else "given"
    table.add_row("labels", f"{info.labels.kind}, {settled}: {info.labels.reason}")
    if info.labels.ignore is not None:
        table.add_row("ignore label", str(info.labels.ignore))
    kept = summary.median_relative_size_after_cropping
    table.add_row("non-zero box", f"{kept:.1%} of the volume (median)")
    return table


def _geometry(summary: Summary) -> Table:
    table = _numbers_table("", "median", "min", "max")
    for name, axes in (("shape", summary.shape), ("after crop", summary.shape_after_crop)):
        table.add_row(name, _whole(axes.median), _whole(axes.min), _whole(axes.max))
    unit = NO_UNIT if summary.spacing_unit == "unknown" else summary.spacing_unit
    if summary.spacing is None:
        table.add_row("spacing", "missing", "", "")
        return table
    axes = summary.spacing
    table.add_row(f"spacing {unit}", _triple(axes.median), _triple(axes.min), _triple(axes.max))
    if summary.anisotropy is not None:
        table.add_row("anisotropy", f"{summary.anisotropy:.3g}", "", "")
    if len(summary.spacing_clusters) > 1 and summary.spacing_clusters[0].cases == 1:
        table.add_row("  all differ", "", "", "")
    elif len(summary.spacing_clusters) > 1:
        for cluster in summary.spacing_clusters[:SHOWN_CLUSTERS]:
            plural = "s" if cluster.cases != 1 else ""
            table.add_row(f"  {cluster.cases} case{plural}", _triple(cluster.spacing), "", "")
        rest = summary.spacing_clusters[SHOWN_CLUSTERS:]
        if rest:
            table.add_row(f"  {sum(c.cases for c in rest)} cases", f"in {len(rest)} more groups", "", "")
    return table


def _intensities(channels: Sequence[ChannelSummary], names: Sequence[str]) -> Table:
    table = _numbers_table("intensity", "mean", "std", "min", "0.5 %", "median", "99.5 %", "max")
    for number, channel in enumerate(channels):
        name = names[number] if number < len(names) else f"channel {number}"
        table.add_row(_short(name), f"[dim]{channel.region}[/dim]", *[""] * 6)
        if channel.case_weighted == channel.pooled:
            table.add_row("  all", *_row(channel.pooled))
            continue
        for label, numbers in (("  by case", channel.case_weighted), ("  by voxel", channel.pooled)):
            table.add_row(label, *_row(numbers))
    return table


def _row(numbers: IntensityStatistics | None) -> tuple[str, ...]:
    if numbers is None:
        return ("no voxels",)
    values = (
        numbers.mean,
        numbers.std,
        numbers.min,
        numbers.percentile_00_5,
        numbers.median,
        numbers.percentile_99_5,
        numbers.max,
    )
    return tuple(f"{value:.5g}" for value in values)


def _classes(frequencies: dict[str, float]) -> Table:
    table = _numbers_table("class", "share of voxels")
    for name, share in list(frequencies.items())[:SHOWN_CLASSES]:
        table.add_row(_short(name), f"{share:.3%}")
    if len(frequencies) > SHOWN_CLASSES:
        table.add_row(f"{len(frequencies) - SHOWN_CLASSES} more", "")
    return table


def _plain_table() -> Table:
    from rich.table import Table

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    return table


def _numbers_table(first: str, *columns: str) -> Table:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column(first, style="cyan", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", overflow="fold")
    return table


def _short(name: str) -> str:
    from rich.markup import escape

    return escape(name if len(name) <= 24 else name[:23] + "…")


def _whole(values: Sequence[float]) -> str:
    return " x ".join(f"{value:g}" for value in values)


def _triple(values: Sequence[float]) -> str:
    return " x ".join(f"{value:.4g}" for value in values)


def _bytes(count: int) -> str:
    value = float(count)
    for unit in ("B", "KB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"
