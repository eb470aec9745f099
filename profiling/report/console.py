"""Consoles and lines on which names and metadata of files cannot control the terminal.

What files say (names of data sets, channels, classes, keys) reaches the screen in many sentences and tables.
All of them go through here: control characters, marks that turn the direction of writing and line breaks
inside a name are shown as escapes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderHook, RenderResult
    from rich.segment import Segment


def safe_console(**options: Any) -> Console:
    """A console of rich's, with these options of it, that shows what cannot be printed as escapes.

    Square brackets are no markup unless ``markup=True``: names have them.
    """
    from rich.console import Console

    console = Console(**{"highlight": False, "markup": False, **options})
    console.push_render_hook(_printable_hook())
    return console


def say(text: str, stream: TextIO | None = None, *, flush: bool = True) -> None:
    """Print lines, what else cannot be printed as escapes."""
    print(printable_lines(text), file=stream, flush=flush)


def say_json(text: str) -> None:
    """Print JSON text: the same content, with escapes of JSON for what could control a terminal."""
    print(json_lines(text), end="" if text.endswith("\n") else None, flush=True)  # noqa: T201


def printable_lines(text: str) -> str:
    """Text in which only line breaks are left of what cannot be printed."""
    if text.isprintable():
        return text
    from ..formats.base import printable  # imports numpy, which --help shall not

    return "\n".join(map(printable, text.split("\n")))


def json_lines(text: str) -> str:
    """JSON text that means the same and holds only printable characters and line breaks."""
    if text.isprintable():
        return text
    return "".join(c if c == "\n" or c.isprintable() else json.dumps(c)[1:-1] for c in text)


def _printable_hook() -> RenderHook:
    """Wraps all that is given to a console."""
    from rich.console import RenderHook

    class PrintableHook(RenderHook):
        def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
            return [_Printable(renderable) for renderable in renderables]

    return PrintableHook()


class _Printable:
    """A renderable with its text made printable; styles and controls of rich's own stay."""

    def __init__(self, renderable: ConsoleRenderable) -> None:
        self._renderable = renderable

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from self._segments(console, options)

    def _segments(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        from rich.segment import Segment

        for segment in console.render(self._renderable, options):
            if segment.control:
                yield segment
            else:
                yield Segment(printable_lines(segment.text), segment.style)
