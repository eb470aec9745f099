"""What the sections of a data set's report say: figures, tables and drawings, from the fingerprint alone."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePath

import numpy as np

from ...fingerprint import CaseFingerprint, Failure, Fingerprint, IntensityStatistics
from ...outliers import Outlier
from ...shown_spacing import converted, shown_unit
from ...summary import reference_unit, spacings_in
from .charts import CaseRange, Strip, in_plane, range_chart, scatter_chart, strip_chart
from .svg import Chart
from .tables import MOST_ROWS, Cell, Table, amount, columns, words

AXES = "ZYX"
ATTENTION_ROWS = 20
"""Rows of failures and of remarks that are shown at once, so that the pictures are not far below."""
MOST_CLASSES_DRAWN = 12
NAME_LETTERS = 12
"""Of a class beside its row."""
FEWEST_DRAWN = 3
"""Cases below which there is no distribution to draw."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One number of the overview."""

    name: str
    value: str
    note: str = ""
    alarming: bool = False


def times(values: Iterable[float]) -> str:
    """``28 × 96 × 104``."""
    return " × ".join(f"{value:.4g}" if value != int(value) else f"{int(value)}" for value in values)


def byte_text(count: float) -> str:
    """``1.17 MB``."""
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def below(root: str, text: str) -> str:
    """A text whose paths below the data folder begin there.

    Paths stand in a fingerprint as they were given: whole, or from the folder where the program ran, in which
    case they begin with the last parts of the root.
    """
    parts = PurePath(root).parts
    starts = [str(PurePath(*parts[first:])) for first in range(len(parts))]
    names = "|".join(re.escape(start) for start in starts if start != "/")
    return re.sub(rf"(?<![^\s,(])(?:{names})/(?=\S)", "", text) if names else text


def overview(fingerprint: Fingerprint) -> list[Figure]:
    """The figures on top."""
    info, summary = fingerprint.dataset, fingerprint.summary
    sources = Counter(case.spacing.source for case in fingerprint.cases)
    said = ", ".join(f"{source} ({count:,})" for source, count in sources.most_common(3))
    spacing = spacing_text(summary.spacing.median if summary.spacing else None, summary.spacing_unit)
    median = "Median " if summary.cases > 1 else ""
    declared = "" if info.declared_cases is None else f"{info.declared_cases:,} declared"
    figures = [
        Figure(name="Cases", value=f"{summary.cases:,}", note=declared),
        Figure(
            name="Failed",
            value=f"{summary.failures:,}",
            note="not in the numbers" if summary.failures else "",
            alarming=summary.failures > 0,
        ),
        Figure(
            name="Voxels",
            value=f"{summary.voxels:,}" if summary.voxels < 1e9 else f"{summary.voxels:.3g}",
            note=f"{byte_text(summary.stored_bytes)} stored",
        ),
        Figure(
            name=f"{median}shape".capitalize(), value=times(summary.shape.median), note="Z × Y × X, voxels"
        ),
        Figure(
            name=f"{median}spacing".capitalize(),
            value=spacing,
            note=f"source: {said}",
            alarming=summary.spacing_missing > 0,
        ),
        Figure(
            name="Labels",
            value=info.labels.kind,
            note=f"{'proposed' if info.labels.proposed else 'given'}: {info.labels.reason}",
        ),
    ]
    if summary.anisotropy is not None:
        figures.insert(
            5, Figure(name="Anisotropy", value=f"{summary.anisotropy:.3g}", note="coarsest spacing by finest")
        )
    if summary.channels:
        kept = f"{summary.median_relative_size_after_cropping:.1%}"
        note = "of the volume, median" if median else "of the volume"
        figures.append(Figure(name="Non-zero box", value=kept, note=note))
    return figures


def spacing_text(spacing: Sequence[float] | None, unit: str) -> str:
    """Spacing with its unit, or that it is missing."""
    if spacing is None:
        return "missing"
    shown = shown_unit(unit, spacing)
    return times(converted(spacing, unit, shown)) + ("" if shown == "unknown" else f" {shown}")


def failure_table(failures: Sequence[Failure], root: str = "") -> Table:
    """Every case that could not be profiled; paths below ``root`` are shown from there."""
    rows = [
        [
            words(failure.id),
            words(failure.kind),
            words(below(root, failure.reason)),
            words(below(root, ", ".join(failure.files[:3]))),
        ]
        for failure in failures[:MOST_ROWS]
    ]
    return Table(
        key="failures-table",
        caption="Cases that could not be profiled",
        columns=columns("Case", "Kind", "~Reason", "~Files"),
        rows=rows,
        searchable=True,
        total=len(failures),
        page=ATTENTION_ROWS,
    )


