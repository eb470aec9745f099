"""The whole report of a plans file: one HTML file that needs nothing but a browser."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voxplan.plans.schema import DatasetPlan, Decision, ExperimentPlan, PlansDocument
from voxplan.profiling.report.html.page import render_page, write_page
from voxplan.profiling.report.html.svg import Chart
from voxplan.profiling.report.html.tables import Cell, Table, amount, columns, words
from voxplan.profiling.shown_spacing import converted, shown_unit

from .drawings import CLASSES, PARTS, gib, memory_chart, parts_of, stage_chart, timeline_chart, times
from .stages import Stage, network_stages
from .timeline import trace_timeline

HERE = "voxplan.planning.report_html"
MOST_TRACED = 8
"""Plans whose step and stages are drawn; each takes some seconds."""
LONGEST_VALUE = 160
"""Characters of a decided value; tables of numbers are longer and stand in the plans file."""
PARTS_OF_A_PLAN = ("optimizer", "schedule", "loss", "loader", "inference", "architecture")
"""Where a decided value may stand that is no field of the plan itself."""
EDGES = ("patch_size", "median_shape", "spacing", "target_spacing", "window", "divisors", "minimum_patch")
"""Fields that are lengths along the axes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSection:
    """All that is shown of one plan."""

    key: str
    name: str
    plan: ExperimentPlan
    stages: Chart | None
    stage_table: Table | None
    timeline: Chart | None
    remark: str
    decisions: Table
    alternatives: Table | None
    settings: tuple[tuple[str, str], ...]


def write_report(document: PlansDocument, path: Path) -> None:
    """Write the report of a plans file; traces the planned steps again (some seconds a plan).

    Raises:
        OSError: the folder is missing, not writable or full.
    """
    first = [document.recommended] if document.recommended in document.plans else []
    order = [*first, *(name for name in document.plans if name not in first)]
    sections = [
        _section(document, name, key=f"plan-{place}", traced=place < MOST_TRACED)
        for place, name in enumerate(order)
        if name is not None
    ]
    content = {
        "document": document,
        "sections": sections,
        "memory": memory_chart({name: plan.memory for name, plan in document.plans.items()}),
        "keys": [(part, CLASSES[part]) for part in PARTS],
        "comparison": _comparison(document, {section.name: section.key for section in sections}),
        "parts": _parts_table(document),
        "dataset_decisions": _decisions("dataset-decisions", document.dataset, document.dataset.decisions),
        "normalization": _normalization(document.dataset),
        "warnings": _warnings(document),
        "each": _each(document),
        "gib": gib,
        "times": times,
        "spaced": lambda spacing: _spaced(spacing, document.dataset.spacing_unit),
    }
    write_page(render_page("plans.html", content, package=HERE), path)


def _spaced(spacing: Sequence[float], unit: str) -> str:
    shown = shown_unit(unit, spacing)
    values = " × ".join(f"{value:.4g}" for value in converted(spacing, unit, shown))
    return values if shown == "unknown" else f"{values} {shown}"


def _section(document: PlansDocument, name: str, *, key: str, traced: bool) -> PlanSection:
    plan = document.plans[name]
    stages, timeline, remark = None, None, ""
    found: Sequence[Stage] = ()
    if traced:
        try:
            found = network_stages(document.dataset, plan)
            stages = stage_chart(f"{key}-stages", name, found)
            held = trace_timeline(document, plan)
            timeline = timeline_chart(f"{key}-timeline", name, held, plan.memory.budget)
            if held.total != plan.memory.total:
                remark = (
                    f"This voxplan predicts {gib(held.total)}, the plans file says {gib(plan.memory.total)}: "
                    "it was written by another version, or by hand."
                )
        except (ValueError, RuntimeError) as error:
            remark = f"Not drawn: {' '.join(str(error).split())}"
    else:
        remark = f"Only the first {MOST_TRACED} plans are drawn; plan this architecture alone to see it."
    return PlanSection(
        key=key,
        name=name,
        plan=plan,
        stages=stages,
        stage_table=_stage_table(f"{key}-stage-table", found) if found else None,
        timeline=timeline,
        remark=remark,
        decisions=_decisions(f"{key}-decisions", plan, plan.decisions),
        alternatives=_alternatives(f"{key}-alternatives", plan) if plan.alternatives else None,
        settings=_settings(plan),
    )


