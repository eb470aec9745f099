"""nnU-Net 2.8.1's plan for a data set, as its own planners would make it: numbers in, the plans document out.

Sizes are in nnU-Net's transposed axis order (coarsest axis first). Source of the procedure:
``default_experiment_planner.py`` lines 229 to 530 and ``residual_encoder_unet_planners.py`` lines 48 to 190.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from voxplan.plans.architectures.topology import Topology, nnunet_topology

from ..nnunet_fingerprint import NnunetDataset, NnunetFingerprint
from ..rules import normalization, proxy, spacing
from ..rules.patch import MINIMUM_BATCH, batch_cap, initial_patch, shrink
from .settings import REFERENCE_BATCH, Preset, get_preset

LOWRES_THRESHOLD = 0.25
"""Share of the median volume that a patch must cover; below it a low-resolution stage is planned."""
LOWRES_WORTHWHILE = 2.0
"""Ratio of voxels, full over low resolution, below which the low-resolution stage is dropped."""
READERS = {
    ".png": "NaturalImage2DIO",
    ".bmp": "NaturalImage2DIO",
    ".tif": "NaturalImage2DIO",
    ".nii.gz": "SimpleITKIO",
    ".nrrd": "SimpleITKIO",
    ".mha": "SimpleITKIO",
    ".gipl": "SimpleITKIO",
    ".tiff": "Tiff3DIO",
    ".nii": "NibabelIO",
}
"""nnU-Net's reader of each file ending, when it is not shown an example file."""

Configuration = dict[str, Any]


def image_reader_writer(dataset: NnunetDataset, *, planar: bool = False) -> str:
    """Name of nnU-Net's reader for a data set.

    ``.tif`` has two: one for 2D images (``planar``) and one for volumes.

    Raises:
        ValueError: nnU-Net reads no such files; the message names the conversion to make.
    """
    chosen = (dataset.model_extra or {}).get("overwrite_image_reader_writer")
    if isinstance(chosen, str) and chosen != "None":
        return chosen
    ending = dataset.file_ending.lower()
    if ending not in READERS:
        msg = (
            f"nnU-Net reads no {ending or 'files without an ending'}: convert the volumes to .nii.gz, .nrrd, "
            f".mha or .tif (one file a channel, named <case>_0000.nii.gz) and profile them again; it reads "
            f"{', '.join(READERS)}"
        )
        raise ValueError(msg)
    if ending == ".tif" and not planar:
        return "Tiff3DIO"
    return READERS[ending]


def nnunet_plans(
    preset: str,
    fingerprint: NnunetFingerprint,
    dataset: NnunetDataset,
    *,
    dataset_name: str,
    target_gb: float | None = None,
    plans_name: str | None = None,
) -> dict[str, Any]:
    """The JSON document that nnU-Net's own planner would save.

    Args:
        preset: one of ``PRESETS``.
        fingerprint: nnU-Net's numbers, from its file or from a voxplan fingerprint.
        dataset: the dataset.json.
        dataset_name: nnU-Net's, e.g. ``Dataset501_Heads``.
        target_gb: ``-gpu_memory_target``; None for the preset's own.
        plans_name: ``-overwrite_plans_name``; None for the preset's own.

    Raises:
        ValueError: unknown preset, a target that is not positive, or data that nnU-Net cannot read.
    """
    chosen = get_preset(preset)
    forward, backward = spacing.transpose_axes(
        spacing.target_spacing(fingerprint.spacings, fingerprint.shapes_after_crop)
    )
    identifier = plans_name or chosen.plans_name
    configurations = nnunet_configurations(
        preset, fingerprint, dataset, target_gb=target_gb, plans_name=identifier
    )
    median_spacing = np.median(fingerprint.spacings, 0)
    median_shape = np.median(fingerprint.shapes_after_crop, 0)
    return {
        "dataset_name": dataset_name,
        "plans_name": identifier,
        "original_median_spacing_after_transp": [float(median_spacing[axis]) for axis in forward],
        "original_median_shape_after_transp": [round(float(median_shape[axis])) for axis in forward],
        "image_reader_writer": image_reader_writer(dataset, planar="3d_fullres" not in configurations),
        "transpose_forward": list(forward),
        "transpose_backward": list(backward),
        "configurations": configurations,
        "experiment_planner_used": chosen.planner,
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {
            channel: values.model_dump()
            for channel, values in fingerprint.foreground_intensity_properties_per_channel.items()
        },
    }