def remark_table(
    cases: Sequence[CaseFingerprint],
    outliers: Sequence[Outlier],
    pictured: Collection[str],
    root: str = "",
) -> Table:
    """What stands out, then what the cases themselves warn of and is not said yet."""
    said = {(outlier.case_id, outlier.reason) for outlier in outliers}
    found = [(outlier.case_id, outlier.kind, outlier.reason) for outlier in outliers]
    found += [
        (case.id, "warning", text) for case in cases for text in case.warnings if (case.id, text) not in said
    ]
    rows = [[_case_cell(case, pictured), words(kind), words(below(root, why))] for case, kind, why in found]
    return Table(
        key="remarks-table",
        caption="Cases that stand out, and warnings of cases",
        columns=columns("Case", "Kind", "~Remark"),
        rows=rows[:MOST_ROWS],
        searchable=True,
        total=len(rows),
        page=ATTENTION_ROWS,
    )


def case_table(
    cases: Sequence[CaseFingerprint], outliers: Sequence[Outlier], pictured: Collection[str]
) -> Table:
    """Every case in one row."""
    strange = Counter(outlier.case_id for outlier in outliers)
    rows = []
    for case in cases[:MOST_ROWS]:
        spacing = case.spacing
        spaced = spacing_text(spacing.values, spacing.unit)
        voxels = float(np.prod(np.array(case.shape, np.float64)))
        middle = case.channels[0].foreground or case.channels[0].nonzero if case.channels else None
        row = [
            _case_cell(case.id, pictured),
            amount(voxels, times(case.shape)),
            amount(-1.0 if spacing.values is None else float(np.prod(spacing.values)), spaced),
            words(spacing.source),
            words(case.dtype),
            _foreground(case, voxels),
            amount(float("-inf"), "–") if middle is None else amount(middle.median, f"{middle.median:.5g}"),
            amount(case.stored_bytes, byte_text(case.stored_bytes)),
            amount(len(case.warnings) + strange[case.id]),
        ]
        rows.append(row)
    return Table(
        key="cases-table",
        caption="All cases",
        columns=columns(
            "Case",
            "#Shape (voxels)",
            "#Spacing",
            "Source",
            "Type",
            "#Foreground",
            "#Median intensity",
            "#Stored",
            "#Remarks",
        ),
        rows=rows,
        searchable=True,
        total=len(cases),
    )


def _case_cell(case: str, pictured: Collection[str]) -> Cell:
    return Cell(text=case, link=f"#{anchor(case)}" if case in pictured else None)


def anchor(case: str) -> str:
    """HTML id of a case's pictures: letters and digits stand, every other character becomes its number."""
    return "case-" + "".join(c if c.isascii() and c.isalnum() else f"_{ord(c):x}_" for c in case)


def _foreground(case: CaseFingerprint, voxels: float) -> Cell:
    if case.objects is not None:
        return amount(case.objects.count, f"{case.objects.count:,} objects")
    if case.foreground_voxels is None:
        return amount(-1, "–")
    return amount(case.foreground_voxels / voxels, f"{case.foreground_voxels / voxels:.3%}")


def geometry_charts(fingerprint: Fingerprint, outliers: Sequence[Outlier]) -> list[Chart]:
    """Shapes and spacings: a strip per axis, and the plane against the slices."""
    cases = fingerprint.cases
    if len(cases) < FEWEST_DRAWN:
        return []
    odd_shapes = {o.case_id for o in outliers if o.kind == "shape"}
    odd_spacings = {o.case_id for o in outliers if o.kind == "spacing"}
    unit, summary = reference_unit(cases), fingerprint.summary
    shown = shown_unit(unit, summary.spacing.median if summary.spacing else None)
    spaced = [
        (case.id, converted(values, unit, shown))
        for case, values in zip(cases, spacings_in(unit, cases)[0], strict=True)
        if values
    ]
    said = "no unit" if shown == "unknown" else shown
    known, spacings = [case for case, _ in spaced], [values for _, values in spaced]
    charts = [
        *_shape_charts(cases, odd_shapes),
        strip_chart(
            "spacing-strip",
            "Spacing of every case by axis",
            said,
            [Strip(label=AXES[a], values=[v[a] for v in spacings], cases=known) for a in range(3)],
            odd_spacings,
        ),
        scatter_chart(
            "spacing-scatter",
            "Spacing of slices against spacing in the plane, every case",
            (f"√(Y·X), {said}", f"Z, {said}"),
            [(in_plane(values), values[0]) for values in spacings],
            known,
            odd_spacings,
        ),
    ]
    return [chart for chart in charts if chart is not None]


