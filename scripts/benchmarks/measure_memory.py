"""Measure real training steps beside their estimates: the harness behind every constant of the memory model.

    python scripts/benchmarks/measure_memory.py -o measured.json             # the grid on the GPU at hand
    python scripts/benchmarks/measure_memory.py -o measured.json --caps 0 8 11 24 80
    python scripts/benchmarks/measure_memory.py --device cpu --quick -o quick.json

Every step runs in a process of its own. A cap of N GB stands for a card of that size (``0``: the whole card),
by ``torch.cuda.set_per_process_memory_fraction``. The file is written after every step, and a second run goes
on where the first one ended. What a case records: peaks of the first step and of the steady state, the
process's use as the driver reports it, for some the allocator's events, and the estimate of the same torch
version.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

STEADY_STEPS = 3
"""Steps after the first one."""
TIMEOUT = 900
"""Seconds that one case may take."""
GB = 10**9
CAPS = (0, 8, 11, 24, 80)


@dataclass(frozen=True)
class Case:
    """One training step to measure."""

    architecture: str
    """Registered name, or ``dynunet`` (MONAI's, heads stacked)."""
    patch: tuple[int, ...]
    batch: int
    precision: str = "fp16"
    checkpointing: bool = False
    classes: int = 2
    benchmark: bool = False
    optimizer: str = "adamw"
    snapshot: bool = False

    @property
    def name(self) -> str:
        """Unique in the grid."""
        flags = [
            "x".join(map(str, self.patch)),
            f"b{self.batch}",
            self.precision,
            *(["checkpointing"] if self.checkpointing else []),
            *([f"{self.classes}classes"] if self.classes != 2 else []),
            *(["benchmark"] if self.benchmark else []),
            *([self.optimizer] if self.optimizer != "adamw" else []),
        ]
        return "/".join([self.architecture, *flags])


def _cube(edge: int) -> tuple[int, int, int]:
    return (edge, edge, edge)


GRID: tuple[Case, ...] = (
    *(Case("mednext_s", _cube(edge), 2) for edge in (32, 64, 96)),
    Case("mednext_s", _cube(128), 2, snapshot=True),
    Case("mednext_s", _cube(128), 1, benchmark=True),
    Case("mednext_s", _cube(64), 8, precision="bf16"),
    Case("mednext_s", _cube(64), 2, precision="fp32"),
    Case("mednext_s", _cube(128), 2, checkpointing=True),
    Case("mednext_s", (32, 160, 160), 4),
    Case("mednext_s", (512, 512), 8),
    Case("mednext_s_k5", _cube(96), 2),
    Case("mednext_b", _cube(96), 2),
    Case("mednext_b", _cube(128), 1, precision="bf16"),
    Case("mednext_b_k5", _cube(64), 2),
    Case("mednext_m", _cube(96), 1),
    Case("mednext_m", _cube(128), 1, checkpointing=True),
    Case("mednext_m_k5", _cube(64), 1),
    Case("mednext_l", _cube(96), 1),
    Case("mednext_l", _cube(128), 1, checkpointing=True),
    Case("mednext_l_k5", _cube(64), 1, checkpointing=True),
    *(Case("basic_unet", _cube(edge), 2) for edge in (32, 64, 96)),
    Case("basic_unet", _cube(128), 2, snapshot=True),
    Case("basic_unet", _cube(128), 2, benchmark=True),
    Case("basic_unet", _cube(96), 2, precision="fp32"),
    Case("basic_unet", (512, 512), 8),
    Case("monai_unet", _cube(64), 4),
    Case("monai_unet", _cube(128), 2),
    Case("monai_unet", _cube(128), 2, benchmark=True),
    Case("monai_unet", (32, 128, 128), 8, precision="bf16"),
    Case("monai_unet", _cube(192), 1, precision="fp32"),
    Case("dynunet", _cube(96), 2),
    Case("dynunet", _cube(96), 2, benchmark=True),
    Case("dynunet", _cube(64), 1, classes=105),
    Case("unet", _cube(96), 2, optimizer="sgd"),
    Case("unet", _cube(128), 2, optimizer="sgd", snapshot=True),
    Case("unet", _cube(128), 2, optimizer="sgd", benchmark=True),
    Case("unet", _cube(128), 2, classes=105, optimizer="sgd"),
    Case("unet", _cube(160), 1, precision="fp32", optimizer="sgd"),
    Case("unet", (40, 192, 160), 2, precision="bf16"),
    Case("unet", (512, 512), 8, optimizer="sgd"),
    Case("resenc_unet", _cube(64), 8),
    Case("resenc_unet", _cube(128), 2, optimizer="sgd", snapshot=True),
    Case("resenc_unet", _cube(128), 2, optimizer="sgd", benchmark=True),
    Case("resenc_unet", _cube(192), 1, precision="bf16"),
    Case("resenc_unet", _cube(192), 1, checkpointing=True),
    Case("resenc_unet", _cube(96), 2, classes=105),
)
QUICK: tuple[Case, ...] = (
    Case("basic_unet", _cube(32), 1, precision="fp32"),
    Case("mednext_s", _cube(32), 1, precision="fp32", checkpointing=True),
)


def build_dynunet(dimensions: int, classes: int) -> nn.Module:
    """MONAI's DynUNet with two deep-supervision heads, stacked on dimension 1."""
    from monai.networks.nets.dynunet import DynUNet

    strides = [1, 2, 2, 2, 2]
    return DynUNet(
        dimensions, 1, classes, [3] * 5, strides, strides[1:], deep_supervision=True, deep_supr_num=2
    )


def make_request(case: Case, device: str, capability: tuple[int, int] | None) -> Any:
    """The case as the memory model knows it."""
    from voxplan.planning.memory.request import make_request as request

    def dynunet() -> nn.Module:
        return build_dynunet(len(case.patch), case.classes)

    return request(
        dynunet if case.architecture == "dynunet" else case.architecture,
        patch_size=case.patch,
        batch_size=case.batch,
        out_channels=case.classes,
        precision=case.precision,  # type: ignore[arg-type]
        optimizer=case.optimizer,
        checkpointing=case.checkpointing,
        device=device,
        compute_capability=capability,
        cudnn_benchmark=case.benchmark,
    )


def run_steps(case: Case, request: Any, device: str) -> dict[str, Any]:
    """Train for real: a first step, then the steady state; what each one took."""
    import torch

    from voxplan.planning.memory.step import make_optimizer, make_target, outputs_of
    from voxplan.plans.training import training_step

    torch.backends.cudnn.benchmark = case.benchmark
    with torch.device(device):
        network = request.build()
    network.train()
    optimizer = make_optimizer(request.optimizer, list(network.parameters()), request.implementation)
    scaler = torch.amp.GradScaler(device) if case.precision == "fp16" else None
    settings = request.settings()

    def loss(result: Any, target: torch.Tensor) -> torch.Tensor:
        outputs = outputs_of(result, len(case.patch))
        value: torch.Tensor = request.make_loss(len(outputs))(
            outputs if len(outputs) > 1 else outputs[0], target
        )
        return value

    def step() -> None:
        training_step(
            network,
            loss,  # type: ignore[arg-type]
            optimizer,
            torch.randn(case.batch, 1, *case.patch, device=device),
            make_target(settings, device),
            precision=request.precision,
            scaler=scaler,
        )

    if device == "cpu":
        step()
        first = _resident()
        for _ in range(STEADY_STEPS):
            step()
        return {"first": {"process": first}, "steady": {"process": _resident()}}
    return _run_on_gpu(case, step)


def _resident() -> int:
    """Peak resident bytes of this process so far."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _run_on_gpu(case: Case, step: Any) -> dict[str, Any]:
    import torch

    found: dict[str, Any] = {}
    if case.snapshot:
        torch.cuda.memory._record_memory_history(context=None, stacks="python")
    for name, steps in (("first", 1), ("steady", STEADY_STEPS)):
        torch.cuda.reset_peak_memory_stats()
        for _ in range(steps):
            step()
        torch.cuda.synchronize()
        found[name] = {
            "allocated": torch.cuda.max_memory_allocated(),
            "reserved": torch.cuda.max_memory_reserved(),
            "process": _driver_bytes(),
        }
    if case.snapshot:
        traces = torch.cuda.memory._snapshot().get("device_traces", [[]])[0]
        found["events"] = [(item["action"], item["size"], item.get("addr")) for item in traces]
    return found


def _driver_bytes() -> int | None:
    """What the driver says that this process holds on the GPU."""
    command = ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"]
    try:
        text = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    rows = [line.split(",") for line in text.splitlines() if "," in line]
    mine = [int(used) for pid, used in rows if pid.strip() == str(os.getpid()) and used.strip().isdigit()]
    return mine[0] * 2**20 if mine else None


def measure(case: Case, device: str, cap: int) -> dict[str, Any]:
    """Run one case in this process; what it took, and what was estimated."""
    import torch

    from voxplan.planning.memory.estimate import estimate_trace

    capability = torch.cuda.get_device_capability() if device == "cuda" else None
    request = make_request(case, device, capability)
    record: dict[str, Any] = {"name": case.name, "case": asdict(case), "cap": cap, "device": device}
    try:
        if device == "cuda" and cap:
            whole = torch.cuda.get_device_properties(0).total_memory
            if cap * GB > whole:
                return {**record, "status": "skipped", "why": f"the card has only {whole} bytes"}
            torch.cuda.set_per_process_memory_fraction(cap * GB / whole)
        record |= run_steps(case, request, device)
        record["status"] = "measured"
    except torch.OutOfMemoryError as error:
        record |= {"status": "out of memory", "why": str(error).splitlines()[0]}
    estimate = estimate_trace(request.trace(), request)
    record["predicted"] = {
        **estimate.parts,
        "allocated": estimate.allocated,
        "first_step_allocated": estimate.first_step_allocated,
        "reserved": estimate.reserved,
        "context": estimate.context,
        "total": estimate.total,
    }
    return record


def describe_machine(device: str) -> dict[str, Any]:
    """GPU, driver, cuDNN and torch version."""
    import torch

    facts: dict[str, Any] = {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": device,
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


def _in_own_process(case: Case, device: str, cap: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder, "answer.json")
        job = json.dumps({"case": asdict(case), "device": device, "cap": cap})
        command = [sys.executable, __file__, "--job", job, "-o", str(answer)]
        failure = {"name": case.name, "case": asdict(case), "cap": cap, "device": device, "status": "failed"}
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
        except subprocess.TimeoutExpired:
            return {**failure, "why": f"took more than {TIMEOUT} s"}
        if done.returncode or not answer.exists():
            return {**failure, "why": done.stderr[-2000:] or f"exit {done.returncode}"}
        record: dict[str, Any] = json.loads(answer.read_text())
        return record


def _save(path: Path, document: dict[str, Any]) -> None:
    part = path.with_suffix(path.suffix + ".part")
    part.write_text(json.dumps(document, indent=1))
    part.replace(path)


def _run_job(text: str, output: Path) -> int:
    job = json.loads(text)
    case = Case(**{**job["case"], "patch": tuple(job["case"]["patch"])})
    output.write_text(json.dumps(measure(case, job["device"], job["cap"])))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Measure the grid; exit 1 if a case failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("-o", "--output", type=Path, required=True, help="JSON file; continued if it exists")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="two small cases instead of the grid")
    parser.add_argument(
        "--caps", type=int, nargs="+", default=None, help="card sizes in GB; 0: the whole card"
    )
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.job:
        return _run_job(options.job, options.output)
    document: dict[str, Any] = {"machine": describe_machine(options.device), "measurements": []}
    if options.output.exists():
        held = json.loads(options.output.read_text())
        same = {key: value for key, value in held["machine"].items() if key != "time"}
        if any(document["machine"].get(key) != value for key, value in same.items()):
            print(
                f"{options.output} was measured on another machine or torch: name another file",
                file=sys.stderr,
            )
            return 2
        document = held
    done = {(item["name"], item["cap"]) for item in document["measurements"] if item["status"] != "failed"}
    document["measurements"] = [item for item in document["measurements"] if item["status"] != "failed"]
    caps = options.caps or ([0] if options.device == "cpu" else list(CAPS))
    failed = 0
    for case in QUICK if options.quick else GRID:
        for cap in caps:
            if options.only not in case.name or (case.name, cap) in done:
                continue
            record = _in_own_process(case, options.device, cap)
            failed += record["status"] == "failed"
            document["measurements"].append(record)
            _save(options.output, document)
            print(_line(record), flush=True)
    return 1 if failed else 0


def _line(record: dict[str, Any]) -> str:
    cap = f" at {record['cap']} GB" if record["cap"] else ""
    if record["status"] != "measured":
        return f"{record['name']}{cap}: {record['status']}: {record.get('why', '').strip().splitlines()[-1:]}"
    steady, predicted = record["steady"], record["predicted"]
    pairs = [
        f"{ours} {steady[theirs] / 2**30:.2f} GiB, predicted {predicted[ours] / 2**30:.2f}"
        for ours, theirs in (("allocated", "allocated"), ("reserved", "reserved"), ("total", "process"))
        if steady.get(theirs)
    ]
    return f"{record['name']}{cap}: {'; '.join(pairs)}"


if __name__ == "__main__":
    sys.exit(main())
