"""The whole report of a data set: one HTML file that needs nothing but a browser."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...codec import CodecError
from ...fingerprint import ChannelSummary, Fingerprint, IntensityStatistics
from ...formats.base import ReadOptions
from ...layouts.base import DiscoveredDataset
from ...outliers import Outlier
from ...shown_spacing import converted, shown_unit
from ...sidecar import CaseHistograms
from ...statistics import Distribution
from .colours import LabelColours
from .histogram_chart import histogram_chart, percentiles
from .histograms import are_whole, collect_bars
from .page import render_page, write_page
from .pictures import Picture, picture_case
from .sections import (
    anchor,
    below,
    byte_text,
    case_table,
    class_chart,
    class_table,
    failure_table,
    geometry_charts,
    intensity_ranges,
    overview,
    remark_table,
    spacing_text,
    times,
)
from .selection import choose_pictured
from .svg import LARGEST_DRAWN, Chart
from .tables import Table, amount, columns, words

PICTURE_CHARACTERS = 2_600_000
"""Of all images together, so that the page stays below 5 MB with the tables and drawings of 5,000 cases."""
RESOLUTIONS = ((2, 640), (8, 448), (24, 320), (48, 224))
"""Up to so many cases, pixels along an edge of a picture."""
MOST_CHANNELS_DRAWN = 12
DEFAULT_MEMORY = 512 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What a report shows, for the command line."""

    path: Path
    characters: int
    pictured: int
    cases: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelSection:
    """Drawings and numbers of one channel."""

    name: str
    region: str
    histogram: Chart | None
    ranges: Chart | None
    odd_ranges: bool
    table: Table


def write_report(
    fingerprint: Fingerprint,
    path: Path,
    *,
    dataset: DiscoveredDataset | None = None,
    histograms: Mapping[str, CaseHistograms] | None = None,
    read: ReadOptions = ReadOptions(),  # noqa: B008 - frozen
    memory: int = DEFAULT_MEMORY,
) -> Written:
    """Write the report of a fingerprint.

    Args:
        fingerprint: what it shows.
        path: the HTML file.
        dataset: where the cases' files lie; without it there are no pictures.
        histograms: the fingerprint's sidecar; without it there are no histograms.
        read: as the cases were profiled.
        memory: bytes that reading slices may take.

    Raises:
        OSError: the folder is missing, not writable or full.
    """
    outliers = fingerprint.outliers
    pictures = [] if dataset is None else _pictures(fingerprint, dataset, outliers, read, memory)
    shown = {picture.case.id for picture in pictures}
    repeated = {str(outlier) for outlier in outliers}
    root = fingerprint.dataset.root
    content = {
        "fingerprint": fingerprint,
        "overview": overview(fingerprint),
        "failures": failure_table(fingerprint.failures, root),
        "warnings": [below(root, text) for text in fingerprint.summary.warnings if text not in repeated],
        "remarks": remark_table(fingerprint.cases, outliers, shown, root),
        "strange": _strange(outliers, root),
        "pictures": pictures,
        "has_data": dataset is not None,
        "legend": _colours(fingerprint).legend(),
        "geometry": geometry_charts(fingerprint, outliers),
        "clusters": _clusters(fingerprint),
        "channels": list(_channels(fingerprint, histograms, outliers)),
        "channels_left": max(0, len(fingerprint.summary.channels) - MOST_CHANNELS_DRAWN),
        "class_chart": class_chart(fingerprint),
        "classes": class_table(fingerprint),
        "cases": case_table(fingerprint.cases, outliers, shown),
        "anchor": anchor,
        "spacing_text": spacing_text,
        "times": times,
        "byte_text": byte_text,
    }
    text = render_page("fingerprint.html", content)
    write_page(text, path)
    return Written(path=path, characters=len(text), pictured=len(pictures), cases=len(fingerprint.cases))


def _strange(outliers: Sequence[Outlier], root: str) -> dict[str, list[str]]:
    """Why a case stands out, by id."""
    reasons: dict[str, list[str]] = {}
    for outlier in outliers:
        reasons.setdefault(outlier.case_id, []).append(below(root, outlier.reason))
    return reasons


def _colours(fingerprint: Fingerprint) -> LabelColours:
    labels = fingerprint.dataset.labels
    return LabelColours(labels.classes, labels.ignore)