def _shape_charts(cases: Sequence[CaseFingerprint], odd: Collection[str]) -> list[Chart | None]:
    """Edges by axis, and slices against their plane; of 2D data, whose slices are one, height and width."""
    ids = [case.id for case in cases]
    flat = all(case.shape[0] == 1 for case in cases)
    if flat:
        title, named = "Height against width, every case", ("X, voxels", "Y, voxels")
        points = [(float(case.shape[2]), float(case.shape[1])) for case in cases]
    else:
        title, named = "Slices against their size, every case", ("√(Y·X), voxels", "Z, voxels")
        points = [(in_plane(case.shape), float(case.shape[0])) for case in cases]
    strips = [
        Strip(label=AXES[axis], values=[case.shape[axis] for case in cases], cases=ids)
        for axis in range(1 if flat else 0, 3)
    ]
    return [
        strip_chart("shape-strip", "Shape of every case by axis", "voxels", strips, odd),
        scatter_chart("shape-scatter", title, named, points, ids, odd),
    ]


def class_table(fingerprint: Fingerprint) -> Table | None:
    """Voxels of each class; None without classes."""
    frequencies = fingerprint.summary.class_frequencies
    if not frequencies:
        return None
    labelled = [case.class_voxels for case in fingerprint.cases if case.class_voxels is not None]
    rows = []
    for name, share in list(frequencies.items())[:MOST_ROWS]:
        values = fingerprint.dataset.labels.classes[name]
        counts = [sum(voxels.get(str(value), 0) for value in values) for voxels in labelled]
        having = sum(count > 0 for count in counts)
        rows.append(
            [
                words(name),
                words(", ".join(map(str, values[:8]))),
                amount(share, f"{share:.4%}"),
                amount(sum(counts)),
                amount(having, f"{having:,} of {len(labelled):,}"),
            ]
        )
    return Table(
        key="classes-table",
        caption="Classes of all labelled cases together",
        columns=columns("Class", "Label values", "#Share of voxels", "#Voxels", "#Cases with it"),
        rows=rows,
        total=len(frequencies),
    )


def class_chart(fingerprint: Fingerprint) -> Chart | None:
    """Share of each class in each case that has it, or sizes of objects."""
    cases = fingerprint.cases
    if len(cases) < FEWEST_DRAWN:
        return None
    with_objects = [case for case in cases if case.objects is not None]
    if with_objects:
        return _object_chart(with_objects)
    names = [name for name in fingerprint.summary.class_frequencies or {} if name != "background"]
    strips = []
    for name in names[:MOST_CLASSES_DRAWN]:
        values = fingerprint.dataset.labels.classes[name]
        shares, ids = [], []
        for case in cases:
            count = sum((case.class_voxels or {}).get(str(value), 0) for value in values)
            if count:
                shares.append(100 * count / float(np.prod(np.array(case.shape, np.float64))))
                ids.append(case.id)
        strips.append(Strip(label=_shortened(name), values=shares, cases=ids))
    title = "Share of each class in the cases that have it"
    if len(names) > MOST_CLASSES_DRAWN:
        title += f": the first {MOST_CLASSES_DRAWN} of {len(names)}"
    return strip_chart("class-strip", title, "% of the voxels", strips)


def _shortened(name: str) -> str:
    """A name that fits beside its row; both ends stay, as numbers stand at either."""
    return name if len(name) <= NAME_LETTERS else f"{name[:5]}…{name[-6:]}"


def _object_chart(cases: Sequence[CaseFingerprint]) -> Chart | None:
    ids = [case.id for case in cases]
    objects = [case.objects for case in cases if case.objects is not None]
    rows = {
        "10 %": [float(o.size_percentile_10) for o in objects],
        "median": [float(o.size_median) for o in objects],
        "90 %": [float(o.size_percentile_90) for o in objects],
        "largest": [float(o.size_max) for o in objects],
    }
    strips = [Strip(label=name, values=values, cases=ids) for name, values in rows.items()]
    return strip_chart("object-strip", "Sizes of objects, every case", "voxels an object", strips, log=True)


def intensity_ranges(
    key: str,
    name: str,
    channel: int,
    region: str,
    cases: Sequence[CaseFingerprint],
    odd: Collection[str] = (),
) -> Chart | None:
    """From the 0.5 to the 99.5 percentile of every case; ``odd`` ones are marked."""
    ranges = []
    for case in cases:
        if channel >= len(case.channels):
            continue
        numbers: IntensityStatistics | None = getattr(case.channels[channel], region)
        if numbers is not None:
            one = CaseRange(
                case=case.id,
                low=numbers.percentile_00_5,
                middle=numbers.median,
                high=numbers.percentile_99_5,
            )
            ranges.append(one)
    if len(ranges) < FEWEST_DRAWN:
        return None
    title = f"{name}: 0.5 to 99.5 percentile and median of every case ({region})"
    return range_chart(key, title, "intensity", ranges, odd)
