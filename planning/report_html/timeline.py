"""Memory over one training step, by part: the traced step that the plan's prediction stands on."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from voxplan.plans.schema import ExperimentPlan, PlansDocument

from ..hardware import budget

if TYPE_CHECKING:
    from ..memory.request import Request

COLUMNS = 480
"""Places along the drawing; each shows the moment of most memory among the events that fall on it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseSpan:
    """Where a phase of the step lies, in columns."""

    name: str
    start: int
    stop: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """Bytes held, column after column, in the order of the operators (not in seconds)."""

    parts: dict[str, NDArray[np.int64]]
    """By part, as in the plan's memory."""
    reserved: NDArray[np.int64]
    """By the caching allocator; on the CPU what is allocated."""
    context: int
    phases: tuple[PhaseSpan, ...]
    peak: int
    """Column of the largest total."""
    peak_operator: str
    peak_phase: str
    total: int
    """Peak of the process, as the plan predicts it."""


def trace_timeline(document: PlansDocument, plan: ExperimentPlan) -> Timeline:
    """Trace the planned step on meta tensors (some seconds; nothing is allocated)."""
    from ..memory.allocator import replay
    from ..memory.estimate import fill_workspaces, plain_replay
    from ..memory.events import KINDS
    from ..memory.workspace import process_base

    request = _request(document, plan)
    trace = request.trace()
    events, sizes, _ = fill_workspaces(trace, request)
    if request.device == "cpu":
        result, context = plain_replay(events, sizes), process_base()
    else:
        result = replay(events, sizes, expandable_segments=request.expandable_segments)
        context = request.device_model().context()
    kinds = [*trace.kinds, *["workspace"] * (len(sizes) - len(trace.kinds))]
    changes = {kind: np.zeros(len(events), np.int64) for kind in KINDS}
    for place, (block, _) in enumerate(events):
        held, sign = (block, 1) if block >= 0 else (~block, -1)
        changes[kinds[held]][place] = sign * result.served[held]  # type: ignore[index]
    second = [n for n, (_, at) in enumerate(events) if at >= 0 and trace.operations[at].step == 1]
    allocated, reserved = np.array(result.allocated), np.array(result.reserved)
    columns = _highest(allocated, second)
    operations = [trace.operations[events[place][1]] for place in columns]
    peak = int(np.argmax(allocated[columns]))
    return Timeline(
        parts={kind: np.cumsum(change)[columns] for kind, change in changes.items()},
        reserved=reserved[columns],
        context=context,
        phases=_spans([operation.phase for operation in operations]),
        peak=peak,
        peak_operator=operations[peak].name,
        peak_phase=operations[peak].phase,
        total=result.peak_reserved + context,
    )


def _request(document: PlansDocument, plan: ExperimentPlan) -> Request:
    """The step as the planner estimated it."""
    from ..memory.request import make_request

    return make_request(
        plan,
        patch_size=None,
        batch_size=None,
        in_channels=document.dataset.in_channels,
        out_channels=document.dataset.out_channels,
        task=document.dataset.task,
        device="cpu" if plan.memory.device == "cpu" else "cuda",
        compute_capability=budget(document.hardware).compute_capability,
        num_gpus=max(1, len(document.hardware.gpus)),
    )


def _highest(allocated: NDArray[np.int64], events: list[int]) -> list[int]:
    """Of each column's events the one with most memory."""
    edges = np.linspace(0, len(events), min(COLUMNS, len(events)) + 1).astype(int)
    places = np.array(events)
    return [
        int(places[start + int(np.argmax(allocated[places[start:stop]]))])
        for start, stop in pairwise(edges.tolist())
    ]


def _spans(phases: list[str]) -> tuple[PhaseSpan, ...]:
    """Runs of one phase."""
    starts = [n for n, name in enumerate(phases) if n == 0 or phases[n - 1] != name]
    stops = [*starts[1:], len(phases)]
    return tuple(
        PhaseSpan(name=phases[start], start=start, stop=stop)
        for start, stop in zip(starts, stops, strict=True)
    )
