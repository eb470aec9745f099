"""profile-dataset, nnU-Net's fingerprint, MONAI's DataAnalyzer and the floor: whole processes, in turn.

    python -m voxplan.scripts.benchmarks.make_data nifti BENCH/nifti
    python -m voxplan.scripts.benchmarks.make_data em BENCH/em
    python -m voxplan.scripts.benchmarks.make_data small BENCH/small
    python -m voxplan.scripts.benchmarks.make_data virtual BENCH/virtual
    python -m voxplan.scripts.benchmarks.profile_speed BENCH -o results.json \\
        [--nnunet-python ENV/bin/python] [--rounds 3] [--only nifti gzip-hdf5 ...] [--update docs/speed.md]

Groups that are not run stay in the results file as they are, so that one may be run after another.
``--update`` writes what the file then holds into a page.

nnU-Net needs an environment of its own (it asks for packages that bring a CUDA build of torch). A peer that
is not given is left out, and the output says so.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from .pages import write_between
from .profile_aims import ONE_WORKER, OURS, START_ONE, START_TWO, aims_table, gain_of_two, over_floor
from .timing import (
    Command,
    Run,
    forget_cached,
    in_turn,
    machine_of,
    read_results,
    table,
    write_results,
)

PEERS = Path(__file__).parent / "peers"


def profile(scratch: Path, *arguments: object) -> Command:
    """profile-dataset in a fresh process, which uses no journal left from the run before."""
    program = "import sys; from voxplan.scripts.profile_dataset import main; sys.exit(main(sys.argv[1:]))"
    output = scratch / "profiled" / "fingerprint.json"
    words = (*map(str, arguments), "--output", str(output), "--fresh", "--quiet")
    return Command(name=OURS, argv=(sys.executable, "-c", program, *words))


def floor(*arguments: object) -> Command:
    """A floor in a fresh process."""
    module = "voxplan.scripts.benchmarks.floors"
    return Command(name="floor", argv=(sys.executable, "-m", module, *map(str, arguments)))


def nifti(bench: Path, scratch: Path, nnunet_python: Path | None, peers: bool) -> list[Command]:
    """The CT and MR study, two workers."""
    folder = bench / "nifti" / "Dataset901_Bench"
    commands = [floor("nifti", folder, 2), profile(scratch, folder, "--jobs", 2)]
    if peers and nnunet_python is not None:
        script = str(PEERS / "nnunet_fingerprint.py")
        argv = (str(nnunet_python), script, str(folder.parent), "901", "2")
        commands.append(Command(name="nnU-Net", argv=argv))
    if peers:
        script = str(PEERS / "monai_analyzer.py")
        commands.append(Command(name="MONAI DataAnalyzer", argv=(sys.executable, script, str(folder), "2")))
    return commands


def gzip_hdf5(bench: Path, scratch: Path, *_: object) -> list[Command]:
    """1.5 GB in gzip chunks: two workers share the one volume. Two tiny ones show what starting takes."""
    import h5py
    import numpy as np

    file = bench / "em" / "em_gzip.h5"
    tiny = scratch / "tiny"
    tiny.mkdir()
    for name in ("a.h5", "b.h5"):
        with h5py.File(tiny / name, "w") as container:
            container["main"] = np.ones((8, 8, 8), np.uint8)
    return [
        floor("hdf5", file, "main", 2),
        profile(scratch, file, "--jobs", 2),
        replace(profile(scratch, file, "--jobs", 1), name=ONE_WORKER),
        replace(profile(scratch, tiny, "--jobs", 2), name=START_TWO),
        replace(profile(scratch, tiny, "--jobs", 1), name=START_ONE),
    ]


def raw_hdf5(bench: Path, scratch: Path, *_: object) -> list[Command]:
    """1.5 GB in raw chunks."""
    file = bench / "em" / "em_raw.h5"
    return [floor("hdf5-count", file, "main"), profile(scratch, file, "--jobs", 1)]


def bigtiff(bench: Path, scratch: Path, *_: object) -> list[Command]:
    """1.5 GB, contiguous pages."""
    file = bench / "em" / "em.tif"
    return [floor("tiff-count", file), profile(scratch, file, "--jobs", 1)]


def headers(bench: Path, scratch: Path, *_: object) -> list[Command]:
    """Ten thousand small files, headers only."""
    return [profile(scratch, bench / "small", "--headers-only", "--jobs", 2)]


def second_run(bench: Path, scratch: Path, *_: object) -> list[Command]:
    """Ten thousand cases of which the journal knows all, after a run that reads them."""
    first = profile(scratch, bench / "small", "--jobs", 2)
    kept = tuple(word.replace("profiled/fingerprint.json", "kept.json") for word in first.argv)
    again = tuple(word for word in kept if word != "--fresh")
    return [replace(first, name=f"{OURS}, first run", argv=kept), replace(first, argv=again)]


def memory(bench: Path, scratch: Path, *_: object) -> list[Command]:
    """20 GB volumes, a tenth of them filled, and ten thousand cases: what the processes' peaks come to."""
    commands = [
        replace(profile(scratch, bench / "virtual" / f"virtual.{kind}", "--jobs", 2), name=f"{OURS}, {name}")
        for kind, name in (("h5", "HDF5"), ("zarr", "Zarr"), ("tif", "BigTIFF"))
    ]
    return [*commands, replace(profile(scratch, bench / "small", "--jobs", 2), name=OURS)]


