"""Measured training steps against voxplan's estimate, nnU-Net's rule and PyTorch Connectomics' formula.

    python -m voxplan.scripts.benchmarks.memory_accuracy tests/data/measured_cpu.json
    python -m voxplan.scripts.benchmarks.memory_accuracy tests/data/measured_*.json --update docs/memory.md
    python -m voxplan.scripts.benchmarks.memory_accuracy measured.json --held-out mednext_ dynunet

Reads what ``measure_memory.py`` wrote. Errors are of the prediction, in per cent of what was measured: minus
is too little. Families held out are those on which no constant was fitted.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from voxplan.scripts.benchmarks.memory_grid import Case
from voxplan.scripts.benchmarks.other_formulas import connectomics_formula, nnunet_proxy
from voxplan.scripts.benchmarks.pages import write_between

MIB = 2**20
PAIRS = {
    "live": ("allocated", "live tensors"),
    "allocator": ("allocated", "torch's allocator"),
    "allocated": ("allocated", "allocated"),
    "reserved": ("reserved", "reserved"),
    "process": ("total", "process"),
}
"""What is measured: which prediction it is compared with, and how a table calls it."""
COLUMNS = {"cpu": ("live", "allocator"), "cuda": ("allocated", "reserved", "process")}
"""By device. The CPU's resident bytes are left out: what oneDNN and malloc keep is not modelled."""


@dataclass(frozen=True, slots=True)
class Row:
    """One measured step."""

    name: str
    cap: int
    architecture: str
    measured: dict[str, int]
    """Bytes of the steady state, by quantity."""
    errors: dict[str, float]
    """Of voxplan's prediction, as a share, by quantity."""
    others: dict[str, float]
    """Of ``nnunet`` and ``connectomics``, against the last quantity measured."""


def rows(document: dict[str, Any]) -> list[Row]:
    """The measured steps of a file; a smaller card's take the prediction of the card at hand."""
    records = document["measurements"]
    predicted = {item["name"]: item for item in records if "predicted" in item}
    found = []
    for record in records:
        if record["status"] != "measured" or record["name"] not in predicted:
            continue
        case = Case(**{**record["case"], "patch": tuple(record["case"]["patch"])})
        estimate = predicted[record["name"]]
        columns = [name for name in COLUMNS[record["device"]] if record["steady"].get(name)]
        measured = {name: record["steady"][name] for name in columns}
        # Both formulas speak of the whole process; on the CPU, of tensors at least.
        whole = measured[columns[-1] if record["device"] == "cuda" else "live"]
        found.append(
            Row(
                name=record["name"],
                cap=record["cap"],
                architecture=case.architecture,
                measured=measured,
                errors={name: estimate["predicted"][PAIRS[name][0]] / measured[name] - 1 for name in columns},
                others={
                    "nnunet": nnunet_proxy(case, estimate["elements"]) / whole - 1,
                    "connectomics": connectomics_formula(case) / whole - 1,
                },
            )
        )
    return found


def _share(value: float, digits: int, *, signed: bool = True) -> str:
    """A share in per cent; nothing is ever minus zero."""
    text = f"{value:{'+' if signed else ''}.{digits}%}"
    return text[1:] if text[0] in "+-" and not float(text[1:-1]) else text


def table(found: Sequence[Row]) -> list[str]:
    """As Markdown: one row a step."""
    columns = list(dict.fromkeys(name for row in found for name in row.measured))
    heads = [cell for name in columns for cell in (f"{PAIRS[name][1]}, MiB", "voxplan")]
    lines = [
        f"| {' | '.join(['step', *heads, 'nnU-Net rule', 'PyTC formula'])} |",
        "|---" * (len(heads) + 3) + "|",
    ]
    for row in found:
        cells = [row.name + (f", {row.cap} GB" if row.cap else "")]
        for name in columns:
            known = name in row.measured
            cells += [f"{row.measured[name] / MIB:,.1f}" if known else "–"]
            cells += [_share(row.errors[name], 1) if known else "–"]
        cells += [_share(row.others[name], 0) for name in ("nnunet", "connectomics")]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def summary(found: Sequence[Row], title: str) -> list[str]:
    """As Markdown: median, worst and lowest error of each quantity."""
    lines = [f"| {title}, {len(found)} steps | median error | worst | most under |", "|---|---|---|---|"]
    columns = list(dict.fromkeys(name for row in found for name in row.measured))
    errors = {
        f"voxplan, {PAIRS[name][1]}": [row.errors[name] for row in found if name in row.errors]
        for name in columns
    }
    errors |= {
        "nnU-Net rule": [row.others["nnunet"] for row in found],
        "PyTC formula": [row.others["connectomics"] for row in found],
    }
    for name, values in errors.items():
        sizes = [abs(value) for value in values]
        lowest = min(0.0, *values)
        shown = [_share(value, 1, signed=False) for value in (median(sizes), max(sizes), lowest)]
        lines.append(f"| {name} | {' | '.join(shown)} |")
    return lines


def as_markdown(document: dict[str, Any], held_out: Sequence[str]) -> str:
    """One file: the machine, the summaries, the table."""
    machine, found = document["machine"], rows(document)
    card = machine.get("gpu") or f"CPU ({machine['threads']} thread{'s' * (machine['threads'] != 1)})"
    versions = [
        f"torch {machine['torch']}",
        *(f"{key} {machine[key]}" for key in ("cudnn", "driver") if key in machine),
    ]
    lines = [f"**{card}**, {', '.join(versions)}:", ""]
    if held_out:
        apart = [row for row in found if row.architecture.startswith(tuple(held_out))]
        fitted = [row for row in found if row not in apart]
        groups = [(fitted, "families fitted on"), (apart, "families held out")]
    else:
        groups = [(found, "all families")]
    for group, title in groups:
        if group:
            lines += [*summary(group, title), ""]
    return "\n".join([*lines, *table(found)])


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables, or write them into a page; 2 if nothing was measured."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", type=Path, nargs="+", help="written by measure_memory.py")
    parser.add_argument("--held-out", nargs="+", default=(), help="beginnings of architectures' names")
    parser.add_argument("--update", type=Path, help="page whose part between its two markers is replaced")
    options = parser.parse_args(argv)
    documents = [json.loads(path.read_text(encoding="utf-8")) for path in options.files]
    empty = [str(path) for path, held in zip(options.files, documents, strict=True) if not rows(held)]
    if empty:
        print(f"no step was measured in {', '.join(empty)}", file=sys.stderr)
        return 2
    text = "\n\n".join(as_markdown(document, options.held_out) for document in documents)
    if options.update is None:
        print(text)
    else:
        write_between(options.update, "accuracy", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
