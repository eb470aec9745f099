"""``plan-experiment``: what to train on this data and this hardware, as plans.json and a table.

A thin shell over :func:`voxplan.planning.planner.make_plans`. Exit status: 0 when plans were written, 1 when
none could be made, 2 for wrong usage or input, 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .parser import Parser
from .report_option import add_report_option, report_problem, write_plans_report

if TYPE_CHECKING:
    from rich.console import Console

    from voxplan.planning.nnunet_fingerprint import NnunetDataset
    from voxplan.plans.schema import Hardware, PlansDocument
    from voxplan.profiling.fingerprint import Fingerprint

PROGRAM = "plan-experiment"
TASKS = ("semantic", "affinity", "boundary")
PRESETS = ("nnunet", "resenc-m", "resenc-l", "resenc-xl")
EXPORTS = ("nnunet", "pytc", "monai")
CONFIGURATIONS = ("3d_fullres", "2d")
EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130
WIDTH = 80

EPILOG = """\
examples:
  plan-experiment fingerprint.json
  plan-experiment fingerprint.json --gpu "RTX 3090" --architecture unet mednext_b -o plans.json
  plan-experiment DATA_FOLDER --gpu-memory 24 --set patch_size=96,96,96 --set mednext_s.lr=5e-4
  plan-experiment fingerprint.json --preset resenc-l --export nnunet Dataset501_Heads
  plan-experiment diff a.plans.json b.plans.json
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    given = list(sys.argv[1:] if argv is None else argv)
    if given[:1] == ["diff"]:
        parser, action = _diff_parser(), _diff
        given = given[1:]
    else:
        parser, action = build_parser(), _plan
    arguments = parser.parse_args(given)
    try:
        return action(arguments)
    except KeyboardInterrupt:
        print(f"\n{PROGRAM}: interrupted; nothing is written", file=sys.stderr)
        return EXIT_INTERRUPTED
    except Exception as error:  # noqa: BLE001 - one line for people, a traceback for --debug
        return _report(error, debug=arguments.debug)


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = Parser(
        prog=PROGRAM,
        description="Choose patch, batch, precision and the rest for a data set on a machine, with reasons.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "source",
        type=Path,
        metavar="FINGERPRINT_OR_DATA",
        help="fingerprint.json, or a folder to profile first",
    )
    parser.add_argument("-o", "--output", type=Path, default=Path("plans.json"), metavar="FILE")
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
    what.add_argument("--target-gb", type=float, metavar="GB", help="memory target of a preset")
    what.add_argument("--dataset-json", type=Path, metavar="FILE", help="nnU-Net's dataset.json, for presets")
    what.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings")
    what.add_argument("--overrides", type=Path, metavar="FILE", help="YAML with the same keys")
    data = parser.add_argument_group("what the files do not say")
    data.add_argument("--spacing", nargs=3, type=float, metavar=("Z", "Y", "X"), help="for every case")
    data.add_argument("--unit", choices=("mm", "um", "nm"), help="of --spacing")
    data.add_argument("--image-key", metavar="KEY", help="when a data folder is profiled first")
    data.add_argument("--label-key", metavar="KEY", help="likewise")
    machine = parser.add_argument_group("hardware (default: this machine's)")
    machine.add_argument("--gpu", metavar="NAME", help='from the catalogue: "RTX 3090", "A100 80GB"')
    machine.add_argument("--gpu-memory", type=float, metavar="GB", help="a GPU of this memory")
    machine.add_argument("--num-gpus", type=int, metavar="N")
    machine.add_argument("--cpu", action="store_true", help="no GPU")
    machine.add_argument("--cores", type=int, metavar="N")
    machine.add_argument("--ram", type=float, metavar="GB")
    machine.add_argument("--memory-fraction", type=float, default=0.9, metavar="F", help="default: 0.9")
    machine.add_argument("--verify", action="store_true", help="run each planned step on the GPU at hand")
    output = parser.add_argument_group("output")
    add_report_option(output)
    output.add_argument("--explain", action="store_true", help="every decision and the alternatives")
    output.add_argument(
        "--export", nargs=2, action="append", default=[], metavar=("FORMAT", "PATH"), help=", ".join(EXPORTS)
    )
    output.add_argument("--json", action="store_true", help="print the plans as JSON")
    output.add_argument("-q", "--quiet", action="store_true", help="only warnings and errors")
    output.add_argument("--debug", action="store_true", help="tracebacks of errors")
    return parser


def _diff_parser() -> argparse.ArgumentParser:
    parser = Parser(prog=f"{PROGRAM} diff", description="What differs between two plans files.")
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--debug", action="store_true", help="tracebacks of errors")
    return parser


