"""The fingerprint on a terminal: tables within 80 columns, failures last and loud."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..fingerprint import (
    AxisSummary,
    ChannelSummary,
    Failure,
    Fingerprint,
    IntensityStatistics,
    Outlier,
    Summary,
)
from ..shown_spacing import converted, shown_unit

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

MAX_WIDTH = 80
"""Columns: what a terminal, a log and a README have in common."""
SHOWN_FAILURES = 20
SHOWN_WARNINGS = 12
SHOWN_CLASSES = 12
SHOWN_CLUSTERS = 5
SHOWN_CHANNELS = 6
SHOWN_OUTLIERS = 20
SHOWN_OF_A_KIND = 5
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
    print_outliers(fingerprint.outliers, console)


def print_warnings(warnings: Sequence[str], console: Console) -> None:
    """Remarks, the first dozen in full."""
    from rich.text import Text

    for warning in warnings[:SHOWN_WARNINGS]:
        print_item(Text("!", style="yellow"), Text(warning), console)
    if len(warnings) > SHOWN_WARNINGS:
        console.print(f"! and {len(warnings) - SHOWN_WARNINGS} more warnings in the file", markup=False)


def print_outliers(outliers: Sequence[Outlier], console: Console) -> None:
    """Cases that stand out, with the reason; of many of one kind the first few."""
    from rich.text import Text

    if not outliers:
        return
    cases = len({outlier.case_id for outlier in outliers})
    stand = "1 case stands out:" if cases == 1 else f"{cases} cases stand out:"
    console.print(Text(stand, style="bold yellow"))
    kinds: dict[str, list[Outlier]] = {}
    for outlier in outliers:
        kinds.setdefault(outlier.kind, []).append(outlier)
    each = len(outliers) if len(outliers) <= SHOWN_OUTLIERS else SHOWN_OF_A_KIND
    for kind, found in kinds.items():
        for outlier in found[:each]:
            head = Text(f"{outlier.case_id} [{kind}]", style="yellow")
            print_item(Text(" "), head + Text(f" {outlier.reason}", style="default"), console)
        if len(found) > each:
            console.print(f"  and {len(found) - each} more [{kind}]; all stand in the file", markup=False)


def print_remarks(fingerprint: Fingerprint, console: Console) -> None:
    """What is said of single cases, all of it."""
    from rich.text import Text

    for case in fingerprint.cases:
        for warning in case.warnings:
            print_item(Text(" "), Text(f"{case.id}: {warning}"), console)


def print_failures(failures: Sequence[Failure], profiled: int, console: Console) -> None:
    """Every case that could not be profiled, with its reason; many are cut short and counted."""
    from rich.text import Text

    if not failures:
        return
    total = profiled + len(failures)
    are = "is" if len(failures) == 1 else "are"
    end = f" and {are} not in the numbers:" if profiled else ":"
    console.print(Text(f"{len(failures)} of {_cases(total)} FAILED{end}", style="bold red"))
    where = "all stand in the file" if profiled else "--json names them all"
    each = len(failures) if len(failures) <= SHOWN_FAILURES else SHOWN_OF_A_KIND
    kinds: dict[str, list[Failure]] = {}
    for failure in failures:
        kinds.setdefault(failure.kind, []).append(failure)
    for kind, found in kinds.items():
        for failure in found[:each]:
            head = Text(f"{failure.id} [{kind}]", style="red")
            print_item(Text(" "), head + Text(f" {failure.reason}", style="default"), console)
        if len(found) > each:
            console.print(f"  and {len(found) - each} more [{kind}]; {where}", markup=False)


def print_item(mark: Text, text: Text, console: Console) -> None:
    """One entry of a list: on a terminal wrapped and indented, in a log one line that can be searched."""
    if not console.is_terminal:
        console.print(mark + " " + text, soft_wrap=True)
        return
    from rich.table import Table

    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row(mark, text)
    console.print(grid)


def _overview(fingerprint: Fingerprint) -> Table:
    info, summary = fingerprint.dataset, fingerprint.summary
    table = _plain_table()
    cases = f"{summary.cases}" + (f"  ({summary.failures} failed)" if summary.failures else "")
    if info.declared_cases is not None and info.declared_cases != summary.cases + summary.failures:
        cases += f"  ({info.declared_cases} declared)"
    table.add_row("cases", cases)
    table.add_row("voxels", f"{summary.voxels:,}  ({_bytes(summary.stored_bytes)} stored)")
    settled = "proposed" if info.labels.proposed else "given"
    table.add_row("labels", f"{info.labels.kind}, {settled}: {info.labels.reason}")
    if info.labels.ignore is not None:
        table.add_row("ignore label", str(info.labels.ignore))
    if not summary.channels:
        table.add_row("headers only", "no voxel was read: no intensities, no classes, no non-zero box")
        return table
    kept = summary.median_relative_size_after_cropping
    median = " (median)" if summary.cases > 1 else ""
    table.add_row("non-zero box", f"{kept:.1%} of the volume{median}")
    return table


def _geometry(summary: Summary) -> Table:
    if summary.cases == 1 or all(map(_is_one, (summary.shape, summary.shape_after_crop, summary.spacing))):
        return _one_geometry(summary)
    table = _numbers_table("", "median", "min", "max")
    for name, axes in _shapes(summary):
        table.add_row(name, _whole(axes.median), _whole(axes.min), _whole(axes.max))
    if summary.spacing is None:
        table.add_row("spacing", "missing", "", "")
        return table
    axes = summary.spacing
    table.add_row(_spacing_name(summary), *(_spaced(v, summary) for v in (axes.median, axes.min, axes.max)))
    if summary.anisotropy is not None:
        table.add_row("anisotropy", f"{summary.anisotropy:.3g}", "", "")
    clusters = summary.spacing_clusters
    if len(clusters) > 1 and clusters[0].cases == 1:
        table.add_row("", "no two cases agree", "", "")
    elif len(clusters) > 1:
        for cluster in clusters[:SHOWN_CLUSTERS]:
            table.add_row(f"  {_cases(cluster.cases)}", _spaced(cluster.spacing, summary), "", "")
        if rest := clusters[SHOWN_CLUSTERS:]:
            table.add_row(f"  {_cases(sum(c.cases for c in rest))}", f"in {len(rest)} more groups", "", "")
    return table


def _is_one(axes: AxisSummary | None) -> bool:
    """Whether all cases agree."""
    return axes is None or axes.min == axes.max


def _one_geometry(summary: Summary) -> Table:
    """Where median, smallest and largest are the same, one of them."""
    table = _plain_table()
    for name, axes in _shapes(summary):
        table.add_row(name, _whole(axes.median))
    if summary.spacing is None:
        table.add_row("spacing", "missing")
        return table
    table.add_row(_spacing_name(summary), _spaced(summary.spacing.median, summary))
    if summary.anisotropy is not None:
        table.add_row("anisotropy", f"{summary.anisotropy:.3g}")
    return table


def _shapes(summary: Summary) -> list[tuple[str, AxisSummary]]:
    """Shape as stored and, where voxels were read, cropped to the non-zero box."""
    cropped = [("after crop", summary.shape_after_crop)] if summary.channels else []
    return [("shape", summary.shape), *cropped]


def _spacing_name(summary: Summary) -> str:
    unit = _shown_unit(summary)
    return f"spacing {NO_UNIT if unit == 'unknown' else unit}"


def _shown_unit(summary: Summary) -> str:
    return shown_unit(summary.spacing_unit, None if summary.spacing is None else summary.spacing.median)


def _spaced(values: Sequence[float], summary: Summary) -> str:
    return _triple(converted(values, summary.spacing_unit, _shown_unit(summary)))


def _intensities(channels: Sequence[ChannelSummary], names: Sequence[str]) -> Table:
    from rich.text import Text

    table = _numbers_table("intensity", "mean", "std", "min", "0.5 %", "median", "99.5 %", "max")
    for number, channel in enumerate(channels[:SHOWN_CHANNELS]):
        name = names[number] if number < len(names) else f"channel {number}"
        table.add_row(_short(name), Text(channel.region, style="dim"), *[""] * 6)
        if channel.case_weighted == channel.pooled:
            table.add_row("  all", *_row(channel.pooled))
            continue
        for label, numbers in (("  by case", channel.case_weighted), ("  by voxel", channel.pooled)):
            table.add_row(label, *_row(numbers))
    if len(channels) > SHOWN_CHANNELS:
        table.add_row(f"{len(channels) - SHOWN_CHANNELS} more channels in the file", *[""] * 7)
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

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
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


def _cases(count: int) -> str:
    return f"{count} case" + ("" if count == 1 else "s")


def _bytes(count: int) -> str:
    value = float(count)
    for unit in ("B", "KB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"
