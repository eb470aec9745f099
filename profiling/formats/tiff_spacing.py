"""What a TIFF, or the file beside it, says about spacing."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

from .base import ReadOptions, Spacing, Unit
from .spacing import checked_spacing, is_length, planar_spacing
from .units import convert, parse_unit

SCREEN_RESOLUTIONS: Final = (1.0, 72.0, 96.0)
"""Pixels per inch that programs write when they know nothing: the default, and screens."""
LARGEST_SIDECAR: Final = 1 << 20
"""Bytes; a larger JSON file beside a TIFF is not a spacing sidecar."""
_RESOLUTION_UNITS: Final = {2: 25.4, 3: 10.0}
"""TIFF 6.0 ResolutionUnit: 2 is the inch, 3 the centimetre; in mm."""
_CHANNEL_SUFFIX: Final = re.compile(r"_\d{4}$")

Stated = tuple[Spacing, str | None]


def sidecars(path: Path, stem: str) -> tuple[Path, ...]:
    """Where nnU-Net's spacing sidecar of a file may lie."""
    names = dict.fromkeys((f"{stem}.json", f"{_CHANNEL_SUFFIX.sub('', stem)}.json"))
    return tuple(path.with_name(name) for name in names)


def read_sidecar(path: Path, stem: str, options: ReadOptions) -> Stated | None:
    """nnU-Net's ``case.json`` beside ``case.tif`` or ``case_0000.tif``: ``{"spacing": [..]}`` in array order.

    ``--spacing-order xyz`` reverses it; a field ``unit`` is understood, though nnU-Net writes none.
    """
    for sidecar in sidecars(path, stem):
        if not sidecar.is_file() or sidecar.stat().st_size > LARGEST_SIDECAR:
            continue
        try:
            content = json.loads(sidecar.read_text(encoding="utf-8"))
            if not isinstance(content, dict) or "spacing" not in content:
                continue
            values = [float(v) for v in content["spacing"]]
        except (ValueError, TypeError, RecursionError) as error:
            return (
                Spacing.missing(),
                f"sidecar {sidecar.name} cannot be read ({error}): spacing taken as missing",
            )
        if len(values) != 3:
            return Spacing.missing(), f"sidecar {sidecar.name} states {len(values)} numbers, not three"
        if options.spacing_order == "xyz":
            values.reverse()
        unit, factor = parse_unit(content.get("unit")) or ("unknown", 1.0)
        return checked_spacing([v * factor for v in values], unit, "sidecar")
    return None


def read_ome(xml: str, slices: int) -> Stated | None:
    """``PhysicalSizeX/Y/Z`` of the first image; by the schema in micrometres where no unit is stated."""
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError as error:
        return Spacing.missing(), f"the OME-XML cannot be parsed ({error})"
    pixels = next((e for e in root.iter() if e.tag.rpartition("}")[2] == "Pixels"), None)
    if pixels is None:
        return None
    lengths: list[tuple[float, Unit] | None] = []
    for axis in "ZYX":
        size = pixels.get(f"PhysicalSize{axis}")
        parsed = parse_unit(pixels.get(f"PhysicalSize{axis}Unit", "um"))
        if size is None or parsed is None:
            lengths.append(None)
            continue
        try:
            lengths.append((float(size) * parsed[1], parsed[0]))
        except ValueError:
            lengths.append((float("nan"), parsed[0]))
    z, y, x = lengths
    if y is None or x is None:
        return None
    unit = x[1]
    if z is None:
        return planar_spacing(convert(y[0], y[1], unit), x[0], slices, unit, "ome-xml")
    return checked_spacing([convert(v, u, unit) for v, u in (z, y, x)], unit, "ome-xml")


def read_imagej(metadata: dict[str, Any], tags: Any, slices: int) -> Stated | None:
    r"""ImageJ: ``spacing`` along Z, pixels per ``unit`` in the plane; units like ``\u00B5m`` are escaped."""
    parsed = parse_unit(metadata.get("unit"))
    pixel = _units_per_pixel(tags)
    if parsed is None or pixel is None:
        return None
    unit, factor = parsed
    x, y = (factor * n for n in pixel)
    if "spacing" not in metadata:
        return planar_spacing(y, x, slices, unit, "imagej")
    try:
        z = abs(float(metadata["spacing"])) * factor
    except (TypeError, ValueError):
        z = float("nan")
    return checked_spacing((z, y, x), unit, "imagej")


def read_resolution(tags: Any, slices: int) -> Stated | None:
    """XResolution and YResolution with an inch or centimetre ResolutionUnit: the plane only."""
    pixel = _units_per_pixel(tags)
    unit_tag = tags.get("ResolutionUnit")
    millimetres = _RESOLUTION_UNITS.get(int(unit_tag.value)) if unit_tag is not None else None
    if pixel is None or millimetres is None:
        return None
    if all(round(25.4 / (n * millimetres), 3) in SCREEN_RESOLUTIONS for n in pixel):
        return None
    x, y = (millimetres * n for n in pixel)
    return planar_spacing(y, x, slices, "mm", "tiff-resolution")


def renamed_axes(spacing: Spacing, stored: str, letters: str) -> Spacing:
    """The spacing of the same stored axes under the names that ``--axes`` gives them.

    Args:
        spacing: by the names that the file itself gives.
        stored: these names (``ZYX``), one a stored axis.
        letters: the other names (``xyz``).
    """
    if spacing.values is None or len(stored) != len(letters):
        return spacing
    lengths = dict(zip("zyx", spacing.values, strict=True))
    named = {new: lengths[old] for old, new in zip(stored.lower(), letters, strict=True) if old in lengths}
    z, y, x = (named.get(axis, lengths[axis]) for axis in "zyx")
    return replace(spacing, values=(z, y, x))


def _units_per_pixel(tags: Any) -> tuple[float, float] | None:
    """XY, or None where they are absent or no positive numbers."""
    found = []
    for name in ("XResolution", "YResolution"):
        tag = tags.get(name)
        try:
            numerator, denominator = tag.value
            found.append(denominator / numerator)
        except (AttributeError, TypeError, ValueError, ZeroDivisionError):
            return None
    x, y = found
    return (x, y) if is_length(x) and is_length(y) else None
