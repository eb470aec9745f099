"""Targets by hand and by brute force."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from voxplan.plans.build import Plan
from voxplan.plans.schema import IGNORE_INDEX
from voxplan.plans.targets import (
    LabelError,
    affinity_target,
    boundary_target,
    class_order,
    make_target,
    one_class,
    region_target,
    semantic_target,
)

OFFSETS = ((-1, 0, 0), (0, -1, 0), (0, 0, -1), (-2, 0, 0), (0, 3, 0), (0, 0, 9), (1, -2, 2))


def random_objects(
    seed: int, dtype: str = "uint64"
) -> np.ndarray[tuple[int, int, int], np.dtype[np.generic]]:
    return np.random.default_rng(seed).integers(0, 4, (4, 5, 6)).astype(dtype)


def test_classes_become_indices_background_first() -> None:
    classes = {"mitochondria": (7,), "background": (0,), "membrane": (3, 4)}
    labels = np.array([0, 3, 4, 7, 9]).reshape(1, 1, 5)
    target = semantic_target(labels, classes, ignore=9)
    assert class_order(classes) == ("background", "mitochondria", "membrane")
    assert target.dtype == np.int16
    assert target.shape == (1, 1, 1, 5)
    assert target.ravel().tolist() == [0, 2, 2, 1, -1]


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int64", "uint64", "float32"])
def test_indices_for_every_stored_type(dtype: str) -> None:
    labels = np.array([0, 1, 100, 1]).astype(dtype).reshape(1, 2, 2)
    target = semantic_target(labels, {"background": (0,), "a": (1,), "b": (100,)})
    assert target.ravel().tolist() == [0, 1, 2, 1]


def test_sparse_and_negative_values() -> None:
    classes = {"background": (0,), "far": (10**12,), "farther": (10**12 + 1,)}
    labels = np.array([0, 10**12, 10**12 + 1, -5]).reshape(1, 1, 4)
    assert semantic_target(labels, classes, ignore=-5).ravel().tolist() == [0, 1, 2, -1]
    with pytest.raises(LabelError, match="5"):
        semantic_target(labels + 5, classes)


def test_unknown_values_are_listed_with_their_case() -> None:
    labels = np.array([0, 1, 5, 6, 200], np.uint8).reshape(1, 1, 5)
    with pytest.raises(LabelError, match=r"case c7: .* does not know: 5, 6, 200 \(known: 0, 1\)"):
        semantic_target(labels, {"background": (0,), "a": (1,)}, case="c7")
    with pytest.raises(LabelError, match=r"case c7: .*: 200"):
        region_target(labels, {"whole": (1, 5, 6), "core": (5,)}, case="c7")


def test_fractions_are_refused() -> None:
    with pytest.raises(LabelError, match="not whole numbers"):
        semantic_target(np.full((1, 1, 1), 0.5), {"background": (0,)})


def test_a_value_in_two_classes_needs_regions() -> None:
    with pytest.raises(LabelError, match="dice_bce"):
        semantic_target(np.zeros((1, 1, 1), int), {"background": (0,), "a": (1, 2), "b": (2,)})


def test_regions_overlap() -> None:
    labels = np.array([0, 1, 2, 3, 4]).reshape(1, 1, 5)
    target = region_target(labels, {"background": (0,), "whole": (1, 2, 3), "core": (2, 3)}, ignore=4)
    assert target.dtype == np.uint8
    assert target.reshape(2, 5).tolist() == [[0, 1, 1, 1, 255], [0, 0, 1, 1, 255]]


def test_affinity_by_hand() -> None:
    labels = np.array([[[1, 1, 2, 2, 0, 0]]])
    target = affinity_target(labels, [(0, 0, 1), (0, 0, -1)])
    assert target.reshape(2, 6).tolist() == [[1, 0, 1, 0, 0, 255], [255, 1, 0, 1, 0, 0]]


@pytest.mark.parametrize("ignore", [None, 3])
def test_affinity_by_brute_force(ignore: int | None) -> None:
    labels = random_objects(1)
    valid = np.random.default_rng(2).random(labels.shape) < 0.8
    target = affinity_target(labels, OFFSETS, ignore=ignore, valid=valid)
    for index, offset in enumerate(OFFSETS):
        for voxel in itertools.product(*map(range, labels.shape)):
            partner = tuple(v + o for v, o in zip(voxel, offset, strict=True))
            inside = all(0 <= p < n for p, n in zip(partner, labels.shape, strict=True))
            expected = 255
            if inside and valid[voxel] and valid[partner] and ignore not in (labels[voxel], labels[partner]):
                expected = int(labels[voxel] == labels[partner] and labels[voxel] > 0)
            assert target[(index, *voxel)] == expected, (offset, voxel)


def test_affinity_tells_huge_ids_apart() -> None:
    """Neighbouring uint64 ids that float64 would merge."""
    labels = np.array([[[2**63 + 1, 2**63 + 2, 2**63 + 2]]], np.uint64)
    assert affinity_target(labels, [(0, 0, 1)]).ravel().tolist() == [0, 1, 255]


def test_boundary_by_brute_force() -> None:
    labels = random_objects(4, "uint32")
    valid = np.random.default_rng(5).random(labels.shape) < 0.9
    target = boundary_target(labels, ignore=3, valid=valid)
    usable = valid & (labels != 3)
    assert target.shape == (1, *labels.shape)
    for z, y, x in itertools.product(*map(range, labels.shape)):
        neighbours = [(z, y - 1, x), (z, y + 1, x), (z, y, x - 1), (z, y, x + 1)]
        expected = 255
        if usable[z, y, x]:
            expected = int(
                any(
                    0 <= n[1] < labels.shape[1]
                    and 0 <= n[2] < labels.shape[2]
                    and usable[n]
                    and labels[n] != labels[z, y, x]
                    for n in neighbours
                )
            )
        assert target[0, z, y, x] == expected


def test_boundary_does_not_look_across_sections() -> None:
    labels = np.stack([np.full((3, 3), 1), np.full((3, 3), 2)])
    assert not boundary_target(labels).any()


def test_object_ids_are_one_class(make_plan: Callable[..., Plan]) -> None:
    """Whoever reads the label maps; the ignored id is none."""
    dataset = make_plan(
        object_ids=True, ignore=300, classes={"background": (0,), "foreground": (1,)}, out_channels=2
    ).dataset
    ids = np.array([0, 1, 7, 299, 300, 2**40], np.int64).reshape(1, 1, 6)
    assert make_target(ids, dataset).ravel().tolist() == [0, 1, 1, 1, IGNORE_INDEX, 1]
    assert one_class(ids, None).ravel().tolist() == [0, 1, 1, 1, 1, 1]
    assert one_class(ids.astype(np.uint16)[..., :4], -1).ravel().tolist() == [0, 1, 1, 1]
