"""Plans for nnU-Net: the four files of a preprocessed folder, from which it preprocesses and trains.

Presets are nnU-Net's own plan under its own file name. voxplan's own plans become one file an architecture,
``voxplan_<architecture>.json``, which ``nnUNetv2_train ... -p voxplan_<architecture>`` picks. nnU-Net brings
its own trainer: optimizer, schedule, loss and precision are not handed over.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from voxplan.plans.architectures.topology import Topology
from voxplan.plans.schema import ChannelNormalization, DatasetPlan, ExperimentPlan, PlansDocument
from voxplan.profiling.fingerprint import Fingerprint

from ..nnunet_conversion import SOURCE, from_fingerprint
from ..nnunet_fingerprint import NnunetDataset, NnunetFingerprint
from ..presets import nnunet_plans
from ..presets.nnunet_plans import image_reader_writer, resampling_entries, unet_architecture
from ..rules.normalization import UINT8_RANGE
from .nnunet_check import MEDNEXT, check_nnunet_plans

NETWORKS = {"unet": False, "resenc_unet": True}
"""Architectures that nnU-Net has itself; whether it is the residual one."""
DATASET_NAME = re.compile(r"Dataset\d{3}_\w+")
MEDNEXT_HALVINGS = 4


def export_nnunet(
    document: PlansDocument | None,
    target: Path,
    *,
    fingerprint: Fingerprint,
    preset: str | None = None,
    target_gb: float | None = None,
    dataset: NnunetDataset | None = None,
) -> tuple[Path, ...]:
    """Write nnU-Net's files into a folder, best one called ``Dataset<three digits>_<name>``.

    Args:
        document: the plans; may be None with a preset.
        target: the folder; made if it is not there.
        fingerprint: of the data set that the plans are for.
        preset: write nnU-Net's own plan of this preset instead of the document's.
        target_gb: the preset's memory target.
        dataset: nnU-Net's dataset.json, where there is one; otherwise made from the fingerprint.

    Returns:
        The files written: plans, ``dataset.json``, ``dataset_fingerprint.json`` and, if the cases are known
        by id and split as wholes, ``splits_final.json``.

    Raises:
        ValueError: nnU-Net cannot read the data, or would misread the plans; nothing is written then.
    """
    numbers, described = from_fingerprint(fingerprint)
    dataset = dataset or described
    if len(dataset.channel_names) != len(described.channel_names):
        msg = (
            f"dataset.json names {len(dataset.channel_names)} channels, but the fingerprint has "
            f"{len(described.channel_names)}: give the dataset.json of these images"
        )
        raise ValueError(msg)
    _refuse_labels(fingerprint, dataset)
    name = target.name if DATASET_NAME.fullmatch(target.name) else fingerprint.dataset.name
    if preset is not None:
        plans = [nnunet_plans(preset, numbers, dataset, dataset_name=name, target_gb=target_gb)]
    elif document is not None:
        plans = _own_plans(document, numbers, dataset, name)
    else:
        msg = "there is nothing to export: give plans or a preset"
        raise ValueError(msg)
    for plan in plans:
        check_nnunet_plans(plan)
    files: dict[str, Any] = {f"{plan['plans_name']}.json": plan for plan in plans}
    files["dataset.json"] = dataset.model_dump(mode="json")
    files["dataset_fingerprint.json"] = numbers.model_dump(mode="json")
    splits = _splits(document, fingerprint)
    if splits:
        files["splits_final.json"] = splits
    target.mkdir(parents=True, exist_ok=True)
    return tuple(_write(target / file, content) for file, content in files.items())


def _write(path: Path, content: Any) -> Path:
    """The bytes that nnU-Net writes, through a temporary name: a killed export leaves no half file."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(content, indent=4), encoding="utf-8")
    temporary.replace(path)
    return path


def _refuse_labels(fingerprint: Fingerprint, dataset: NnunetDataset) -> None:
    labels = fingerprint.dataset.labels
    if labels.kind == "instance":
        msg = (
            "nnU-Net would read the object ids as classes: write label maps of classes (say 0 background, 1 "
            "inside, 2 boundary), profile them and export again"
        )
        raise ValueError(msg)
    if labels.kind == "none":
        msg = "nnU-Net trains on labels, and the data set has none: profile it with its labels"
        raise ValueError(msg)
    regions = any(isinstance(value, list) for value in dataset.labels.values())
    if regions and "regions_class_order" not in (dataset.model_extra or {}):
        msg = "the classes overlap as regions: give --dataset-json with nnU-Net's regions_class_order"
        raise ValueError(msg)


def _splits(document: PlansDocument | None, fingerprint: Fingerprint) -> list[dict[str, list[str]]]:
    """Folds by whole cases. Without them nnU-Net makes its own, which are the same five folds."""
    if document is None or fingerprint.dataset.layout == SOURCE:
        return []
    splits = document.dataset.splits
    if any(split.train_blocks or split.validation_blocks for split in splits):
        return []
    return [{"train": list(split.train), "val": list(split.validation)} for split in splits]


