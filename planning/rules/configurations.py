"""Which resolutions and dimensions get a plan. Pure numbers."""

from __future__ import annotations

from collections.abc import Sequence

Offset = tuple[int, int, int]


CONFIGURATIONS = ("3d_fullres", "2d")


def configurations(
    median_sections: int, dimensions: Sequence[int], offsets: Sequence[Offset] = ()
) -> tuple[str, ...]:
    """``3d_fullres`` and ``2d`` for volumes, ``2d`` alone for single sections (nnU-Net's rule).

    Args:
        median_sections: voxels along z of the median shape.
        dimensions: that the architecture has.
        offsets: of the affinities; those across sections need a 3D plan.
    """
    wanted = []
    if median_sections > 1 and 3 in dimensions:
        wanted.append("3d_fullres")
    if 2 in dimensions and not any(offset[0] for offset in offsets):
        wanted.append("2d")
    return tuple(wanted)


def recommend(names: Sequence[str], fitting: Sequence[str]) -> str | None:
    """The plan to train first: of those that fit the first 3D one as they were asked for, else the first."""
    for pool in (fitting, names):
        chosen = next((name for name in pool if name.endswith("/3d_fullres")), next(iter(pool), None))
        if chosen is not None:
            return chosen
    return None
