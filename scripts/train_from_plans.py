"""``train-from-plans``: the reference training loop, from a plan.

A thin shell over ``data``, ``training``, ``inference`` and ``checkpoint`` of :mod:`voxplan.plans`.

Exit status: 0 when the training ran to its end, 1 when it could not, 2 for wrong usage, 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxplan.profiling.report.console import say

from .error_line import error_line
from .parser import Parser, existing_place
from .training_progress import dice_text, show_progress

if TYPE_CHECKING:
    from torch import nn

    from voxplan.plans.build import Plan
    from voxplan.plans.inference import ValidationResult
    from voxplan.plans.training import TrainingResult, TrainingState
    from voxplan.profiling.formats.base import CaseSource, ReadOptions

EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130
CHECKPOINT = "checkpoint.pt"

EPILOG = """\
examples:
  train-from-plans plans.json --plan unet/3d_fullres \\
      --data Dataset501_Heads --steps 1000
  train-from-plans plans.json --data vnc.h5 --image-key volumes/raw \\
      --label-key volumes/labels/mitochondria --steps 60 -o trained
  train-from-plans plans.json --data Dataset501_Heads --steps 500 \\
      --resume trained/checkpoint.pt
  train-from-plans --config auto_config.yaml data.batch_size=2 \\
      --data Dataset501_Heads --steps 1000
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = build_parser()
    arguments = parser.parse_intermixed_args(argv)
    try:
        return run(arguments, parser)
    except KeyboardInterrupt:
        say("train-from-plans: interrupted", sys.stderr)
        return EXIT_INTERRUPTED
    except Exception as error:  # noqa: BLE001 - one line for people, a traceback for --debug
        if arguments.debug:
            traceback.print_exc()
        else:
            text = str(error.args[0]) if isinstance(error, KeyError) and error.args else error_line(error)
            say(f"train-from-plans: {text}", sys.stderr)
        return EXIT_FAILED


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = Parser(
        prog="train-from-plans",
        description="Train a planned network: patches, loss, optimizer, schedule as the plan says.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "plans", nargs="*", metavar="PLANS", help="plans.json; with --config: its KEY=VALUE settings"
    )
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="plan from this YAML file instead of plans.json"
    )
    parser.add_argument("--plan", metavar="NAME", help="which plan (default: the recommended one)")
    where = parser.add_argument_group("where the data lie, as for profile-dataset")
    where.add_argument(
        "--data", type=existing_place, metavar="DATA", help="a data folder or a single volume file"
    )
    where.add_argument("--images", metavar="PLACE", help="folder, file or quoted glob of the images")
    where.add_argument("--labels", metavar="PLACE", help="folder, file or quoted glob of the label maps")
    where.add_argument("--image-key", metavar="KEY", help="data set of the image in HDF5 and Zarr files")
    where.add_argument("--label-key", metavar="KEY", help="data set of the label map in HDF5 and Zarr files")
    where.add_argument(
        "--exclude", action="append", default=[], metavar="GLOB", help="files to leave out; may be repeated"
    )
    where.add_argument(
        "--spacing", nargs=3, type=_positive_number, metavar=("Z", "Y", "X"), help="wins over the files"
    )
    where.add_argument(
        "--unit", choices=("mm", "um", "nm"), help="of --spacing, or of a spacing without unit"
    )
    where.add_argument("--axes", metavar="ORDER", help="stored axes, e.g. czyx or xyz")
    where.add_argument(
        "--spacing-order", choices=("zyx", "xyz"), default="zyx", help="in attributes, sidecars"
    )
    training = parser.add_argument_group("training")
    training.add_argument("--steps", type=_positive, required=True, metavar="N", help="optimizer steps to do")
    training.add_argument(
        "--fold",
        type=_fold,
        default=0,
        metavar="K",
        help="split to train on (default 0); all: hold none back",
    )
    training.add_argument(
        "--device", metavar="DEVICE", help="cuda, cuda:1, cpu (default: a GPU if there is one)"
    )
    training.add_argument(
        "--workers", type=_natural, metavar="N", help="loader workers (default: the plan's)"
    )
    training.add_argument("--seed", type=_natural, default=0, metavar="N", help="of weights and patches")
    training.add_argument(
        "--validate-every", type=_positive, metavar="N", help="steps (default: only at the end)"
    )
    training.add_argument("--no-validation", action="store_true", help="do not measure Dice on held-out data")
    training.add_argument("--resume", type=Path, metavar="CKPT", help="go on from this checkpoint")
    output = parser.add_argument_group("output")
    output.add_argument(
        "-o", "--output", type=Path, default=Path("trained"), metavar="DIR", help="default: %(default)s"
    )
    output.add_argument("--cache-folder", type=Path, metavar="DIR", help="for plans that cache on disk")
    output.add_argument("--debug", action="store_true", help="tracebacks of errors")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        msg = f"{text!r} is not a whole number above 0"
        raise argparse.ArgumentTypeError(msg)
    return int(text)


