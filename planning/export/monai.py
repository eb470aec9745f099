"""Plans for MONAI: Auto3DSeg's ``datastats.yaml`` and a bundle-style configuration for each plan.

``datastats.yaml`` holds what Auto3DSeg's algorithms read of a data set (the keys of its ``DataAnalyzer``
summary); ``<architecture>_<configuration>/train.yaml`` is read by ``monai.bundle.ConfigParser``, which builds
the planned network, loss, optimizer and transforms from it. MONAI's readers give spatial axes in the order X,
Y, Z, so every size, stride and spacing is reversed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from voxplan.plans.schema import ChannelNormalization, DatasetPlan, ExperimentPlan, PlansDocument
from voxplan.profiling.fingerprint import Fingerprint

from ..nnunet_fingerprint import NnunetDataset
from .monai_datastats import datastats
from .plain_yaml import PlainDumper

READABLE = (".nii", ".nii.gz", ".nrrd", ".mha", ".mhd", ".tif", ".tiff")
"""What MONAI's LoadImage reads as a volume (nibabel, ITK)."""


def export_monai(
    document: PlansDocument | None,
    target: Path,
    *,
    fingerprint: Fingerprint,
    preset: str | None = None,
    target_gb: float | None = None,
    dataset: NnunetDataset | None = None,
) -> tuple[Path, ...]:
    """Write ``datastats.yaml`` and one ``<plan>/train.yaml`` a plan into a folder.

    Args:
        document: the plans; of a preset, too.
        target: the folder; made if it is not there.
        fingerprint: of the data set that the plans are for.
        preset: not used; the document holds the preset's plans.
        target_gb: not used.
        dataset: not used.

    Raises:
        ValueError: there are no plans, they train no classes, or the label maps hold none.
    """
    if document is None or not document.plans:
        msg = "there are no plans to export to MONAI"
        raise ValueError(msg)
    if document.dataset.task != "semantic":
        msg = f"MONAI's losses here are for classes, not {document.dataset.task}: plan with --task semantic"
        raise ValueError(msg)
    if document.dataset.object_ids:
        msg = (
            "the label maps hold object ids, which MONAI's losses would take for classes: write label maps "
            "of 0 and 1, and profile those"
        )
        raise ValueError(msg)
    files: dict[Path, Any] = {target / "datastats.yaml": datastats(fingerprint)}
    for name, plan in document.plans.items():
        listed = datalists(document.dataset, fingerprint)
        files[target / name.replace("/", "_") / "train.yaml"] = bundle(plan, document.dataset, listed)
    return tuple(_write(path, content) for path, content in files.items())


def _write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(yaml.dump(content, Dumper=PlainDumper, sort_keys=False), encoding="utf-8")
    temporary.replace(path)
    return path


def _reversed(values: Sequence[Any]) -> list[Any]:
    """ZYX to XYZ."""
    return list(values)[::-1]


def datalists(dataset: DatasetPlan, fingerprint: Fingerprint) -> dict[str, list[dict[str, Any]]]:
    """MONAI's datalists of the first fold, ``train`` and ``validation``.

    Empty where the files are not known (nnU-Net's fingerprint has none) or MONAI reads them not (HDF5, Zarr).
    Cases split inside their volumes all train.
    """
    root = Path(fingerprint.dataset.root)
    entries = {
        case.id: {
            "image": [str(root / file) for file in case.images],
            "label": str(root / case.label),
        }
        for case in fingerprint.cases
        if case.label is not None and case.images and (root / case.images[0]).name.endswith(READABLE)
    }
    fold = dataset.splits[0] if dataset.splits else None
    if fold is None or fold.train_blocks or fold.validation_blocks:
        return {"train": list(entries.values()), "validation": []}
    return {
        "train": [entries[case] for case in fold.train if case in entries],
        "validation": [entries[case] for case in fold.validation if case in entries],
    }


def bundle(
    plan: ExperimentPlan, dataset: DatasetPlan, listed: Mapping[str, list[dict[str, Any]]]
) -> dict[str, Any]:
    """A configuration for ``monai.bundle.ConfigParser``: data, network, loss, optimizer and transforms.

    The network is built by voxplan's registered architecture, so that it is the one whose memory was traced.

    Args:
        plan: what to train.
        dataset: what the plans share.
        listed: see :func:`datalists`.
    """
    size = _reversed(plan.patch_size)
    return {
        "imports": ["$import torch"],
        "voxplan_plan": {"architecture": plan.architecture.name, "memory_bytes": plan.memory.total},
        "patch_size": size,
        "batch_size": plan.batch_size,
        "epochs": plan.schedule.epochs,
        "amp": plan.precision in ("fp16", "bf16"),
        "device": "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
        "network": _network(plan, dataset),
        "loss": _loss(plan, dataset),
        "optimizer": _optimizer(plan),
        "lr_scheduler": {
            "_target_": "torch.optim.lr_scheduler.PolynomialLR",
            "optimizer": "@optimizer",
            "total_iters": "@epochs",
            "power": plan.schedule.power,
            "_disabled_": plan.schedule.name != "poly",
        },
        "train_transforms": {
            "_target_": "monai.transforms.Compose",
            "transforms": _transforms(plan, dataset),
        },
        "train_datalist": listed["train"],
        "validation_datalist": listed["validation"],
        "train_dataset": {
            "_target_": "monai.data.Dataset",
            "data": "@train_datalist",
            "transform": "@train_transforms",
        },
        "train_loader": {
            "_target_": "monai.data.DataLoader",
            "dataset": "@train_dataset",
            "batch_size": "@batch_size",
            "shuffle": True,
            "num_workers": plan.loader.workers,
            "pin_memory": plan.loader.pin_memory,
        },
        "inferer": {
            "_target_": "monai.inferers.SlidingWindowInferer",
            "roi_size": _reversed(plan.inference.window),
            "sw_batch_size": plan.inference.batch_size,
            "overlap": plan.inference.overlap,
            "mode": "gaussian",
        },
    }


