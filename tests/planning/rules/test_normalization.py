from __future__ import annotations

import pytest

from voxplan.planning.rules.normalization import choose_normalization, nnunet_scheme, nnunet_uses_mask
from voxplan.plans.schema import ChannelNormalization
from voxplan.profiling.fingerprint import IntensityStatistics

NUMBERS = IntensityStatistics(
    count=1000,
    mean=40.0,
    std=20.0,
    min=0.0,
    max=255.0,
    percentile_00_5=2.0,
    percentile_10=10.0,
    median=41.0,
    percentile_90=90.0,
    percentile_99_5=200.0,
)


def choose(
    name: str,
    *,
    dtypes: tuple[str, ...] = ("int16",),
    statistics: IntensityStatistics | None = NUMBERS,
    relative_size: float = 0.9,
    finest_spacing_mm: float | None = 0.7,
) -> ChannelNormalization:
    choice, decision = choose_normalization(
        name,
        dtypes=dtypes,
        statistics=statistics,
        relative_size=relative_size,
        finest_spacing_mm=finest_spacing_mm,
    )
    assert decision.why
    return choice


@pytest.mark.parametrize(
    ("name", "scheme"),
    [
        ("CT", "CTNormalization"),
        ("ct", "CTNormalization"),
        ("noNorm", "NoNormalization"),
        ("rgb_to_0_1", "RGBTo01Normalization"),
        ("rescale_to_0_1", "RescaleTo01Normalization"),
        ("zscore", "ZScoreNormalization"),
        ("T1", "ZScoreNormalization"),
        ("CT ", "ZScoreNormalization"),
        ("CTA", "ZScoreNormalization"),
    ],
)
def test_nnunet_looks_the_casefolded_name_up_exactly(name: str, scheme: str) -> None:
    assert nnunet_scheme(name) == scheme


def test_nnunet_masks_z_scores_of_data_that_cropping_shrinks() -> None:
    assert nnunet_uses_mask("ZScoreNormalization", 0.7499)
    assert not nnunet_uses_mask("ZScoreNormalization", 0.75)
    assert not nnunet_uses_mask("CTNormalization", 0.1)


def test_ct_is_clipped_and_scaled_by_the_data_set() -> None:
    choice = choose("CT")
    assert (choice.scheme, choice.low, choice.high) == ("ct", 2.0, 200.0)
    assert (choice.mean, choice.std) == (40.0, 20.0)


def test_mr_is_z_scored_within_its_mask_where_background_was_cut_off() -> None:
    assert choose("T2") == ChannelNormalization(channel="T2", scheme="zscore", masked=False)
    assert choose("T2", relative_size=0.5).masked


@pytest.mark.parametrize(("name", "spacing"), [("EM", 0.7), ("raw", 4.6e-6), ("raw", None)])
def test_uint8_microscopy_is_scaled_to_one(name: str, spacing: float | None) -> None:
    choice = choose(name, dtypes=("uint8",), finest_spacing_mm=spacing)
    assert (choice.scheme, choice.low, choice.high) == ("scale", 0.0, 255.0)


def test_uint8_mr_is_not_microscopy() -> None:
    assert choose("T1", dtypes=("uint8",)).scheme == "zscore"


def test_microscopy_of_other_types_or_ranges_is_z_scored() -> None:
    assert choose("EM", dtypes=("uint16",)).scheme == "zscore"
    assert choose("EM", dtypes=("uint8", "uint16")).scheme == "zscore"
    sloped = NUMBERS.model_copy(update={"max": 563.0})
    assert choose("EM", dtypes=("uint8",), statistics=sloped).scheme == "zscore"


def test_who_asks_for_z_scores_by_name_gets_them() -> None:
    assert choose("zscore", dtypes=("uint8",), finest_spacing_mm=None).scheme == "zscore"


def test_names_with_a_fixed_meaning() -> None:
    assert choose("noNorm").scheme == "none"
    assert (choose("rgb_to_0_1").low, choose("rgb_to_0_1").high) == (0.0, 255.0)
    assert (choose("rescale_to_0_1").low, choose("rescale_to_0_1").high) == (0.0, 255.0)


def test_ct_without_foreground_falls_back_to_z_scores() -> None:
    assert choose("CT", statistics=None).scheme == "zscore"


def test_the_mask_begins_below_three_quarters() -> None:
    assert not nnunet_uses_mask("ZScoreNormalization", 0.75)
    assert nnunet_uses_mask("ZScoreNormalization", 0.7499)


def test_data_of_one_value_has_no_range_to_scale_by() -> None:
    flat = NUMBERS.model_copy(update={"min": 5.0, "max": 5.0})
    assert choose("rescale_to_0_1", statistics=flat).scheme == "zscore"


def test_the_reason_names_the_region() -> None:
    for size, region in ((0.9, "the cropped volume"), (0.5, "its non-zero voxels")):
        choice, decision = choose_normalization(
            "T1", dtypes=("int16",), statistics=None, relative_size=size, finest_spacing_mm=0.7
        )
        assert region in decision.why
        assert choice.masked == (size < 0.75)


def test_a_tenth_of_a_millimetre_is_no_microscopy_yet() -> None:
    assert choose("scan", dtypes=("uint8",), finest_spacing_mm=0.1).scheme == "zscore"
    assert choose("scan", dtypes=("uint8",), finest_spacing_mm=0.0999).scheme == "scale"
