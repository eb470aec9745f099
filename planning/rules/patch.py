"""Patch and batch before the memory is looked at: nnU-Net's aspect rule, shrinking and data-share cap.

Pure numbers; axes in whatever order the caller uses, the same for spacing and shapes.
Source of the rules: nnU-Net 2.8.1, ``default_experiment_planner.py`` lines 251 to 368.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from voxplan.plans.architectures.topology import Topology, nnunet_topology
from voxplan.plans.schema import Ints

START_VOXELS = {2: 2048**2, 3: 256**3}
"""Voxels of the patch that the search starts from, by number of axes: certainly larger than what fits."""
DATASET_SHARE = 0.05
"""Largest share of the data set's voxels that one batch may cover (nnU-Net's ``max_dataset_covered``)."""
MINIMUM_BATCH = 2
"""nnU-Net's ``UNet_min_batch_size``."""


def isotropic_patch(spacing: Sequence[float], voxels: int | None = None) -> Ints:
    """A patch of about ``voxels`` that covers the same physical extent on every axis.

    ``voxels`` None starts where nnU-Net does: 256 cubed, or 2048 squared.
    """
    count = START_VOXELS[len(spacing)] if voxels is None else voxels
    inverse = 1 / np.asarray(spacing, dtype=np.float64)
    scaled = inverse * (count / np.prod(inverse)) ** (1 / len(spacing))
    return tuple(max(1, round(float(value))) for value in scaled)


def initial_patch(
    spacing: Sequence[float], median_shape: Sequence[float], voxels: int | None = None
) -> tuple[float, ...]:
    """The isotropic patch, clipped to the median shape (which may hold halves, hence floats)."""
    patch = isotropic_patch(spacing, voxels)
    return tuple(min(size, median) for size, median in zip(patch, median_shape, strict=True))


def most_generous_axis(patch: Sequence[float], median_shape: Sequence[float]) -> int:
    """The axis on which the patch covers the largest share of the median shape: the one to shrink."""
    ratios = [size / median for size, median in zip(patch, median_shape, strict=True)]
    return int(np.argsort(ratios)[-1])


def shrink(topology: Topology, spacing: Sequence[float], median_shape: Sequence[float]) -> Topology:
    """The topology of the next smaller patch.

    One axis gives up one divisor. The divisor is that of the patch *after* giving it up, so that no valid
    size is skipped: 256 is followed by 224, not by 192.

    Raises:
        ValueError: the axis cannot shrink any further.
    """
    patch = list(topology.patch_size)
    axis = most_generous_axis(patch, median_shape)
    trial = list(patch)
    trial[axis] -= topology.divisors[axis]
    patch[axis] -= nnunet_topology(tuple(trial), tuple(spacing)).divisors[axis]
    if patch[axis] <= 0:
        msg = f"patch {topology.patch_size} cannot shrink on axis {axis}: nothing would be left"
        raise ValueError(msg)
    return nnunet_topology(tuple(patch), tuple(spacing))


def batch_cap(dataset_voxels: float, patch_size: Sequence[int], share: float = DATASET_SHARE) -> int:
    """Largest batch that the data-share rule allows, at least nnU-Net's minimum of 2."""
    allowed = round(float(dataset_voxels * share / np.prod(patch_size, dtype=np.float64)))
    return max(allowed, MINIMUM_BATCH)
