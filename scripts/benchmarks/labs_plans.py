"""Our plans beside what labs and nnU-Net use for the same data, with the differences explained.

    python -m voxplan.scripts.benchmarks.labs_plans                            # prints the tables
    python -m voxplan.scripts.benchmarks.labs_plans --update docs/planning.md

The labs' numbers are read from their own configuration files, named with the commit; nnU-Net's come from the
presets, which equal nnU-Net 2.8.1's own output.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .plan_sweep import card, replace_between
from .sweep_data import SWEPT, SweptData

if TYPE_CHECKING:
    from voxplan.planning.traced_memory import Models
    from voxplan.plans.schema import ExperimentPlan

BEGIN, END = "<!-- labs: begin -->", "<!-- labs: end -->"
CARDS_GB = (24, 80)
PYTC = "PyTorch Connectomics"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lab:
    """How somebody trains on a data set."""

    data: str
    """Name in ``SWEPT``, or ``liconn``."""
    network: str
    patch: str
    batch: str
    lr: str
    precision: str
    source: str
    ours: str
    """The registered architecture that is nearest."""
    difference: str
    """Why ours differs."""


LABS = (
    Lab(
        data="lucchi",
        network="MONAI UNet (or MedNeXt-S)",
        patch="112×112×112",
        batch="1 on each of 4 GPUs",
        lr="1e-3, Adam",
        precision="bf16",
        source=f"{PYTC}, tutorials/lucchi++.yaml at 2e3bd85",
        ours="mednext_s",
        difference="isotropic like theirs; batch 2, and the rest of the card for the patch; the same rate",
    ),
    Lab(
        data="snemi3d",
        network="residual 3D UNet, 12 affinities",
        patch="16×224×224",
        batch="not in the file",
        lr="by its profile, cosine",
        precision="not in the file",
        source=f"{PYTC}, tutorials/neuron_snemi/neuron_snemi.yaml at 145a695",
        ours="unet",
        difference=(
            "thin in z as theirs, by equal physical extent (30 nm sections against 6 nm pixels): ratio 5, "
            "theirs 14, which sees less depth than width"
        ),
    ),
    Lab(
        data="snemi3d",
        network="3D UNet, 3 affinities",
        patch="17×257×257",
        batch="2 (2 GPUs)",
        lr="0.04, warm-up and cosine",
        precision="not in the file",
        source=f"{PYTC} (2021), configs/SNEMI/SNEMI-Base.yaml at 13163ac",
        ours="unet",
        difference="odd sizes fit their upsampling, ours are multiples of the strides; nnU-Net's SGD 1e-2",
    ),
    Lab(
        data="snemi3d",
        network="MedNeXt-S, 12 affinities",
        patch="32×160×160",
        batch="12 (GPUs not in the file)",
        lr="by its profile, AdamW, warm-up and cosine",
        precision="bf16",
        source=f"{PYTC}, tutorials/neuron_snemi/neuron_snemi_efficient.yaml at d513900",
        ours="mednext_s",
        difference=(
            "the same ratio of 5; memory goes into the patch before the batch here (nnU-Net's order), theirs "
            "into twelve small patches: --set patch_size=32,160,160 --set batch_size=12"
        ),
    ),
    Lab(
        data="mitoem",
        network="MedNeXt-M, checkpointing, 7 channels",
        patch="32×256×256",
        batch="1, accumulated 4 times",
        lr="by its profile, cosine",
        precision="bf16",
        source=f"{PYTC}, tutorials/mitoEM/common.yaml at 145a695",
        ours="mednext_m",
        difference=(
            "batch 2 without checkpointing comes first here, which costs patch; their choice is "
            "--set checkpointing=true --set batch_size=1 --set accumulation=4"
        ),
    ),
    Lab(
        data="cremi",
        network="3D UNet, synaptic clefts",
        patch="17×257×257",
        batch="2 (3 GPUs)",
        lr="0.05, warm-up and cosine",
        precision="not in the file",
        source=f"{PYTC} (2021), configs/CREMI/CREMI-Base.yaml at 0840e77",
        ours="unet",
        difference="ratio 10 between section and pixel: thin in z like theirs, wider on a larger card",
    ),
    Lab(
        data="liconn",
        network="MedNeXt-M, checkpointing, 9 affinities and a distance",
        patch="64×256×256",
        batch="1, accumulated 4 times (2 GPUs)",
        lr="by its profile, warm-up and cosine",
        precision="not in the file",
        source=f"{PYTC}, tutorials/neuron_liconn_mit.yaml at 145a695",
        ours="mednext_m",
        difference=(
            "ratio 1.4 between section and pixel, theirs 4, which sees less depth than width; batch 2 "
            "without checkpointing comes first here, which costs patch; 3 affinities unless "
            "affinity_offsets=12 is set"
        ),
    ),
)
LICONN = SweptData(
    name="liconn",
    shape=(415, 4290, 3345),
    spacing=(25.0, 18.0, 18.0),
    cases=1,
    unit="nm",
    channels=("em",),
    labels="instance",
    dtype="uint8",
)
"""Expansion light microscopy with labels of neurons; shape and spacing from the lab's file."""
NNUNET = ("hippocampus", "heart", "prostate", "pancreas", "kits", "snemi3d")
"""Data sets that nnU-Net's default plan is set beside; the last one is EM."""


