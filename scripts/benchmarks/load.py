"""A folder of very many tiny cases: memory of the parent and time of a run, and of a second one.

``python -m voxplan.scripts.benchmarks.load --cases 100000 --folder /tmp/load`` (about 0.5 GB of small files).
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

CHILD = """
import json, resource, sys, time
from voxplan.scripts.profile_dataset import main
began = time.perf_counter()
code = main(sys.argv[1:])
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
seconds = round(time.perf_counter() - began, 1)
print(json.dumps({"exit": code, "seconds": seconds, "parent_mib": peak // 1024}))
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Make the folder unless it is there, and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, required=True, help="where the data are made and kept")
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args(argv)
    data = arguments.folder / f"cases-{arguments.cases}"
    if not data.exists():
        write_cases(data, arguments.cases)
    output = arguments.folder / f"{data.name}.json"
    shutil.rmtree(output.with_name(f"{output.name}.journal"), ignore_errors=True)
    for turn in ("first run", "second run"):
        record = measure(data, output, arguments.jobs)
        print(turn, json.dumps(record), f"fingerprint {output.stat().st_size / 2**20:.0f} MiB", flush=True)
    return 0


def write_cases(folder: Path, cases: int) -> None:
    """NIfTI volumes of 4 x 5 x 6 voxels, all in one folder."""
    import nibabel

    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    began = time.perf_counter()
    for number in range(cases):
        voxels = rng.integers(0, 200, (6, 5, 4)).astype(np.uint8)
        (folder / f"case_{number:06d}.nii").write_bytes(nibabel.Nifti1Image(voxels, np.eye(4)).to_bytes())
    print(f"{cases} files written in {time.perf_counter() - began:.0f} s", flush=True)


def measure(data: Path, output: Path, jobs: int) -> dict[str, Any]:
    """Run the command in a process of its own."""
    command = [sys.executable, "-c", CHILD, str(data), "-o", str(output), "-q", "-j", str(jobs)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    record: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    record["workers_mib"] = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
    return record


if __name__ == "__main__":
    sys.exit(main())
