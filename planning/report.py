"""Plans on a terminal: the machine, one row a plan, warnings; and on demand every decision. 80 columns."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from voxplan.plans.schema import DatasetPlan, Decision, ExperimentPlan, Hardware, PlansDocument
from voxplan.profiling.report.terminal import print_item
from voxplan.profiling.shown_spacing import converted, shown_unit

from .comparison import Difference
from .verification import compare

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

GIB = 1024**3
UNUSED_SHARE = 0.1
"""Of the budget, from which it is worth a line that it stays unused."""


def print_plans(document: PlansDocument, console: Console) -> None:
    """Hardware, data set, plans, what has none, and warnings."""
    _print_hardware(document.hardware, console)
    _print_dataset(document.dataset, console)
    console.print(_plans_table(document))
    _print_notes(document, console)
    for name, reason in document.failures.items():
        _line(console, "no plan", f"{name}: {reason}", "red")
    print_warnings(document, console)


def print_warnings(document: PlansDocument, console: Console) -> None:
    """Notes and warnings of machine, data and plans, each once."""
    for note in document.hardware.notes:
        _line(console, "!", note, "yellow")
    for warning in document.dataset.warnings:
        _line(console, "!", warning, "yellow")
    by_text: dict[str, list[str]] = {}
    for name, plan in document.plans.items():
        for warning in plan.warnings:
            by_text.setdefault(warning, []).append(name)
    for warning, names in by_text.items():
        where = "" if len(names) == len(document.plans) and len(names) > 1 else f"{', '.join(names)}: "
        _line(console, "!", f"{where}{warning}", "yellow")


def _line(console: Console, mark: str, text: str, style: str) -> None:
    from rich.text import Text

    if mark:
        print_item(Text(mark, style=style), Text(text, style="default"), console)
    else:
        console.print(Text(text), soft_wrap=True)


def _print_hardware(hardware: Hardware, console: Console) -> None:
    table = _plain_table()
    if not hardware.gpus:
        table.add_row("GPU", "none: planned for the CPU")
    for gpu in dict.fromkeys(hardware.gpus):
        count = hardware.gpus.count(gpu)
        memory = f"{gpu.free_memory / GIB:.1f} of {gpu.total_memory / GIB:.1f} GiB free"
        if not gpu.present:
            memory = f"{gpu.total_memory / GIB:.1f} GiB, stated"
        capability = ".".join(map(str, gpu.compute_capability)) if gpu.compute_capability else "unknown"
        times = f"{count} x " if count > 1 else ""
        table.add_row("GPU", f"{times}{gpu.name}: {memory}, compute capability {capability}")
    shared = "" if hardware.shared_memory is None else f", /dev/shm {hardware.shared_memory / GIB:.1f} GiB"
    if hardware.shared_memory is None and any(not gpu.present for gpu in hardware.gpus):
        shared = ", /dev/shm not known"
    table.add_row("machine", f"{hardware.cores} cores, {hardware.ram_available / GIB:.1f} GiB RAM{shared}")
    console.print(table)


def _print_dataset(dataset: DatasetPlan, console: Console) -> None:
    table = _plain_table()
    shape = _times(dataset.median_shape)
    spacing = "spacing unknown"
    if dataset.target_spacing is not None:
        shown = shown_unit(dataset.spacing_unit, dataset.target_spacing)
        values = converted(dataset.target_spacing, dataset.spacing_unit, shown)
        spacing = " x ".join(f"{value:.4g}" for value in values) + ("" if shown == "unknown" else f" {shown}")
    table.add_row("data", f"{dataset.name}: median {shape} voxels at {spacing}")
    table.add_row("task", f"{dataset.task}, {dataset.in_channels} in, {dataset.out_channels} out")
    schemes = ", ".join(f"{channel.channel}: {channel.scheme}" for channel in dataset.normalization)
    table.add_row("intensities", schemes)
    if dataset.splits:
        kind = "of blocks inside the volumes" if dataset.splits[0].validation_blocks else "by case"
        table.add_row("splits", f"{len(dataset.splits)} folds {kind}")
    console.print(table)


def _plans_table(document: PlansDocument) -> Table:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("plan", style="cyan", no_wrap=True)
    table.add_column("patch", no_wrap=True)
    for column in ("batch", "prec.", "lr", "GiB", "of"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, plan in document.plans.items():
        mark = " *" if name == document.recommended else ""
        accumulated = f" x{plan.accumulation}" if plan.accumulation > 1 else ""
        style = "" if plan.memory.fits else "bold red"
        table.add_row(
            f"{name}{mark}",
            _times(plan.patch_size),
            f"{plan.batch_size}{accumulated}",
            f"{plan.precision}{'+ckpt' if plan.checkpointing else ''}",
            f"{plan.optimizer.lr:g}",
            f"{plan.memory.total / GIB:.1f}",
            f"{plan.memory.budget / GIB:.1f}",
            style=style,
        )
    return table


def _print_notes(document: PlansDocument, console: Console) -> None:
    """What the columns mean, what stays unused, and what was measured."""
    per = "batch per step" if not document.hardware.gpus else "batch per GPU"
    mark = "* recommended; " if document.recommended else ""
    _line(console, "", f"{mark}{per} (x accumulation); predicted memory of the budget", "dim")
    for name, plan in document.plans.items():
        patch, batch = plan.limits.get("patch_size"), plan.limits.get("batch_size")
        unused = plan.memory.budget - plan.memory.total
        if batch not in (None, "memory", "user") and unused > UNUSED_SHARE * plan.memory.budget:
            named = (batch,) if patch == "memory" else (patch or batch, batch)
            limits = " and ".join(dict.fromkeys(named))
            _line(console, "-", f"{name}: limited by {limits}; {unused / GIB:.1f} GiB stay unused", "dim")
        _print_measured(name, plan, console)


def _print_measured(name: str, plan: ExperimentPlan, console: Console) -> None:
    found = compare(plan)
    if found is None:
        return
    measured = plan.memory.measured or {}
    text = (
        f"{name}: {found.what} predicted {found.predicted / GIB:.2f} GiB, measured {found.measured / GIB:.2f}"
    )
    if "next_batch_size" in measured:
        verdict = "does not run" if measured["next_out_of_memory"] else "runs as well"
        text += f"; batch {measured['next_batch_size']} {verdict}"
    _line(console, "verified", text, "green")


def print_explanation(document: PlansDocument, console: Console) -> None:
    """Every decision and the alternatives of every plan."""
    _print_decisions("dataset", document.dataset.decisions, console)
    for name, plan in document.plans.items():
        _print_decisions(name, plan.decisions, console)
        console.print(_alternatives_table(plan))


def _print_decisions(title: str, decisions: dict[str, Decision], console: Console) -> None:
    from rich.table import Table
    from rich.text import Text

    console.print(Text(f"\n{title}", style="bold"))
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for field, decision in decisions.items():
        table.add_row(field, decision.by, Text(decision.why))
    console.print(table)


def _alternatives_table(plan: ExperimentPlan) -> Table:
    from rich.table import Table

    table = Table(
        box=None, padding=(0, 2, 0, 0), header_style="bold", title="alternatives", title_justify="left"
    )
    table.add_column("patch", no_wrap=True)
    table.add_column("batch", justify="right")
    table.add_column("GiB", justify="right")
    table.add_column("verdict", overflow="fold")
    for candidate in plan.alternatives:
        table.add_row(
            _times(candidate.patch_size),
            str(candidate.batch_size),
            f"{candidate.total / GIB:.2f}",
            candidate.verdict,
            style="bold" if candidate.verdict.startswith("chosen") else "",
        )
    return table


def print_differences(found: Sequence[Difference], console: Console) -> None:
    """What differs between two files; below values that follow from the same decisions, both reasons."""
    from rich.text import Text

    if not found:
        console.print("no differences")
        return
    where = ""
    for (place, *reasons), group in groupby(found, lambda one: (one.where, one.why_before, one.why_after)):
        if place != where:
            where = place
            console.print(Text(where, style="bold"))
        for difference in group:
            values = f"{difference.before} -> {difference.after}"
            console.print(Text(f"  {difference.field}: ", style="cyan") + Text(values), soft_wrap=True)
        if reasons[0] == reasons[1]:
            _print_reason("=", reasons[0], console)
        else:
            _print_reason("<", reasons[0], console)
            _print_reason(">", reasons[1], console)


def _print_reason(mark: str, why: str, console: Console) -> None:
    """The decision before (``<``), after (``>``), or of both (``=``); nothing where there is none."""
    from rich.padding import Padding
    from rich.text import Text

    if why and console.is_terminal:
        console.print(Padding(Text(f"{mark} {why}", style="dim"), (0, 0, 0, 6)))
    elif why:
        console.print(Text(f"      {mark} {why}", style="dim"), soft_wrap=True)


def _plain_table() -> Table:
    from rich.table import Table

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    return table


def _times(values: Sequence[int]) -> str:
    return " x ".join(map(str, values))