def _plan(arguments: argparse.Namespace) -> int:
    """Read, plan, save, report."""
    _check_usage(arguments)
    hardware = _hardware(arguments)
    overrides = _overrides(arguments)
    fingerprint, dataset = _fingerprint(arguments)
    document = _document(arguments, fingerprint, dataset, hardware, overrides)
    if arguments.verify:
        from voxplan.planning.verification import verify_document

        document = verify_document(document)
    from voxplan.plans.document import save_document

    if not document.plans:
        _print_failures(document)
        return EXIT_FAILED
    save_document(document, arguments.output)
    exported = _export(arguments, document, fingerprint, dataset)
    reported = write_plans_report(document, arguments)
    _tell(document, arguments, exported, reported)
    return EXIT_OK


def _check_usage(arguments: argparse.Namespace) -> None:
    """What argparse cannot see.

    Raises:
        ValueError: contradicting or impossible options.
    """
    output: Path = arguments.output
    if not arguments.source.exists():
        msg = f"{arguments.source}: no such file or folder"
        raise ValueError(msg)
    if output.is_dir():
        msg = f"--output {output}: is a folder; name the file, e.g. {output / 'plans.json'}"
        raise ValueError(msg)
    if not output.absolute().parent.is_dir():
        msg = f"--output {output}: the folder {output.parent} does not exist"
        raise ValueError(msg)
    if (problem := report_problem(arguments)) is not None:
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


def _hardware(arguments: argparse.Namespace) -> Hardware:
    from voxplan.planning.hardware import detect_hardware, state_hardware

    return state_hardware(
        gpu=arguments.gpu,
        gpu_memory_gb=arguments.gpu_memory,
        num_gpus=arguments.num_gpus,
        cores=arguments.cores,
        ram_gb=arguments.ram,
        cpu=arguments.cpu,
        base=detect_hardware(),
    )


def _overrides(arguments: argparse.Namespace) -> dict[str, Any]:
    """The YAML file, then the settings of the command line over it; checked before anything is read."""
    from voxplan.planning.overrides import collect_overrides, parse_setting, read_overrides
    from voxplan.plans.architectures import ARCHITECTURES

    values = read_overrides(arguments.overrides) if arguments.overrides is not None else {}
    values |= dict(parse_setting(text) for text in arguments.settings)
    collect_overrides(values, ARCHITECTURES)
    return values


def _fingerprint(arguments: argparse.Namespace) -> tuple[Fingerprint, NnunetDataset | None]:
    """The fingerprint: read, made from nnU-Net's, or profiled from a data folder."""
    from voxplan.planning.nnunet_conversion import to_fingerprint
    from voxplan.planning.nnunet_fingerprint import is_nnunet_fingerprint, load_nnunet
    from voxplan.profiling.fingerprint import load_fingerprint

    source: Path = arguments.source
    if source.is_file() and is_nnunet_fingerprint(source):
        described = arguments.dataset_json or source.parent / "dataset.json"
        numbers, dataset = load_nnunet(source, described)
        return to_fingerprint(numbers, dataset, source.absolute().parent.name), dataset
    path = source if source.is_file() and source.suffix.lower() == ".json" else _profile(arguments)
    return load_fingerprint(path), _dataset_json(arguments.dataset_json)


def _dataset_json(path: Path | None) -> NnunetDataset | None:
    """nnU-Net's dataset.json, if one is named.

    Raises:
        ValueError: not JSON, or not nnU-Net's.
    """
    if path is None:
        return None
    from pydantic import ValidationError

    from voxplan.planning.nnunet_fingerprint import NnunetDataset

    try:
        return NnunetDataset.model_validate_json(path.read_text(encoding="utf-8"))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole file"
        msg = f"{path}: {where}: {first['msg']}; nnU-Net's own dataset.json is expected here"
        raise ValueError(msg) from None


def _profile(arguments: argparse.Namespace) -> Path:
    """Profile a data folder as ``profile-dataset`` does; the fingerprint stands beside the plans.

    Raises:
        ValueError: nothing could be profiled.
    """
    from .profile_dataset import main as profile

    output: Path = arguments.output
    path = output.with_name(f"{output.name.removesuffix('.json').removesuffix('.plans')}.fingerprint.json")
    command = [str(arguments.source), "-o", str(path), "--quiet"]
    if arguments.spacing is not None:
        command += ["--spacing", *map(str, arguments.spacing)]
    for option in ("unit", "image_key", "label_key"):
        value = getattr(arguments, option)
        if value is not None:
            command += [f"--{option.replace('_', '-')}", value]
    if profile(command) != EXIT_OK:
        msg = f"{arguments.source}: could not be profiled, so there is nothing to plan"
        raise ValueError(msg)
    return path


