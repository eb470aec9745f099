"""Drawings of plans: memory by part, memory over a step, and the stages of a network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from voxplan.plans.schema import Ints, MemoryPrediction
from voxplan.profiling.report.html.svg import (
    Chart,
    Scale,
    drawing,
    element,
    line,
    linear_ticks,
    text,
)

from .stages import Stage
from .timeline import Timeline

GIB = 1024**3
PARTS = ("context", "parameters", "gradients", "optimizer", "activations", "workspace", "cached")
"""From the bottom up; ``cached`` is what the allocator has reserved beyond what is allocated."""
CLASSES = {part: f"c{place}" for part, place in zip(PARTS, (6, 1, 5, 4, 2, 3, 7), strict=True)}
WIDTH = 920.0


def parts_of(memory: MemoryPrediction) -> dict[str, int]:
    """Bytes by part, which sum up to the total."""
    cached = max(0, memory.reserved - memory.allocated)
    return {"context": memory.context, **memory.parts, "cached": cached}


def gib(count: float) -> str:
    """``1.62 GiB``."""
    value = count / GIB
    return f"{value:.1f} GiB" if value >= 10 else f"{value:.2f} GiB"


def memory_chart(plans: Mapping[str, MemoryPrediction]) -> Chart:
    """One bar a plan, its parts side by side, and the budget."""
    left, right, row, top = 200.0, 130.0, 44.0, 30.0
    height = top + row * len(plans) + 36
    largest = max(max(memory.total, memory.budget) for memory in plans.values())
    across = Scale(low=0.0, high=largest * 1.04 / GIB, start=left, stop=WIDTH - right)
    parts: list[Markup] = []
    for tick in linear_ticks(0.0, across.high, 8):
        parts.append(line(across(tick), top, across(tick), height - 36, "grid"))
        parts.append(text(f"{tick:g}", across(tick), height - 20, "tick", "middle"))
    parts.append(text("GiB", (left + WIDTH - right) / 2, height - 4, "axis", "middle"))
    described = []
    for place, (name, memory) in enumerate(plans.items()):
        y = top + row * place
        parts.append(text(name, left - 10, y + row / 2 + 4, "label", "end"))
        parts += _bar(memory, across, y + 8, row - 16)
        x = across(memory.budget / GIB)
        parts.append(line(x, y + 2, x, y + row - 2, "budget"))
        # in a column of their own: over a bar or a line they could not be read
        parts.append(text(gib(memory.total), WIDTH - right + 12, y + row / 2 + 4, "label"))
        if not memory.fits:
            parts.append(text("does not fit", WIDTH - right + 12, y + row / 2 + 17, "budget-text"))
        described.append(f"{name}: {gib(memory.total)} of {gib(memory.budget)}")
    budgets = {memory.budget for memory in plans.values()}
    if len(budgets) == 1:
        budget = budgets.pop()
        x = across(budget / GIB)
        parts.append(text(f"budget {gib(budget)}", min(x, WIDTH - right), top - 10, "budget-text", "middle"))
    return drawing("memory", WIDTH, height, "Predicted memory by part", "; ".join(described) + ".", parts)


def _bar(memory: MemoryPrediction, across: Scale, y: float, thick: float) -> Iterator[Markup]:
    held, parts = 0, parts_of(memory)
    for part in PARTS:
        size = parts.get(part, 0)
        if size <= 0:
            continue
        start, stop = across(held / GIB), across((held + size) / GIB)
        held += size
        title = element("title", f"{part}: {gib(size)}")
        yield element(
            "rect", title, x=start, y=y, width=max(0.5, stop - start), height=thick, class_=CLASSES[part]
        )


def timeline_chart(key: str, name: str, timeline: Timeline, budget: int) -> Chart:
    """Parts stacked over the operators of a step; the reserved bytes as a line over them."""
    left, right, top, bottom = 56.0, 20.0, 26.0, 20.0
    height = 300.0
    columns = timeline.reserved.size
    largest = float(timeline.total)
    shown = budget <= 2.2 * largest
    across = Scale(low=0.0, high=float(columns), start=left, stop=WIDTH - right)
    ceiling = (max(largest, budget) if shown else largest) * 1.06 / GIB
    up = Scale(low=0.0, high=ceiling, start=height - bottom, stop=top)
    parts: list[Markup] = []
    for tick in linear_ticks(0.0, up.high, 5):
        parts.append(line(left, up(tick), WIDTH - right, up(tick), "grid"))
        parts.append(text(f"{tick:g}", left - 6, up(tick) + 4, "tick", "end"))
    parts.append(element("text", "GiB", x=left - 6, y=top - 10, text_anchor="end", class_="axis"))
    parts += _phases(timeline, across, top, height - bottom)
    floor = np.zeros(columns)
    stacked = {"context": np.full(columns, timeline.context), **timeline.parts}
    for part in PARTS:
        if part in stacked and stacked[part].any():
            roof = floor + stacked[part]
            parts.append(element("path", d=_area(floor, roof, across, up), class_=CLASSES[part]))
            floor = roof
    line_of = _outline((timeline.reserved + timeline.context) / GIB, across, up)
    parts.append(element("path", d=line_of, class_="reserved"))
    peak = float(floor[timeline.peak]) / GIB
    x, y = across(timeline.peak + 0.5), up(peak)
    parts.append(element("circle", cx=x, cy=y, r=3.5, class_="dot odd"))
    anchor, dx = ("end", -8) if x > WIDTH * 0.6 else ("start", 8)
    operator = timeline.peak_operator.removeprefix("aten.").removesuffix(".default")
    parts.append(text(f"peak: {operator}", x + dx, max(y - 6, 11), "label small over", anchor))
    if shown:
        y = up(budget / GIB)
        parts.append(line(left, y, WIDTH - right, y, "budget"))
        # on the other side than the peak's words, which may stand as high
        place, side = (left + 4, "start") if anchor == "end" else (WIDTH - right, "end")
        parts.append(text(f"budget {gib(budget)}", place, y - 5, "budget-text over", side))
    else:
        parts.append(text(f"the budget, {gib(budget)}, lies above", WIDTH - right, 12, "budget-text", "end"))
    described = (
        f"{name}: {gib(timeline.total)} for the process; most is held in the {timeline.peak_phase} phase, "
        f"during {timeline.peak_operator}. Budget {gib(budget)}."
    )
    return drawing(key, WIDTH, height, "Memory over one training step", described, parts)


def _phases(timeline: Timeline, across: Scale, top: float, bottom: float) -> Iterator[Markup]:
    for place, span in enumerate(timeline.phases):
        start, stop = across(span.start), across(span.stop)
        if place % 2:
            yield element("rect", x=start, y=top, width=stop - start, height=bottom - top, class_="phase")
        if stop - start > 34:
            yield text(span.name, (start + stop) / 2, bottom + 15, "tick", "middle")


def _area(floor: NDArray[np.float64], roof: NDArray[np.float64], across: Scale, up: Scale) -> str:
    over = _outline(roof / GIB, across, up)
    columns = floor.size
    back = "".join(
        f"V{up(float(floor[place]) / GIB):.1f}H{across(place):.1f}" for place in range(columns - 1, -1, -1)
    )
    return f"{over}{back}Z"


def _outline(values: NDArray[np.float64], across: Scale, up: Scale) -> str:
    """Steps from left to right; unchanged heights are run over."""
    parts = [f"M{across(0.0):.1f} {up(float(values[0])):.1f}"]
    for place in range(1, values.size):
        if values[place] != values[place - 1]:
            parts.append(f"H{across(place):.1f}V{up(float(values[place])):.1f}")
    return "".join(parts) + f"H{across(values.size):.1f}"


STAGE_WIDTH, STAGE_HEIGHT, STAGE_STEP = 250.0, 46.0, 64.0
"""Of a stage's box, and from one row to the next."""
MOST_INSET = 30.0
"""By which a row's boxes stand further in than those of the row above."""


