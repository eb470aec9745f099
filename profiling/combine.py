"""Results of cases put together: what the labels are, their classes, the summary, the fingerprint."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from .fingerprint import (
    CaseFingerprint,
    DatasetInfo,
    Failure,
    Fingerprint,
    LabelKind,
    Labels,
    Provenance,
)
from .formats.base import TIME_POINTS
from .labels import LabelTable, object_statistics, propose_label_kind
from .layouts.assemble import sorted_failures
from .layouts.base import DiscoveredDataset
from .outliers import DataSet, common_clipping, find_outliers
from .outliers.geometry import usual_channels
from .results import Column, Result
from .summary import class_frequencies, named, summarize

IGNORE_MARKS = (255, 65535)
"""Largest values of uint8 and uint16: marks of what is not to be trained on (PASCAL VOC, Cityscapes: 255)."""


class NothingProfiledError(ValueError):
    """No case could be profiled, so that there is no fingerprint; the failures say why."""

    def __init__(self, dataset: DiscoveredDataset, failures: tuple[Failure, ...]) -> None:
        files = {file for failure in failures for file in failure.files}
        if len(failures) == len(files) == 1:
            what = f"{files.pop()}, the only case, could not be profiled"
        elif len(failures) == 1:
            what = f"{dataset.place}: its only case could not be profiled"
        else:
            what = f"{dataset.place}: none of {len(failures)} cases could be profiled"
        super().__init__(what)
        self.failures = failures
        self.warnings = dataset.warnings
        """What the layout has to say, such as what was left out."""


@dataclass(frozen=True, slots=True)
class Declared:
    """What folder and user say about the labels."""

    kind: LabelKind | None
    """As the user says."""
    ignore: int | None


def assemble_fingerprint(
    dataset: DiscoveredDataset,
    results: Sequence[Result],
    failures: Sequence[Failure],
    declared: Declared,
    provenance: Provenance,
) -> Fingerprint:
    """The fingerprint of everything that was profiled.

    Raises:
        NothingProfiledError: nothing was.
    """
    results, refused = _with_declared_channels(
        dataset, sorted(results, key=lambda result: result.fingerprint.id)
    )
    all_failures = sorted_failures((*dataset.failures, *failures, *refused))
    if not results:
        raise NothingProfiledError(dataset, all_failures)
    labels, label_warnings = _labels(dataset, results, declared)
    cases = tuple(_for_kind(result, labels.kind) for result in results)
    channels = usual_channels(Counter(len(case.channels) for case in cases))
    warnings = [*dataset.warnings, *label_warnings, *(() if dataset.channel_names else _time_series(cases))]
    if (clipped := common_clipping(DataSet(cases))) is not None:
        warnings.append(clipped)
    semantic = labels.kind == "semantic"
    return Fingerprint(
        dataset=DatasetInfo(
            name=dataset.name,
            root=dataset.place,
            layout=dataset.layout,
            file_format=dataset.file_format,
            channel_names=dataset.channel_names or tuple(f"channel_{i}" for i in range(channels)),
            labels=labels,
            declared_cases=dataset.declared_cases,
        ),
        summary=summarize(
            cases,
            {
                "foreground": [Column(results, "foreground", channel) for channel in range(channels)],
                "nonzero": [Column(results, "nonzero", channel) for channel in range(channels)],
            },
            failures=len(all_failures),
            class_frequencies=class_frequencies(cases, labels.classes) if semantic else None,
            warnings=warnings,
        ),
        cases=cases,
        failures=all_failures,
        outliers=find_outliers(
            cases,
            labels,
            declared=bool(dataset.classes) and semantic,
            counts=None
            if dataset.declared_cases is None
            else (dataset.declared_cases, len(cases) + len(all_failures)),
        ),
        provenance=provenance,
    )


def _with_declared_channels(
    dataset: DiscoveredDataset, results: Sequence[Result]
) -> tuple[list[Result], list[Failure]]:
    """Cases with as many channels as the dataset.json names; the others are failures."""
    if dataset.channel_names is None:
        return list(results), []
    wanted = len(dataset.channel_names)
    kept: list[Result] = []
    refused: list[Failure] = []
    for result in results:
        case = result.fingerprint
        if not case.channels or len(case.channels) == wanted:
            kept.append(result)
            continue
        reason = (
            f"{case.images[0]}: has {len(case.channels)} channels, but the dataset.json names {wanted} "
            f"({', '.join(dataset.channel_names)}); correct one of them"
        )
        refused.append(Failure(id=case.id, files=case.images, kind="channels", reason=reason))
    return kept, refused


def _labels(
    dataset: DiscoveredDataset, results: Sequence[Result], declared: Declared
) -> tuple[Labels, list[str]]:
    """Kind and classes, and what is odd about them."""
    tables = [result.labels for result in results if result.labels is not None]
    warnings: list[str] = []
    unlabelled = [result.fingerprint.id for result in results if result.fingerprint.label is None]
    if unlabelled and len(unlabelled) < len(results):
        warnings.append(f"without labels: {named(unlabelled)}")
    kind, proposed, reason = _kind(dataset, tables, len(unlabelled) == len(results), declared)
    if kind == "none" and declared.kind not in (None, "none"):
        warnings.append(
            f"the labels are said to be {declared.kind}, but no case has a label map: name their place with "
            "--labels PLACE (or --label-key KEY)"
        )
    if kind != "semantic":
        return Labels(
            kind=kind, proposed=proposed, reason=reason, classes={}, ignore=declared.ignore
        ), warnings
    values = {value for table in tables for value in table.counts or {}}
    values -= set() if declared.ignore is None else {declared.ignore}
    if any(table.counts is None for table in tables):
        warnings.append("too many label values for a table of classes; --label-kind instance may be meant")
    if dataset.classes:
        classes: dict[str, tuple[int, ...]] = dict(dataset.classes)
        named_values = {value for group in classes.values() for value in group}
        if strange := sorted(values - named_values - {0}):
            warnings.append(f"label values {_few(strange)} occur, but the dataset.json does not name them")
        if tables and (absent := [name for name, group in classes.items() if not values & set(group)]):
            warnings.append(f"classes that no case has: {', '.join(absent)}")
    else:
        classes = {"background": (0,)}
        classes |= {f"class_{value}": (value,) for value in sorted(values) if value > 0}
        warnings += _like_an_ignore_label(sorted(value for value in values if value > 0))
    labels = Labels(kind=kind, proposed=proposed, reason=reason, classes=classes, ignore=declared.ignore)
    return labels, warnings


def _like_an_ignore_label(values: Sequence[int]) -> list[str]:
    """A remark where the last of the classes' values (ascending) is the mark of what nobody has annotated."""
    *others, last = values or (0,)
    if last not in IGNORE_MARKS or not others or others != list(range(1, len(others) + 1)):
        return []
    beside = "1" if len(others) == 1 else f"1 to {others[-1]}"
    return [
        f"label value {last} beside {beside}: taken for a class; if it marks voxels that nobody has "
        f"annotated, say --ignore-label {last}"
    ]


