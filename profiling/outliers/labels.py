"""Label maps that lack what others have, or hold what none should."""

from __future__ import annotations

import math
from collections.abc import Iterator

from ..fingerprint import CaseFingerprint, Outlier
from .base import FEWEST_FOR_SPREAD, DataSet, far_from_median

SHARE_FACTOR = 4.0
"""Times the usual share of the voxels, up or down, that stands out."""
ABSENT_SHARE = 0.9
"""Share of the labelled cases that have a class, from which a case without it stands out."""
SHOWN_VALUES = 5


def missing_label(data: DataSet) -> Iterator[Outlier]:
    """Cases without a label map among cases that mostly have one."""
    without = [case for case in data.cases if case.label is None]
    if 2 * len(without) >= len(data.cases):
        return
    for case in without:
        reason = f"has no label map, while {len(data.cases) - len(without)} of {len(data.cases)} cases have"
        yield Outlier(case_id=case.id, kind="no-label", reason=reason)


def no_foreground(data: DataSet) -> Iterator[Outlier]:
    """Label maps that hold only background."""
    for case in data.cases:
        if case.foreground_voxels == 0:
            yield Outlier(case_id=case.id, kind="no-foreground", reason="the label map has no foreground")


def unexpected_values(data: DataSet) -> Iterator[Outlier]:
    """Label values that the declared classes do not name."""
    if data.labels is None or not data.declared:
        return
    expected = {value for group in data.labels.classes.values() for value in group} | {0}
    if data.labels.ignore is not None:
        expected.add(data.labels.ignore)
    for case in data.cases:
        strange = sorted(int(value) for value in case.class_voxels or {} if int(value) not in expected)
        if strange:
            shown = ", ".join(map(str, strange[:SHOWN_VALUES]))
            more = f" and {len(strange) - SHOWN_VALUES} more" if len(strange) > SHOWN_VALUES else ""
            named = ", ".join(str(value) for value in sorted(expected)[:SHOWN_VALUES])
            reason = f"the label map holds {shown}{more}, which no class has (declared: {named})"
            yield Outlier(case_id=case.id, kind="label-value", reason=reason)


def gaps(data: DataSet) -> Iterator[Outlier]:
    """Declared label values that are not 0, 1, 2, ... without a gap."""
    if data.labels is None or not data.declared:
        return
    values = {value for group in data.labels.classes.values() for value in group}
    if data.labels.ignore is not None:
        values.add(data.labels.ignore)
    if values and values != set(range(len(values))):
        shown = ", ".join(str(value) for value in sorted(values)[:SHOWN_VALUES])
        reason = f"its label values are {shown}: nnU-Net wants 0, 1, 2, ... without a gap"
        yield Outlier(case_id="dataset.json", kind="label-gap", reason=reason)


def miscounted(data: DataSet) -> Iterator[Outlier]:
    """A dataset.json that declares another number of cases than there are."""
    if data.counts is not None and data.counts[0] != data.counts[1]:
        reason = f"numTraining is {data.counts[0]}, but there are {data.counts[1]} cases"
        yield Outlier(case_id="dataset.json", kind="case-count", reason=reason)


def odd_shares(data: DataSet) -> Iterator[Outlier]:
    """Cases of which a class, or all foreground, takes far more or less than usual, or nothing."""
    labelled = [case for case in data.cases if case.foreground_voxels is not None]
    if len(labelled) < FEWEST_FOR_SPREAD:
        return
    if data.labels is None or not data.labels.classes or any(case.class_voxels is None for case in labelled):
        voxels = [case.foreground_voxels or 0 for case in labelled]
        yield from _odd_shares_of("the foreground", labelled, voxels)
        return
    for name, values in data.labels.classes.items():
        if 0 in values:
            continue
        voxels = [sum((case.class_voxels or {}).get(str(value), 0) for value in values) for case in labelled]
        yield from _odd_shares_of(name, labelled, voxels)


def _odd_shares_of(name: str, cases: list[CaseFingerprint], voxels: list[int]) -> Iterator[Outlier]:
    present = sum(count > 0 for count in voxels)
    shares = [count / math.prod(case.shape) for case, count in zip(cases, voxels, strict=True)]
    logs = [math.log2(share) if share else math.nan for share in shares]
    usual = sorted(share for share in shares if share)
    odd = set(far_from_median(logs, math.log2(SHARE_FACTOR)))
    for place, case in enumerate(cases):
        if place in odd:
            middle = usual[len(usual) // 2]
            reason = f"{name} takes {shares[place]:.3%} of the voxels, while {middle:.3%} is usual"
            yield Outlier(case_id=case.id, kind="label-share", reason=reason)
        elif not voxels[place] and case.foreground_voxels and present >= ABSENT_SHARE * len(cases):
            reason = f"{name} does not occur, while {present} of {len(cases)} cases have it"
            yield Outlier(case_id=case.id, kind="label-share", reason=reason)
