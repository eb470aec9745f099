"""``datastats.yaml`` as Auto3DSeg's DataAnalyzer writes it, from a fingerprint. Axes are X, Y, Z.

Its algorithms read ``stats_summary``. Sizes are distributions over cases, intensities are averaged over
channels. Numbers are voxplan's: exact, and labels of any size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from voxplan.profiling.fingerprint import CaseFingerprint, Fingerprint, IntensityStatistics
from voxplan.profiling.formats.base import UNITS_IN_MM

PERCENTILES = {
    "percentile_00_5": 0.5,
    "percentile_10_0": 10.0,
    "percentile_90_0": 90.0,
    "percentile_99_5": 99.5,
}
INTENSITY_FIELDS = {
    "max": "max",
    "mean": "mean",
    "median": "median",
    "min": "min",
    "stdev": "std",
    "percentile_00_5": "percentile_00_5",
    "percentile_10_0": "percentile_10",
    "percentile_90_0": "percentile_90",
    "percentile_99_5": "percentile_99_5",
}
"""MONAI's name by voxplan's."""


def datastats(fingerprint: Fingerprint) -> dict[str, Any]:
    """The content of ``datastats.yaml``."""
    cases = fingerprint.cases
    image: dict[str, Any] = {
        "shape": _distribution([case.shape[::-1] for case in cases]),
        "channels": _distribution([len(case.channels) for case in cases]),
        "cropped_shape": _distribution([case.shape_after_crop[::-1] for case in cases]),
    }
    spacings = [case.spacing.values[::-1] for case in cases if case.spacing.values is not None]
    if len(spacings) == len(cases) and cases:
        image["spacing"] = _distribution(spacings)
        image["sizemm"] = _distribution([_extent(case) for case in cases])
    image["intensity"] = _averaged(
        [channel.pooled or channel.case_weighted for channel in fingerprint.summary.channels]
    )
    foreground = _averaged([channel.case_weighted for channel in fingerprint.summary.channels])
    labels = sorted({value for values in fingerprint.dataset.labels.classes.values() for value in values})
    return {
        "stats_summary": {
            "image_stats": image,
            "image_foreground_stats": {"intensity": foreground},
            "label_stats": {
                "labels": labels,
                "image_intensity": foreground,
                "label": [{"foreground_percentage": _shares(cases, label)} for label in labels],
            },
            "n_cases": len(cases),
        },
        "stats_by_cases": [],
    }


def _distribution(rows: Sequence[Any]) -> dict[str, Any]:
    """Per axis, over the cases; plain lists and numbers, for YAML.

    The largest and smallest of whole numbers are whole: Auto3DSeg's algorithms take them for a network's
    channels and a patch's edges as they are.
    """
    table = np.asarray(rows)
    if not table.size:
        return {}
    numbers = {
        "max": table.max(0),
        "mean": table.mean(0),
        "median": np.median(table, 0),
        "min": table.min(0),
        "stdev": table.std(0),
        **{name: np.percentile(table, percent, axis=0) for name, percent in PERCENTILES.items()},
    }
    values: dict[str, Any] = {name: np.asarray(value).tolist() for name, value in numbers.items()}
    values["percentile"] = [values[name] for name in PERCENTILES]
    return values


def _extent(case: CaseFingerprint) -> list[float]:
    """Millimetres where the unit is known, else the files' own unit, as MONAI takes it."""
    scale = UNITS_IN_MM.get(case.spacing.unit, 1.0)
    spacing = case.spacing.values or (1.0, 1.0, 1.0)
    return [size * step * scale for size, step in zip(case.shape[::-1], spacing[::-1], strict=True)]


def _averaged(channels: Sequence[IntensityStatistics | None]) -> dict[str, float]:
    """Mean over channels, as MONAI summarises them."""
    known = [channel for channel in channels if channel is not None]
    if not known:
        return {}
    return {
        theirs: float(np.mean([getattr(channel, ours) for channel in known]))
        for theirs, ours in INTENSITY_FIELDS.items()
    }


def _shares(cases: Sequence[CaseFingerprint], label: int) -> dict[str, Any]:
    """Share of each case's voxels; empty where no label was counted."""
    shares = [
        case.class_voxels.get(str(label), 0) / sum(case.class_voxels.values())
        for case in cases
        if case.class_voxels
    ]
    return _distribution(shares)
