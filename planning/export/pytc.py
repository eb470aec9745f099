"""A plan for PyTorch Connectomics (PyTC): one YAML that its strict loader takes, under the keys that count.

PyTC lets ``default.*`` override top-level keys, and ``train.*`` override those; so everything stands under
these two. Unknown keys fail, so what the plan is stands in comments. Sizes are ZYX, resolution is in nm.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from voxplan.plans.schema import ChannelNormalization, DatasetPlan, ExperimentPlan, PlansDocument
from voxplan.profiling.fingerprint import Fingerprint
from voxplan.profiling.formats.base import UNITS_IN_MM

from ..nnunet_fingerprint import NnunetDataset
from .plain_yaml import PlainDumper

NM_IN_MM = 1e-6
BASIC_UNET_FILTERS = 6
"""PyTC pads fewer to six by repeating the last, which would put 512 channels at full resolution."""
FINEST_FILTER = 32
"""The sixth filter is the width of the last, full-resolution, stage."""
PRECISIONS = {"fp32": "32", "tf32": "32", "fp16": "16-mixed", "bf16": "bf16-mixed"}
SCHEDULES = {"poly": "CosineAnnealingLR", "cosine": "CosineAnnealingLR", "constant": "ConstantLR"}
"""PyTC has no polynomial schedule, and silently takes cosine for a name that it does not know."""
GRADIENT_CLIP = 12.0
"""Norm, as nnU-Net and voxplan's own loop clip."""
OPTIMIZERS = {"adamw": "AdamW", "sgd": "SGD"}
MEDNEXT_WIDTH = 32
"""``n_channels`` of every published MedNeXt."""
READABLE = (".h5", ".hdf5", ".hdf", ".tif", ".tiff", ".png", ".nii", ".nii.gz", ".zarr")


