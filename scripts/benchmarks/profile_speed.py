"""profile-dataset, nnU-Net's fingerprint, MONAI's DataAnalyzer and the floor: whole processes, in turn.

    python -m voxplan.scripts.benchmarks.make_data nifti BENCH/nifti
    python -m voxplan.scripts.benchmarks.make_data em BENCH/em
    python -m voxplan.scripts.benchmarks.profile_speed BENCH -o results.json \\
        [--nnunet-python ENV/bin/python] [--rounds 3] [--only nifti gzip-hdf5 ...]

nnU-Net needs an environment of its own (it asks for packages that bring a CUDA build of torch). A peer that
is not given is left out, and the output says so.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from .timing import Command, Run, forget_cached, in_turn, median_wall, table, write_results

PEERS = Path(__file__).parent / "peers"
OURS = "voxplan"


def profile(scratch: Path, *arguments: object) -> Command:
    """profile-dataset in a fresh process, which uses no journal left from the run before."""
    program = "import sys; from voxplan.scripts.profile_dataset import main; sys.exit(main(sys.argv[1:]))"
    output = scratch / "fingerprint.json"
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
    """1.5 GB in gzip chunks: two workers share the one volume."""
    file = bench / "em" / "em_gzip.h5"
    one = profile(scratch, file, "--jobs", 1)
    return [
        floor("hdf5", file, "main", 2),
        profile(scratch, file, "--jobs", 2),
        Command(name=f"{OURS}, 1 worker", argv=one.argv),
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
    again = tuple(word for word in first.argv if word != "--fresh")
    return [replace(first, name=f"{OURS}, first run"), replace(first, argv=again)]


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
                commands, rounds=options.rounds, before_each=lambda: forget_cached(files), warm_up=False
            )
            results[name] = runs
            print("\n" + table(runs, reference=OURS))
            if "floor" in runs:
                ratio = median_wall(runs[OURS]) / median_wall(runs["floor"])
                print(f"\n{OURS} / floor = {ratio:.2f}", flush=True)
    write_results(options.output, "profile-dataset, whole processes, nothing cached", results)
    print(f"\nall runs: {options.output}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
