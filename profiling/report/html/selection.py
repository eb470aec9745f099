"""Which cases of a large data set are pictured."""

from __future__ import annotations

from collections.abc import Sequence

from ...fingerprint import CaseFingerprint
from ...outliers import Outlier

MOST_PICTURED = 48
"""Cases with pictures at most: what a person looks through, and within 5 MB."""
ODD_SHARE = 0.5
"""Share of them that cases which stand out may take."""


def choose_pictured(
    cases: Sequence[CaseFingerprint], outliers: Sequence[Outlier], most: int = MOST_PICTURED
) -> list[CaseFingerprint]:
    """All cases, or those that stand out and others spread evenly over the rest, in the order of ids."""
    if len(cases) <= most:
        return list(cases)
    strange = {outlier.case_id for outlier in outliers}
    odd = [case for case in cases if case.id in strange] + [
        case for case in cases if case.id not in strange and case.warnings
    ]
    chosen = {case.id for case in odd[: int(most * ODD_SHARE)]}
    others = [case for case in cases if case.id not in chosen]
    room = most - len(chosen)
    chosen |= {others[place * len(others) // room].id for place in range(room)}
    return [case for case in cases if case.id in chosen]
