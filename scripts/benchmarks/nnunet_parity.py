"""The parity table: nnU-Net 2.8.1's own plans against voxplan's, field by field.

    python -m voxplan.scripts.benchmarks.nnunet_parity GOLDEN_FOLDER
    python -m voxplan.scripts.benchmarks.nnunet_parity GOLDEN_FOLDER --update docs/nnunet.md

The folder holds ``nnunet_plans/*.json`` (a fingerprint, a dataset.json and nnU-Net's four plans each) and
``nnunet_fingerprints/<data set>/`` (nnU-Net's own files). Exit code 1 if any field differs.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from voxplan.planning.nnunet_fingerprint import NnunetDataset, NnunetFingerprint, load_nnunet
from voxplan.planning.presets import PRESETS, get_preset, nnunet_plans
from voxplan.scripts.benchmarks.pages import write_between

KEYS = {"nnunet": "plain", "resenc-m": "resenc_m", "resenc-l": "resenc_l", "resenc-xl": "resenc_xl"}
"""nnU-Net's plans in ``nnunet_plans`` by preset."""

Source = tuple[str, NnunetFingerprint, NnunetDataset, dict[str, Any]]


def leaves(value: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    """Every number, string and truth value of a document, by its path."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, f"{where}.{key}" if where else key)
    elif isinstance(value, list):
        yield f"{where}.length", len(value)
        for index, item in enumerate(value):
            yield from leaves(item, f"{where}[{index}]")
    else:
        yield where, (type(value).__name__, value)


def sources(golden: Path) -> Iterator[Source]:
    """Name, fingerprint, dataset.json, and nnU-Net's plans by preset."""
    for file in sorted((golden / "nnunet_plans").glob("*.json")):
        content = json.loads(file.read_text())
        yield (
            file.stem,
            NnunetFingerprint.model_validate(content["fingerprint"]),
            NnunetDataset.model_validate(content["dataset_json"]),
            {preset: content["plans"][key] for preset, key in KEYS.items()},
        )
    for folder in sorted((golden / "nnunet_fingerprints").iterdir()):
        fingerprint, dataset = load_nnunet(folder / "dataset_fingerprint.json", folder / "dataset.json")
        plans = {
            preset: json.loads((folder / f"{get_preset(preset).plans_name}.json").read_text())
            for preset in PRESETS
        }
        yield folder.name, fingerprint, dataset, plans


@dataclass(frozen=True, slots=True)
class Comparison:
    """One data set and preset."""

    dataset: str
    preset: str
    configurations: tuple[str, ...]
    fields: int
    """Numbers, strings, truth values and lengths of lists in nnU-Net's plan."""
    differing: tuple[str, ...]
    """Paths of those that differ."""


def compare(golden: Path) -> Iterator[Comparison]:
    """Every data set under every preset."""
    for name, fingerprint, dataset, plans in sources(golden):
        for preset, theirs in plans.items():
            ours = nnunet_plans(preset, fingerprint, dataset, dataset_name=theirs["dataset_name"])
            mine, wanted = dict(leaves(json.loads(json.dumps(ours)))), dict(leaves(theirs))
            differing = [path for path in mine.keys() | wanted.keys() if mine.get(path) != wanted.get(path)]
            yield Comparison(
                name, preset, tuple(theirs["configurations"]), len(wanted), tuple(sorted(differing))
            )


def as_markdown(found: Sequence[Comparison]) -> str:
    """One row a data set, one column a preset."""
    presets = tuple(dict.fromkeys(row.preset for row in found))
    titles = ["data set", *(f"`{preset}`" for preset in presets), f"configurations of `{presets[0]}`"]
    lines = [
        f"| {' | '.join(titles)} |",
        "|---" * (len(presets) + 2) + "|",
    ]
    for name in dict.fromkeys(row.dataset for row in found):
        rows = {row.preset: row for row in found if row.dataset == name}
        cells = [
            f"{rows[preset].fields} fields, "
            + (f"{len(rows[preset].differing)} differ" if rows[preset].differing else "all equal")
            for preset in presets
        ]
        lines.append(f"| {' | '.join([name, *cells, ', '.join(rows[presets[0]].configurations)])} |")
    total, different = sum(row.fields for row in found), sum(len(row.differing) for row in found)
    return "\n".join([*lines, "", f"{total:,} fields compared, {different} differ."])


def show(found: Sequence[Comparison]) -> None:
    """Print the table for the terminal."""
    table = Table(
        "data set", "preset", "configurations", "fields", "differ", title="nnU-Net 2.8.1 against voxplan"
    )
    for row in found:
        shown = ", ".join(row.differing[:3]) or "equal"
        table.add_row(row.dataset, row.preset, ", ".join(row.configurations), str(row.fields), shown)
    console = Console()
    console.print(table)
    total, different = sum(row.fields for row in found), sum(len(row.differing) for row in found)
    console.print(f"{total} fields compared, {different} differ")


def main(argv: Sequence[str] | None = None) -> int:
    """Print one row a data set and preset, or write the table into a page; 1 if any field differs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("golden", type=Path)
    parser.add_argument("--update", type=Path, help="page whose table, between its two markers, is replaced")
    options = parser.parse_args(argv)
    found = list(compare(options.golden))
    if not found:
        parser.error(f"{options.golden} holds no plans of nnU-Net")
    show(found)
    if options.update is not None:
        write_between(options.update, "parity", as_markdown(found))
    return 1 if any(row.differing for row in found) else 0


if __name__ == "__main__":
    raise SystemExit(main())
