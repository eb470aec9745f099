"""What a check of a data set is, and the robust rules that several of them share."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from ..fingerprint import CaseFingerprint, Labels, Outlier

T = TypeVar("T", bound=Hashable)

FEWEST_CASES = 5
"""Below, no case is the odd one out."""
FEWEST_FOR_SPREAD = 10
"""Cases from which their spread is known well enough to call one of them far out."""
MAIN_SHARE = 0.8
"""Share of the cases that agree, from which the others stand out."""
MODIFIED_Z = 3.5
"""Of 0.6745 x distance from the median / MAD: Iglewicz, Hoaglin, How to Detect and Handle Outliers (1993)."""
MAD_TO_SIGMA = 0.6745
"""Median absolute deviation of a normal distribution in its standard deviations (same source)."""

Nnunet = Literal["error", "warning", "no"]


@dataclass(frozen=True, slots=True)
class DataSet:
    """What the checks look at."""

    cases: Sequence[CaseFingerprint]
    """Sorted by id."""
    labels: Labels | None = None
    """None where only the cases are known."""
    declared: bool = False
    """Whether a dataset.json names the classes."""
    counts: tuple[int, int] | None = None
    """Cases that a dataset.json declares, and those that are there."""


@dataclass(frozen=True, slots=True)
class Check:
    """One way in which a case can stand out."""

    kind: str
    """Short and stable: the ``kind`` of the outliers."""
    what: str
    """What is said of such a case, for the documentation."""
    rule: str
    """When, with the numbers."""
    nnunet: Nnunet
    """What nnU-Net 2.8.1's integrity check makes of it (``--verify_dataset_integrity``)."""
    find: Callable[[DataSet], Iterable[Outlier]]


def far_from_median(values: Sequence[float], least: float) -> Iterator[int]:
    """Places of the values that are far from the median of all.

    Far: the modified z-score exceeds :data:`MODIFIED_Z`, and the distance ``least``, in the values' own unit,
    so that data sets whose cases hardly differ do not have outliers. Values that are no numbers are left out.
    """
    known = np.array([value for value in values if math.isfinite(value)], np.float64)
    if known.size < FEWEST_CASES:
        return
    median = float(np.median(known))
    spread = float(np.median(np.abs(known - median))) / MAD_TO_SIGMA
    for place, value in enumerate(values):
        if math.isfinite(value) and abs(value - median) > max(MODIFIED_Z * spread, least):
            yield place


def majority(values: Sequence[T], share: float = MAIN_SHARE) -> T | None:
    """The value that at least so large a share has; None without one, or among too few."""
    if len(values) < FEWEST_CASES:
        return None
    value, count = Counter(values).most_common(1)[0]
    return value if count >= share * len(values) and count < len(values) else None


def numbers(values: Sequence[float]) -> str:
    """``45 x 4.6 x 4.6``."""
    return " x ".join(f"{value:.4g}" for value in values)


def where(channel: int, case: CaseFingerprint) -> str:
    """How a channel is called in a sentence."""
    return f"channel {channel}" if len(case.channels) > 1 else "the image"