def _stage_table(key: str, stages: Sequence[Stage]) -> Table:
    rows = [
        [
            amount(place + 1),
            amount(float(stage.size[-1]), times(stage.size)),
            amount(stage.channels),
            words(", ".join(times(kernel) for kernel in stage.kernels)),
            words(f"{'up ' if stage.up else ''}{times(stage.stride)}"),
            amount(stage.layers),
        ]
        for place, stage in enumerate(stages)
    ]
    heads = columns("#Stage", "#Resolution", "#Channels", "Kernel", "Stride", "#Convolutions")
    return Table(key=key, caption="Stages, in the order in which they run", columns=heads, rows=rows)


def _comparison(document: PlansDocument, keys: Mapping[str, str]) -> Table:
    rows = []
    measured = any(plan.memory.measured for plan in document.plans.values())
    for name, plan in document.plans.items():
        star = " ★" if name == document.recommended else ""
        voxels = 1
        for edge in plan.patch_size:
            voxels *= edge
        accumulated = f" × {plan.accumulation}" if plan.accumulation > 1 else ""
        rows.append(
            [
                Cell(text=f"{name}{star}", link=f"#{keys[name]}"),
                amount(voxels, times(plan.patch_size)),
                amount(plan.batch_size, f"{plan.batch_size}{accumulated}"),
                words(f"{plan.precision}{', checkpointing' if plan.checkpointing else ''}"),
                amount(plan.optimizer.lr, f"{plan.optimizer.name} {plan.optimizer.lr:g}"),
                amount(plan.memory.total, gib(plan.memory.total)),
                amount(
                    plan.memory.total / plan.memory.budget, f"{plan.memory.total / plan.memory.budget:.0%}"
                ),
                words("yes" if plan.memory.fits else "NO"),
                *([words(_measured(plan))] if measured else []),
            ]
        )
    heads = columns(
        "Plan",
        "#Patch",
        f"#Batch {_each(document)}",
        "Precision",
        "#Optimizer",
        "#Memory",
        "#Of the budget",
        "Fits",
        *(["Measured"] if measured else []),
    )
    return Table(key="comparison", caption="Plans", columns=heads, rows=rows)


def _each(document: PlansDocument) -> str:
    """What a batch is counted by."""
    return "per GPU" if document.hardware.gpus else "per step"


def _measured(plan: ExperimentPlan) -> str:
    measured = plan.memory.measured
    if not measured:
        return "–"
    if measured.get("out_of_memory"):
        return "out of memory"
    return f"{gib(measured['reserved'])} reserved"


def _parts_table(document: PlansDocument) -> Table:
    rows = []
    for name, plan in document.plans.items():
        parts = parts_of(plan.memory)
        row = [words(name), *(amount(parts.get(part, 0), gib(parts.get(part, 0))) for part in PARTS)]
        rows.append([*row, amount(plan.memory.total, gib(plan.memory.total))])
    heads = columns("Plan", *(f"#{part}" for part in PARTS), "#total")
    return Table(key="parts", caption="Predicted memory by part", columns=heads, rows=rows)


def _decisions(key: str, holder: ExperimentPlan | DatasetPlan, decisions: Mapping[str, Decision]) -> Table:
    rows = [
        [words(field), words(_value(holder, field)), words(decision.by), words(decision.why)]
        for field, decision in decisions.items()
    ]
    heads = columns("Value", "~Chosen", "Decided by", "~Why")
    return Table(key=key, caption="Decisions", columns=heads, rows=rows)


