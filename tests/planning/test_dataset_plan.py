"""What all plans of a data set share."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from voxplan.planning.dataset_plan import plan_dataset
from voxplan.planning.overrides import DatasetOverrides
from voxplan.profiling.fingerprint import Fingerprint
from voxplan.profiling.summary import SPACING_MISSING


def test_a_stated_spacing_ends_the_remark_that_it_is_missing(
    make_fingerprint: Callable[..., Fingerprint],
) -> None:
    """Found by a newcomer: the remark of the fingerprint stood in plans that had their spacing."""
    fingerprint = make_fingerprint(shapes=((60, 300, 400),) * 6, spacing=None)
    remark = (
        f"{SPACING_MISSING} 6 cases: plans will be made in voxels unless --spacing Z Y X --unit UNIT says it"
    )
    summary = fingerprint.summary.model_copy(update={"warnings": (remark, "another")})
    said = fingerprint.model_copy(update={"summary": summary})
    stated = plan_dataset(said, spacing=(45.0, 4.6, 4.6), unit="nm").plan.warnings
    assert remark not in stated
    assert "another" in stated
    assert remark in plan_dataset(said).plan.warnings


MakeFingerprint = Callable[..., Fingerprint]
SHAPE = (60, 300, 400)


def test_cases_without_labels_are_not_trained_on(make_fingerprint: MakeFingerprint) -> None:
    """The larger ones have no labels: neither shape nor voxels may know of them."""
    fingerprint = make_fingerprint(shapes=(SHAPE,) * 3 + ((90, 900, 900),) * 2)
    cases = tuple(
        case.model_copy(update={"label": case.label if case.shape == SHAPE else None})
        for case in fingerprint.cases
    )
    facts = plan_dataset(fingerprint.model_copy(update={"cases": cases}))
    assert facts.plan.median_shape == SHAPE
    assert facts.voxels == 3 * 60 * 300 * 400
    assert "2 cases have no labels: they are not trained on" in facts.plan.warnings


def test_all_cases_count_where_none_has_labels(make_fingerprint: MakeFingerprint) -> None:
    facts = plan_dataset(make_fingerprint(shapes=(SHAPE,) * 3, label_kind="none"))
    assert facts.voxels == 3 * 60 * 300 * 400
    assert not any("no labels: they" in warning for warning in facts.plan.warnings)


def test_no_case_at_all(make_fingerprint: MakeFingerprint) -> None:
    empty = make_fingerprint(shapes=(SHAPE,)).model_copy(update={"cases": ()})
    with pytest.raises(ValueError, match="'Phantom' has no cases: nothing can be planned"):
        plan_dataset(empty)


def test_a_target_spacing_needs_a_spacing_to_come_from(make_fingerprint: MakeFingerprint) -> None:
    target = DatasetOverrides(target_spacing=(2.0, 1.0, 1.0))
    with pytest.raises(ValueError, match="--spacing Z Y X --unit UNIT"):
        plan_dataset(make_fingerprint(shapes=(SHAPE,), spacing=None), overrides=target)
    planned = plan_dataset(
        make_fingerprint(shapes=(SHAPE,), spacing=None), spacing=(1.0, 0.5, 0.5), unit="um", overrides=target
    ).plan
    assert planned.target_spacing == (2.0, 1.0, 1.0)
    assert planned.spacing_unit == "um"
    assert planned.median_shape == (30, 150, 200)
    assert planned.decisions["target_spacing"].by == "user"


def test_cases_without_a_spacing_among_others(make_fingerprint: MakeFingerprint) -> None:
    """They count with the voxels that they have."""
    fingerprint = make_fingerprint(shapes=(SHAPE,) * 3, spacing=((1.0, 0.5, 0.5), None, (1.0, 0.5, 0.5)))
    planned = plan_dataset(fingerprint, overrides=DatasetOverrides(target_spacing=(2.0, 1.0, 1.0))).plan
    assert (
        "1 cases know no spacing: they are planned as if at the target spacing; to train, state it "
        "(--spacing) or leave them out (--exclude)"
    ) in planned.warnings
    assert planned.median_shape == (30, 150, 200)
    planned = plan_dataset(fingerprint).plan
    assert planned.target_spacing == (1.0, 0.5, 0.5)
    assert planned.median_shape == SHAPE


def test_units_of_one_data_set_are_made_one(make_fingerprint: MakeFingerprint) -> None:
    """2 um and 2000 nm are one spacing."""
    fingerprint = make_fingerprint(shapes=(SHAPE,) * 2, spacing=(2.0, 1.0, 1.0), unit="um")
    first, second = fingerprint.cases
    in_nm = second.spacing.model_copy(update={"values": (2000.0, 1000.0, 1000.0), "unit": "nm"})
    cases = (first, second.model_copy(update={"spacing": in_nm}))
    planned = plan_dataset(fingerprint.model_copy(update={"cases": cases})).plan
    assert planned.target_spacing == pytest.approx((2.0, 1.0, 1.0))
    assert planned.spacing_unit == "um"
    assert planned.median_shape == SHAPE


def test_a_spacing_without_a_unit_is_said(make_fingerprint: MakeFingerprint) -> None:
    planned = plan_dataset(make_fingerprint(shapes=(SHAPE,), spacing=(40.0, 4.0, 4.0), unit="unknown")).plan
    assert any("has no unit" in warning for warning in planned.warnings)
    assert planned.target_spacing == (40.0, 4.0, 4.0)


def test_the_thick_axis_says_why_it_is_finer_than_the_median(make_fingerprint: MakeFingerprint) -> None:
    """nnU-Net: its 10th percentile, where the axis is thrice as thick and has a third of the voxels."""
    spacings = tuple((z, 1.0, 1.0) for z in (3.0, 5.0, 5.0, 5.0, 5.0))
    planned = plan_dataset(make_fingerprint(shapes=((20, 300, 300),) * 5, spacing=spacings)).plan
    assert planned.target_spacing == pytest.approx((3.8, 1.0, 1.0))  # np.percentile([3, 5, 5, 5, 5], 10)
    assert "10th percentile" in planned.decisions["target_spacing"].why


@pytest.mark.parametrize(
    ("dtype", "asked", "scheme"),
    [
        ("uint8", "scale", ("scale", 0.0, 255.0)),
        ("int16", "scale", ("scale", -20.0, 180.0)),
        ("uint8", "none", ("none", None, None)),
        ("uint8", "zscore", ("zscore", None, None)),
        ("int16", "ct", ("ct", 5.0, 250.0)),
    ],
)
def test_normalization_as_the_user_says(
    make_fingerprint: MakeFingerprint, dtype: str, asked: str, scheme: tuple[str, float | None, float | None]
) -> None:
    """uint8 is scaled by its type, everything else by the range of the data."""
    fingerprint = make_fingerprint(shapes=(SHAPE,), channels=("raw",), dtype=dtype)
    (channel_summary,) = fingerprint.summary.channels
    found = channel_summary.case_weighted.model_copy(
        update={"min": -20.0 if dtype == "int16" else 0.0, "max": 180.0}
    )
    summary = fingerprint.summary.model_copy(
        update={"channels": (channel_summary.model_copy(update={"case_weighted": found}),)}
    )
    fingerprint = fingerprint.model_copy(update={"summary": summary})
    planned = plan_dataset(
        fingerprint, overrides=DatasetOverrides.model_validate({"normalization": asked})
    ).plan
    (channel,) = planned.normalization
    assert (channel.scheme, channel.low, channel.high) == scheme
    assert channel.channel == "raw"
    assert planned.decisions["normalization"].by == "user"
