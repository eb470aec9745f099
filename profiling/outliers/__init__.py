"""Cases that stand out from their data set, each with the reason in words.

To add a check: write a function from :class:`.base.DataSet` to outliers, add one entry to :data:`CHECKS`, and
one row to ``docs/checks.md``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

from ..fingerprint import CaseFingerprint, Labels, Outlier
from . import duplicates, geometry, intensities, labels
from .base import Check, DataSet
from .intensities import common_clipping

__all__ = ["CHECKS", "Check", "DataSet", "Outlier", "common_clipping", "find_outliers"]

CHECKS: Final[tuple[Check, ...]] = (
    Check(
        "spacing",
        "another spacing than most cases, or none",
        "80 % of at least 5 cases agree to 5 %, and it is over 10 % off on some axis; or 80 % state one; or "
        "log2 of it: modified z-score over 3.5, and a factor of 4 from the median",
        "no",
        geometry.odd_spacings,
    ),
    Check(
        "shape",
        "an edge far longer or shorter than usual",
        "log2 of the edge: modified z-score over 3.5, and a factor of 2 from the median; at least 5 cases",
        "no",
        geometry.odd_shapes,
    ),
    Check(
        "channels",
        "another number of channels than most cases",
        "not the most frequent number; with a dataset.json, a number that it does not name is a failure",
        "error",
        geometry.odd_channels,
    ),
    Check(
        "flip",
        "a left-right mirrored grid by its affine",
        "sign of the affine's determinant unlike that of 80 % of at least 5 cases",
        "no",
        geometry.mirrored,
    ),
    Check(
        "orientation",
        "axes that point elsewhere, not mirrored",
        "orientation code unlike that of 80 % of at least 5 cases",
        "no",
        geometry.odd_orientations,
    ),
    Check(
        "spacing-mismatch",
        "label map or channel of another spacing than the image",
        "relative difference over 0.001 % on some axis",
        "error",
        partial(geometry.disagreeing_files, kind="spacing"),
    ),
    Check(
        "origin-mismatch",
        "label map or channel of another origin than the image",
        "over 0.01 voxels on some axis",
        "warning",
        partial(geometry.disagreeing_files, kind="origin"),
    ),
    Check(
        "direction-mismatch",
        "label map or channel whose axes point elsewhere than the image's",
        "unit vectors over 0.001 (0.06 degrees) apart, or another orientation code",
        "warning",
        partial(geometry.disagreeing_files, kind="direction"),
    ),
    Check(
        "non-finite",
        "NaN or infinite voxels",
        "any; they are counted and excluded from the statistics",
        "error",
        intensities.non_finite,
    ),
    Check("empty", "a channel that is zero everywhere", "no voxel differs from 0", "no", intensities.empty),
    Check(
        "constant",
        "a channel of one value",
        "minimum equals maximum, other than 0",
        "no",
        intensities.constant,
    ),
    Check(
        "clipped",
        "too many voxels of the highest value",
        "over 1 % of the non-zero voxels, and 3 times an even share of the values; under half of the cases",
        "no",
        intensities.clipped,
    ),
    Check(
        "intensity",
        "far brighter, darker, flatter or richer in contrast than the others",
        "median of the foreground: modified z-score over 3.5 and further off than the usual 10th to 90th "
        "percentile; or log2 of that width: modified z-score over 3.5 and a factor of 4; at least 10 cases",
        "no",
        intensities.odd_intensities,
    ),
    Check(
        "duplicate",
        "the image of another case, or a mirrored, turned or shifted copy",
        "exact statistics of every channel equal, confirmed by up to 4096 voxels at fixed places",
        "no",
        duplicates.duplicates,
    ),
    Check(
        "no-label",
        "no label map, where most cases have one",
        "over half of the cases have one; in nnU-Net's layout a missing file is a failure",
        "error",
        labels.missing_label,
    ),
    Check(
        "no-foreground",
        "a label map of background only",
        "no voxel above 0 inside the crop box, ignore label excluded",
        "no",
        labels.no_foreground,
    ),
    Check(
        "label-value",
        "label values that dataset.json does not declare",
        "any, background and ignore label apart",
        "error",
        labels.unexpected_values,
    ),
    Check(
        "label-gap",
        "declared label values with a gap (said of dataset.json)",
        "not 0, 1, 2, ..., ignore label included",
        "error",
        labels.gaps,
    ),
    Check(
        "case-count",
        "another number of cases than it declares (said of dataset.json)",
        "numTraining is not the number of cases, failed ones included",
        "error",
        labels.miscounted,
    ),
    Check(
        "label-share",
        "a class that takes far more or less of the volume than usual, or is absent",
        "log2 of the share: modified z-score over 3.5 and a factor of 4; or absent, where 90 % have it; "
        "at least 10 labelled cases",
        "no",
        labels.odd_shares,
    ),
)
"""Every check; the order is that of the documentation."""


def find_outliers(
    cases: Sequence[CaseFingerprint],
    labels: Labels | None = None,
    *,
    declared: bool = False,
    counts: tuple[int, int] | None = None,
) -> tuple[Outlier, ...]:
    """What stands out, by case id and kind.

    Args:
        cases: of one data set, sorted by id.
        labels: what its label maps are, if that is known.
        declared: whether the classes come from a dataset.json, not from the label maps themselves.
        counts: cases that a dataset.json declares, and those that are there, failed ones included.
    """
    data = DataSet(cases, labels, declared, counts)
    found = [outlier for check in CHECKS for outlier in check.find(data)]
    return tuple(sorted(found, key=lambda outlier: (outlier.case_id, outlier.kind, outlier.reason)))
