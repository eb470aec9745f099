"""Measure real training steps beside their estimates: the harness behind every constant of the memory model.

    python scripts/benchmarks/measure_memory.py -o measured.json                # the grid on the GPU at hand
    python scripts/benchmarks/measure_memory.py -o measured.json --seconds 540  # what nine minutes allow
    python scripts/benchmarks/measure_memory.py -o measured.json --caps 0 11    # two cards instead of five
    python scripts/benchmarks/measure_memory.py -o cpu.json --device cpu        # a small grid, without a GPU

Every step runs in a process of its own. A cap of N GB stands for a card of that size (0: the card at hand).
The file is written after every step, and the same command goes on where it ended: exit status 3 says that
something is left to do. What is recorded: peaks of the first step and of the steady state, the process's use
as the driver reports it, for some cases the allocator's events (in ``<output>.events.json.gz``), and the
estimate by the same torch. On the CPU: live bytes of tensors, torch's allocator events, and the process.
"""

from __future__ import annotations

import argparse
import gzip
import json
import multiprocessing
import platform
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from voxplan.scripts.benchmarks.memory_grid import CPU_GRID, GRID, QUICK, Case
from voxplan.scripts.benchmarks.memory_steps import measure

TIMEOUT = 900
"""Seconds that one case may take."""
CAPS = (0, 11, 24, 8, 80)
"""GB; in the order of their worth where time is short."""
UNFINISHED = 3
"""Exit status when time was up before the grid was done."""
PRELOADED = ("torch", "monai.networks.nets", "voxplan.plans.training", "voxplan.planning.memory.step")


