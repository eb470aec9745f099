"""Which resolutions and dimensions get a plan, and which of the plans is recommended."""

from __future__ import annotations

import pytest

from voxplan.planning.rules.configurations import configurations, recommend


@pytest.mark.parametrize(
    ("sections", "dimensions", "offsets", "expected"),
    [
        (1, (2, 3), (), ("2d",)),
        (2, (2, 3), (), ("3d_fullres", "2d")),
        (100, (3,), (), ("3d_fullres",)),
        (1, (3,), (), ()),
        (100, (2,), (), ("2d",)),
        (100, (2, 3), ((1, 0, 0), (0, 1, 0)), ("3d_fullres",)),
        (100, (2, 3), ((0, 1, 0), (0, 0, 1)), ("3d_fullres", "2d")),
    ],
)
def test_configurations(
    sections: int,
    dimensions: tuple[int, ...],
    offsets: tuple[tuple[int, int, int], ...],
    expected: tuple[str, ...],
) -> None:
    assert configurations(sections, dimensions, offsets) == expected


def test_recommended_is_the_first_3d_plan_that_fits() -> None:
    names = ("unet/2d", "unet/3d_fullres", "mednext/3d_fullres")
    assert recommend(names, names) == "unet/3d_fullres"
    assert recommend(names, ("unet/2d", "mednext/3d_fullres")) == "mednext/3d_fullres"
    assert recommend(names, ("unet/2d",)) == "unet/2d"
    assert recommend(names, ()) == "unet/3d_fullres"
    assert recommend((), ()) is None
