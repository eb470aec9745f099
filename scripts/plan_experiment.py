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

from voxplan.profiling.report.console import safe_console, say, say_json

from .data_options import data_options
from .endings import EndedBySignal, ended_by_signals
from .error_line import error_line
from .plan_arguments import DIFF, PROGRAM, build_diff_parser, build_parser, check_usage
from .report_option import write_plans_report

if TYPE_CHECKING:
    from rich.console import Console

    from voxplan.planning.nnunet_fingerprint import NnunetDataset
    from voxplan.plans.schema import Hardware, PlansDocument
    from voxplan.profiling.fingerprint import Fingerprint

EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130
WIDTH = 80


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    given = list(sys.argv[1:] if argv is None else argv)
    if given[:1] == [DIFF]:
        parser, action = build_diff_parser(), _diff
        given = given[1:]
    else:
        parser, action = build_parser(), _plan
    arguments = parser.parse_args(given)
    try:
        with ended_by_signals():
            return action(arguments)
    except KeyboardInterrupt as interrupt:
        say(f"\n{PROGRAM}: interrupted; nothing is written", sys.stderr)
        return interrupt.status if isinstance(interrupt, EndedBySignal) else EXIT_INTERRUPTED
    except Exception as error:  # noqa: BLE001 - one line for people, a traceback for --debug
        return _report(error, debug=arguments.debug)


def _plan(arguments: argparse.Namespace) -> int:
    """Read, plan, save, report."""
    check_usage(arguments)
    hardware = _hardware(arguments)
    overrides = _overrides(arguments)
    fingerprint, dataset = _fingerprint(arguments)
    document = _document(arguments, fingerprint, dataset, hardware, overrides)
    if not document.plans:
        _print_failures(document)
        return EXIT_FAILED
    if arguments.verify:
        from voxplan.planning.verification import verify_document

        document = verify_document(document, fit=arguments.fit)
    from voxplan.plans.document import save_document

    save_document(document, arguments.output)
    exported = _export(arguments, document, fingerprint, dataset)
    reported = write_plans_report(document, arguments)
    _tell(document, arguments, fingerprint, exported, reported)
    return EXIT_OK


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
    if not (arguments.quiet or arguments.json):
        say(f"profiled: {path}")
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

    console = safe_console(stderr=stderr, soft_wrap=False, markup=False)
    if not console.is_terminal or console.width > WIDTH:
        console.width = WIDTH
    return console


def _print_failures(document: PlansDocument) -> None:
    for name, reason in document.failures.items():
        say(f"{PROGRAM}: {name}: {reason}", sys.stderr)
    say(f"{PROGRAM}: no plan could be made; nothing is written", sys.stderr)


def _tell(
    document: PlansDocument,
    arguments: argparse.Namespace,
    fingerprint: Fingerprint,
    exported: Sequence[Path],
    reported: str | None,
) -> None:
    """Plans on stdout; with --quiet only the warnings, on stderr."""
    from voxplan.planning.report import print_explanation, print_plans, print_warnings

    if arguments.json:
        say_json(document.model_dump_json(indent=1))
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
    if not any(case.label is not None for case in fingerprint.cases):
        console.print("next: annotate some cases and profile them; training needs labels", soft_wrap=True)
    elif document.recommended is not None:
        where = data_options(fingerprint)
        command = f"train-from-plans {arguments.output} --plan {document.recommended} {where} --steps N"
        console.print(f"next: {command}", soft_wrap=True)


def _diff(arguments: argparse.Namespace) -> int:
    from voxplan.planning.comparison import differences
    from voxplan.planning.report import print_differences
    from voxplan.plans.document import read_document

    for path in (arguments.before, arguments.after):
        if not path.is_file():
            msg = f"{path}: no such file"
            raise ValueError(msg)
    found = differences(read_document(arguments.before), read_document(arguments.after))
    print_differences(found, _console())
    return EXIT_OK


def _report(error: Exception, *, debug: bool) -> int:
    """One line on stderr, or the traceback."""
    if debug:
        traceback.print_exception(error)
    expected = isinstance(error, ValueError | OSError | RuntimeError)
    what = error_line(error) if expected else f"{type(error).__name__}: {error_line(error)}"
    hint = "" if expected or debug else " (this is a bug; --debug shows the traceback)"
    say(f"{PROGRAM}: {what}{hint}", sys.stderr)
    return EXIT_USAGE if isinstance(error, ValueError | OSError) else EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main())
