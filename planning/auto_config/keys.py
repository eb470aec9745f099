"""The keys of a configuration that automatic planning reads or writes."""

from __future__ import annotations

OVERRIDES = {
    "data.patch_size": "patch_size",
    "data.batch_size": "batch_size",
    "data.num_workers": "num_workers",
    "optimizer.lr": "lr",
    "training.precision": "precision",
    "training.accumulate_grad_batches": "accumulate_grad_batches",
}
"""Planned and written unless the user set them; with their names as overrides and in the result."""

AUTO_PLAN = "system.auto_plan"
PRINT = "system.print_auto_plan"
NUM_GPUS = "system.num_gpus"
NUM_CPUS = "system.num_cpus"
SPACING = "data.target_spacing"
SPACING_UNIT = "data.spacing_unit"
MEDIAN_SHAPE = "data.median_shape"
FINGERPRINT = "data.fingerprint"
ARCHITECTURE = "model.architecture"
IN_CHANNELS = "model.in_channels"
OUT_CHANNELS = "model.out_channels"
DEEP_SUPERVISION = "model.deep_supervision"
VARIANTS = {"model.mednext_size": "S", "model.mednext_kernel_size": 3}
"""Keys of the replaced system that choose another MedNeXt, with the one that is planned: warned of."""

KNOWN = (
    AUTO_PLAN,
    PRINT,
    NUM_GPUS,
    NUM_CPUS,
    FINGERPRINT,
    SPACING,
    SPACING_UNIT,
    MEDIAN_SHAPE,
    ARCHITECTURE,
    IN_CHANNELS,
    OUT_CHANNELS,
    DEEP_SUPERVISION,
    *OVERRIDES,
)