def _time_series(cases: Sequence[CaseFingerprint]) -> list[str]:
    """A remark where readers took time points for channels, since a file says no better."""
    ids = [case.id for case in cases if any(TIME_POINTS in warning for warning in case.warnings)]
    if not ids:
        return []
    return [f"{TIME_POINTS} in {named(ids)}: cut the series into volumes if one point in time is one image"]


def _kind(
    dataset: DiscoveredDataset, tables: Sequence[LabelTable], unlabelled: bool, declared: Declared
) -> tuple[LabelKind, bool, str]:
    """Kind, whether the program proposed it, and why; the user is heard first, then the dataset.json."""
    if declared.kind is not None and (declared.kind == "none" or not unlabelled):
        return declared.kind, False, "as the user says"
    if unlabelled:
        return "none", True, "no case has a label map"
    if dataset.label_kind is not None:
        return dataset.label_kind, False, "the dataset.json names the classes"
    if not tables:
        return "semantic", True, "label maps are there, but only headers were read"
    kind, reason = propose_label_kind(tables)
    return kind, True, reason


def _for_kind(result: Result, kind: LabelKind) -> CaseFingerprint:
    """The case with what its kind of labels keeps: voxels of classes or sizes of objects."""
    table = result.labels
    voxels, objects = None, None
    if table is not None and kind == "semantic" and table.counts is not None:
        voxels = {str(value): count for value, count in sorted(table.counts.items())}
    if table is not None and kind == "instance":
        objects = object_statistics(table)
    case = result.fingerprint
    if (case.class_voxels, case.objects) == (voxels, objects):
        return case
    return case.model_copy(update={"class_voxels": voxels, "objects": objects})


def _few(values: Sequence[int]) -> str:
    shown = ", ".join(map(str, values[:5]))
    return shown if len(values) <= 5 else f"{shown} and {len(values) - 5} more"
