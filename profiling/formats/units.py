"""Unit words, as files write them, to the three units that voxplan keeps."""

from __future__ import annotations

import unicodedata
from typing import Final

from .base import UNITS_IN_MM, Unit

_WORDS: Final[dict[str, tuple[Unit, float]]] = {
    **dict.fromkeys(("mm", "millimeter", "millimeters", "millimetre", "millimetres"), ("mm", 1.0)),
    **dict.fromkeys(
        ("um", "μm", "micron", "microns", "mu", "micrometer", "micrometers", "micrometre", "micrometres"),
        ("um", 1.0),
    ),
    **dict.fromkeys(("nm", "nanometer", "nanometers", "nanometre", "nanometres"), ("nm", 1.0)),
    **dict.fromkeys(("m", "meter", "meters", "metre", "metres"), ("mm", 1000.0)),
    **dict.fromkeys(("cm", "centimeter", "centimeters", "centimetre", "centimetres"), ("mm", 10.0)),
    **dict.fromkeys(("in", "inch", "inches", '"'), ("mm", 25.4)),
    **dict.fromkeys(("å", "a", "angstrom", "angstroms", "ångström", "ångstrom"), ("nm", 0.1)),
    **dict.fromkeys(("pm", "picometer", "picometers", "picometre", "picometres"), ("nm", 0.001)),
}
"""Casefolded NFKC word: (our unit, how many of it one of the file's is). An inch is 25.4 mm by definition."""


def parse_unit(word: object) -> tuple[Unit, float] | None:
    r"""What a unit word means.

    Args:
        word: as the file says it: ``um``, ``micron``, ``µm`` in either code point, ImageJ's escaped
            ``\u00B5m``, ``inch``, bytes...

    Returns:
        Our unit and the factor that turns the file's numbers into it, or None where the word names no length
        (``pixel``, an empty string, anything unknown).
    """
    if isinstance(word, bytes):
        word = word.decode("utf-8", errors="replace")
    if not isinstance(word, str):
        return None
    for escaped in ("\\u00B5", "\\u00b5", "\\u03BC", "\\u03bc"):
        word = word.replace(escaped, "μ")
    cleaned = unicodedata.normalize("NFKC", word.strip().strip("\0").strip()).casefold()
    return _WORDS.get(cleaned)


def convert(value: float, unit: Unit, to: Unit) -> float:
    """A length in another unit; unchanged, bit for bit, where the unit is the same."""
    if unit == to:
        return value
    if "unknown" in (unit, to):
        msg = f"a length in {unit!r} cannot be expressed in {to!r}"
        raise ValueError(msg)
    return value * (UNITS_IN_MM[unit] / UNITS_IN_MM[to])
