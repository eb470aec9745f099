"""The parity table: nnU-Net 2.8.1's own plans against voxplan's, field by field.

python -m voxplan.scripts.benchmarks.nnunet_parity GOLDEN_FOLDER

The folder holds ``nnunet_plans/*.json`` (a fingerprint, a dataset.json and nnU-Net's four plans each) and
``nnunet_fingerprints/<data set>/`` (nnU-Net's own files). Exit code 1 if any field differs.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from voxplan.planning.nnunet_fingerprint import NnunetDataset, NnunetFingerprint, load_nnunet
from voxplan.planning.presets import PRESETS, get_preset, nnunet_plans

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


def main(argv: Sequence[str] | None = None) -> int:
    """Print one row a data set and preset."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("golden", type=Path)
    options = parser.parse_args(argv)
    table = Table(
        "data set", "preset", "configurations", "fields", "differ", title="nnU-Net 2.8.1 against voxplan"
    )
    total = different = 0
    for name, fingerprint, dataset, plans in sources(options.golden):
        for preset, theirs in plans.items():
            ours = nnunet_plans(preset, fingerprint, dataset, dataset_name=theirs["dataset_name"])
            mine, golden = dict(leaves(json.loads(json.dumps(ours)))), dict(leaves(theirs))
            differing = [path for path in mine.keys() | golden.keys() if mine.get(path) != golden.get(path)]
            total, different = total + len(golden), different + len(differing)
            configurations = ", ".join(theirs["configurations"])
            shown = "equal" if not differing else ", ".join(sorted(differing)[:3])
            table.add_row(name, preset, configurations, str(len(golden)), shown)
    console = Console()
    console.print(table)
    console.print(f"{total} fields compared, {different} differ")
    return 1 if different else 0


if __name__ == "__main__":
    raise SystemExit(main())
