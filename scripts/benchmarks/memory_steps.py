"""The measured part of ``measure_memory.py``: one training step, for real, in the process that calls this."""

from __future__ import annotations

import ctypes
import gc
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from math import prod
from typing import Any

from .memory_grid import Case, make_request

STEADY_STEPS = 3
"""Steps after the first one, on a GPU."""
GB = 10**9
Step = Callable[[], None]


def measure(case: Case, device: str, cap: int, estimate: bool) -> dict[str, Any]:
    """Run one case in this process: what it took and, if asked for, what is estimated for it.

    Args:
        case: the step.
        device: ``cuda`` or ``cpu``.
        cap: size in GB of the card that is played; 0: the card at hand.
        estimate: trace the step as well.
    """
    import torch

    capability = torch.cuda.get_device_capability() if device == "cuda" else None
    request = make_request(case, device, capability)
    record: dict[str, Any] = {"name": case.name, "case": asdict(case), "cap": cap, "device": device}
    try:
        if device == "cuda":
            card = play_card(cap)
            if card is None:
                return {**record, "status": "skipped", "why": f"the card at hand is smaller than {cap} GB"}
            record |= {"card": card, **_run_on_gpu(case, request, card["ballast"])}
        else:
            record |= _run_on_cpu(case, request)
        record["status"] = "measured"
    except torch.OutOfMemoryError as error:
        record |= {"status": "out of memory", "why": str(error).splitlines()[0]}
    if estimate:
        record |= _predict(request)
    return record


def _predict(request: Any) -> dict[str, Any]:
    """The estimate, and what nnU-Net's own estimate counts, for the same network."""
    from voxplan.planning.memory.estimate import estimate_trace

    found = estimate_trace(request.trace(), request)
    return {
        "predicted": {
            **found.parts,
            "allocated": found.allocated,
            "first_step_allocated": found.first_step_allocated,
            "reserved": found.reserved,
            "context": found.context,
            "total": found.total,
            "peak": f"{found.peak_phase}: {found.peak_operator}",
        },
        "elements": convolution_elements(request),
    }


def convolution_elements(request: Any) -> int:
    """Elements that all convolutions write for one sample, deep supervision off: nnU-Net's stand-in."""
    from voxplan.planning.memory.step import trace_inference

    trace = trace_inference(
        lambda: request.build(deep_supervision=False, checkpointing=False),
        window=request.patch_size,
        batch_size=1,
        in_channels=request.in_channels,
        precision="fp32",
    )
    started = {block: trace.operations[operation].step for block, operation in trace.events if block >= 0}
    return sum(
        prod(convolution.output) for block, convolution in trace.convolutions.items() if not started[block]
    )


def make_step(case: Case, request: Any, device: str) -> Step:
    """The training step as training runs it, on random voxels; building it builds the network."""
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

    return step


def _run_on_cpu(case: Case, request: Any) -> dict[str, Any]:
    """Live bytes of tensors, what torch's allocator hands out, and the process: a run each."""
    step = make_step(case, request, "cpu")
    step()
    first = _resident()
    step()
    steady = _resident()
    del step
    live = _live_bytes(case, request)
    return {
        "first": {"live": live[0], "process": first},
        "steady": {"live": live[1], "allocator": _allocator_bytes(case, request), "process": steady},
    }


def _live_bytes(case: Case, request: Any) -> tuple[int, int]:
    """Peaks of the first and of the second step, by following every storage that operators make."""
    from voxplan.planning.memory.tracker import Tracker

    gc.collect()
    gc.disable()
    tracker = Tracker("cpu")
    try:
        with tracker:
            step = make_step(case, request, "cpu")
            for index in range(2):
                tracker.begin("forward", index)
                step()
    finally:
        gc.enable()
    trace = tracker.trace
    live, peaks = 0, [0, 0]
    for block, operation in trace.events:
        live += trace.sizes[block] if block >= 0 else -trace.sizes[~block]
        index = trace.operations[operation].step if operation >= 0 else 0
        peaks[index] = max(peaks[index], live)
    return peaks[0], peaks[1]


