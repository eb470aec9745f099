"""Whole-process memory that others document, beside voxplan's estimates: a sanity check, not the truth.

    python scripts/benchmarks/documented_memory.py                       # prints the table
    python scripts/benchmarks/documented_memory.py --update docs/memory.md

The documented figures are driver readings in GB; patch size, torch version and data set behind them are only
partly known, nnU-Net compiles its networks by default, and the pairing with a patch is ours.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from voxplan.scripts.benchmarks.memory_grid import Case, make_request
from voxplan.scripts.benchmarks.memory_steps import convolution_elements
from voxplan.scripts.benchmarks.other_formulas import connectomics_formula, nnunet_proxy
from voxplan.scripts.benchmarks.pages import write_between

GB = 10**9
BATCH = 2
NNUNET = "nnU-Net documentation, resenc_presets.md (A100)"
SGD = {"optimizer": "sgd"}


@dataclass(frozen=True)
class Documented:
    """A figure that somebody published."""

    title: str
    architecture: str
    patch: tuple[int, int, int]
    gigabytes: float
    source: str
    options: dict[str, Any] = field(default_factory=dict)


FIGURES = (
    Documented("nnU-Net PlainConvUNet", "unet", (128, 128, 128), 7.7, NNUNET, SGD),
    Documented("nnU-Net ResEnc M", "resenc_unet", (128, 128, 128), 9.1, NNUNET, SGD),
    Documented("nnU-Net ResEnc L", "resenc_unet", (160, 224, 192), 22.7, NNUNET, SGD),
    Documented("nnU-Net ResEnc XL", "resenc_unet", (192, 256, 256), 36.6, NNUNET, SGD),
    Documented("MedNeXt-S", "mednext_s", (80, 160, 160), 20.0, "MIC-DKFZ/MedNeXt issue 7"),
    Documented(
        "MedNeXt-L, checkpointing (their network, not MONAI's)",
        "mednext_l",
        (128, 128, 128),
        17.3,
        "nnU-Net documentation",
        {"checkpointing": True},
    ),
)


def make_table() -> str:
    """The figures beside ours, as Markdown."""
    from voxplan.planning.memory import estimate_training_memory

    lines = [
        "| step (batch 2, fp16) | patch | documented | whole process | reserved | tensors | nnU-Net rule "
        "| PyTC formula | source |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for figure in FIGURES:
        case = Case(figure.architecture, figure.patch, BATCH, **figure.options)
        elements = convolution_elements(make_request(case, "cuda", None))
        found = estimate_training_memory(
            figure.architecture, patch_size=figure.patch, batch_size=BATCH, **figure.options
        )
        others = (nnunet_proxy(case, elements), connectomics_formula(case))
        sizes = (found.total, found.reserved, found.allocated, *others)
        shown = [f"{figure.gigabytes:.1f} GB", *(f"{size / GB:.1f} GB" for size in sizes)]
        row = [figure.title, "×".join(map(str, figure.patch)), *shown, figure.source]
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table, or write it into a page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--update", type=Path, help="page whose table, between its two markers, is replaced")
    options = parser.parse_args(argv)
    table = make_table()
    if options.update is None:
        print(table)
        return 0
    write_between(options.update, "documented", table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
