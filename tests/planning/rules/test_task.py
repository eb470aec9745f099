"""From the kind of labels to task, channels and offsets."""

from __future__ import annotations

import pytest

from voxplan.planning.rules.task import affinity_offsets, choose_task


def test_ids_are_never_classes() -> None:
    choice = choose_task("instance", {})
    assert (choice.task, choice.out_channels, choice.classes) == ("affinity", 3, {})
    assert choice.offsets == ((-1, 0, 0), (0, -1, 0), (0, 0, -1))
    assert choice.decision.by == "data"


def test_twelve_offsets_follow_the_sections() -> None:
    thick = affinity_offsets(12, anisotropy=5.0)
    assert len(set(thick)) == 12
    assert {-offset[0] for offset in thick} == {0, 1, 2, 3, 4}
    assert {-offset[1] for offset in thick} == {0, 1, 3, 9, 27}
    cubic = affinity_offsets(12, anisotropy=1.0)
    assert {-offset[0] for offset in cubic} == {0, 1, 3, 9, 27}
    assert affinity_offsets(12) == thick
    with pytest.raises(ValueError, match="must be one of"):
        affinity_offsets(7)


def test_flat_data_has_no_offset_across_sections() -> None:
    assert affinity_offsets(3, flat=True) == ((0, -1, 0), (0, 0, -1))
    assert len(affinity_offsets(12, flat=True)) == 8
    assert choose_task("instance", {}, flat=True).out_channels == 2


def test_semantic_classes_count_the_background() -> None:
    choice = choose_task("semantic", {"background": (0,), "liver": (1,), "tumour": (2,)})
    assert (choice.task, choice.out_channels, choice.regions) == ("semantic", 3, False)
    without = choose_task("semantic", {"liver": (1,), "tumour": (2,)})
    assert without.out_channels == 3
    assert without.classes["background"] == (0,)


def test_overlapping_regions_have_a_channel_each_and_no_background() -> None:
    classes = {"background": (0,), "whole": (1, 2, 3), "core": (2, 3), "enhancing": (3,)}
    choice = choose_task("semantic", classes)
    assert (choice.out_channels, choice.regions) == (3, True)


def test_no_labels() -> None:
    choice = choose_task("none", {})
    assert (choice.task, choice.out_channels) == ("semantic", 2)
    assert "no case has labels" in choice.warnings[0]


def test_the_user_decides() -> None:
    boundary = choose_task("instance", {}, stated="boundary")
    assert (boundary.task, boundary.out_channels, boundary.decision.by) == ("boundary", 1, "user")
    semantic = choose_task("instance", {}, stated="semantic")
    assert semantic.out_channels == 2
    assert "ids cannot be classes" in semantic.warnings[0]
    with pytest.raises(ValueError, match="--task must be one of"):
        choose_task("semantic", {}, stated="panoptic")  # type: ignore[arg-type]


def test_the_twelve_offsets_one_by_one() -> None:
    """Lee et al. 2017: the neighbours, then 2, 3, 4 sections and 3, 9, 27 voxels in the plane."""
    nearest = ((-1, 0, 0), (0, -1, 0), (0, 0, -1))
    far = tuple(
        offset for z, n in ((2, 3), (3, 9), (4, 27)) for offset in ((-z, 0, 0), (0, -n, 0), (0, 0, -n))
    )
    assert affinity_offsets(12, anisotropy=2.0) == nearest + far
    assert affinity_offsets(12, anisotropy=1.99)[3] == (-3, 0, 0)


def test_classes_that_nobody_names_are_background_and_foreground() -> None:
    for kind in ("semantic", "none", "instance"):
        choice = choose_task(kind, {}, stated="semantic")  # type: ignore[arg-type]
        assert choice.classes == {"background": (0,), "foreground": (1,)}
        assert choice.out_channels == 2
    named = choose_task("none", {"background": (0,), "a": (1,), "b": (2,)})
    assert named.out_channels == 3


def test_two_values_already_make_a_region() -> None:
    choice = choose_task("semantic", {"background": (0,), "whole": (1, 2), "core": (2,)})
    assert (choice.regions, choice.out_channels) == (True, 2)


def test_the_reason_says_who_decided() -> None:
    assert choose_task("instance", {}).decision.why == "the labels are object ids: affinity segmentation"
    stated = choose_task("instance", {}, stated="boundary").decision.why
    assert stated == "set by the user; the labels are object ids"


def test_objects_as_one_class() -> None:
    """Ids are no classes: the plan says so, and what reads the labels follows it."""
    choice = choose_task("instance", {}, stated="semantic")
    assert choice.object_ids
    assert choice.classes == {"background": (0,), "foreground": (1,)}
    assert not choose_task("semantic", {"background": (0,), "a": (1,)}).object_ids
    assert not choose_task("instance", {}).object_ids