def _allocator_bytes(case: Case, request: Any) -> int:
    """Peak over two steps of what torch's CPU allocator handed out, by its own events."""
    import torch

    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        step = make_step(case, request, "cpu")
        step()
        step()
    results: Any = profile.profiler.kineto_results if profile.profiler is not None else None
    events = [event for event in results.events() if event.name() == "[memory]"] if results else []
    live = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak


def _resident() -> int:
    """Peak resident bytes of this process so far."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def play_card(cap: int) -> dict[str, int] | None:
    """Make the GPU look like one of ``cap`` GB to this process; None where it is smaller itself.

    The allocator is held to the cap, and what the smaller card would not have is taken from the driver: cuDNN
    chooses its plans by the memory that the driver calls free, which the allocator's limit does not change.
    """
    import torch

    torch.cuda.init()
    torch.empty(1, device="cuda")
    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info()
    card = {"total": total, "used_before": total - free, "ballast": 0}
    if not cap:
        return card
    limit = cap * GB - (total - free)
    if limit <= 0 or limit > free:
        return None
    torch.cuda.set_per_process_memory_fraction(limit / total)
    # By the driver, so that the allocator does not count it; its context is the one that torch has made.
    pointer = ctypes.c_uint64()
    failed = ctypes.CDLL("libcuda.so.1").cuMemAlloc_v2(ctypes.byref(pointer), ctypes.c_size_t(free - limit))
    card["ballast"] = 0 if failed else free - limit
    card["free"] = torch.cuda.mem_get_info()[0]
    return card


def _run_on_gpu(case: Case, request: Any, ballast: int) -> dict[str, Any]:
    """Peaks of the first step and of the steady state; for some cases the allocator's events."""
    import torch

    found: dict[str, Any] = {}
    recording = case.snapshot and not ballast
    if recording:
        # From before the network is built: a replay needs every allocation.
        torch.cuda.memory._record_memory_history("all", context=None, stacks="python")
    step = make_step(case, request, "cuda")
    for name, steps in (("first", 1), ("steady", STEADY_STEPS)):
        torch.cuda.reset_peak_memory_stats()
        for _ in range(steps):
            step()
        torch.cuda.synchronize()
        free, total = torch.cuda.mem_get_info()
        found[name] = {
            "allocated": torch.cuda.max_memory_allocated(),
            "reserved": torch.cuda.max_memory_reserved(),
            "device": total - free - ballast,
        }
    found["steady"]["process"] = _driver_bytes(ballast)
    if recording:
        history: Any = torch.cuda.memory._snapshot()
        torch.cuda.memory._record_memory_history(None)
        found["events"] = compact_events(history["device_traces"][0])
    return found


def compact_events(entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """An allocator's history for ``voxplan.planning.memory.allocator.replay``, without addresses.

    Args:
        entries: ``device_traces`` of one device, of ``torch.cuda.memory._snapshot()``.

    Returns:
        ``events``: the number of a block for its allocation, ``~number`` for its release; ``sizes``: the
        bytes that each asked for; ``reserved``: the peak of all segments' bytes.
    """
    numbers: dict[int, int] = {}
    events: list[int] = []
    sizes: list[int] = []
    reserved = peak = 0
    for entry in entries:
        action, size = entry["action"], entry["size"]
        if action == "alloc":
            numbers[entry["addr"]] = len(sizes)
            events.append(len(sizes))
            sizes.append(size)
        elif action == "free_completed" and entry["addr"] in numbers:
            events.append(~numbers.pop(entry["addr"]))
        elif action in ("segment_alloc", "segment_map"):
            reserved += size
            peak = max(peak, reserved)
        elif action in ("segment_free", "segment_unmap"):
            reserved -= size
    return {"events": events, "sizes": sizes, "reserved": peak}


def _driver_bytes(ballast: int) -> int | None:
    """What the driver says that this process holds on the GPU, the ballast left out."""
    command = ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"]
    try:
        text = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    rows = [line.split(",") for line in text.splitlines() if "," in line]
    mine = [int(used) for pid, used in rows if pid.strip() == str(os.getpid()) and used.strip().isdigit()]
    return mine[0] * 2**20 - ballast if mine else None
