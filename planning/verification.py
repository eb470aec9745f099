"""Running a planned step on the GPU at hand: measured bytes beside the predicted ones."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

from voxplan.plans.schema import IGNORE_BINARY, DatasetPlan, ExperimentPlan, PlansDocument

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from voxplan.plans.build import Plan

STEPS = 3
"""The first has no optimizer state yet; the third is past all first-time allocations."""


class NoGpuError(RuntimeError):
    """There is no CUDA GPU to verify on."""


def verify_document(document: PlansDocument) -> PlansDocument:
    """The document with ``memory.measured`` filled in for every plan.

    Each plan's step runs under ``set_per_process_memory_fraction`` at its budget, so that cuDNN chooses as it
    would on a card of that size. A step that runs out of memory is recorded as such.

    Raises:
        NoGpuError: torch sees no CUDA GPU.
    """
    import torch

    if not torch.cuda.is_available():
        msg = "--verify runs the planned steps on a CUDA GPU, and torch sees none on this machine"
        raise NoGpuError(msg)
    plans = {}
    for name, plan in document.plans.items():
        measured = measure_plan(name, plan, document.dataset)
        memory = plan.memory.model_copy(update={"measured": measured})
        plans[name] = plan.model_copy(update={"memory": memory})
    return document.model_copy(update={"plans": plans})


def measure_plan(name: str, experiment: ExperimentPlan, dataset: DatasetPlan) -> dict[str, int]:
    """Peak bytes of the planned step on the current CUDA device; ``out_of_memory`` is 1 where it failed."""
    import torch

    from voxplan.plans.build import Plan

    plan = Plan(name, experiment, dataset)
    device = torch.device("cuda", torch.cuda.current_device())
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction(
        min(1.0, max(1, experiment.memory.budget - experiment.memory.context) / total), device
    )
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    failed = 0
    try:
        run_steps(plan, device, STEPS)
    except torch.cuda.OutOfMemoryError:
        failed = 1
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
    measured = {
        "allocated": torch.cuda.max_memory_allocated(device),
        "reserved": torch.cuda.max_memory_reserved(device),
        "out_of_memory": failed,
    }
    gc.collect()
    torch.cuda.empty_cache()
    return measured


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