def _own_plans(
    document: PlansDocument, numbers: NnunetFingerprint, dataset: NnunetDataset, name: str
) -> list[dict[str, Any]]:
    """One plans document an architecture."""
    if document.dataset.task != "semantic":
        msg = (
            f"nnU-Net trains classes, not {document.dataset.task}: plan with --task semantic to export to it"
        )
        raise ValueError(msg)
    by_architecture: dict[str, dict[str, ExperimentPlan]] = {}
    for key, plan in document.plans.items():
        architecture, _, configuration = key.partition("/")
        by_architecture.setdefault(architecture, {})[configuration] = plan
    exportable = {
        architecture: plans
        for architecture, plans in by_architecture.items()
        if architecture in NETWORKS or architecture.startswith("mednext_")
    }
    if not exportable:
        msg = (
            f"nnU-Net has no counterpart of {', '.join(by_architecture) or 'these plans'}: plan unet, "
            "resenc_unet or a mednext_* to export to it"
        )
        raise ValueError(msg)
    return [
        _plans_of(architecture, plans, document, numbers, dataset, name)
        for architecture, plans in exportable.items()
    ]


def _plans_of(
    architecture: str,
    plans: Mapping[str, ExperimentPlan],
    document: PlansDocument,
    numbers: NnunetFingerprint,
    dataset: NnunetDataset,
    name: str,
) -> dict[str, Any]:
    plans_name = f"voxplan_{architecture}"
    spacing, shape = document.dataset.target_spacing, document.dataset.median_shape
    if spacing is None:
        msg = "the plans are made in voxels, and nnU-Net needs a spacing: plan again with --spacing Z Y X"
        raise ValueError(msg)
    planar = all(plan.dimensions == 2 for plan in plans.values())
    schemes = [_scheme(channel) for channel in document.dataset.normalization]
    masks = [channel.masked for channel in document.dataset.normalization]
    return {
        "dataset_name": name,
        "plans_name": plans_name,
        "original_median_spacing_after_transp": list(spacing),
        "original_median_shape_after_transp": list(shape),
        "image_reader_writer": image_reader_writer(dataset, planar=planar),
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {
            configuration: {
                "data_identifier": f"{plans_name}_{configuration}",
                "preprocessor_name": "DefaultPreprocessor",
                "batch_size": plan.global_batch_size,
                "patch_size": list(plan.patch_size),
                "median_image_size_in_voxels": list(plan.median_shape),
                "spacing": _spacing(configuration, plan),
                "normalization_schemes": schemes,
                "use_mask_for_norm": masks,
                **resampling_entries(),
                "architecture": _architecture(configuration, plan, document.dataset),
                "batch_dice": plan.loss.batch_dice,
            }
            for configuration, plan in plans.items()
        },
        "experiment_planner_used": f"voxplan {document.provenance.version}",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {
            channel: values.model_dump()
            for channel, values in numbers.foreground_intensity_properties_per_channel.items()
        },
    }


def _spacing(configuration: str, plan: ExperimentPlan) -> list[float]:
    if plan.spacing is None:
        msg = f"{configuration}: planned in voxels, and nnU-Net needs a spacing: plan with --spacing Z Y X"
        raise ValueError(msg)
    return list(plan.spacing)


def _scheme(channel: ChannelNormalization) -> str:
    """nnU-Net's class that does the same.

    Raises:
        ValueError: there is none.
    """
    if channel.scheme == "scale":
        if (channel.low, channel.high) == UINT8_RANGE:
            return "RGBTo01Normalization"
        msg = (
            f"channel {channel.channel}: scaled from {channel.low} to {channel.high}, and nnU-Net scales by "
            "0 and 255 or by each case's own range only: choose zscore for it to export"
        )
        raise ValueError(msg)
    return {"ct": "CTNormalization", "zscore": "ZScoreNormalization", "none": "NoNormalization"}[
        channel.scheme
    ]


def _architecture(configuration: str, plan: ExperimentPlan, dataset: DatasetPlan) -> dict[str, Any]:
    name, arguments = plan.architecture.name, plan.architecture.arguments
    if name in NETWORKS:
        if plan.checkpointing:
            msg = (
                f"{name}/{configuration}: nnU-Net's networks have no gradient checkpointing, which this plan "
                "needs to fit: plan for more memory, or export a mednext"
            )
            raise ValueError(msg)
        return _unet(plan.patch_size, arguments, residual=NETWORKS[name])
    strides = [[1] * plan.dimensions, *([2] * plan.dimensions for _ in range(MEDNEXT_HALVINGS))]
    return {
        "network_class_name": MEDNEXT,
        "arch_kwargs": {"variant": name, "strides": strides, "checkpointing": plan.checkpointing},
        "_kw_requires_import": [],
    }


def _unet(patch_size: Sequence[int], arguments: Mapping[str, Any], *, residual: bool) -> dict[str, Any]:
    strides = tuple(tuple(stride) for stride in arguments["strides"])
    topology = Topology(
        strides=strides,
        kernels=tuple(tuple(kernel) for kernel in arguments["kernels"]),
        patch_size=tuple(patch_size),
        divisors=tuple(math.prod(steps) for steps in zip(*strides, strict=True)),
    )
    architecture = unet_architecture(topology, residual=residual)
    architecture["arch_kwargs"]["features_per_stage"] = list(arguments["features"])
    if residual:
        architecture["arch_kwargs"]["n_blocks_per_stage"] = list(arguments["blocks"])
    return architecture
