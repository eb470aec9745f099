"""Middle slices of a case as small images with its labels over them, at true aspect ratio."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...case import label_options
from ...fingerprint import CaseFingerprint, IntensityStatistics
from ...formats import open_volume
from ...formats.base import CaseSource, FormatError, ReadOptions, Volume
from .colours import FULL_PALETTE, LabelColours
from .orientation import AXIS_NAMES, View, plane_name, view_across
from .planes import Indices, bytes_read, fullest_planes, read_planes
from .png import encode_indexed

JPEG_QUALITY = 80
MOST_CHANNELS = 4
"""Channels of one case that are pictured."""
CASE_BYTES = 8 << 30
"""Voxels, in bytes, decoded for one case's pictures at most: half a minute of a compressed stream."""
SEARCH_BYTES = 256 << 20
"""Size of a label map up to which fuller planes are looked for where the middle ones hold no foreground."""
THINNEST = 0.015
"""Share of the longer edge below which a panel could not be seen: drawn so thick, and said."""
FLAT = 0.8
"""Two panels that are together lower than this share of the first one stand below each other beside it."""
PIXELS = 620
"""Height of a picture that is not enlarged at most, in pixels of the screen."""
TALLEST = 1.25
"""Height over width of the row of panels at most; of longer volumes the row is drawn narrower."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One plane: image, labels and how to draw them."""

    view: View
    axis: str
    """Name of the axis that it stands across."""
    anatomical: str
    """``axial``, ``coronal``, ``sagittal``; empty where the file does not say which way its axes point."""
    index: int
    of: int
    image: str
    """Data URI."""
    labels: str | None
    """Data URI, transparent where there is background."""
    labels_alt: str
    width: float
    height: float
    """In one unit for all panels of a case; only their ratios mean anything."""
    to_scale: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Triptych:
    """The planes of one channel."""

    channel: str
    panels: tuple[Panel, ...]

    @property
    def flat(self) -> bool:
        """Whether the second and third panel are so low that they stand below each other."""
        return (
            len(self.panels) == 3 and sum(p.height for p in self.panels[1:]) <= FLAT * self.panels[0].height
        )

    @property
    def shares(self) -> tuple[float, ...]:
        """Of each panel, the share of the row's width; they sum up to 1 (or 2, where two share a column)."""
        widths = [panel.width for panel in self.panels]
        row = widths[0] + max(widths[1:]) if self.flat else sum(widths)
        return tuple(width / row for width in widths)

    @property
    def widest(self) -> float:
        """Width of the widest panel."""
        return max(panel.width for panel in self.panels)

    @property
    def widest_of_stack(self) -> float:
        """Width of the widest panel but the first."""
        return max((panel.width for panel in self.panels[1:]), default=self.widest)

    @property
    def tallest(self) -> float:
        """Height of the tallest panel in widths of the row."""
        return max(share * p.height / p.width for share, p in zip(self.shares, self.panels, strict=True))

    @property
    def breadth(self) -> float:
        """Share of the room that the row takes, so that it is not taller than :data:`TALLEST` widths."""
        return min(1.0, TALLEST / self.tallest)

    @property
    def most_pixels(self) -> float:
        """Width of the row in pixels of the screen at most, so that it is not taller than :data:`PIXELS`."""
        return PIXELS / self.tallest


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """All that is shown of a case, or why nothing is."""

    case: CaseFingerprint
    triptychs: tuple[Triptych, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def extent(self) -> tuple[float, ...] | None:
        """Edges of the volume, ZYX, in units of the spacing; None where that is missing."""
        spacing = self.case.spacing.values
        if spacing is None:
            return None
        return tuple(edge * step for edge, step in zip(self.case.shape, spacing, strict=True))

    @property
    def size(self) -> int:
        """Characters of its images."""
        panels = [panel for triptych in self.triptychs for panel in triptych.panels]
        return sum(len(panel.image) + len(panel.labels or "") for panel in panels)


def picture_case(
    case: CaseFingerprint,
    source: CaseSource,
    options: ReadOptions,
    *,
    colours: LabelColours,
    channel_names: Sequence[str],
    longest: int,
    memory: int,
) -> Picture:
    """Slices through the middle of the non-zero box, or why there are none; never raises for a bad file."""
    try:
        with ExitStack() as stack:
            images = [stack.enter_context(open_volume(volume, options)) for volume in source.images]
            label = None
            if source.label is not None and case.label is not None:
                label = stack.enter_context(open_volume(source.label, label_options(options)))
            return _picture(case, images, label, colours, channel_names, longest, memory)
    except (FormatError, OSError, ValueError, MemoryError) as error:
        return Picture(case=case, remarks=(f"no picture: {' '.join(str(error).split())}",))


def _picture(
    case: CaseFingerprint,
    images: Sequence[Volume],
    label: Volume | None,
    colours: LabelColours,
    channel_names: Sequence[str],
    longest: int,
    memory: int,
) -> Picture:
    channels = [(volume, n) for volume in images for n in range(volume.header.channels)][:MOST_CHANNELS]
    cost = sum(bytes_read(volume.header) for volume, _ in channels)
    cost += bytes_read(label.header) if label is not None else 0
    if cost > CASE_BYTES:
        needed, most = cost / 2**30, CASE_BYTES / 2**30
        why = f"no picture: its slices take {needed:.0f} GiB to decode, more than {most:.0f}"
        return Picture(case=case, remarks=(why,))
    remarks = []
    indices = _middle(case)
    label_planes = None
    if label is not None:
        indices, label_planes, moved = _label_planes(case, label, indices, longest, memory, colours.ignore)
        remarks += [moved] if moved else []
    if case.spacing.values is None:
        remarks.append("spacing missing: drawn as if voxels were cubes")
    triptychs = []
    for number, (volume, channel) in enumerate(channels):
        planes = read_planes(volume, channel, indices, longest=longest, memory=memory)
        window = _window(case, number, planes)
        name = channel_names[number] if number < len(channel_names) else f"channel_{number}"
        panels = [
            _panel(case, axis, index, planes[axis], window, label_planes, colours)
            for axis, index in enumerate(indices)
            if case.shape[0] > 1 or axis == 0
        ]
        triptychs.append(Triptych(channel=name, panels=tuple(panels)))
    hidden = sum(volume.header.channels for volume in images) - len(channels)
    if hidden > 0:
        remarks.append(f"{hidden} more channels are not pictured")
    if any(not panel.to_scale for triptych in triptychs for panel in triptych.panels):
        remarks.append("thin planes are drawn thicker than they are")
    return Picture(case=case, triptychs=tuple(triptychs), remarks=tuple(remarks))


def _middle(case: CaseFingerprint) -> Indices:
    z, y, x = ((low + high) // 2 for low, high in case.crop_box)
    return min(z, case.shape[0] - 1), min(y, case.shape[1] - 1), min(x, case.shape[2] - 1)


def _label_planes(
    case: CaseFingerprint,
    label: Volume,
    indices: Indices,
    longest: int,
    memory: int,
    ignore: int | None,
) -> tuple[Indices, tuple[NDArray[np.uint64], ...], str | None]:
    """Label planes; through the foreground where the middle ones miss it and the map is small enough."""
    planes = read_planes(label, 0, indices, longest=longest, memory=memory, labels=True)
    missed = bool(case.foreground_voxels) and not any(plane.any() for plane in planes)
    small = label.header.voxels * label.header.dtype.itemsize <= SEARCH_BYTES
    if not missed or not small:
        return indices, planes, None
    fuller = fullest_planes(label, memory, ignore)
    if fuller is None:
        return indices, planes, None
    planes = read_planes(label, 0, fuller, longest=longest, memory=memory, labels=True)
    return fuller, planes, "the middle slices hold no foreground: these are the fullest ones"


def _window(
    case: CaseFingerprint, channel: int, planes: Sequence[NDArray[np.float64]]
) -> tuple[float, float]:
    """Intensities drawn black and white: the 0.5 and 99.5 percentile of the crop box."""
    statistics: IntensityStatistics | None = None
    if channel < len(case.channels):
        statistics = case.channels[channel].crop
    if statistics is not None and statistics.percentile_99_5 > statistics.percentile_00_5:
        return statistics.percentile_00_5, statistics.percentile_99_5
    finite = np.concatenate([plane[np.isfinite(plane)] for plane in planes])
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    return (low, high) if high > low else (low - 1.0, low + 1.0)


def _panel(
    case: CaseFingerprint,
    axis: int,
    index: int,
    plane: NDArray[np.float64],
    window: tuple[float, float],
    label_planes: tuple[NDArray[np.uint64], ...] | None,
    colours: LabelColours,
) -> Panel:
    view = view_across(axis, case.orientation)
    spacing = case.spacing.values or (1.0, 1.0, 1.0)
    height, width = (case.shape[side] * spacing[side] for side in (view.down, view.right))
    least = THINNEST * max(edge * step for edge, step in zip(case.shape, spacing, strict=True))
    labels, labels_alt = None, ""
    if label_planes is not None:
        values = _turned(label_planes[axis], view)
        labels_alt = _labels_in_words(values, colours)
        indices = colours.indices(values)
        if indices.any():
            labels = data_uri("png", encode_indexed(indices, FULL_PALETTE))
    return Panel(
        view=view,
        axis=AXIS_NAMES[axis],
        anatomical=plane_name(axis, case.orientation),
        index=index,
        of=case.shape[axis],
        image=data_uri("jpeg", _jpeg(_turned(plane, view), window)),
        labels=labels,
        labels_alt=labels_alt,
        width=max(width, least),
        height=max(height, least),
        to_scale=min(width, height) >= least,
    )


def _turned(plane: NDArray[Any], view: View) -> NDArray[Any]:
    return plane[:: -1 if view.flip_down else 1, :: -1 if view.flip_right else 1]


def _labels_in_words(values: NDArray[np.uint64], colours: LabelColours) -> str:
    """``labels: cell 12 %, nucleus 3 %``; for many ids their number."""
    found, counts = np.unique(values[values > 0], return_counts=True)
    if not found.size:
        return "no labels in this slice"
    names = [colours.name(int(value)) for value in found]
    if None in names:
        return f"{found.size} label values on {counts.sum() / values.size:.0%} of this slice"
    order = np.argsort(-counts, kind="stable")[:6]
    parts = [f"{names[place]} {counts[place] / values.size:.1%}" for place in order]
    return "labels: " + ", ".join(parts)


def _jpeg(plane: NDArray[np.float64], window: tuple[float, float]) -> bytes:
    import imagecodecs

    low, high = window
    quarter = 0.25  # of all three: the difference of the largest numbers is infinite
    above = np.nan_to_num(plane, nan=low) * quarter - low * quarter
    grey = np.clip(above / (high * quarter - low * quarter), 0, 1)
    pixels = np.ascontiguousarray(np.rint(grey * 255).astype(np.uint8))
    return bytes(imagecodecs.jpeg8_encode(pixels, level=JPEG_QUALITY))


def data_uri(kind: str, content: bytes) -> str:
    """An image that stands in the page itself."""
    return f"data:image/{kind};base64,{b64encode(content).decode('ascii')}"
