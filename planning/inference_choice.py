"""How a trained network is slid over volumes: window, overlap, windows at once. Sizes are ZYX."""

from __future__ import annotations

from voxplan.plans.schema import InferenceChoice

from .decisions import Decisions
from .fitting import Choice
from .overrides import PlanOverrides
from .traced_memory import TracedMemory

INFERENCE_BATCH = 4
"""Windows at once at most; more does not speed up a GPU that a training batch already fills."""
OVERLAP = 0.5
"""Of the window, as nnU-Net predicts (``tile_step_size``)."""
GIB = 1024**3


def choose_inference(
    choice: Choice, memory: TracedMemory, overrides: PlanOverrides, decisions: Decisions
) -> tuple[InferenceChoice, list[str]]:
    """The sliding window, and warnings: what the user demands is planned even where it does not fit.

    Fewer windows at once are taken where the budget asks for it, unless the user has set their number.

    Raises:
        ValueError: a window that the architecture cannot run on.
    """
    candidate = choice.candidate
    window = candidate.patch if overrides.inference_window is None else overrides.inference_window
    for field in ("inference_window", "inference_batch_size", "inference_overlap"):
        value = getattr(overrides, field)
        if value is not None:
            decisions.user(field, value)
    if overrides.inference_window is not None:
        memory.architecture.validate(
            candidate.arguments, dimensions=memory.dimensions, patch_size=overrides.inference_window
        )
    of_window = "the patch as window" if overrides.inference_window is None else "the user's window"
    overlapping = (
        "half overlapping, as nnU-Net predicts"
        if overrides.inference_overlap is None
        else "the user's overlap"
    )
    decisions.add("inference", "rule", f"{of_window}, {overlapping}")
    first = overrides.inference_batch_size or min(INFERENCE_BATCH, choice.batch_size)
    batch_size, needed = first, memory.inference(candidate, window, first)
    while needed > memory.budget.bytes and batch_size > 1 and overrides.inference_batch_size is None:
        batch_size //= 2
        needed = memory.inference(candidate, window, batch_size)
    if batch_size < first:
        why = f"{first} windows of {window} at once exceed the budget"
        decisions.add("inference_batch_size", "hardware", why)
    inference = InferenceChoice(
        window=window,
        overlap=OVERLAP if overrides.inference_overlap is None else overrides.inference_overlap,
        batch_size=batch_size,
        memory=needed,
    )
    if needed <= memory.budget.bytes:
        return inference, []
    excess = (
        f"DOES NOT FIT: inference with inference_window={','.join(map(str, window))} and "
        f"inference_batch_size={batch_size} needs {needed / GIB:.1f} GiB; the budget is "
        f"{memory.budget.bytes / GIB:.1f} GiB"
    )
    return inference, [excess]
