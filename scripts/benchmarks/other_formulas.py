"""What others would say of a training step's memory: formulas that the trace is compared with.

Bytes from the numbers of a step alone; nothing is planned by them.
"""

from __future__ import annotations

from math import prod

from voxplan.planning.presets.settings import REFERENCE_BATCH, get_preset

from .memory_grid import Case

GIB = 2**30
GB = 10**9
POOLINGS = 4
BASE_FEATURES = 32
FEATURE_CAP = 320
MAPS_A_STAGE = 3
WORKSPACE = 1.2
"""Share added for workspaces."""
PARAMETERS_AND_STATE = 0.3 * GIB
"""Taken for any network: 0.1 GiB of parameters and twice that of optimizer state."""
HALF = ("fp16", "bf16")


def connectomics_formula(case: Case) -> float:
    """Of PyTorch Connectomics' automatic configuration (October 2025), for any architecture.

    Three feature maps a stage, as many gradients, 20 % for workspaces, 0.3 GiB for parameters and state. Its
    decoder ends at half resolution. Source: ``estimate_gpu_memory_required`` in
    ``connectomics/config/gpu_utils.py``, with its defaults.
    """
    edges, features = [float(edge) for edge in case.patch], BASE_FEATURES
    elements = prod(edges) * (1 + case.classes)
    for stage in range(POOLINGS + 1):
        elements += prod(edges) * features * MAPS_A_STAGE
        if 0 < stage < POOLINGS:
            elements += prod(edges) * case.classes
        edges, features = [edge / 2 for edge in edges], min(2 * features, FEATURE_CAP)
    for stage in range(POOLINGS):
        edges, features = [2 * edge for edge in edges], features // 2
        elements += prod(edges) * features * MAPS_A_STAGE
        if stage < POOLINGS - 1:
            elements += prod(edges) * case.classes
    size = 2 if case.precision in HALF else 4
    return 2 * elements * case.batch * size * WORKSPACE + PARAMETERS_AND_STATE


def nnunet_proxy(case: Case, elements: int) -> float:
    """Memory that nnU-Net's rule gives a step: its target times the share of its reference that is used.

    Args:
        case: the step.
        elements: written by the network's convolutions for one sample, deep supervision off.
    """
    preset = get_preset("resenc-m" if case.architecture == "resenc_unet" else "nnunet")
    dimensions = len(case.patch)
    share = elements * case.batch / REFERENCE_BATCH[dimensions] / preset.reference_elements[dimensions]
    return share * preset.reference_gb * GB