def stage_chart(key: str, name: str, stages: Sequence[Stage]) -> Chart:
    """The network as its letter: down to the coarsest resolution on the left, and up again on the right.

    Its width does not depend on the number of stages, so that the words stay legible.
    """
    sizes = sorted({stage.size for stage in stages}, key=lambda size: -float(np.prod(np.array(size, float))))
    corners, height = _stage_corners(stages, sizes)
    parts: list[Markup] = []
    for first, stage in enumerate(stages):
        others = [n for n, other in enumerate(stages) if n > first + 1 and other.size == stage.size]
        (x1, y1), (x2, y2) = corners[first], corners[others[-1] if others else first]
        if others and y1 == y2 and x2 > x1:
            y = y1 + STAGE_HEIGHT / 2
            parts.append(line(x1 + STAGE_WIDTH, y, x2, y, "skip-link"))
    for place, (stage, (x, y)) in enumerate(zip(stages, corners, strict=True)):
        if place:
            parts.append(_arrow(corners[place - 1], (x, y)))
        kind = "low" if stage.size == sizes[-1] else "up" if stage.up else ""
        box = {"width": STAGE_WIDTH, "height": STAGE_HEIGHT, "rx": 7, "class_": f"stage {kind}".strip()}
        parts.append(element("rect", x=x, y=y, **box))
        middle = x + STAGE_WIDTH / 2
        held = f"{times(stage.size)}, {stage.channels} channels"
        parts.append(text(held, middle, y + 19, "label small", "middle"))
        done = f"kernel {times(stage.kernels[0])}{' +' if len(stage.kernels) > 1 else ''}"
        if set(stage.stride) != {1}:
            done += f", {'↑' if stage.up else '↓'} {times(stage.stride)}"
        parts.append(text(done, middle, y + 36, "small faint", "middle"))
    coarsest = next(stage for stage in stages if stage.size == sizes[-1])
    described = (
        f"{name}: {len(stages)} stages, from {times(stages[0].size)} voxels with {stages[0].channels} "
        f"channels to {times(coarsest.size)} with {coarsest.channels}. The table has every stage."
    )
    return drawing(key, WIDTH, height, "Stages of the network", described, parts)