def _natural(text: str) -> int:
    if not text.isdecimal():
        msg = f"{text!r} is not a whole number from 0 on"
        raise argparse.ArgumentTypeError(msg)
    return int(text)


def _fold(text: str) -> int | str:
    return text if text == "all" else _natural(text)


def _positive_number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        msg = f"{text!r} is not a positive number"
        raise argparse.ArgumentTypeError(msg)
    return number


def _output_problem(folder: Path) -> str | None:
    """Why no checkpoint could be written there; known before the training instead of after it."""
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    if not there.is_dir():
        return f"--output {folder}: {there} is a file; name a folder, e.g. trained"
    checkpoint = folder / CHECKPOINT
    if not os.access(there, os.W_OK | os.X_OK) or checkpoint.is_dir():
        return f"--output {folder}: nothing can be written there; name another folder"
    return None


def _keep_earlier(path: Path, resume: Path | None) -> None:
    """Give the checkpoint of another training another name: days may have gone into it."""
    if not path.exists() or (resume is not None and resume.samefile(path)):
        return
    names = (path.with_name(f"{path.stem}.{number}{path.suffix}") for number in count(1))
    kept = next(name for name in names if not name.exists())
    path.rename(kept)
    say(f"{path} of an earlier training is now {kept}; --resume would go on with it", sys.stderr)


