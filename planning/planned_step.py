"""A plan's training steps on random data, under the plan's budget: what ``--verify`` measures.

:func:`measure_step` runs in a process of its own (:mod:`.step_runner`), which it may leave unusable: the
budget is a limit of the whole process on the CPU, and a fraction of the card's memory on a GPU.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxplan.plans.schema import IGNORE_BINARY, DatasetPlan, ExperimentPlan

from . import nvidia_smi

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from voxplan.plans.build import Plan

STEPS = 3
"""The first has no optimizer state yet; the third is past all first-time allocations."""
OUT_OF_MEMORY_WORDS = (
    "can't allocate memory",
    "out of memory",
    "bad_alloc",
    "could not create a",  # a memory, a primitive
    "ALLOC_FAILED",
    "Cannot allocate memory",
)
"""How torch, oneDNN, cuDNN and cuBLAS say it where they raise a plain RuntimeError."""
REASON_LENGTH = 200
"""Characters of a reason that are kept."""
WARM_EDGE = 8
"""Voxels of the convolution that loads what every step needs, before the limit is set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOutcome:
    """What became of a planned step; bytes."""

    ran: bool
    allocated: int = 0
    """Peak of the tensors; on the CPU, what the process grew by."""
    reserved: int = 0
    """Peak that the caching allocator held; on the CPU as ``allocated``."""
    process: int | None = None
    """Peak of the whole process: as the driver shows it, on the CPU the resident set; None where unknown."""
    reason: str = ""
    """Why it did not run."""


def measure_step(experiment: dict[str, Any], dataset: dict[str, Any], kind: str) -> StepOutcome:
    """Run the steps of a plan within its budget, on ``cuda`` or ``cpu``.

    Raises:
        RuntimeError: the step failed for another reason than memory.
    """
    from voxplan.plans.build import Plan

    plan = Plan("verified", ExperimentPlan.model_validate(experiment), DatasetPlan.model_validate(dataset))
    return _on_cuda(plan) if kind == "cuda" else _on_cpu(plan)


def _on_cuda(plan: Plan) -> StepOutcome:
    import torch

    index = _tightest_card(torch)
    device = torch.device("cuda", index)
    total = torch.cuda.get_device_properties(device).total_memory
    allowed = max(1, plan.memory.budget - plan.memory.context)
    torch.cuda.set_per_process_memory_fraction(min(1.0, allowed / total), device)
    torch.cuda.reset_peak_memory_stats(device)
    reason = _run(plan, device)
    return StepOutcome(
        ran=not reason,
        allocated=torch.cuda.max_memory_allocated(device),
        reserved=torch.cuda.max_memory_reserved(device),
        process=nvidia_smi.process_memory(os.getpid()),
        reason=reason,
    )


def _tightest_card(torch: Any) -> int:
    """The card that plans are made for: the one with the least free memory."""
    free = [torch.cuda.mem_get_info(index)[0] for index in range(torch.cuda.device_count())]
    return free.index(min(free))


def _on_cpu(plan: Plan) -> StepOutcome:
    import torch

    device = torch.device("cpu")
    _warm_up(plan, torch)
    before = _status("VmRSS")
    _limit_growth(plan.memory.budget - plan.memory.context)
    _forget_peak()
    reason = _run(plan, device)
    peak = _status("VmHWM")
    if before is None or peak is None:
        return StepOutcome(ran=not reason, reason=reason)
    grown = max(0, peak - before)
    return StepOutcome(ran=not reason, allocated=grown, reserved=grown, process=peak, reason=reason)


def _run(plan: Plan, device: torch.device) -> str:
    """Why the steps ran out of memory; empty where they did not."""
    try:
        run_steps(plan, device, STEPS)
    except MemoryError:
        return "out of memory"
    except RuntimeError as error:
        text = str(error)
        if any(words in text for words in OUT_OF_MEMORY_WORDS):
            return text.partition("\n")[0].rpartition("DefaultCPUAllocator: ")[2][:REASON_LENGTH]
        raise
    return ""


def _warm_up(plan: Plan, torch: Any) -> None:
    """Load what the step needs, and start the threads, whose stacks count as well."""
    from voxplan.plans import inference, training  # noqa: F401 - imported before the limit is set

    plan.build_network("meta")
    plan.build_loss()
    convolution = torch.nn.Conv3d(2, 2, 3)
    optimizer = torch.optim.AdamW(convolution.parameters())
    convolution(torch.zeros(1, 2, WARM_EDGE, WARM_EDGE, WARM_EDGE)).sum().backward()
    optimizer.step()


def _status(name: str) -> int | None:
    """Bytes of a field of this process's ``/proc/self/status``; None where there is none."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
    return int(found[0]) * 1024 if found else None


def _limit_growth(growth: int) -> None:
    """Let the process take so many bytes more (Linux counts private writable memory, ``RLIMIT_DATA``)."""
    held = _status("VmData")
    if sys.platform != "linux" or held is None:
        return
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = held + max(0, growth)
    resource.setrlimit(resource.RLIMIT_DATA, (limit if hard < 0 else min(limit, hard), hard))


def _forget_peak() -> None:
    """Start the peak of the resident set anew (Linux, ``proc(5)``: 5 to ``clear_refs``)."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return


def run_steps(plan: Plan, device: torch.device, steps: int) -> list[float]:
    """Whole training steps on random data, as training runs them; the losses."""
    from voxplan.plans.inference import effective_precision
    from voxplan.plans.training import prepare_training, training_step

    state = prepare_training(plan, device)
    loss_function = plan.build_loss().to(device)
    losses = []
    for seed in range(steps):
        image, target = random_batch(plan, device, seed)
        loss = training_step(
            state.network,
            loss_function,
            state.optimizer,
            image,
            target,
            precision=effective_precision(plan.precision, device),
            scaler=state.scaler,
        )
        losses.append(float(loss))
    return losses


def random_batch(plan: Plan, device: torch.device, seed: int) -> tuple[Tensor, Tensor]:
    """Noise of the plan's shapes: image (B, C, *patch), target as the task's loss takes it."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    shape = (plan.batch_size, plan.dataset.in_channels, *plan.patch_size)
    image = torch.randn(shape, generator=generator)
    if plan.loss.name == "dice_ce":
        shape = (plan.batch_size, 1, *plan.patch_size)
        target = torch.randint(plan.dataset.out_channels, shape, generator=generator, dtype=torch.int16)
    else:
        shape = (plan.batch_size, plan.dataset.out_channels, *plan.patch_size)
        target = torch.randint(2, shape, generator=generator, dtype=torch.uint8)
        target[..., :1] = IGNORE_BINARY
    return image.to(device), target.to(device)