def describe_machine(device: str) -> dict[str, Any]:
    """GPU, driver, cuDNN and torch version."""
    import torch

    facts: dict[str, Any] = {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": device,
        "threads": torch.get_num_threads(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    if device == "cuda":
        driver = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        facts |= {
            "gpu": torch.cuda.get_device_name(),
            "memory": torch.cuda.get_device_properties(0).total_memory,
            "capability": list(torch.cuda.get_device_capability()),
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "driver": subprocess.run(driver, capture_output=True, text=True, check=True).stdout.strip(),
        }
    return facts


def _answer(pipe: Connection, function: Callable[..., dict[str, Any]], arguments: tuple[Any, ...]) -> None:
    try:
        pipe.send(function(*arguments))
    except BaseException:  # noqa: BLE001 - a case that fails is recorded, whatever it raised
        pipe.send({"status": "failed", "why": traceback.format_exc()[-2000:]})


def in_own_process(function: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """What the function returns in a fresh process, or why it failed.

    The process is forked from a server that has imported torch and MONAI and touched no GPU, which spares
    each case some seconds; where there is no such server, a new interpreter is started.
    """
    methods = multiprocessing.get_all_start_methods()
    context: Any = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    if "forkserver" in methods:
        context.set_forkserver_preload(list(PRELOADED))
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(theirs, function, arguments))
    process.start()
    theirs.close()
    try:
        if not ours.poll(TIMEOUT):
            return {"status": "failed", "why": f"took more than {TIMEOUT} s"}
        answer: dict[str, Any] = ours.recv()
        return answer
    except EOFError:
        process.join()
        return {"status": "failed", "why": f"the process died with exit code {process.exitcode}"}
    finally:
        process.kill()
        process.join()
        ours.close()


def _save(path: Path, document: dict[str, Any]) -> None:
    part = path.with_suffix(path.suffix + ".part")
    part.write_text(json.dumps(document, indent=1))
    part.replace(path)


def _keep_events(output: Path, name: str, events: dict[str, Any]) -> None:
    """Beside the output, since they are a thousand times its size."""
    path = output.with_suffix(".events.json.gz")
    held = json.loads(gzip.decompress(path.read_bytes())) if path.exists() else {}
    held[name] = events
    part = path.with_suffix(".part")
    part.write_bytes(gzip.compress(json.dumps(held).encode()))
    part.replace(path)


def _begin(output: Path, machine: dict[str, Any]) -> dict[str, Any] | None:
    """The document to go on with; None if the file is another machine's."""
    if not output.exists():
        return {"machine": machine, "measurements": []}
    held: dict[str, Any] = json.loads(output.read_text())
    if any(machine.get(key) != value for key, value in held["machine"].items() if key != "time"):
        return None
    held["measurements"] = [item for item in held["measurements"] if item["status"] != "failed"]
    return held


def run_grid(
    grid: Sequence[Case],
    caps: Sequence[int],
    device: str,
    output: Path,
    document: dict[str, Any],
    seconds: float,
) -> tuple[int, int]:
    """Measure what is not yet measured, the card at hand first. How many failed, and how many are left."""
    start = time.monotonic()
    done = {(item["name"], item["cap"]) for item in document["measurements"]}
    estimated = {item["name"] for item in document["measurements"] if "predicted" in item}
    waiting = [(cap, case) for cap in caps for case in grid if (case.name, cap) not in done]
    failed = 0
    for number, (cap, case) in enumerate(waiting):
        if time.monotonic() - start > seconds:
            return failed, len(waiting) - number
        began = time.monotonic()
        record = in_own_process(measure, case, device, cap, case.name not in estimated)
        record = {"name": case.name, "case": asdict(case), "cap": cap, "device": device, **record}
        record["seconds"] = round(time.monotonic() - began, 1)
        if record["status"] == "failed":
            failed += 1
        elif "predicted" in record:
            estimated.add(case.name)
        if "events" in record:
            _keep_events(output, case.name, record.pop("events"))
        document["measurements"].append(record)
        _save(output, document)
        print(_line(record), flush=True)
    return failed, 0


def _line(record: dict[str, Any]) -> str:
    cap = f" at {record['cap']} GB" if record["cap"] else ""
    if record["status"] != "measured":
        return f"{record['name']}{cap}: {record['status']}: {record.get('why', '').strip().splitlines()[-1:]}"
    steady, predicted = record["steady"], record.get("predicted", {})
    pairs = [
        f"{measured} {steady[measured] / 2**30:.3f} GiB"
        + (f" (predicted {predicted[ours] / 2**30:.3f})" if ours in predicted else "")
        for measured, ours in (
            ("live", "allocated"),
            ("allocated", "allocated"),
            ("reserved", "reserved"),
            ("process", "total"),
        )
        if steady.get(measured)
    ]
    return f"{record['name']}{cap}: {', '.join(pairs)}, {record['seconds']} s"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure the grid; 1 if a case failed, 2 for another machine's file, 3 if time was up."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--output", type=Path, required=True, help="JSON file; continued if it exists")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="two small cases instead of the grid")
    parser.add_argument(
        "--caps", type=int, nargs="+", default=None, help="card sizes in GB; 0: the card at hand"
    )
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument(
        "--seconds", type=float, default=float("inf"), help="begin no further case after so long"
    )
    options = parser.parse_args(argv)
    machine = in_own_process(describe_machine, options.device)
    if "why" in machine:
        print(machine["why"], file=sys.stderr)
        return 1
    document = _begin(options.output, machine)
    if document is None:
        print(
            f"{options.output} was measured on another machine or torch: name another file", file=sys.stderr
        )
        return 2
    cpu = options.device == "cpu"
    grid = [
        case for case in (QUICK if options.quick else CPU_GRID if cpu else GRID) if options.only in case.name
    ]
    caps = options.caps or ([0] if cpu else list(CAPS))
    failed, left = run_grid(grid, caps, options.device, options.output, document, options.seconds)
    if left:
        print(f"{left} left: the same command goes on with them")
    return 1 if failed else UNFINISHED if left else 0


if __name__ == "__main__":
    sys.exit(main())