def run(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Load the plan, find the cases, train, validate, save."""
    if arguments.data is None and arguments.images is None:
        parser.error("give --data, or --images and --labels")
    from voxplan.profiling.formats.address import place_exists

    if arguments.data is not None and not place_exists(arguments.data):
        parser.error(f"--data {arguments.data}: no such file or folder")
    if arguments.resume is not None and not arguments.resume.is_file():
        parser.error(f"--resume {arguments.resume}: no such file")
    if (problem := _output_problem(arguments.output)) is not None:
        parser.error(problem)
    plan = _choose_plan(arguments, parser)

    import torch

    from voxplan.plans.checkpoint import save_checkpoint
    from voxplan.plans.data import make_dataset, make_loader
    from voxplan.plans.training import Validating, train

    try:
        device = torch.device(arguments.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError:
        parser.error(f"--device {arguments.device}: no such kind of device; use e.g. cuda, cuda:1 or cpu")
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error(f"--device {arguments.device}: there is no usable GPU on this machine; use --device cpu")
    cases, read = _find_cases(arguments)
    options: dict[str, Any] = {
        "seed": arguments.seed,
        "fold": arguments.fold,
        "read": read,
        "cache_folder": arguments.cache_folder,
    }
    dataset = make_dataset(plan, cases, training=True, **options)
    for warning in dataset.warnings:
        say(f"warning: {warning}", sys.stderr)
    validate = None if arguments.no_validation else _validator(plan, cases, options, device)
    torch.manual_seed(arguments.seed)
    state = _prepare(plan, device, arguments.resume)
    loader = make_loader(plan, dataset, steps=arguments.steps, start=state.step, workers=arguments.workers)
    say(
        f"{plan.name}: patch {'x'.join(map(str, plan.patch_size))}, batch {plan.batch_size}, "
        f"{_precision(plan, device)}, {_cases(len(dataset.cases))}, on {device}"
    )
    path = arguments.output / CHECKPOINT
    _keep_earlier(path, arguments.resume)

    try:
        with show_progress(state.step, arguments.steps) as on_event:

            def save_and_validate(network: nn.Module) -> ValidationResult:
                save_checkpoint(path, plan, state)
                assert validate is not None
                return validate(
                    network,
                    lambda case, cases: on_event(Validating(step=state.step, case=case, cases=cases)),
                )

            result = train(
                plan,
                loader,
                steps=arguments.steps,
                device=device,
                state=state,
                validate=None if validate is None else save_and_validate,
                validate_every=arguments.validate_every,
                on_event=on_event,
            )
    except KeyboardInterrupt:
        if state.step:
            save_checkpoint(path, plan, state)
            say(f"stopped after step {state.step}; go on with --resume {path}", sys.stderr)
        raise
    save_checkpoint(path, plan, state)
    _print_result(result, path)
    return EXIT_OK


def _precision(plan: Plan, device: Any) -> str:
    from voxplan.plans.inference import effective_precision

    used = effective_precision(plan.precision, device)
    return used if used == plan.precision else f"{plan.precision} ({used} on this device)"


def _cases(count: int) -> str:
    return f"{count} training case{'' if count == 1 else 's'}"


def _plans_file(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> Path:
    """plans.json: as given, or made from the configuration."""
    if arguments.config is not None:
        from .config_training import write_plans

        if not arguments.config.is_file():
            parser.error(f"--config {arguments.config}: no such file")
        return write_plans(arguments)
    if len(arguments.plans) != 1:
        parser.error("give one PLANS file, or --config FILE")
    path = Path(arguments.plans[0])
    if not path.is_file():
        parser.error(f"{path}: no such file; plan-experiment writes it")
    return path


def _choose_plan(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> Plan:
    from voxplan.plans import load_plans

    path = _plans_file(arguments, parser)
    plans = load_plans(path)
    known = ", ".join(plans) or "none"
    if arguments.plan is None and plans.recommended is None:
        parser.error(f"{path} recommends no plan: give --plan, one of: {known}")
    if arguments.plan is not None and arguments.plan not in plans:
        parser.error(f"--plan {arguments.plan}: not in {path}; known: {known}")
    folds = len(plans.dataset.splits)
    if arguments.fold != "all" and arguments.fold >= max(1, folds):
        parser.error(f"--fold {arguments.fold}: the plan has {folds} folds, counted from 0")
    chosen = plans.recommended if arguments.plan is None else plans[arguments.plan]
    assert chosen is not None
    return chosen


def _find_cases(arguments: argparse.Namespace) -> tuple[tuple[CaseSource, ...], ReadOptions]:
    from voxplan.profiling.formats.base import FormatError, ReadOptions
    from voxplan.profiling.layouts import discover

    found = discover(
        arguments.data,
        images=arguments.images,
        labels=arguments.labels,
        image_key=arguments.image_key,
        label_key=arguments.label_key,
        exclude=arguments.exclude,
    )
    for failure in found.failures:
        say(f"warning: left out: {failure.id}: {failure.reason}", sys.stderr)
    labelled = tuple(case for case in found.cases if case.label is not None)
    if len(labelled) < len(found.cases):
        count = len(found.cases) - len(labelled)
        say(f"warning: left out: {count} cases without label map", sys.stderr)
    if not labelled:
        msg = (
            f"{arguments.data or arguments.images}: no case has a label map; give --labels, or --label-key "
            "for HDF5 files"
        )
        raise FormatError(msg, kind="empty")
    read = ReadOptions()
    if arguments.spacing is not None:
        z, y, x = arguments.spacing
        read = replace(read, spacing=(z, y, x))
    return labelled, replace(
        read, unit=arguments.unit, axes=arguments.axes, spacing_order=arguments.spacing_order
    )


def _validator(
    plan: Plan, cases: Sequence[CaseSource], options: dict[str, Any], device: Any
) -> Callable[[nn.Module, Callable[[int, int], None]], ValidationResult] | None:
    """What measures a network on the held-out part; None, with a warning, where there is none."""
    from voxplan.plans.data import make_dataset
    from voxplan.plans.inference import validate
    from voxplan.profiling.formats.base import FormatError

    if not plan.dataset.splits or options["fold"] == "all":
        held = "the plan holds" if options["fold"] != "all" else "--fold all holds"
        say(f"warning: {held} no data back: no validation", sys.stderr)
        return None
    try:
        held_out = make_dataset(plan, cases, training=False, **options)
    except FormatError as error:
        if error.kind != "empty":
            raise
        say(f"warning: no validation: {error}", sys.stderr)
        return None

    def measure(network: nn.Module, on_case: Callable[[int, int], None]) -> ValidationResult:
        return validate(network, plan, held_out, device=device, on_case=on_case)

    return measure


def _prepare(plan: Plan, device: Any, resume: Path | None) -> TrainingState:
    from voxplan.plans.checkpoint import load_checkpoint, restore
    from voxplan.plans.training import prepare_training

    state = prepare_training(plan, device)
    if resume is not None:
        restore(load_checkpoint(resume, device), state)
        say(f"resumed from {resume} after step {state.step}")
    return state


def _print_result(result: TrainingResult, path: Path) -> None:
    first, last = result.smoothed(last=False), result.smoothed(last=True)
    if first is not None and last is not None and len(result.losses) > 1:
        steps = "step" if result.window == 1 else f"{result.window} steps"
        say(f"loss {first:.4f} -> {last:.4f} (means of the first and the last {steps})")
    if result.validation is not None:
        say(f"held-out {dice_text(result.validation)}")
    say(f"checkpoint: {path}")


if __name__ == "__main__":
    raise SystemExit(main())