def _pictures(
    fingerprint: Fingerprint,
    dataset: DiscoveredDataset,
    outliers: Sequence[Outlier],
    read: ReadOptions,
    memory: int,
) -> list[Picture]:
    """Pictures of the chosen cases, as many as there is room for."""
    sources = {case.id: case for case in dataset.cases}
    chosen = [case for case in choose_pictured(fingerprint.cases, outliers) if case.id in sources]
    longest = next((pixels for most, pixels in RESOLUTIONS if len(chosen) <= most), RESOLUTIONS[-1][1])
    colours = _colours(fingerprint)
    pictures: list[Picture] = []
    room = PICTURE_CHARACTERS
    for case in chosen:
        picture = picture_case(
            case,
            sources[case.id],
            read,
            colours=colours,
            channel_names=fingerprint.dataset.channel_names,
            longest=longest,
            memory=memory,
        )
        room -= picture.size
        if room < 0:
            break
        pictures.append(picture)
    return pictures


def _clusters(fingerprint: Fingerprint) -> Table | None:
    """Groups of equal spacing, where there are several."""
    clusters = fingerprint.summary.spacing_clusters
    if len(clusters) < 2:
        return None
    summary = fingerprint.summary
    unit = shown_unit(summary.spacing_unit, summary.spacing.median if summary.spacing else None)
    rows = [
        [words(times(converted(cluster.spacing, summary.spacing_unit, unit))), amount(cluster.cases)]
        for cluster in clusters[:200]
    ]
    return Table(
        key="clusters-table",
        caption="Spacings that agree to within 5 %",
        columns=columns("Spacing" if unit == "unknown" else f"Spacing ({unit})", "#Cases"),
        rows=rows,
        total=len(clusters),
    )


def _channels(
    fingerprint: Fingerprint,
    histograms: Mapping[str, CaseHistograms] | None,
    outliers: Sequence[Outlier],
) -> Iterator[ChannelSection]:
    odd = {outlier.case_id for outlier in outliers if outlier.kind == "intensity"}
    names = fingerprint.dataset.channel_names
    for number, summary in enumerate(fingerprint.summary.channels[:MOST_CHANNELS_DRAWN]):
        name = names[number] if number < len(names) else f"channel_{number}"
        yield ChannelSection(
            name=name,
            region=summary.region,
            histogram=_histogram(fingerprint, histograms, number, name, summary),
            ranges=intensity_ranges(f"ranges-{number}", name, number, summary.region, fingerprint.cases, odd),
            odd_ranges=bool(odd),
            table=_numbers(f"numbers-{number}", name, summary, len(fingerprint.cases)),
        )


def _histogram(
    fingerprint: Fingerprint,
    histograms: Mapping[str, CaseHistograms] | None,
    channel: int,
    name: str,
    summary: ChannelSummary,
) -> Chart | None:
    pooled = summary.pooled
    if histograms is None or pooled is None or max(-pooled.min, pooled.max) > LARGEST_DRAWN:
        return None

    def distributions() -> Iterator[Distribution | None]:
        for case in fingerprint.cases:
            held = histograms[case.id]
            channels = held.foreground if summary.region == "foreground" else held.nonzero
            yield channels[channel] if channel < len(channels) else None

    try:
        whole = are_whole((case.dtype for case in fingerprint.cases), pooled)
        bars = collect_bars(distributions(), pooled, whole=whole)
    except (CodecError, KeyError):
        return None
    key, title, several = f"histogram-{channel}", f"Intensities of {name}", len(fingerprint.cases) > 1
    return histogram_chart(key, title, bars, pooled, summary.region, several=several)


def _numbers(key: str, name: str, summary: ChannelSummary, cases: int) -> Table:
    rows = []
    both = [("by case", summary.case_weighted), ("by voxel", summary.pooled)]
    for label, numbers in both if cases > 1 else [("all voxels", summary.pooled)]:
        if numbers is not None:
            rows.append([words(label), *(amount(value, f"{value:.6g}") for _, value in _values(numbers))])
    heads = ["Weighing"] + ([f"#{head}" for head, _ in _values(summary.pooled)] if summary.pooled else [])
    return Table(
        key=key, caption=f"{name}, {summary.region}: intensities", columns=columns(*heads), rows=rows
    )


def _values(numbers: IntensityStatistics) -> list[tuple[str, float]]:
    return [
        ("mean", numbers.mean),
        ("std", numbers.std),
        ("min", numbers.min),
        *percentiles(numbers),
        ("max", numbers.max),
    ]