def _data(name: str) -> SweptData:
    return next(data for data in (*SWEPT, LICONN) if data.name == name)


def _times(values: Sequence[float]) -> str:
    return "×".join(f"{value:g}" for value in values)


def _plan(data: SweptData, architecture: str, memory: int, models: Models) -> ExperimentPlan:
    from voxplan.planning.planner import make_plans

    document = make_plans(
        data.fingerprint(), card(memory), architectures=[architecture], only=["3d_fullres"], models=models
    )
    (plan,) = document.plans.values()
    return plan


def _ours(plan: ExperimentPlan) -> list[str]:
    rest = f" x{plan.accumulation}" if plan.accumulation > 1 else ""
    how = "+checkpointing" if plan.checkpointing else ""
    limit = plan.limits["batch_size"]
    used = f"{plan.memory.total / 1024**3:.1f} of {plan.memory.budget / 1024**3:.1f} GiB"
    return [
        _times(plan.patch_size),
        f"{plan.batch_size}{rest}",
        f"{plan.optimizer.lr:g}, {plan.optimizer.name.upper()}",
        f"{plan.precision}{how}",
        used if limit == "memory" else f"{used}; {limit}",
    ]


def labs_table(models: Models) -> str:
    """Labs' choices, and ours on two cards below each."""
    lines = [
        "| data (spacing) | who | network | patch ZYX | batch per GPU | learning rate | precision | memory |",
        "|---|---|---|---|---|---|---|---|",
    ]
    notes = []
    for number, lab in enumerate(LABS, 1):
        data = _data(lab.data)
        spacing = "" if data.spacing is None else f" ({_times(data.spacing)} {data.unit})"
        lines.append(
            f"| {lab.data}{spacing} | lab {number} | {lab.network} | {lab.patch} | {lab.batch} | {lab.lr} | "
            f"{lab.precision} | |"
        )
        for memory in CARDS_GB:
            cells = _ours(_plan(data, lab.ours, memory, models))
            lines.append(f"| | ours, {memory} GB | {lab.ours} | {' | '.join(cells)} |")
        notes.append(f"{number}. {lab.source}. Ours: {lab.difference}.")
    return "\n".join([*lines, "", *notes])


def nnunet_table(models: Models) -> str:
    """nnU-Net's default plan (8 GB target) and ours on an 8 GB and a 24 GB card."""
    from voxplan.planning.nnunet_conversion import from_fingerprint
    from voxplan.planning.presets import nnunet_configurations

    lines = [
        "| data | median shape | nnU-Net: patch, batch | ours, 8 GB | ours, 24 GB | memory of the latter |",
        "|---|---|---|---|---|---|",
    ]
    for name in NNUNET:
        data = _data(name)
        numbers, described = from_fingerprint(data.fingerprint())
        theirs: dict[str, Any] = nnunet_configurations("nnunet", numbers, described)["3d_fullres"]
        small, large = (_plan(data, "unet", memory, models) for memory in (8, 24))
        cells = [
            name,
            _times(small.median_shape),
            f"{_times(theirs['patch_size'])}, {theirs['batch_size']}",
            f"{_times(small.patch_size)}, {small.batch_size}",
            f"{_times(large.patch_size)}, {large.batch_size}",
            _ours(large)[-1],
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables, or write them into a page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--update", type=Path, metavar="PAGE", help="page whose tables are replaced")
    options = parser.parse_args(argv)
    models: Models = {}
    text = f"{labs_table(models)}\n\nAnd nnU-Net's default plan:\n\n{nnunet_table(models)}"
    if options.update is None:
        print(text)
        return 0
    try:
        replace_between(options.update, text, BEGIN, END)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