def _network(plan: ExperimentPlan, dataset: DatasetPlan) -> dict[str, Any]:
    """The registered architecture, its axes turned to MONAI's XYZ."""
    arguments = {
        key: [_reversed(stage) for stage in value] if key in ("strides", "kernels") and value else value
        for key, value in plan.architecture.arguments.items()
    }
    return {
        "_target_": "voxplan.planning.export.monai_network.network",
        "architecture": plan.architecture.name,
        "arguments": _as_lists(arguments),
        "dimensions": plan.dimensions,
        "in_channels": dataset.in_channels,
        "out_channels": dataset.out_channels,
        "deep_supervision": plan.deep_supervision,
        "checkpointing": plan.checkpointing,
    }


def _as_lists(value: Any) -> Any:
    """Tuples as YAML's plain lists."""
    if isinstance(value, Mapping):
        return {key: _as_lists(item) for key, item in value.items()}
    return [_as_lists(item) for item in value] if isinstance(value, list | tuple) else value


def _loss(plan: ExperimentPlan, dataset: DatasetPlan) -> dict[str, Any]:
    overlapping = plan.loss.name == "dice_bce"
    loss = {
        "_target_": "monai.losses.DiceCELoss",
        "to_onehot_y": not overlapping,
        "softmax": not overlapping,
        "sigmoid": overlapping,
        "batch": plan.loss.batch_dice,
        "include_background": overlapping,
    }
    if not plan.deep_supervision:
        return loss
    return {
        "_target_": "monai.losses.DeepSupervisionLoss",
        "loss": loss,
        "weights": list(plan.loss.deep_supervision_weights),
    }


def _optimizer(plan: ExperimentPlan) -> dict[str, Any]:
    chosen = plan.optimizer
    common = {"params": "$@network.parameters()", "lr": chosen.lr, "weight_decay": chosen.weight_decay}
    if chosen.name == "sgd":
        extra: dict[str, Any] = {"momentum": chosen.momentum, "nesterov": chosen.nesterov}
        return {"_target_": "torch.optim.SGD", **common, **extra}
    return {"_target_": "torch.optim.AdamW", **common, "eps": chosen.eps, "betas": list(chosen.betas)}


def _transforms(plan: ExperimentPlan, dataset: DatasetPlan) -> list[dict[str, Any]]:
    both = ["image", "label"]
    transforms: list[dict[str, Any]] = [
        {"_target_": "LoadImaged", "keys": both, "ensure_channel_first": True, "image_only": True}
    ]
    if plan.spacing is not None and plan.dimensions == 3:
        transforms.append(
            {
                "_target_": "Spacingd",
                "keys": both,
                "pixdim": _reversed(plan.spacing),
                "mode": ["bilinear", "nearest"],
            }
        )
    transforms += _normalization(dataset.normalization)
    transforms.append({"_target_": "SpatialPadd", "keys": both, "spatial_size": "@patch_size"})
    transforms.append(
        {
            "_target_": "RandCropByPosNegLabeld",
            "keys": both,
            "label_key": "label",
            "spatial_size": "@patch_size",
            "pos": plan.loader.oversample_foreground,
            "neg": 1 - plan.loader.oversample_foreground,
            "num_samples": 1,
        }
    )
    return transforms


def _normalization(channels: Sequence[ChannelNormalization]) -> list[dict[str, Any]]:
    """One transform for all channels where they agree.

    Raises:
        ValueError: channels with different schemes, which MONAI's image transforms cannot tell apart.
    """
    schemes = {channel.scheme for channel in channels}
    if schemes == {"zscore"}:
        masked = channels[0].masked
        return [{"_target_": "NormalizeIntensityd", "keys": "image", "nonzero": masked, "channel_wise": True}]
    if schemes == {"none"}:
        return []
    if len(channels) > 1 and len({(c.scheme, c.low, c.high, c.mean, c.std) for c in channels}) > 1:
        names = ", ".join(f"{channel.channel} by {channel.scheme}" for channel in channels)
        msg = f"MONAI's transforms normalize all channels alike, but here {names}: choose one scheme"
        raise ValueError(msg)
    channel = channels[0]
    scale = {
        "_target_": "ScaleIntensityRanged",
        "keys": "image",
        "a_min": channel.low,
        "a_max": channel.high,
        "clip": channel.scheme == "ct",
    }
    if channel.scheme == "scale":
        return [{**scale, "b_min": 0.0, "b_max": 1.0}]
    assert channel.mean is not None
    assert channel.std is not None
    assert channel.low is not None
    assert channel.high is not None
    low, high = ((bound - channel.mean) / channel.std for bound in (channel.low, channel.high))
    return [{**scale, "b_min": low, "b_max": high}]
