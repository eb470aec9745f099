"""Small SVG pieces: escaped elements, scales and tick values."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

LOG_FROM_RATIO = 8.0
"""Positive values that span more than this factor are drawn on a logarithmic axis."""
LARGEST_DRAWN = 1e300
"""Larger numbers are not drawn: the room beside them, and differences between them, are infinite."""
SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def element(tag: str, *children: str | Markup, **attributes: object) -> Markup:
    """One element; text and attribute values are escaped, ``None`` leaves an attribute out.

    ``class_`` is written ``class``; other underscores become hyphens. Numbers lose needless digits.
    """
    written = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(_text(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    inner = Markup("").join(children)
    return Markup(f"<{tag}{written}>{inner}</{tag}>")


def text(content: str, x: float, y: float, class_: str = "", anchor: str | None = None) -> Markup:
    """A label."""
    return element("text", content, x=x, y=y, class_=class_ or None, text_anchor=anchor)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """A straight line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A drawing and what stands over it."""

    title: str
    svg: Markup


def drawing(
    key: str, width: float, height: float, title: str, description: str, parts: Iterable[Markup]
) -> Chart:
    """A picture that a screen reader announces by title and description; ``key`` is unique in a page."""
    head = (
        element("title", title, id=f"{key}-title"),
        element("desc", description, id=f"{key}-desc"),
    )
    svg = element(
        "svg",
        *head,
        *parts,
        viewBox=f"0 0 {_text(width)} {_text(height)}",
        role="img",
        aria_labelledby=f"{key}-title {key}-desc",
        class_="chart",
    )
    return Chart(title=title, svg=svg)


def dots(points: Iterable[tuple[float, float]], class_: str) -> Markup:
    """Many points in one path, drawn by round line ends; points on the same spot are drawn once."""
    places = dict.fromkeys((round(x * 2) / 2, round(y * 2) / 2) for x, y in points)
    path = "".join(f"M{_text(x)} {_text(y)}h0" for x, y in places)
    return element("path", d=path, class_=class_) if path else Markup("")


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.2f}".rstrip("0").rstrip(".") or "0"
    return str(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Values to places in the drawing."""

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The place of a value; values beyond the ends stay at the ends."""
        low, high, value = (self._of(v) for v in (self.low, self.high, value))
        share = 0.5 if high <= low else (min(max(value, low), high) - low) / (high - low)
        return self.start + share * (self.stop - self.start)

    def _of(self, value: float) -> float:
        return math.log(max(value, 1e-300)) if self.log else value

    def ticks(self, wanted: int = 5) -> list[float]:
        """Round values within the scale."""
        if self.log:
            return _log_ticks(self.low, self.high, wanted)
        return linear_ticks(self.low, self.high, wanted)


def scale_of(values: Sequence[float], start: float, stop: float, *, log: bool | None = None) -> Scale:
    """A scale that holds all values, with a little room at the ends.

    ``log`` None: logarithmic where positive values span more than :data:`LOG_FROM_RATIO`.
    """
    low, high = min(values), max(values)
    if log is None:
        log = low > 0 and high / low > LOG_FROM_RATIO
    if log:
        room = max((high / low) ** 0.05, 1.15)
        return Scale(low=low / room, high=high * room, start=start, stop=stop, log=True)
    room = 0.05 * (high - low) or 0.5 * abs(high) or 1.0
    low = 0.0 if 0 <= low < 0.4 * high else low - room
    return Scale(low=low, high=high + room, start=start, stop=stop)


def linear_ticks(low: float, high: float, wanted: int) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten."""
    if not high > low:
        return [low]
    raw = (high - low) / max(1, wanted)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [n * step for n in range(first, last + 1)]


def _log_ticks(low: float, high: float, wanted: int) -> list[float]:
    """1, 2 and 5 times powers of ten, thinned to powers where that is too many."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 5), (1, 3), (1,)):
        found = [f * 10.0**p for p in powers for f in factors if low <= f * 10.0**p <= high]
        if len(found) <= wanted + 1:
            break
    every = max(1, math.ceil(len(found) / (wanted + 1)))
    return found[::every] or linear_ticks(low, high, wanted)


def number(value: float) -> str:
    """A tick's text: at most four digits, thousands with a separator, the very large and small as powers."""
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1e6 or size < 1e-3:
        exponent = math.floor(math.log10(size))
        mantissa = f"{value / 10.0**exponent:.3g}"
        power = f"10{str(exponent).translate(SUPERSCRIPT)}"
        return power if mantissa == "1" else f"{mantissa}·{power}"
    return f"{value:,.0f}" if size >= 1000 else f"{value:.4g}"
