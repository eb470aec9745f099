"""Folds by case equal nnU-Net's; blocks cover every voxel of every volume once."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from voxplan.planning.rules.splits import case_folds, choose_splits, longest_axis, spatial_folds


def by_numpy(count: int) -> list[list[int]]:
    """What KFold is documented to do: shuffle all indices, then cut into consecutive pieces."""
    indices = np.random.RandomState(12345).permutation(count)
    return [sorted(int(index) for index in piece) for piece in np.array_split(indices, 5)]


@pytest.mark.parametrize("count", [5, 6, 10, 13, 131])
def test_case_folds_are_kfold(count: int) -> None:
    ids = [f"case_{index:03d}" for index in range(count)]
    splits = case_folds(ids[::-1])
    assert [[int(name[-3:]) for name in split.validation] for split in splits] == by_numpy(count)
    for split in splits:
        assert sorted((*split.train, *split.validation)) == ids
        assert list(split.train) == sorted(split.train)


def test_too_few_cases_for_folds() -> None:
    with pytest.raises(ValueError, match="at least 5 cases, got 4"):
        case_folds(["a", "b", "c", "d"])


def test_longest_axis() -> None:
    assert longest_axis((100, 1024, 1024)) == 1
    assert longest_axis((512, 100, 511)) == 0


@pytest.mark.parametrize("shape", [(20, 1024, 1024), (4096, 64, 64), (3, 30, 41), (1, 7, 5), (1, 1, 2)])
def test_blocks_cover_every_voxel_once(shape: tuple[int, int, int]) -> None:
    splits = spatial_folds({"a": shape})
    length = max(shape)
    validated = np.zeros(length, int)
    for split in splits:
        seen = np.zeros(length, int)
        for block in (*split.train_blocks, *split.validation_blocks):
            assert block.axis == shape.index(length)
            seen[block.start : block.stop] += 1
        assert (seen == 1).all()
        for block in split.validation_blocks:
            validated[block.start : block.stop] += 1
    assert (validated == 1).all()


def test_one_voxel_stands_on_both_sides() -> None:
    for split in spatial_folds({"a": (1, 1, 1)}):
        assert split.train_blocks == split.validation_blocks
        assert len(split.train_blocks) == 1


def test_choice_by_number_of_cases() -> None:
    few, why = choose_splits({"a": (20, 100, 90), "b": (100, 20, 90)})
    assert len(few) == 5
    assert "fewer than five" in why.why
    assert {block.axis for block in few[0].validation_blocks} == {0, 1}
    many, why = choose_splits({str(index): (9, 9, 9) for index in range(5)})
    assert len(many) == 5
    assert "by case" in why.why
    assert many[0].validation_blocks == ()


def test_real_golden_ids(voxplan_golden: Path) -> None:
    """nnU-Net's six real cases give folds of 2, 1, 1, 1, 1."""
    folder = voxplan_golden / "nnunet_fingerprints" / "Dataset501_Heads"
    cases = len(json.loads((folder / "dataset_fingerprint.json").read_text())["spacings"])
    assert [len(split.validation) for split in case_folds([f"case_{i:02d}" for i in range(cases)])] == [
        2,
        1,
        1,
        1,
        1,
    ]


@pytest.mark.parametrize(("length", "folds"), [(40, 5), (39, 4), (32, 4), (31, 3), (16, 2), (5, 2)])
def test_blocks_have_eight_voxels_or_are_fewer(length: int, folds: int) -> None:
    assert len(spatial_folds({"a": (length, 3, 3), "b": (4000, 3, 3)})) == folds


def test_no_block_is_empty() -> None:
    splits = spatial_folds({"a": (40, 3, 3), "b": (41, 3, 3), "c": (1, 1, 1)})
    blocks = [block for split in splits for block in (*split.train_blocks, *split.validation_blocks)]
    assert all(0 <= block.start < block.stop for block in blocks)
    assert {(block.start, block.stop) for block in blocks if block.case == "c"} == {(0, 1)}
