"""Patches: valid, within the padded median, and as large as the load allows."""

from __future__ import annotations

import math

import pytest

from voxplan.planning.search import SENSIBLE_VOXELS, Candidate, PatchSpace, largest_patch
from voxplan.plans.architectures import ARCHITECTURES, get_architecture

GRIDS = [
    ((1.0, 1.0, 1.0), (128, 160, 144)),
    ((45.0, 4.6, 4.6), (20, 1024, 1024)),
    ((30.0, 6.0, 6.0), (100, 1024, 1024)),
    (None, (20, 1024, 1024)),
    ((5.0, 0.7, 0.7), (11, 512, 512)),
    ((1.0, 1.0, 1.0), (3, 30, 41)),
    ((8.0, 8.0, 8.0), (5000, 7000, 6000)),
    ((8.0, 8.0, 8.0), (60_000, 1_000_000, 700_000)),
    ((2000.0, 4.0, 4.0), (30, 20_000, 20_000)),
    ((0.5, 0.5), (300, 417)),
    (None, (40, 4096)),
]
COVERING = 1e-9


def padded(median: tuple[int, ...], divisors: tuple[int, ...], least: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(
        max(least_edge, math.ceil(edge / divisor) * divisor)
        for edge, divisor, least_edge in zip(median, divisors, least, strict=True)
    )


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
@pytest.mark.parametrize(("spacing", "median"), GRIDS)
@pytest.mark.parametrize("voxels", [40_000, 300_000, 2_000_000, 30_000_000])
def test_largest_patch(
    name: str, spacing: tuple[float, ...] | None, median: tuple[int, ...], voxels: int
) -> None:
    architecture = get_architecture(name)
    dimensions = len(median)
    space = PatchSpace(architecture, spacing, median)

    def load(candidate: Candidate) -> float:
        return candidate.voxels / voxels

    found = largest_patch(space, load)
    smallest = space.ladder()[0]
    if found is None:
        assert smallest.voxels > voxels
        return
    chosen, stop = found
    assert chosen.voxels <= voxels
    architecture.validate(chosen.arguments, dimensions=dimensions, patch_size=chosen.patch)
    assert chosen.arguments == architecture.topology(chosen.patch, space.spacing)
    divisors = architecture.divisors(chosen.arguments, dimensions)
    least = architecture.minimum_patch(chosen.arguments, dimensions)
    assert all(map(int.__le__, chosen.patch, padded(median, divisors, least)))
    for axis in range(dimensions):
        longer = list(chosen.patch)
        longer[axis] += divisors[axis]
        covered = chosen.patch[axis] >= median[axis]
        assert covered or math.prod(longer) > voxels, f"axis {axis} could take one divisor more"
    if stop == "median shape":
        assert all(map(int.__ge__, chosen.patch, median))


def test_equal_physical_extent() -> None:
    space = PatchSpace(get_architecture("mednext_s"), (30.0, 6.0, 6.0), (1000, 4096, 4096))
    chosen = largest_patch(space, lambda candidate: candidate.voxels / 32**3 / 40)
    assert chosen is not None
    z, y, x = (size * step for size, step in zip(chosen[0].patch, (30, 6, 6), strict=True))
    # One divisor, 16 sections of 30, is what may be between them.
    assert max(z, y, x) - min(z, y, x) <= 16 * 30


def test_ladder_starts_at_a_sensible_patch_and_grows() -> None:
    ladder = PatchSpace(get_architecture("unet"), (1.0, 1.0, 1.0), (300, 300, 300)).ladder()
    assert ladder[0].voxels == SENSIBLE_VOXELS[3]
    sizes = [candidate.voxels for candidate in ladder]
    assert sizes == sorted(set(sizes))
    assert all(size >= 300 for size in ladder[-1].patch)


def test_few_candidates_are_measured() -> None:
    space = PatchSpace(get_architecture("unet"), (8.0, 8.0, 8.0), (5000, 7000, 6000))
    measured: set[tuple[int, ...]] = set()
    topologies: set[str] = set()

    def load(candidate: Candidate) -> float:
        measured.add(candidate.patch)
        topologies.add(str(candidate.arguments))
        return (candidate.voxels + 200_000) / 3_000_000

    assert largest_patch(space, load) is not None
    assert len(measured) <= 12
    assert len(topologies) <= 4


def test_limit_of_voxels() -> None:
    space = PatchSpace(get_architecture("unet"), (1.0, 1.0, 1.0), (300, 300, 300), most_voxels=48**3)
    chosen = largest_patch(space, lambda _: COVERING)
    assert chosen is not None
    assert chosen[0].voxels <= 48**3
    assert chosen[1] == "compute"


def test_demanded_patch_says_what_would_work() -> None:
    space = PatchSpace(get_architecture("mednext_s"), None, (100, 100, 100))
    assert space.exact((32, 48, 64)).patch == (32, 48, 64)
    with pytest.raises(ValueError, match=r"the next one that works is \(64, 64, 64\)"):
        space.exact((50, 50, 50))
    with pytest.raises(ValueError, match="2 axes"):
        space.exact((64, 64))


def test_an_axis_that_is_padded_does_not_raise_the_smallest_sensible_patch() -> None:
    # 30 sections of 2 um against pixels of 4 nm: MedNeXt needs 32 voxels where equal extent asks for one.
    space = PatchSpace(get_architecture("mednext_s"), (2000.0, 4.0, 4.0), (30, 20_000, 20_000))
    smallest = space.ladder()[0]
    assert smallest.patch[0] == 32
    assert SENSIBLE_VOXELS[3] <= smallest.voxels < 2 * SENSIBLE_VOXELS[3]


def test_a_patch_smaller_than_the_smallest_sensible_one_is_taken_where_the_image_is() -> None:
    space = PatchSpace(get_architecture("unet"), (1.0, 1.0, 1.0), (20, 24, 28))
    assert [candidate.patch for candidate in space.ladder()] == [(20, 24, 28)]
