"""Voxels that are no measurement, and intensities unlike those of the other cases."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from ..fingerprint import CaseFingerprint, ChannelStatistics, IntensityStatistics, Outlier
from .base import FEWEST_CASES, FEWEST_FOR_SPREAD, DataSet, far_from_median, where

CLIPPED_SHARE = 0.01
"""Share of the voxels (other than 0) that have the highest value, above which it is clipped."""
CLIPPED_TIMES_EVEN = 3.0
"""Times the share that this value would have if all were as frequent: few grey levels are no clipping."""
COMMON_SHARE = 0.5
"""Share of cases that are clipped, from which it is how the data set is, and no case stands out."""
WIDTH_FACTOR = 4.0
"""Times the usual distance of the 10th to the 90th percentile, up or down, that stands out."""


def non_finite(data: DataSet) -> Iterator[Outlier]:
    """NaN and infinities."""
    for case in data.cases:
        for number, channel in enumerate(case.channels):
            if channel.non_finite:
                reason = f"{where(number, case)} has {channel.non_finite:,} NaN or infinite voxels"
                yield Outlier(case_id=case.id, kind="non-finite", reason=reason)


def empty(data: DataSet) -> Iterator[Outlier]:
    """Channels that are zero everywhere."""
    for case in data.cases:
        for number, channel in enumerate(case.channels):
            if channel.nonzero is None and channel.crop is not None:
                reason = f"{where(number, case)} is zero everywhere"
                yield Outlier(case_id=case.id, kind="empty", reason=reason)


def constant(data: DataSet) -> Iterator[Outlier]:
    """Channels that have one value, other than zero, everywhere."""
    for case in data.cases:
        for number, channel in enumerate(case.channels):
            crop = channel.crop
            if channel.nonzero is not None and crop is not None and crop.min == crop.max:
                reason = f"{where(number, case)} is {crop.min:g} everywhere"
                yield Outlier(case_id=case.id, kind="constant", reason=reason)


def clipped(data: DataSet) -> Iterator[Outlier]:
    """Channels with far too many voxels of their highest value, where other cases have not."""
    found = [
        (case, number, said)
        for case in data.cases
        for number, channel in enumerate(case.channels)
        if (said := clipping(channel))
    ]
    odd = {case.id for case, _, _ in found}
    if len(data.cases) >= FEWEST_CASES and len(odd) >= COMMON_SHARE * len(data.cases):
        return
    for case, number, said in found:
        yield Outlier(case_id=case.id, kind="clipped", reason=f"{where(number, case)} is clipped: {said}")


def clipping(channel: ChannelStatistics) -> str | None:
    """What is clipped, in words; None where nothing is.

    The lowest value is not looked at: it is background nearly everywhere (air, padding, 0).
    """
    ends, nonzero = channel.extremes, channel.nonzero
    if ends is None or nonzero is None or ends.values < 2:
        return None
    least = max(CLIPPED_SHARE, CLIPPED_TIMES_EVEN / ends.values)
    if ends.highest <= least * nonzero.count:
        return None
    return f"{ends.highest / nonzero.count:.1%} of its voxels have the highest value, {nonzero.max:g}"


def common_clipping(data: DataSet) -> str | None:
    """What to say of a data set of which most cases are clipped; None where it is not so."""
    odd = [case for case in data.cases if any(clipping(channel) for channel in case.channels)]
    if len(data.cases) < FEWEST_CASES or len(odd) < COMMON_SHARE * len(data.cases):
        return None
    first = next(said for channel in odd[0].channels if (said := clipping(channel)))
    return f"clipped: {len(odd)} of {len(data.cases)} cases, such as {odd[0].id}, where {first}"


def odd_intensities(data: DataSet) -> Iterator[Outlier]:
    """Cases that are far brighter, darker, flatter or richer in contrast than the others."""
    for number in range(max((len(case.channels) for case in data.cases), default=0)):
        cases = [case for case in data.cases if number < len(case.channels)]
        statistics = [_statistics(case, number) for case in cases]
        if sum(one is not None for one in statistics) < FEWEST_FOR_SPREAD:
            continue
        middles = [math.nan if one is None else one.median for one in statistics]
        widths = [math.nan if one is None else one.percentile_90 - one.percentile_10 for one in statistics]
        usual, width = float(np.nanmedian(middles)), float(np.nanmedian(widths))
        shifted = set(far_from_median(middles, width))
        logs = [math.log2(one) if one > 0 else math.nan for one in widths]
        for place, case in enumerate(cases):
            if place in shifted:
                reason = (
                    f"{where(number, case)} has the median {middles[place]:.4g}, while the others lie about "
                    f"{usual:.4g}"
                )
                yield Outlier(case_id=case.id, kind="intensity", reason=reason)
        for place in far_from_median(logs, math.log2(WIDTH_FACTOR)):
            if place not in shifted:
                reason = (
                    f"{where(number, cases[place])} spans {widths[place]:.4g} from its 10th to its 90th "
                    f"percentile, while most cases span about {width:.4g}"
                )
                yield Outlier(case_id=cases[place].id, kind="intensity", reason=reason)


def _statistics(case: CaseFingerprint, number: int) -> IntensityStatistics | None:
    """Of the foreground where there is any, else of the voxels that are not zero."""
    channel = case.channels[number]
    return channel.foreground or channel.nonzero
