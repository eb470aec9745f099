"""The histogram of one channel with its percentiles."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from ...fingerprint import IntensityStatistics
from .histograms import Bars
from .svg import Chart, Scale, drawing, element, line, linear_ticks, number, text

WIDTH, HEIGHT = 920.0, 320.0
LEFT, RIGHT, TOP, BOTTOM = 70.0, 16.0, 48.0, 40.0
CHARACTER = 8.6
"""Width of a letter over the percentiles at most: on a narrow screen they are drawn larger."""


def percentiles(statistics: IntensityStatistics) -> tuple[tuple[str, float], ...]:
    """Name and value of the five percentiles that a fingerprint states."""
    return (
        ("0.5 %", statistics.percentile_00_5),
        ("10 %", statistics.percentile_10),
        ("median", statistics.median),
        ("90 %", statistics.percentile_90),
        ("99.5 %", statistics.percentile_99_5),
    )


def histogram_chart(
    key: str, title: str, bars: Bars, pooled: IntensityStatistics, region: str, *, several: bool
) -> Chart:
    """Every voxel weighing the same as an area; with ``several`` cases, every case the same as a line."""
    across = Scale(low=bars.start, high=bars.stop, start=LEFT, stop=WIDTH - RIGHT)
    top = float(max(bars.by_voxel.max(), bars.by_case.max())) or 1.0
    up = Scale(low=0.0, high=top * 1.04, start=HEIGHT - BOTTOM, stop=TOP)
    parts = [*_axes(across, up, region)]
    parts.append(element("path", d=_steps(bars.by_voxel, across, up, bars, close=True), class_="area"))
    if several:
        parts.append(element("path", d=_steps(bars.by_case, across, up, bars, close=False), class_="outline"))
    described = []
    lanes = [-1e9, -1e9, -1e9]
    labels = []
    for name, value in percentiles(pooled):
        x = across(value)
        label = f"{name}: {number(value)}"
        half = CHARACTER * len(label) / 2
        middle = min(max(x, LEFT + half), WIDTH - RIGHT - half)
        lane = next((n for n, taken in enumerate(lanes) if middle - half > taken), 0)
        lanes[lane] = middle + half
        y = TOP - 6 - 14 * lane
        parts.append(line(x, y + 3, x, HEIGHT - BOTTOM, "median" if name == "median" else "percentile"))
        labels.append(text(label, middle, y, "tick over", "middle"))
        described.append(f"{name}: {number(value)}")
    parts += labels
    beyond = bars.below + bars.above
    end = f"; {beyond:.2%} of the voxels lie beyond the drawn range" if beyond > 5e-5 else ""
    return drawing(key, WIDTH, HEIGHT, title, ", ".join(described) + end + ".", parts)


def _axes(across: Scale, up: Scale, region: str) -> Iterator[Markup]:
    bottom = HEIGHT - BOTTOM
    for tick in linear_ticks(up.low, up.high, 4):
        yield line(LEFT, up(tick), WIDTH - RIGHT, up(tick), "grid")
        yield text(f"{100 * tick:.3g} %", LEFT - 6, up(tick) + 4, "tick", "end")
    for tick in linear_ticks(across.low, across.high, 8):
        yield line(across(tick), bottom, across(tick), bottom + 4, "grid")
        yield text(number(tick), across(tick), bottom + 16, "tick", "middle")
    label = f"intensity ({region})"
    yield text(label, (LEFT + WIDTH - RIGHT) / 2, bottom + 33, "axis", "middle")
    yield element(
        "text",
        "share of voxels in a bar",
        transform=f"translate(13 {(TOP + bottom) / 2:.0f}) rotate(-90)",
        text_anchor="middle",
        class_="axis",
    )


def _steps(shares: NDArray[np.float64], across: Scale, up: Scale, bars: Bars, *, close: bool) -> str:
    parts = [f"M{across(bars.start):.1f} {up(0.0):.1f}"]
    for place, share in enumerate(shares):
        parts.append(f"V{up(float(share)):.1f}H{across(bars.start + bars.width * (place + 1)):.1f}")
    parts.append(f"V{up(0.0):.1f}")
    return "".join(parts) + ("Z" if close else "")
