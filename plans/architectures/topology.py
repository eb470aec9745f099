"""nnU-Net's rule for strides and kernels from patch and spacing, as pure numbers.

Source: nnU-Net 2.8.1, ``network_topology.py`` lines 30 to 108. Both the UNets here and the nnU-Net presets
use it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..schema import Ints

MINIMUM_EDGE = 4
"""Voxels left on an axis at the bottleneck (nnU-Net's ``UNet_featuremap_min_edge_length``)."""
MAX_SPACING_RATIO = 2.0
"""An axis pools, and gets a kernel of 3, once its spacing is below this multiple of the finest axis."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """Strides and kernels per stage, full resolution first; sizes in the axis order of the input."""

    strides: tuple[Ints, ...]
    kernels: tuple[Ints, ...]
    patch_size: Ints
    """The patch padded up to the divisors."""
    divisors: Ints

    @property
    def stages(self) -> int:
        """Resolutions, bottleneck included."""
        return len(self.strides)


def _poolable(sizes: list[float], spacings: list[float]) -> list[int]:
    """Axes that may be halved once more; empty when pooling ends."""
    large = [axis for axis, size in enumerate(sizes) if size >= 2 * MINIMUM_EDGE]
    if not large:
        return []
    finest = min(spacings[axis] for axis in large)
    axes = [axis for axis in large if spacings[axis] / finest < MAX_SPACING_RATIO]
    if len(axes) == 1 and sizes[axes[0]] < 3 * MINIMUM_EDGE:
        return []
    return axes


def nnunet_topology(patch_size: tuple[float, ...], spacing: tuple[float, ...]) -> Topology:
    """Strides, kernels and divisors for a patch (any number of axes) at a spacing (same axes, any unit).

    The patch may hold halves, as the median shape of an even number of cases does; it is padded up.
    """
    sizes, spacings = list(patch_size), list(spacing)
    axes_count = len(sizes)
    kernel = [1] * axes_count
    strides: list[Ints] = [(1,) * axes_count]
    kernels: list[Ints] = []
    divisors = [1] * axes_count
    while axes := _poolable(sizes, spacings):
        finest = min(spacings)
        kernel = [
            3 if k == 3 or s / finest < MAX_SPACING_RATIO else 1
            for k, s in zip(kernel, spacings, strict=True)
        ]
        kernels.append(tuple(kernel))
        strides.append(tuple(2 if axis in axes else 1 for axis in range(axes_count)))
        for axis in axes:
            divisors[axis] *= 2
            spacings[axis] *= 2
            sizes[axis] = math.ceil(sizes[axis] / 2)
    kernels.append((3,) * axes_count)
    padded = tuple(math.ceil(size / d) * d for size, d in zip(patch_size, divisors, strict=True))
    return Topology(
        strides=tuple(strides), kernels=tuple(kernels), patch_size=padded, divisors=tuple(divisors)
    )