def export_pytc(
    document: PlansDocument | None,
    target: Path,
    *,
    fingerprint: Fingerprint,
    preset: str | None = None,
    target_gb: float | None = None,
    dataset: NnunetDataset | None = None,
) -> tuple[Path, ...]:
    """Write the recommended plan that PyTC has a network for as one YAML file.

    Args:
        document: the plans.
        target: the file to write.
        fingerprint: of the data set that the plans are for; it names the volumes.
        preset: not used; a preset's networks are nnU-Net's, which PyTC has not.
        target_gb: not used.
        dataset: not used.

    Raises:
        ValueError: no plan has a counterpart in PyTC, or PyTC cannot read the volumes.
    """
    if document is None:
        msg = "there are no plans to export to PyTC"
        raise ValueError(msg)
    name, plan = _choose(document)
    content = pytc_config(plan, document.dataset, fingerprint, num_gpus=len(document.hardware.gpus))
    header = (
        f"# {document.provenance.program} {document.provenance.version}: {name} for {document.dataset.name}\n"
        f"# predicted memory of a training step: {plan.memory.total / 1024**3:.2f} GiB on "
        f"{plan.memory.device}, {'fits' if plan.memory.fits else 'DOES NOT FIT'}\n"
        f"{_schedule_comment(plan)}"
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    text = yaml.dump(content, Dumper=PlainDumper, sort_keys=False)
    temporary.write_text(header + text, encoding="utf-8")
    temporary.replace(target)
    return (target,)


def _choose(document: PlansDocument) -> tuple[str, ExperimentPlan]:
    """The recommended plan if PyTC has its network, else the first 3D one it has."""
    names = [document.recommended, *document.plans] if document.recommended else list(document.plans)
    for name in names:
        if name is None:
            continue
        plan = document.plans[name]
        architecture = plan.architecture.name
        if plan.dimensions == 3 and (architecture.startswith("mednext_") or architecture in _UNETS):
            return name, plan
    msg = (
        f"PyTC has no network for {', '.join(document.plans) or 'these plans'}: plan mednext_*, basic_unet "
        "or monai_unet, in 3D, to export to it"
    )
    raise ValueError(msg)


_UNETS = {"basic_unet": "monai_basic_unet3d", "monai_unet": "monai_unet"}


def pytc_config(
    plan: ExperimentPlan, dataset: DatasetPlan, fingerprint: Fingerprint, *, num_gpus: int
) -> dict[str, Any]:
    """The YAML's content.

    Raises:
        ValueError: PyTC cannot read the volumes.
    """
    size = list(plan.patch_size)
    model, loss = _model(plan), {"deep_supervision": plan.deep_supervision}
    return {
        "default": {
            "model": {
                **model,
                "in_channels": dataset.in_channels,
                "out_channels": dataset.out_channels,
                "input_size": size,
                "output_size": size,
                "loss": loss,
            },
            "data": {
                "dataloader": {"patch_size": size, "batch_size": plan.batch_size, **_lazy(fingerprint)},
                "image_transform": _transform(dataset.normalization),
                **_targets(dataset),
            },
            "inference": {
                "window": {
                    "window_size": list(plan.inference.window),
                    "sw_batch_size": plan.inference.batch_size,
                    "overlap": plan.inference.overlap,
                }
            },
            "system": {"num_gpus": num_gpus, "num_workers": plan.loader.workers},
        },
        "train": {
            "data": {"train": _volumes(dataset, fingerprint)},
            "optimization": {
                "optimizer": {
                    "name": OPTIMIZERS[plan.optimizer.name],
                    "lr": plan.optimizer.lr,
                    "weight_decay": plan.optimizer.weight_decay,
                    "eps": plan.optimizer.eps,
                    "momentum": plan.optimizer.momentum,
                },
                "scheduler": {"name": SCHEDULES[plan.schedule.name]},
                "max_epochs": plan.schedule.epochs,
                "n_steps_per_epoch": plan.schedule.steps_per_epoch,
                "gradient_clip_val": GRADIENT_CLIP,
                "precision": PRECISIONS[plan.precision],
                "accumulate_grad_batches": plan.accumulation,
            },
        },
    }


def _schedule_comment(plan: ExperimentPlan) -> str:
    if plan.schedule.name != "poly":
        return ""
    return "# the plan's polynomial schedule is not in PyTC: cosine to the same end stands for it\n"


def _model(plan: ExperimentPlan) -> dict[str, Any]:
    """``arch`` and the section of the family."""
    name = plan.architecture.name
    if name.startswith("mednext_"):
        parts = name.split("_")
        return {
            "arch": {"type": "mednext"},
            "mednext": {
                "size": parts[1].upper(),
                "kernel_size": 5 if parts[-1] == "k5" else 3,
                "base_channels": MEDNEXT_WIDTH,
                "checkpoint_style": "outside_block" if plan.checkpointing else None,
            },
        }
    if plan.deep_supervision:
        msg = f"{name}: PyTC rejects deep supervision for MONAI's models: plan with deep_supervision=false"
        raise ValueError(msg)
    return {"arch": {"type": _UNETS[name]}, "monai": _filters(name, plan.architecture.arguments)}


def _filters(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    features = list(arguments.get("features", (32, 64, 128, 256, 512)))
    if name == "basic_unet":
        return {"filters": [*features[: BASIC_UNET_FILTERS - 1], FINEST_FILTER]}
    section: dict[str, Any] = {"filters": features}
    if "residual_units" in arguments:
        section["num_res_units"] = arguments["residual_units"]
    return section


def _targets(dataset: DatasetPlan) -> dict[str, Any]:
    """What PyTC makes of the label maps; for classes its own default stands."""
    if dataset.task == "affinity":
        offsets = ["-".join(str(abs(step)) for step in offset) for offset in dataset.offsets]
        return {"label_transform": {"targets": [{"name": "affinity", "kwargs": {"offsets": offsets}}]}}
    if dataset.task == "boundary":
        return {"label_transform": {"targets": [{"name": "instance_boundary", "kwargs": {"mode": "3d"}}]}}
    return {}


def _lazy(fingerprint: Fingerprint) -> dict[str, bool]:
    """Only what applies: not every release of PyTC knows both keys."""
    images = [image.split(":")[0].lower() for case in fingerprint.cases for image in case.images]
    lazy = {
        "use_lazy_h5": any(image.endswith((".h5", ".hdf5", ".hdf")) for image in images),
        "use_lazy_zarr": any(image.endswith(".zarr") for image in images),
    }
    return {key: value for key, value in lazy.items() if value}


def _transform(channels: tuple[ChannelNormalization, ...]) -> dict[str, Any]:
    """PyTC normalizes all channels alike: ``0-1`` by the volume's own range, or ``normal`` (z-score)."""
    schemes = {channel.scheme for channel in channels}
    if schemes == {"scale"}:
        return {"normalize": "0-1", "clip_percentile_low": 0.0, "clip_percentile_high": 1.0}
    if schemes == {"ct"}:
        return {"normalize": "normal", "clip_percentile_low": 0.005, "clip_percentile_high": 0.995}
    if schemes == {"none"}:
        return {"normalize": "none", "clip_percentile_low": 0.0, "clip_percentile_high": 1.0}
    return {"normalize": "normal", "clip_percentile_low": 0.0, "clip_percentile_high": 1.0}


def _volumes(dataset: DatasetPlan, fingerprint: Fingerprint) -> dict[str, Any]:
    """Files of the cases with labels, and the resolution in nm where the unit is known."""
    root = Path(fingerprint.dataset.root)
    cases = [case for case in fingerprint.cases if case.label is not None]
    for case in cases:
        for file in case.images:
            if not file.split(":")[0].lower().endswith(READABLE):
                msg = f"case {case.id}: PyTC does not read {file}: convert it to .h5, .tif or .nii.gz"
                raise ValueError(msg)
    section: dict[str, Any] = {
        "image": [str(root / case.images[0]) for case in cases],
        "label": [str(root / str(case.label)) for case in cases],
    }
    if dataset.target_spacing is not None and dataset.spacing_unit in UNITS_IN_MM:
        scale = UNITS_IN_MM[dataset.spacing_unit] / NM_IN_MM
        section["resolution"] = [value * scale for value in dataset.target_spacing]
    return section
