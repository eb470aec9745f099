"""The command line of ``plan-experiment``, and what argparse cannot see in it."""

from __future__ import annotations

import argparse
from pathlib import Path

from .output_option import output_problem
from .parser import Parser, existing_place
from .report_option import add_report_option, report_problem

PROGRAM = "plan-experiment"
DIFF = "diff"
"""The word behind it that compares two plans files."""
TASKS = ("semantic", "affinity", "boundary")
PRESETS = ("nnunet", "resenc-m", "resenc-l", "resenc-xl")
EXPORTS = ("nnunet", "pytc", "monai")
CONFIGURATIONS = ("3d_fullres", "2d")

EPILOG = """\
examples:
  plan-experiment fingerprint.json
  plan-experiment fingerprint.json --gpu "RTX 3090" \\
      --architecture unet mednext_b -o plans.json
  plan-experiment DATA_FOLDER --gpu-memory 24 \\
      --set patch_size=96,96,96 --set mednext_s.lr=5e-4
  plan-experiment fingerprint.json --preset resenc-l \\
      --export nnunet Dataset501_Heads
  plan-experiment diff a.plans.json b.plans.json
"""


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = Parser(
        prog=PROGRAM,
        description="Choose patch, batch, precision and the rest for a data set on a machine.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.subcommands = {DIFF: build_diff_parser}
    parser.add_argument(
        "source",
        type=existing_place,
        metavar="FINGERPRINT_OR_DATA",
        help="fingerprint.json, or a folder to profile first",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("plans.json"),
        metavar="FILE",
        help="default: %(default)s",
    )
    what = parser.add_argument_group("what to plan")
    what.add_argument(
        "--architecture", nargs="+", metavar="NAME", help="e.g. unet mednext_s (the default), or: all"
    )
    what.add_argument(
        "--configuration",
        nargs="+",
        choices=CONFIGURATIONS,
        help="only these (default: all that suit the data)",
    )
    what.add_argument("--task", choices=TASKS, help="default: from the kind of labels")
    what.add_argument("--preset", choices=PRESETS, help="nnU-Net's own plan instead of voxplan's")
    what.add_argument(
        "--target-gb", type=float, metavar="GB", help="nnU-Net's -gpu_memory_target, for presets"
    )
    what.add_argument(
        "--dataset-json",
        type=Path,
        metavar="FILE",
        help="nnU-Net's, for presets (default: beside its fingerprint)",
    )
    what.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="settings",
        help="e.g. batch_size=4, unet/2d.lr=1e-3; may be repeated",
    )
    what.add_argument("--overrides", type=Path, metavar="FILE", help="YAML with the same keys")
    data = parser.add_argument_group("what the files do not say")
    data.add_argument("--spacing", nargs=3, type=float, metavar=("Z", "Y", "X"), help="for every case")
    data.add_argument("--unit", choices=("mm", "um", "nm"), help="of --spacing")
    data.add_argument("--image-key", metavar="KEY", help="when a data folder is profiled first")
    data.add_argument("--label-key", metavar="KEY", help="likewise")
    machine = parser.add_argument_group("hardware (default: this machine's)")
    machine.add_argument("--gpu", metavar="NAME", help='from the catalogue: "RTX 3090", "A100 80GB"')
    machine.add_argument("--gpu-memory", type=float, metavar="GB", help="a GPU of this memory")
    machine.add_argument("--num-gpus", type=int, metavar="N", help="so many of them")
    machine.add_argument("--cpu", action="store_true", help="no GPU")
    machine.add_argument("--cores", type=int, metavar="N", help="usable processor cores")
    machine.add_argument("--ram", type=float, metavar="GB", help="main memory")
    machine.add_argument(
        "--memory-fraction",
        type=float,
        default=0.9,
        metavar="F",
        help="of the free memory, for the plan (default: 0.9)",
    )
    machine.add_argument(
        "--verify", action="store_true", help="run each planned step, and one sample more, at the budget"
    )
    machine.add_argument(
        "--fit", action="store_true", help="with --verify: change the batch to the largest that runs"
    )
    output = parser.add_argument_group("output")
    add_report_option(output)
    output.add_argument("--explain", action="store_true", help="every decision and the alternatives")
    output.add_argument(
        "--export",
        nargs=2,
        action="append",
        default=[],
        metavar=("FORMAT", "PATH"),
        help="nnunet FOLDER, pytc FILE or monai FOLDER; may be repeated",
    )
    output.add_argument("--json", action="store_true", help="print the plans as JSON")
    output.add_argument("-q", "--quiet", action="store_true", help="only warnings and errors")
    output.add_argument("--debug", action="store_true", help="tracebacks of errors")
    return parser


def build_diff_parser() -> argparse.ArgumentParser:
    """The command line of ``plan-experiment diff``."""
    parser = Parser(prog=f"{PROGRAM} {DIFF}", description="What differs between two plans files.")
    parser.add_argument("before", type=Path, metavar="BEFORE", help="a plans file")
    parser.add_argument("after", type=Path, metavar="AFTER", help="another one")
    parser.add_argument("--debug", action="store_true", help="tracebacks of errors")
    return parser


def check_usage(arguments: argparse.Namespace) -> None:
    """What argparse cannot see.

    Raises:
        ValueError: contradicting or impossible options.
    """
    from voxplan.plans.document import is_plans_file
    from voxplan.profiling.formats.address import place_exists

    if not place_exists(arguments.source):
        msg = f"{arguments.source}: no such file or folder"
        raise ValueError(msg)
    problem = output_problem(arguments.output, "plans.json", "plans file", is_plans_file)
    if (problem := problem or report_problem(arguments)) is not None:
        raise ValueError(problem)
    if arguments.unit is not None and arguments.spacing is None:
        msg = "--unit says what --spacing is in: give both"
        raise ValueError(msg)
    if arguments.preset is not None and (arguments.architecture or arguments.settings or arguments.overrides):
        change = "--architecture, --set and --overrides cannot change it"
        msg = f"--preset {arguments.preset} is nnU-Net's own plan: {change}"
        raise ValueError(msg)
    if arguments.preset is not None and arguments.spacing is not None and arguments.source.is_file():
        msg = "--preset plans from the fingerprint as it is: give --spacing to profile-dataset"
        raise ValueError(msg)
    if arguments.fit and not arguments.verify:
        msg = "--fit changes the batch to what --verify measures: give both"
        raise ValueError(msg)
    if arguments.fit and arguments.preset is not None:
        msg = (
            f"--preset {arguments.preset} is nnU-Net's own plan: --fit cannot change it; --verify measures it"
        )
        raise ValueError(msg)
    if arguments.target_gb is not None and arguments.preset is None:
        msg = "--target-gb is the memory target of a --preset"
        raise ValueError(msg)
    for name, _ in arguments.export:
        if name not in EXPORTS:
            msg = f"--export {name}: unknown format; known ones: {', '.join(EXPORTS)}"
            raise ValueError(msg)
    if arguments.spacing is not None and not all(0 < value < float("inf") for value in arguments.spacing):
        msg = f"--spacing must be three positive numbers (Z Y X), got {arguments.spacing}"
        raise ValueError(msg)
