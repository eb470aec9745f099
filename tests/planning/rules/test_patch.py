from __future__ import annotations

import math

import pytest

from voxplan.planning.rules.patch import batch_cap, initial_patch, isotropic_patch, most_generous_axis, shrink
from voxplan.plans.architectures.topology import nnunet_topology


def test_isotropic_data_starts_from_a_cube() -> None:
    assert isotropic_patch((1.0, 1.0, 1.0)) == (256, 256, 256)
    assert isotropic_patch((0.7, 0.7)) == (2048, 2048)


@pytest.mark.parametrize("spacing", [(5.0, 1.0, 1.0), (45.0, 4.6, 4.6), (1.0, 2.0, 3.0)])
def test_the_patch_covers_the_same_extent_on_every_axis(spacing: tuple[float, ...]) -> None:
    patch = isotropic_patch(spacing)
    extents = [size * step for size, step in zip(patch, spacing, strict=True)]
    assert max(extents) / min(extents) == pytest.approx(1.0, abs=max(spacing) / min(extents))
    assert math.prod(patch) == pytest.approx(256**3, rel=0.02)


def test_an_extreme_spacing_still_gives_a_voxel() -> None:
    assert isotropic_patch((1e6, 1.0, 1.0))[0] == 1


def test_the_start_is_clipped_to_the_median_shape() -> None:
    assert initial_patch((1.0, 1.0, 1.0), (77.5, 300.0, 256.0)) == (77.5, 256, 256)


def test_the_axis_that_covers_most_of_the_volume_gives_way() -> None:
    assert most_generous_axis((128, 128, 128), (130.0, 400.0, 400.0)) == 0
    assert most_generous_axis((64, 256, 128), (130.0, 280.0, 400.0)) == 1


def test_shrinking_skips_no_valid_size() -> None:
    """256 pools six times (divisor 64); 192 and 224 only five: 224 is the next, as nnU-Net has it."""
    topology = nnunet_topology((256, 256, 256), (1.0, 1.0, 1.0))
    assert topology.divisors == (64, 64, 64)
    smaller = shrink(topology, (1.0, 1.0, 1.0), (256.0, 400.0, 400.0))
    assert smaller.patch_size == (224, 256, 256)
    assert smaller.divisors == (32, 64, 64)


def test_shrinking_below_nothing_is_refused() -> None:
    topology = nnunet_topology((1, 4, 4), (1.0, 1.0, 1.0))
    with pytest.raises(ValueError, match="cannot shrink on axis 0"):
        shrink(topology, (1.0, 1.0, 1.0), (1.0, 400.0, 400.0))


def test_a_batch_covers_at_most_a_twentieth_of_the_data() -> None:
    """100 volumes of 100 cubed hold 1e8 voxels; a twentieth is five patches of 1e6."""
    assert batch_cap(1e8, (100, 100, 100)) == 5
    assert batch_cap(1e8, (100, 100, 100), share=1.0) == 100


def test_the_cap_never_goes_below_two() -> None:
    assert batch_cap(1e6, (100, 100, 100)) == 2


def test_one_voxel_may_be_left() -> None:
    topology = nnunet_topology((2, 4, 4), (1.0, 1.0, 1.0))
    assert shrink(topology, (1.0, 1.0, 1.0), (2.0, 400.0, 400.0)).patch_size[0] == 1
