"""A plan made for a small CPU budget, trained and tested on a real serial-section TEM volume.

    python -m voxplan.scripts.benchmarks.em_proof VOLUMES/em_vnc -o proof --seed 0
    python -m voxplan.scripts.benchmarks.em_proof --from-json proof*/result.json --update docs/training.md

``VOLUMES/em_vnc`` holds ``slices/`` (20 TIFF sections, 1024 x 1024, uint8) and ``labels.tif`` (0 rest,
1 membrane, 2 mitochondria): the Drosophila larva ventral nerve cord of Gerhard et al., figshare 856713.
Sections 0 to 15 are profiled, planned for and trained on; sections 16 to 19 are seen only by the test. Every
step is a command of the tool, and CPU seconds of all of them are counted, the test's too. ``--seed`` is that
of weights and patches. Results are kept in ``scripts/benchmarks/results/``.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SPACING = ("45", "4.6", "4.6")
"""ZYX in nm; the files state none (figshare 856713)."""
TRAINING_SECTIONS = 16
MITOCHONDRIA = 2
"""Label value."""
PROGRAMS = {
    "profile-dataset": "profile_dataset",
    "plan-experiment": "plan_experiment",
    "train-from-plans": "train_from_plans",
}
HARDWARE = ("--cpu", "--cores", "1", "--ram", "4")
"""The small CPU budget."""
SETTINGS = ("base_features=16", "epochs=2", "steps_per_epoch=400")
"""What is set instead of the planner: half of nnU-Net's channels, and a schedule of minutes, not of days."""
BEGIN, END = "<!-- em-proof: begin -->", "<!-- em-proof: end -->"


def write_parts(source: Path, folder: Path) -> None:
    """Two data folders, ``train`` and ``test``, each with one volume and its label map as TIFF."""
    import numpy as np
    import tifffile

    sections = sorted((source / "slices").glob("*.tif"))
    image = np.stack([tifffile.imread(path) for path in sections])
    labels = tifffile.imread(source / "labels.tif")
    if image.shape != labels.shape:
        msg = f"{source}: {len(sections)} sections of shape {image.shape[1:]}, but labels {labels.shape}"
        raise ValueError(msg)
    for part, chosen in (("train", slice(0, TRAINING_SECTIONS)), ("test", slice(TRAINING_SECTIONS, None))):
        for name, volume in (("images", image), ("labels", labels)):
            path = folder / part / name / "vnc.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(path, volume[chosen], photometric="minisblack")


def commands(settings: Sequence[str], steps: int, seed: int) -> list[list[str]]:
    """The proof as it is typed, in the folder with ``train``."""
    spacing = ["--spacing", *SPACING, "--unit", "nm"]
    chosen = [word for setting in settings for word in ("--set", setting)]
    plan = [
        "plan-experiment",
        "fingerprint.json",
        *HARDWARE,
        "--architecture",
        "unet",
        "--configuration",
        "2d",
    ]
    train = ["train-from-plans", "plans.json", "--data", "train", *spacing, "--fold", "all"]
    return [
        ["profile-dataset", "train", *spacing, "-o", "fingerprint.json"],
        [*plan, *chosen, "-o", "plans.json"],
        [*train, "--device", "cpu", "--steps", str(steps), "--seed", str(seed), "-o", "trained"],
    ]


def run(command: Sequence[str], folder: Path) -> dict[str, float]:
    """One command in a process of its own, on one thread; its CPU and wall seconds."""
    module = f"voxplan.scripts.{PROGRAMS[command[0]]}"
    program = f"import sys; from {module} import main; sys.exit(main(sys.argv[1:]))"
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    print(f"$ {shlex.join(command)}", flush=True)
    subprocess.run(
        [sys.executable, "-c", program, *command[1:]],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"cpu": cpu, "wall": time.perf_counter() - started}