def start_up(*_: object) -> list[Command]:
    """profile-dataset --help, beside a Python that does nothing."""
    program = "import sys; from voxplan.scripts.profile_dataset import main; sys.exit(main(['--help']))"
    return [
        Command(name="python -c pass", argv=(sys.executable, "-c", "pass")),
        Command(name=OURS, argv=(sys.executable, "-c", program)),
    ]


BENCHES: dict[str, Callable[[Path, Path, Path | None, bool], list[Command]]] = {
    "nifti": nifti,
    "gzip-hdf5": gzip_hdf5,
    "raw-hdf5": raw_hdf5,
    "bigtiff": bigtiff,
    "headers": headers,
    "second-run": second_run,
    "memory": memory,
    "start-up": start_up,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description="Time profile-dataset side by side with its peers.")
    parser.add_argument("bench", type=Path, help="folder that make_data wrote: nifti/, em/, small/, virtual/")
    parser.add_argument("--nnunet-python", type=Path, help="Python of an environment with nnunetv2")
    parser.add_argument("--no-peers", action="store_true", help="only voxplan and the floor")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=list(BENCHES), default=list(BENCHES))
    parser.add_argument("-o", "--output", type=Path, default=Path("profile_speed.json"))
    parser.add_argument("--update", type=Path, metavar="PAGE", help="write the tables into this page")
    options = parser.parse_args(argv)
    if options.nnunet_python is None and not options.no_peers:
        print("nnU-Net is left out: no --nnunet-python")
    results: dict[str, dict[str, list[Run]]] = {}
    files = [path for path in options.bench.rglob("*") if path.is_file()]
    with tempfile.TemporaryDirectory() as scratch:
        for name in options.only:
            print(f"\n## {name}\n", flush=True)
            commands = BENCHES[name](
                options.bench, Path(scratch), options.nnunet_python, not options.no_peers
            )
            runs = in_turn(
                commands,
                rounds=options.rounds,
                before_each=lambda: prepare(files, Path(scratch)),
                warm_up=False,
            )
            results[name] = runs
            print("\n" + "\n".join([table(runs, reference=OURS), *ratios(runs)]), flush=True)
    write_results(options.output, "profile-dataset, whole processes, nothing cached", results)
    print(f"\nall runs: {options.output}")
    if options.update is not None:
        write_between(options.update, "profile-speed", as_markdown(options.output))
    return 0


def prepare(files: Sequence[Path], scratch: Path) -> None:
    """Forget the data, and what the run before left: removing an old journal is no part of a first run."""
    forget_cached(files)
    shutil.rmtree(scratch / "profiled", ignore_errors=True)
    (scratch / "profiled").mkdir()


def ratios(runs: Mapping[str, Sequence[Run]]) -> list[str]:
    """What the runs of one group say beside their table."""
    lines = []
    if "floor" in runs:
        lines.append(f"{OURS} / floor = {over_floor(runs):.2f}")
    if START_TWO in runs:
        lines.append(f"one worker / two, each less its time for two tiny volumes = {gain_of_two(runs):.2f}")
    return ["", *(f"{line}<br>" for line in lines[:-1]), lines[-1]] if lines else []


def as_markdown(path: Path) -> str:
    """Every group of a results file under its heading, as it is printed."""
    measured = machine_of(path)
    what = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in measured.items())
    found = read_results(path)
    parts = [f"Measured on: {what}.", aims_table(found)]
    for name in BENCHES:
        if name in found:
            says = (BENCHES[name].__doc__ or "").strip()
            runs = found[name]
            rounds = len(next(iter(runs.values())))
            parts.append(f"## {name}\n\n{says} Rounds: {rounds}.\n")
            parts[-1] += "\n" + "\n".join([table(runs, reference=OURS), *ratios(runs)])
    return "\n\n".join(parts)


if __name__ == "__main__":
    raise SystemExit(main())
