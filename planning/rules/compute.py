"""What a step may compute where there is no GPU. Pure numbers."""

from __future__ import annotations

from typing import Literal

CPU_SAMPLE_VOXELS = 48**3
"""Voxels of one sample on a CPU: nnU-Net's 3D UNet then takes a few seconds a step on a handful of cores. The
memory alone would allow patches that take minutes. Our choice.
"""
CPU_STEP_VOXELS = 2 * CPU_SAMPLE_VOXELS
"""Voxels of the whole batch: two such samples."""


def sample_limit(kind: Literal["cuda", "cpu"]) -> int | None:
    """Most voxels of one sample; None on a GPU, where memory is the limit."""
    return CPU_SAMPLE_VOXELS if kind == "cpu" else None


def step_limit(kind: Literal["cuda", "cpu"]) -> int | None:
    """Most voxels of one step; None on a GPU."""
    return CPU_STEP_VOXELS if kind == "cpu" else None
