"""Cases that hold the same image, or the same image turned or mirrored.

Compared are, for every channel, the exact number of voxels that are not 0, their mean, standard deviation,
extremes and five quantiles, and the number of non-finite voxels; where all of these are equal, the
intensities at up to 4096 places, the same in volumes of one shape (:mod:`voxplan.profiling.samples`). No file
is read again, and stored types, slopes and formats do not matter, nor do label maps.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator

from ..fingerprint import CaseFingerprint, Outlier
from .base import DataSet

FEWEST_VALUES = 64
"""Distinct values from which equal statistics in other places cannot be chance (binary images have two)."""


def duplicates(data: DataSet) -> Iterator[Outlier]:
    """Every further case of an image that another case has."""
    groups: dict[Hashable, list[CaseFingerprint]] = defaultdict(list)
    for case in data.cases:
        if case.sample_digest is not None and not _is_trivial(case):
            groups[_statistics(case)].append(case)
    for group in groups.values():
        first_of: dict[Hashable, str] = {}
        for case in group:
            same = first_of.setdefault((case.shape, case.sample_digest), case.id)
            if same != case.id:
                reason = f"the image has the same voxels as that of {same}"
                yield Outlier(case_id=case.id, kind="duplicate", reason=reason)
            elif case is not group[0] and _is_rich(case):
                reason = (
                    f"the image has the same statistics as that of {group[0].id}, to the last digit, but "
                    "other voxels in the same places: a mirrored, turned or shifted copy?"
                )
                yield Outlier(case_id=case.id, kind="duplicate", reason=reason)


def _statistics(case: CaseFingerprint) -> Hashable:
    channels = tuple((channel.nonzero, channel.non_finite) for channel in case.channels)
    return (tuple(sorted(case.shape)), tuple(repr(channel) for channel in channels))


def _is_trivial(case: CaseFingerprint) -> bool:
    """Whether every channel is zero or constant: such images are alike without being copies."""
    return all(
        channel.nonzero is None or channel.nonzero.min == channel.nonzero.max for channel in case.channels
    )


def _is_rich(case: CaseFingerprint) -> bool:
    """Whether some channel has many values, or so many that they share bins."""
    return any(
        channel.nonzero is not None and (channel.extremes is None or channel.extremes.values >= FEWEST_VALUES)
        for channel in case.channels
    )
