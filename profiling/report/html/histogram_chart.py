"""The histogram of one channel with its percentiles."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from ...fingerprint import IntensityStatistics
from .histograms import Bars
from .svg import Chart, Scale, drawing, element, line, linear_ticks, number, text

WIDTH, HEIGHT = 720.0, 300.0
LEFT, RIGHT, TOP, BOTTOM = 56.0, 16.0, 48.0, 40.0


def percentiles(statistics: IntensityStatistics) -> tuple[tuple[str, float], ...]:
    """Name and value of the five percentiles that a fingerprint states."""
    return (
        ("0.5 %", statistics.percentile_00_5),
        ("10 %", statistics.percentile_10),
        ("median", statistics.median),
        ("90 %", statistics.percentile_90),
        ("99.5 %", statistics.percentile_99_5),
    )


def histogram_chart(key: str, title: str, bars: Bars, pooled: IntensityStatistics, region: str) -> Chart:
    """Every voxel weighing the same as an area, every case weighing the same as a line over it."""
    across = Scale(low=bars.start, high=bars.stop, start=LEFT, stop=WIDTH - RIGHT)
    top = float(max(bars.by_voxel.max(), bars.by_case.max())) or 1.0
    up = Scale(low=0.0, high=top * 1.04, start=HEIGHT - BOTTOM, stop=TOP)
    parts = [*_axes(across, up, region)]
    parts.append(element("path", d=_steps(bars.by_voxel, across, up, bars, close=True), class_="area"))
    if not np.allclose(bars.by_case, bars.by_voxel, atol=1e-3 * top):
        parts.append(element("path", d=_steps(bars.by_case, across, up, bars, close=False), class_="outline"))
    described = []
    lanes: list[float] = [-1e9, -1e9, -1e9]
    for name, value in percentiles(pooled):
        x = across(value)
        lane = next((n for n, taken in enumerate(lanes) if x - taken > 56), 0)
        lanes[lane] = x
        y = TOP - 6 - 13 * lane
        parts.append(line(x, y + 3, x, HEIGHT - BOTTOM, "median" if name == "median" else "percentile"))
        parts.append(text(name, min(max(x, LEFT + 18), WIDTH - RIGHT - 20), y, "tick", "middle"))
        described.append(f"{name}: {number(value)}")
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


def _steps(shares: NDArray[np.float64], across: Scale, up: Scale, bars: Bars, *, close: bool) -> str:
    parts = [f"M{across(bars.start):.1f} {up(0.0):.1f}"]
    for place, share in enumerate(shares):
        parts.append(f"V{up(float(share)):.1f}H{across(bars.start + bars.width * (place + 1)):.1f}")
    parts.append(f"V{up(0.0):.1f}")
    return "".join(parts) + ("Z" if close else "")
