"""Which normalization a channel gets: nnU-Net's choice by channel name, and voxplan's own on top of it."""

from __future__ import annotations

from collections.abc import Collection

from voxplan.plans.schema import ChannelNormalization, Decision
from voxplan.profiling.fingerprint import IntensityStatistics

NNUNET_SCHEMES = {
    "ct": "CTNormalization",
    "nonorm": "NoNormalization",
    "zscore": "ZScoreNormalization",
    "rescale_to_0_1": "RescaleTo01Normalization",
    "rgb_to_0_1": "RGBTo01Normalization",
}
"""nnU-Net's classes by casefolded channel name, looked up exactly; every other name is z-scored."""
MASK_THRESHOLD = 3 / 4
"""Median share of voxels left after cropping, below which z-scores use the non-zero voxels only (nnU-Net)."""
UINT8_RANGE = (0.0, 255.0)
"""What uint8 microscopy is scaled by, as EM labs do."""
MICROSCOPY_SPACING_MM = 0.1
"""Finest axis below which a volume is taken for microscopy: clinical CT and MR do not get below 0.1 mm."""
MICROSCOPY_NAMES = frozenset({"em", "sem", "tem", "fib-sem", "fibsem", "sbem", "sbf-sem", "xray", "lm"})


def nnunet_scheme(channel_name: str) -> str:
    """Name of nnU-Net's normalization class for a channel."""
    return NNUNET_SCHEMES.get(channel_name.casefold(), "ZScoreNormalization")


def nnunet_uses_mask(scheme: str, relative_size: float) -> bool:
    """Whether nnU-Net restricts a scheme to the non-zero mask (z-score on data that cropping shrinks)."""
    return relative_size < MASK_THRESHOLD and scheme == "ZScoreNormalization"


def is_microscopy(channel_name: str, finest_spacing_mm: float | None) -> bool:
    """Whether a channel looks like microscopy: by its name, by its voxels, or for want of a physical size."""
    if channel_name.casefold() in MICROSCOPY_NAMES or finest_spacing_mm is None:
        return True
    return finest_spacing_mm < MICROSCOPY_SPACING_MM


def choose_normalization(
    channel_name: str,
    *,
    dtypes: Collection[str],
    statistics: IntensityStatistics | None,
    relative_size: float,
    finest_spacing_mm: float | None,
) -> tuple[ChannelNormalization, Decision]:
    """The normalization of one channel, and why.

    A channel that nnU-Net knows by name gets nnU-Net's scheme. Otherwise uint8 microscopy is scaled from
    0..255 to 0..1, and everything else is z-scored, case by case, over the non-zero voxels where cropping
    removes more than a quarter of the volume.

    Args:
        channel_name: as in dataset.json.
        dtypes: of the cases' files, as numpy calls them.
        statistics: of the foreground over the data set, cases weighted equally.
        relative_size: median share of voxels left after cropping.
        finest_spacing_mm: smallest axis of the target spacing; None where nobody knows it.
    """
    name = channel_name.casefold()
    if name == "ct" and statistics is not None:
        return _ct(channel_name, statistics)
    if name == "nonorm":
        why = "the channel is called noNorm: its intensities are left alone"
        return ChannelNormalization(channel=channel_name, scheme="none"), Decision(by="data", why=why)
    if name == "rgb_to_0_1":
        return _scale(channel_name, *UINT8_RANGE, "the channel is called rgb_to_0_1: scaled by 0 and 255")
    if name == "rescale_to_0_1" and statistics is not None and statistics.max > statistics.min:
        why = "the channel is called rescale_to_0_1: scaled by the data set's own range"
        return _scale(channel_name, statistics.min, statistics.max, why)
    if name != "zscore" and _is_uint8_microscopy(channel_name, dtypes, statistics, finest_spacing_mm):
        return _scale(
            channel_name, *UINT8_RANGE, "uint8 microscopy is scaled from 0..255 to 0..1, as EM labs do"
        )
    return _zscore(channel_name, relative_size)


def _is_uint8_microscopy(
    channel_name: str,
    dtypes: Collection[str],
    statistics: IntensityStatistics | None,
    finest_spacing_mm: float | None,
) -> bool:
    """uint8 in every file, and not rescaled by a slope to something else."""
    if not dtypes or set(dtypes) != {"uint8"} or not is_microscopy(channel_name, finest_spacing_mm):
        return False
    low, high = UINT8_RANGE
    return statistics is None or (statistics.min >= low and statistics.max <= high)


def _ct(channel_name: str, statistics: IntensityStatistics) -> tuple[ChannelNormalization, Decision]:
    choice = ChannelNormalization(
        channel=channel_name,
        scheme="ct",
        mean=statistics.mean,
        std=statistics.std,
        low=statistics.percentile_00_5,
        high=statistics.percentile_99_5,
    )
    why = (
        f"the channel is called CT: clipped to the foreground's 0.5 and 99.5 percentile ({choice.low:g} to "
        f"{choice.high:g}), then the data set's mean {choice.mean:g} and std {choice.std:g}"
    )
    return choice, Decision(by="data", why=why)


def _scale(channel_name: str, low: float, high: float, why: str) -> tuple[ChannelNormalization, Decision]:
    choice = ChannelNormalization(channel=channel_name, scheme="scale", low=low, high=high)
    return choice, Decision(by="data", why=why)


def _zscore(channel_name: str, relative_size: float) -> tuple[ChannelNormalization, Decision]:
    masked = nnunet_uses_mask("ZScoreNormalization", relative_size)
    region = "its non-zero voxels" if masked else "the cropped volume"
    why = (
        f"each case by its own mean and std over {region}: cropping leaves {relative_size:.0%} of the "
        f"voxels, the mask is used below {MASK_THRESHOLD:.0%}"
    )
    return ChannelNormalization(channel=channel_name, scheme="zscore", masked=masked), Decision(
        by="rule", why=why
    )