def nnunet_configurations(
    preset: str,
    fingerprint: NnunetFingerprint,
    dataset: NnunetDataset,
    *,
    target_gb: float | None = None,
    plans_name: str | None = None,
) -> dict[str, Configuration]:
    """The configurations (``2d``, ``3d_lowres``, ``3d_fullres``, ``3d_cascade_fullres``) of that document."""
    planner = _Planner(get_preset(preset), fingerprint, dataset, target_gb, plans_name)
    target = spacing.target_spacing(fingerprint.spacings, fingerprint.shapes_after_crop)
    forward, _ = spacing.transpose_axes(target)
    median = spacing.median_shape_at_spacing(fingerprint.shapes_after_crop, fingerprint.spacings, target)
    fine = tuple(target[axis] for axis in forward)
    shape = tuple(median[axis] for axis in forward)
    voxels = float(np.prod(shape, dtype=np.float64) * dataset.numTraining)
    plane = planner.configuration("2d", fine[1:], shape[1:], voxels)
    plane["batch_dice"] = True
    configurations = {"2d": plane}
    if shape[0] == 1:
        return configurations
    fullres = planner.configuration("3d_fullres", fine, shape, voxels)
    lowres = _lowres(planner, fullres, fine, shape)
    if lowres is not None:
        lowres["batch_dice"] = False
        lowres["next_stage"] = "3d_cascade_fullres"
        configurations["3d_lowres"] = lowres
    fullres["batch_dice"] = lowres is not None
    configurations["3d_fullres"] = fullres
    if lowres is not None:
        cascade = {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"}
        configurations["3d_cascade_fullres"] = cascade
    return configurations


def _lowres(
    planner: _Planner, fullres: Configuration, fine: spacing.Vector, shape: spacing.Vector
) -> Configuration | None:
    """The coarsest stage that is needed for a patch to cover a quarter of the volume, or None."""
    median = np.asarray(shape, dtype=np.float64)
    total = voxels = np.prod(median, dtype=np.float64)
    covered = math.prod(fullres["patch_size"])
    coarse, lowres = fine, None
    while covered / voxels < LOWRES_THRESHOLD:
        coarse = spacing.coarser_spacing(coarse)
        resampled = np.asarray(fine) / np.asarray(coarse) * median
        voxels = np.prod(resampled, dtype=np.float64)
        coarse_shape = [round(float(size)) for size in resampled]
        lowres = planner.configuration(
            "3d_lowres", coarse, coarse_shape, float(voxels * planner.dataset.numTraining)
        )
        covered = math.prod(lowres["patch_size"])
    return None if total / voxels < LOWRES_WORTHWHILE else lowres


class _Planner:
    """One preset applied to one data set; each configuration stands alone."""

    def __init__(
        self,
        preset: Preset,
        fingerprint: NnunetFingerprint,
        dataset: NnunetDataset,
        target_gb: float | None,
        plans_name: str | None,
    ) -> None:
        self.target_gb = preset.reference_gb if target_gb is None else target_gb
        if not (math.isfinite(self.target_gb) and self.target_gb > 0):
            msg = f"--target-gb must be a positive number of GB, got {self.target_gb}"
            raise ValueError(msg)
        self.preset = preset
        self.dataset = dataset
        self.plans_name = plans_name or preset.plans_name
        self.schemes = [normalization.nnunet_scheme(name) for name in dataset.channel_names.values()]
        relative = fingerprint.median_relative_size_after_cropping
        self.masks = [normalization.nnunet_uses_mask(scheme, relative) for scheme in self.schemes]

    def configuration(
        self, name: str, spacings: Sequence[float], median_shape: Sequence[float], dataset_voxels: float
    ) -> Configuration:
        """Patch, batch and network of one resolution."""
        topology, estimate, reference = self._fit(spacings, median_shape)
        dimensions = len(spacings)
        batch = round(reference / estimate * REFERENCE_BATCH[dimensions])
        capped = min(batch, batch_cap(dataset_voxels, topology.patch_size, self.preset.dataset_share))
        return {
            "data_identifier": self._data_identifier(name),
            "preprocessor_name": "DefaultPreprocessor",
            "batch_size": max(capped, MINIMUM_BATCH),
            "patch_size": list(topology.patch_size),
            "median_image_size_in_voxels": list(median_shape),
            "spacing": list(spacings),
            "normalization_schemes": list(self.schemes),
            "use_mask_for_norm": list(self.masks),
            **resampling_entries(),
            "architecture": unet_architecture(topology, residual=self.preset.residual),
        }

    def _fit(self, spacings: Sequence[float], median_shape: Sequence[float]) -> tuple[Topology, int, float]:
        """Shrink the patch until the proxy is within its reference; topology, proxy and reference."""
        dimensions = len(spacings)
        scale = self.target_gb / self.preset.reference_gb
        reference = self.preset.reference_elements[dimensions] * scale
        # The plain planner asks whether batch 2 fits; the residual ones compare a single sample.
        samples = 1.0 if self.preset.residual else MINIMUM_BATCH / REFERENCE_BATCH[dimensions]
        topology = nnunet_topology(initial_patch(spacings, median_shape), tuple(spacings))
        estimate = self._elements(topology)
        while estimate * samples > reference:
            topology = shrink(topology, spacings, median_shape)
            estimate = self._elements(topology)
        return topology, estimate, reference

    def _elements(self, topology: Topology) -> int:
        count = proxy.residual_unet_elements if self.preset.residual else proxy.plain_unet_elements
        features = proxy.features_per_stage(topology.stages, len(topology.patch_size))
        return count(topology.patch_size, topology.strides, features, len(self.dataset.labels))

    def _data_identifier(self, configuration: str) -> str:
        """Folder of the preprocessed data; the residual presets share the plain one's where they agree."""
        shared = self.preset.residual and configuration in ("2d", "3d_fullres")
        return f"{'nnUNetPlans' if shared else self.plans_name}_{configuration}"


def resampling_entries() -> dict[str, Any]:
    """How nnU-Net resamples: cubic for images, linear for labels, nearest along a thick axis."""
    function = "resample_data_or_seg_to_shape"
    return {
        "resampling_fn_data": function,
        "resampling_fn_seg": function,
        "resampling_fn_data_kwargs": _resampling(is_seg=False, order=3),
        "resampling_fn_seg_kwargs": _resampling(is_seg=True, order=1),
        "resampling_fn_probabilities": function,
        "resampling_fn_probabilities_kwargs": _resampling(is_seg=False, order=1),
    }


def _resampling(*, is_seg: bool, order: int) -> dict[str, Any]:
    return {"is_seg": is_seg, "order": order, "order_z": 0, "force_separate_z": None}


def unet_architecture(topology: Topology, *, residual: bool) -> dict[str, Any]:
    """The ``architecture`` entry of nnU-Net's two networks for a topology."""
    stages, dimensions = topology.stages, len(topology.patch_size)
    blocks = (
        {
            "n_blocks_per_stage": list(proxy.residual_blocks(stages)),
            "n_conv_per_stage_decoder": [proxy.RESIDUAL_DECODER_CONVOLUTIONS] * (stages - 1),
        }
        if residual
        else {
            "n_conv_per_stage": [proxy.PLAIN_CONVOLUTIONS] * stages,
            "n_conv_per_stage_decoder": [proxy.PLAIN_CONVOLUTIONS] * (stages - 1),
        }
    )
    network = "ResidualEncoderUNet" if residual else "PlainConvUNet"
    return {
        "network_class_name": f"dynamic_network_architectures.architectures.unet.{network}",
        "arch_kwargs": {
            "n_stages": stages,
            "features_per_stage": list(proxy.features_per_stage(stages, dimensions)),
            "conv_op": f"torch.nn.modules.conv.Conv{dimensions}d",
            "kernel_sizes": [list(kernel) for kernel in topology.kernels],
            "strides": [list(stride) for stride in topology.strides],
            **blocks,
            "conv_bias": True,
            "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dimensions}d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }
