"""The pairing rule, name by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from voxplan.profiling.formats.base import VolumeSource
from voxplan.profiling.layouts.pairing import (
    IMAGE_WORDS,
    LABEL_WORDS,
    channels_of_cases,
    drop_word,
    is_label_name,
    note_of_only_pair,
    pair,
)
from voxplan.profiling.layouts.volumes import NamedVolume


def volumes(*names: str) -> list[NamedVolume]:
    return [NamedVolume(name=name, source=VolumeSource(paths=(Path(f"{name}.tif"),))) for name in names]


def paired(images: list[str], labels: list[str]) -> dict[str, tuple[list[str], str]]:
    cases, failures = pair(volumes(*images), volumes(*labels))
    assert not failures
    return {
        case.id: ([s.paths[0].stem for s in case.images], case.label.paths[0].stem if case.label else "")
        for case in cases
    }


@pytest.mark.parametrize(
    ("images", "labels", "ids"),
    [
        (["a", "b"], ["a", "b"], {"a", "b"}),
        (["scan_0000", "scan_0001"], ["scan_0000", "scan_0001"], {"scan_0000", "scan_0001"}),
        (["a_0000", "b_0000"], ["a", "b"], {"a", "b"}),
        (["img_07", "img_08"], ["seg_07", "seg_08"], {"07", "08"}),
        (["img07", "img08"], ["lbl07", "lbl08"], {"07", "08"}),
        (["07-raw", "08-raw"], ["07-labels", "08-labels"], {"07", "08"}),
        (["a.image", "b.image"], ["a.mask", "b.mask"], {"a", "b"}),
        (["Image_1", "Image_2"], ["GT_1", "GT_2"], {"1", "2"}),
        (["c1/image", "c2/image"], ["c1/label", "c2/label"], {"c1", "c2"}),
        (["whatever"], ["unlike"], {"whatever"}),
        (["c1/T1", "c2/T1"], ["c1/seg", "c2/seg"], {"c1", "c2"}),
        (["a/p1/scan", "a/p2/other"], ["a/p1/gt", "a/p2/labels"], {"a/p1", "a/p2"}),
    ],
)
def test_names_that_belong_together(images: list[str], labels: list[str], ids: set[str]) -> None:
    cases = paired(images, labels)
    assert set(cases) == ids
    assert {label for _, label in cases.values()} == {Path(name).name for name in labels}


def test_channels_in_order_of_their_number() -> None:
    cases = paired(["a_0001", "a_0000", "b_0000", "b_0001"], ["b", "a"])
    assert cases == {"a": (["a_0000", "a_0001"], "a"), "b": (["b_0000", "b_0001"], "b")}


def test_missing_channel_is_a_failure_that_names_the_files() -> None:
    cases, failures = pair(volumes("a_0000", "a_0002", "b_0000"), volumes("a", "b"))
    assert [case.id for case in cases] == ["b"]
    assert len(failures) == 1
    assert failures[0].kind == "ambiguous"
    assert "a_0002.tif" in failures[0].reason


def test_unpaired_files_on_both_sides() -> None:
    cases, failures = pair(volumes("a", "b", "c"), volumes("a", "b", "d"))
    assert [case.id for case in cases] == ["a", "b"]
    assert sorted((failure.id, failure.kind) for failure in failures) == [
        ("c", "unpaired"),
        ("d", "unpaired"),
    ]
    assert all("--exclude" in failure.reason for failure in failures)


def test_two_labels_for_one_image_are_ambiguous() -> None:
    cases, failures = pair(volumes("img_1", "img_2"), volumes("seg_1", "gt_1", "seg_2"))
    assert [case.id for case in cases] == ["2"]
    assert [failure.kind for failure in failures] == ["ambiguous"]
    assert "seg_1.tif" in failures[0].reason
    assert "gt_1.tif" in failures[0].reason


def test_words_inside_other_words_stay() -> None:
    assert drop_word("imposing", IMAGE_WORDS) == "imposing"
    assert drop_word("segment", LABEL_WORDS) == "segment"
    assert drop_word("rawhide_1", IMAGE_WORDS) == "rawhide_1"
    assert not is_label_name("magenta_legt")
    assert is_label_name("train-labels")
    assert is_label_name("seg3")


def test_numbered_scans_are_not_channels() -> None:
    assert channels_of_cases(volumes("scan_0000", "scan_0001", "scan_0002")) is None
    assert channels_of_cases(volumes("a_0000", "a_0001", "b_0000")) is None
    assert channels_of_cases(volumes("a", "b")) is None
    grouped = channels_of_cases(volumes("a_0000", "a_0001", "b_0001", "b_0000"))
    assert grouped is not None
    assert [(case.id, len(case.images)) for case in grouped] == [("a", 2), ("b", 2)]


def test_a_folder_pairs_only_what_is_alone_in_it() -> None:
    cases, failures = pair(volumes("c1/T1", "c2/T1", "c2/T2", "c3/T1"), volumes("c1/seg", "c2/seg"))
    assert [case.id for case in cases] == ["c1"]
    assert {(failure.id, failure.kind) for failure in failures} == {
        ("c2", "ambiguous"),
        ("c3/T1", "unpaired"),
    }
    cases, failures = pair(volumes("T1", "T2"), volumes("seg", "mask"))
    assert not cases, "the folder that all lie in says nothing"
    assert {failure.kind for failure in failures} == {"unpaired"}


def test_names_come_before_folders() -> None:
    assert paired(["a/x", "b/y"], ["a/x", "b/y"]) == {
        "a/x": (["x"], "x"),
        "b/y": (["y"], "y"),
    }


def test_pairs_by_folder_are_remarked() -> None:
    (note,) = note_of_only_pair(volumes("c1/T1", "c2/T1"), volumes("c1/seg", "c2/seg"))
    why = "paired as the only image and the only label of their folder, as in the others"
    assert note == f"c1/T1.tif and c1/seg.tif: {why}"
    assert note_of_only_pair(volumes("a", "b"), volumes("a", "b")) == []
