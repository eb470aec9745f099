"""Drawings of numbers by case: strips, scatter and ranges. Medians and cases that stand out are marked."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from .svg import LARGEST_DRAWN, Chart, Scale, dots, drawing, element, line, number, scale_of, text

WIDTH, LEFT, RIGHT = 460.0, 64.0, 16.0
ROW_HEIGHTS = (90.0, 46.0)
"""Of a row where there are three and fewer, and of more."""
TOP, BOTTOM = 10.0, 40.0
LETTER = 10.4
"""Width of a letter of a row's label at most: bold, and larger on a narrow screen."""
CHARACTER = 6.6
"""Width of a letter in a tick's text, about."""
MOST_NAMED = 300
"""Cases up to which every dot says which case it is."""
GOLDEN = 0.6180339887498949
"""Successive multiples, fractional parts taken, spread evenly: a jitter that is the same in every run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Strip:
    """One row of a strip plot."""

    label: str
    values: Sequence[float]
    cases: Sequence[str]
    """Case ids, in the order of the values."""


def strip_chart(
    key: str,
    title: str,
    unit: str,
    strips: Sequence[Strip],
    odd: Collection[str] = (),
    *,
    log: bool | None = None,
) -> Chart | None:
    """Every case as a dot, one row a quantity, the median as a bar."""
    strips = [strip for strip in strips if strip.values]
    if not strips:
        return None
    row_height = ROW_HEIGHTS[len(strips) > 3]
    height = TOP + row_height * len(strips) + BOTTOM
    left = max(LEFT, 14 + LETTER * max(len(strip.label) for strip in strips))
    scale = scale_of([v for strip in strips for v in strip.values], left, WIDTH - RIGHT, log=log)
    parts = [*_bottom_axis(scale, height - BOTTOM, unit, TOP)]
    described = []
    for row, strip in enumerate(strips):
        middle = TOP + row_height * (row + 0.5)
        parts.append(text(strip.label, left - 12, middle + 4, "label", "end"))
        places = [
            (scale(value), middle + (((n * GOLDEN) % 1) - 0.5) * row_height * 0.55)
            for n, value in enumerate(strip.values)
        ]
        told = [f"{strip.label} {number(value)} {unit}" for value in strip.values]
        parts += _marks(places, strip.cases, told, odd)
        median = float(np.median(strip.values))
        x = scale(median)
        parts.append(line(x, middle - row_height * 0.38, x, middle + row_height * 0.38, "median"))
        low, high = min(strip.values), max(strip.values)
        described.append(
            f"{strip.label}: median {number(median)}, from {number(low)} to {number(high)} {unit}"
        )
    return drawing(key, WIDTH, height, title, "; ".join(described) + ".", parts)


def scatter_chart(
    key: str,
    title: str,
    axes: tuple[str, str],
    points: Sequence[tuple[float, float]],
    cases: Sequence[str],
    odd: Collection[str] = (),
) -> Chart | None:
    """Every case as a dot in the plane, the medians as a cross."""
    if not points:
        return None
    height = 320.0
    across, up = [point[0] for point in points], [point[1] for point in points]
    horizontal = scale_of(across, LEFT, WIDTH - RIGHT)
    vertical = scale_of(up, height - BOTTOM, TOP)
    parts = [*_bottom_axis(horizontal, height - BOTTOM, axes[0], TOP), *_left_axis(vertical, axes[1])]
    places = [(horizontal(x), vertical(y)) for x, y in points]
    told = [f"{number(x)}, {number(y)}" for x, y in points]
    parts += _marks(places, cases, told, odd)
    middle = float(np.median(across)), float(np.median(up))
    x, y = horizontal(middle[0]), vertical(middle[1])
    parts += [line(x - 9, y, x + 9, y, "median"), line(x, y - 9, x, y + 9, "median")]
    description = f"Median: {axes[0]} {number(middle[0])}, {axes[1]} {number(middle[1])}."
    return drawing(key, WIDTH, height, title, description, parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseRange:
    """Low, middle and high intensity of one case."""

    case: str
    low: float
    middle: float
    high: float


def range_chart(
    key: str, title: str, unit: str, ranges: Sequence[CaseRange], odd: Collection[str] = ()
) -> Chart | None:
    """One bar a case, from its low to its high value, with its median; in the order given."""
    if not ranges or max(max(-one.low, one.high) for one in ranges) > LARGEST_DRAWN:
        return None
    width, height = 2 * WIDTH, 260.0
    vertical = scale_of([v for r in ranges for v in (r.low, r.high)], height - BOTTOM, TOP, log=False)
    parts = [*_left_axis(vertical, unit, stop=width - RIGHT)]
    step = (width - LEFT - RIGHT) / len(ranges)
    thick = min(10.0, max(1.0, step * 0.55))
    named = len(ranges) <= MOST_NAMED
    longest = max(len(one.case) for one in ranges)
    path = []
    for n, one in enumerate(ranges):
        x, high, low = LEFT + step * (n + 0.5), vertical(one.high), vertical(one.low)
        if named or one.case in odd:
            told = f"{one.case}: {number(one.low)} to {number(one.high)}, median {number(one.middle)}"
            body = element(
                "rect",
                element("title", told),
                x=x - thick / 2,
                y=high,
                width=thick,
                height=max(1.0, low - high),
                rx=min(2.0, thick / 2),
                class_="bar odd" if one.case in odd else "bar",
            )
            parts.append(body)
            if longest * CHARACTER < step - 6:
                parts.append(text(one.case, x, height - BOTTOM + 15, "tick", "middle"))
        else:
            path.append(f"M{x:.1f} {low:.0f}V{high:.0f}")
    if path:
        parts.append(element("path", d="".join(path), class_="bars", stroke_width=thick))
    middles = [(LEFT + step * (n + 0.5), vertical(one.middle)) for n, one in enumerate(ranges)]
    parts.append(dots(middles, "middles" if named else "middles thin"))
    strange = [(one, place) for one, place in zip(ranges, middles, strict=True) if one.case in odd]
    for one, place in strange[:MOST_NAMED]:  # a narrow range hides below the dot of its median
        parts.append(_dot(place, f"{one.case} stands out: median {number(one.middle)}", "dot odd"))
    parts.append(text(f"{len(ranges):,} cases, by id", (LEFT + width) / 2, height - 8, "axis", "middle"))
    medians = [one.middle for one in ranges]
    description = (
        f"Medians of the cases from {number(min(medians))} to {number(max(medians))}; "
        f"whole range {number(min(r.low for r in ranges))} to {number(max(r.high for r in ranges))}."
    )
    return drawing(key, width, height, title, description, parts)


def _marks(
    places: Sequence[tuple[float, float]],
    cases: Sequence[str],
    told: Sequence[str],
    odd: Collection[str],
) -> Iterator[Markup]:
    """Dots; named while they are few, and always where a case stands out."""
    usual = [n for n, case in enumerate(cases) if case not in odd]
    if len(cases) > MOST_NAMED:
        yield dots([places[n] for n in usual], "dots")
    else:
        yield from (_dot(places[n], f"{cases[n]}: {told[n]}", "dot") for n in usual)
    strange = [n for n, case in enumerate(cases) if case in odd][:MOST_NAMED]
    yield from (_dot(places[n], f"{cases[n]} stands out: {told[n]}", "dot odd") for n in strange)


def _dot(place: tuple[float, float], title: str, class_: str) -> Markup:
    return element(
        "circle",
        element("title", title),
        cx=place[0],
        cy=place[1],
        r=5.0 if "odd" in class_ else 3.5,
        class_=class_,
    )


def _bottom_axis(scale: Scale, y: float, label: str, top: float) -> Iterator[Markup]:
    for tick in scale.ticks():
        x = scale(tick)
        yield line(x, top, x, y, "grid")
        yield text(number(tick), x, y + 15, "tick", "middle")
    yield text(label, (scale.start + scale.stop) / 2, y + 32, "axis", "middle")


def _left_axis(scale: Scale, label: str, stop: float = WIDTH - RIGHT) -> Iterator[Markup]:
    for tick in scale.ticks():
        y = scale(tick)
        yield line(LEFT, y, stop, y, "grid")
        yield text(number(tick), LEFT - 8, y + 4, "tick", "end")
    middle = (scale.start + scale.stop) / 2
    yield element(
        "text",
        label,
        transform=f"translate(13 {middle:.0f}) rotate(-90)",
        text_anchor="middle",
        class_="axis",
    )


def in_plane(values: Sequence[float]) -> float:
    """Geometric mean of Y and X."""
    return math.sqrt(values[1] * values[2])