def _stage_corners(stages: Sequence[Stage], sizes: Sequence[Ints]) -> tuple[list[tuple[float, float]], float]:
    """Upper left corner of each stage's box, and the height of all; a size may take several rows."""
    inset = min(MOST_INSET, (WIDTH - 2 * STAGE_WIDTH - 48) / 2 / len(sizes))
    rows: dict[tuple[Ints, bool], int] = {}
    numbers = []
    for stage in stages:
        numbers.append(rows.get((stage.size, stage.up), 0))
        rows[stage.size, stage.up] = numbers[-1] + 1
    tops, top = {}, 8.0
    for size in sizes:
        tops[size] = top
        top += STAGE_STEP * max(rows.get((size, up), 0) for up in (False, True))
    corners = []
    for stage, number in zip(stages, numbers, strict=True):
        indent = 4 + inset * sizes.index(stage.size)
        x = WIDTH - STAGE_WIDTH - indent if stage.up else indent
        if stage.size == sizes[-1] and len(sizes) > 1:
            x = (WIDTH - STAGE_WIDTH) / 2
        corners.append((x, tops[stage.size] + STAGE_STEP * number))
    return corners, top - (STAGE_STEP - STAGE_HEIGHT) + 8


def _arrow(before: tuple[float, float], here: tuple[float, float]) -> Markup:
    """From one box to the next: straight where one stands above the other, else round the corner."""
    (x1, y1), (x2, y2) = before, here
    overlap = STAGE_WIDTH - abs(x2 - x1)
    down = y2 > y1
    if y1 == y2:
        start, stop = (x1 + STAGE_WIDTH, x2) if x2 > x1 else (x1, x2 + STAGE_WIDTH)
        path = f"M{start} {y1 + STAGE_HEIGHT / 2}H{stop}"
    elif overlap > 0:
        x = max(x1, x2) + overlap / 2
        path = f"M{x} {y1 + STAGE_HEIGHT}V{y2}" if down else f"M{x} {y1}V{y2 + STAGE_HEIGHT}"
    else:
        start = x1 + STAGE_WIDTH if x2 > x1 else x1
        turn, end = x2 + STAGE_WIDTH / 2, y2 if down else y2 + STAGE_HEIGHT
        path = f"M{start} {y1 + STAGE_HEIGHT / 2}H{turn}V{end}"
    return element("path", d=path, class_="flow")


def times(values: Ints) -> str:
    """``28×96×104``."""
    return "×".join(map(str, values))