def _document(
    arguments: argparse.Namespace,
    fingerprint: Fingerprint,
    dataset: NnunetDataset | None,
    hardware: Hardware,
    overrides: dict[str, Any],
) -> PlansDocument:
    options = _stated(arguments)
    if arguments.preset is not None:
        from voxplan.planning.presets import preset_document

        return preset_document(
            arguments.preset,
            fingerprint,
            hardware,
            dataset=dataset,
            target_gb=arguments.target_gb,
            memory_fraction=arguments.memory_fraction,
            task=arguments.task,
            options=options,
        )
    from voxplan.planning.planner import DEFAULT_ARCHITECTURES, make_plans
    from voxplan.plans.architectures import ARCHITECTURES

    names = arguments.architecture or DEFAULT_ARCHITECTURES
    return make_plans(
        fingerprint,
        hardware,
        architectures=tuple(ARCHITECTURES) if list(names) == ["all"] else names,
        only=arguments.configuration,
        task=arguments.task,
        memory_fraction=arguments.memory_fraction,
        overrides=overrides,
        spacing=None if arguments.spacing is None else tuple(arguments.spacing),
        unit=arguments.unit,
        options=options,
    )


def _stated(arguments: argparse.Namespace) -> dict[str, str]:
    """Options that were given, for the provenance."""
    defaults = vars(build_parser().parse_args(["-"]))
    return {
        name: " ".join(map(str, value)) if isinstance(value, list) else str(value)
        for name, value in vars(arguments).items()
        if value != defaults[name]
    }


def _export(
    arguments: argparse.Namespace,
    document: PlansDocument,
    fingerprint: Fingerprint,
    dataset: NnunetDataset | None,
) -> list[Path]:
    if not arguments.export:
        return []
    from voxplan.planning.export import EXPORTERS

    written: list[Path] = []
    for name, target in arguments.export:
        written += EXPORTERS[name](
            document,
            Path(target),
            fingerprint=fingerprint,
            preset=arguments.preset,
            target_gb=arguments.target_gb,
            dataset=dataset,
        )
    return written


def _console(*, stderr: bool = False) -> Console:
    """Never wider than 80 columns where it is no terminal."""
    from rich.console import Console

    console = Console(stderr=stderr, highlight=False, soft_wrap=False, markup=False)
    if not console.is_terminal or console.width > WIDTH:
        console.width = WIDTH
    return console


def _print_failures(document: PlansDocument) -> None:
    for name, reason in document.failures.items():
        print(f"{PROGRAM}: {name}: {reason}", file=sys.stderr)
    print(f"{PROGRAM}: no plan could be made; nothing is written", file=sys.stderr)


def _tell(
    document: PlansDocument, arguments: argparse.Namespace, exported: Sequence[Path], reported: str | None
) -> None:
    """Plans on stdout; with --quiet only the warnings, on stderr."""
    from voxplan.planning.report import print_explanation, print_plans, print_warnings

    if arguments.json:
        print(document.model_dump_json(indent=1))
        return
    if arguments.quiet:
        print_warnings(document, _console(stderr=True))
        return
    console = _console()
    print_plans(document, console)
    if arguments.explain:
        print_explanation(document, console)
    console.print(f"written: {arguments.output}", soft_wrap=True)
    for path in exported:
        console.print(f"exported: {path}", soft_wrap=True)
    if reported is not None:
        console.print(reported, soft_wrap=True)
    if document.recommended is not None:
        command = f"train-from-plans {arguments.output} --plan {document.recommended} --data DATA"
        console.print(f"next: {command}", soft_wrap=True)


def _diff(arguments: argparse.Namespace) -> int:
    from voxplan.planning.comparison import differences
    from voxplan.planning.report import print_differences
    from voxplan.plans.document import read_document

    found = differences(read_document(arguments.before), read_document(arguments.after))
    print_differences(found, _console())
    return EXIT_OK


def _report(error: Exception, *, debug: bool) -> int:
    """One line on stderr, or the traceback."""
    if debug:
        traceback.print_exception(error)
    expected = isinstance(error, ValueError | OSError | RuntimeError)
    what = str(error) if expected else f"{type(error).__name__}: {error}"
    hint = "" if expected or debug else " (this is a bug; --debug shows the traceback)"
    print(f"{PROGRAM}: {' '.join(what.split())}{hint}", file=sys.stderr)
    return EXIT_USAGE if isinstance(error, ValueError | OSError) else EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main())