def test(folder: Path) -> dict[str, Any]:
    """Dice of the checkpoint on the held-back sections, and of constant guesses."""
    import tifffile
    import torch

    from voxplan.plans.checkpoint import load_network
    from voxplan.plans.data import make_dataset
    from voxplan.plans.inference import validate
    from voxplan.profiling.formats.base import ReadOptions
    from voxplan.profiling.layouts import discover

    torch.set_num_threads(1)
    before, started = time.process_time(), time.perf_counter()
    network, plan = load_network(folder / "trained" / "checkpoint.pt")
    z, y, x = map(float, SPACING)
    held_out = make_dataset(
        plan,
        discover(folder / "test").cases,
        training=False,
        fold="all",
        read=ReadOptions(spacing=(z, y, x), unit="nm"),
    )
    result = validate(network, plan, held_out, device=torch.device("cpu"))
    share = float((tifffile.imread(folder / "test" / "labels" / "vnc.tif") == MITOCHONDRIA).mean())
    names = {value: name for name, values in plan.dataset.classes.items() for value in values}
    return {
        "dice": {names[MITOCHONDRIA]: result.dice[names[MITOCHONDRIA]], **result.dice},
        "mitochondria": result.dice[names[MITOCHONDRIA]],
        # All voxels guessed: 2 share / (1 + share). None guessed: 0.
        "constant": 2 * share / (1 + share),
        "seconds": {"cpu": time.process_time() - before, "wall": time.perf_counter() - started},
        "plan": {
            "name": plan.name,
            "patch": plan.patch_size,
            "batch": plan.batch_size,
            "features": plan.architecture.arguments["features"],
        },
    }


def report(results: Sequence[dict[str, Any]]) -> str:
    """Markdown for the documentation: the commands of the first run, and a row for each."""
    first = results[0]
    plan = first["test"]["plan"]
    typed = "\n".join(f"$ {shlex.join(words)}" for words in first["commands"])
    names = [words[0] for words in first["commands"]]
    rows = []
    for result in results:
        tested = result["test"]
        seconds = [f"{part['cpu']:.0f}" for part in (*result["seconds"], tested["seconds"])]
        cells = [
            str(result["steps"]),
            str(result["seed"]),
            f"**{tested['mitochondria']:.3f}**",
            *seconds,
            f"**{result['cpu']:.0f}**",
        ]
        rows.append(f"| {' | '.join(cells)} |")
    patch = "x".join(map(str, plan["patch"]))
    return "\n".join(
        [
            "<!-- not run: trains for a quarter of an hour on the real volume -->",
            f"```console\n{typed}\n```",
            "",
            f"`{plan['name']}`: patch {patch}, batch {plan['batch']}, channels {plan['features']}. "
            "Mitochondria on the four sections that nothing but the test saw; the best constant guess has a "
            f"Dice of {first['test']['constant']:.3f}. CPU seconds, one thread:",
            "",
            f"| steps | seed | Dice | {' | '.join(names)} | test | all |",
            "|---|---|---|" + "---|" * (len(names) + 2),
            *rows,
        ]
    )


def update(path: Path, text: str) -> None:
    """Put the report between the marks of a page."""
    page = path.read_text(encoding="utf-8")
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        msg = f"{path}: has no marks {BEGIN} and {END}"
        raise ValueError(msg)
    path.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the proof; 0 where it holds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", nargs="?", type=Path, help="em_vnc, with slices/ and labels.tif")
    parser.add_argument("-o", "--output", type=Path, help="folder for everything")
    parser.add_argument("--seed", type=int, default=0, help="of weights and patches (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=800, help="optimizer steps (default: %(default)s)")
    parser.add_argument("--set", action="append", metavar="KEY=VALUE", help=f"instead of {SETTINGS}")
    parser.add_argument("--update", type=Path, metavar="PAGE", help="write the results into this page")
    parser.add_argument(
        "--from-json", nargs="+", type=Path, metavar="FILE", help="only report what result.json files hold"
    )
    arguments = parser.parse_args(argv)
    if arguments.from_json:
        results = [json.loads(path.read_text(encoding="utf-8")) for path in arguments.from_json]
    elif arguments.source is None or arguments.output is None:
        parser.error("give the volume and -o, or --from-json")
    else:
        write_parts(arguments.source, arguments.output)
        typed = commands(arguments.set or SETTINGS, arguments.steps, arguments.seed)
        seconds = [run(command, arguments.output) for command in typed]
        tested = test(arguments.output)
        total = sum(part["cpu"] for part in (*seconds, tested["seconds"]))
        result = {
            "commands": typed,
            "seed": arguments.seed,
            "steps": arguments.steps,
            "seconds": seconds,
            "test": tested,
            "cpu": total,
        }
        path = arguments.output / "result.json"
        path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        results = [result]
    text = report(results)
    print(text)
    if arguments.update is not None:
        update(arguments.update, text)
    return 0 if all(r["test"]["mitochondria"] > 0.4 and r["cpu"] < 20 * 60 for r in results) else 1


if __name__ == "__main__":
    raise SystemExit(main())