def _value(holder: Any, field: str) -> str:
    """A decided value in short; where it is long, where in the file it stands."""
    if field == "memory":
        return f"{gib(holder.memory.total)} of {gib(holder.memory.budget)}"
    if field == "architecture":
        return str(holder.architecture.name)
    if field == "splits":
        return f"{len(holder.splits)} folds"
    if field == "normalization":
        return ", ".join(f"{one.channel}: {one.scheme}" for one in holder.normalization)
    value = _found(holder, field)
    if value is None:
        return "none"
    text = _short(value.model_dump(mode="json") if hasattr(value, "model_dump") else value, field)
    return text if len(text) <= LONGEST_VALUE else f"see {field} in the plans file"


def _found(holder: Any, field: str) -> Any:
    """The value of a field, or of one of its own parts: ``lr`` stands in the optimizer."""
    for owner in (holder, *(getattr(holder, name, None) for name in PARTS_OF_A_PLAN)):
        value = owner
        for part in field.split("."):
            value = value.get(part) if isinstance(value, Mapping) else getattr(value, part, None)
        if value is not None:
            return value
    return None


def _short(value: Any, field: str = "") -> str:
    """``name: sgd, lr: 0.01, momentum: 0.99`` and the like; edges as ``28 × 96 × 112``."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        parts = [_short(one) for one in value]
        return " × ".join(parts) if field in EDGES else f"({', '.join(parts)})"
    if isinstance(value, dict):
        return ", ".join(
            f"{name}: {gib(one) if name == 'memory' else _short(one, name)}"
            for name, one in value.items()
            if one is not None
        )
    return str(value)


def _alternatives(key: str, plan: ExperimentPlan) -> Table:
    rows = []
    for candidate in plan.alternatives:
        voxels = 1
        for edge in candidate.patch_size:
            voxels *= edge
        rows.append(
            [
                amount(voxels, times(candidate.patch_size)),
                amount(candidate.batch_size),
                amount(candidate.total, gib(candidate.total)),
                words("yes" if candidate.fits else "no"),
                words(candidate.verdict),
            ]
        )
    heads = columns("#Patch", "#Batch", "#Memory", "Fits", "~Verdict")
    return Table(key=key, caption="Alternatives that were considered", columns=heads, rows=rows)


def _settings(plan: ExperimentPlan) -> tuple[tuple[str, str], ...]:
    schedule, loader, window = plan.schedule, plan.loader, plan.inference
    chosen = plan.optimizer
    optimizer = f"{chosen.name}, learning rate {chosen.lr:g}, weight decay {chosen.weight_decay:g}"
    if chosen.momentum:
        optimizer += f", momentum {chosen.momentum:g}"
    heads = f", at {len(plan.loss.deep_supervision_weights)} scales" if plan.deep_supervision else ""
    inference = f"{times(window.window)}, overlap {window.overlap:g}, batch {window.batch_size}"
    if window.memory is not None:
        inference += f", {gib(window.memory)}"
    return (
        ("Architecture", plan.architecture.name),
        ("Optimizer", optimizer),
        ("Schedule", f"{schedule.name}, {schedule.epochs} epochs of {schedule.steps_per_epoch} steps"),
        ("Loss", f"{plan.loss.name}{heads}"),
        ("Loader", f"{loader.workers} worker{'' if loader.workers == 1 else 's'}, cache: {loader.cache}"),
        ("Inference window", inference),
    )


def _normalization(dataset: DatasetPlan) -> Table:
    rows = []
    for channel in dataset.normalization:
        numbers = {"mean": channel.mean, "std": channel.std, "low": channel.low, "high": channel.high}
        said = ", ".join(f"{name} {value:.6g}" for name, value in numbers.items() if value is not None)
        rows.append([words(channel.channel), words(channel.scheme), words(said)])
    heads = columns("Channel", "Scheme", "Numbers")
    return Table(key="normalization", caption="Intensity normalization", columns=heads, rows=rows)


def _warnings(document: PlansDocument) -> list[str]:
    """Every warning once, with the plans that it is about."""
    by_text: dict[str, list[str]] = {}
    for name, plan in document.plans.items():
        for warning in plan.warnings:
            by_text.setdefault(warning, []).append(name)
    about = [
        warning if len(names) == len(document.plans) > 1 else f"{', '.join(names)}: {warning}"
        for warning, names in by_text.items()
    ]
    return [*document.hardware.notes, *document.dataset.warnings, *about]
