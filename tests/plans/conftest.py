"""Small plans and small cases, made without the planner and the profiler."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from voxplan.plans.architectures import get_architecture
from voxplan.plans.build import Plan
from voxplan.plans.schema import DatasetPlan, ExperimentPlan, Hardware, PlansDocument, Provenance
from voxplan.profiling.formats.base import CaseSource, VolumeSource

PlanMaker = Callable[..., Plan]
CaseWriter = Callable[..., CaseSource]
DocumentMaker = Callable[..., PlansDocument]


@pytest.fixture
def make_plan() -> PlanMaker:
    """A plan for one scaled uint8 channel and two classes; keyword arguments replace fields by name."""

    def make(patch: tuple[int, ...] = (8, 16, 16), *, architecture: str = "unet", **changes: Any) -> Plan:
        dimensions = len(patch)
        network = get_architecture(architecture)
        arguments = network.topology(patch, None)
        if architecture == "unet":
            arguments["features"] = [8 * 2**stage for stage in range(len(arguments["strides"]))]
        scales = network.deep_supervision_scales(arguments, dimensions)
        supervised = network.deep_supervision
        weights = [0.5**level for level in range(len(scales) if supervised else 1)]
        experiment: dict[str, Any] = {
            "architecture": {"name": architecture, "arguments": arguments},
            "dimensions": dimensions,
            "spacing": None,
            "median_shape": (64,) * dimensions,
            "patch_size": patch,
            "batch_size": 2,
            "global_batch_size": 2,
            "precision": "fp32",
            "deep_supervision": supervised,
            "loss": {
                "name": "dice_ce",
                "batch_dice": True,
                "deep_supervision_weights": tuple(weight / sum(weights) for weight in weights),
            },
            "optimizer": {"name": "adamw", "lr": 5e-3, "eps": 1e-4},
            "schedule": {"name": "poly", "epochs": 10, "steps_per_epoch": 20},
            "loader": {"workers": 0, "cache": "none", "pin_memory": False},
            "inference": {"window": patch, "batch_size": 2},
            "memory": {
                "allocated": 1,
                "reserved": 1,
                "context": 0,
                "total": 1,
                "parts": {},
                "budget": 2**30,
                "fits": True,
                "device": "cpu",
            },
            "decisions": {},
        }
        dataset: dict[str, Any] = {
            "name": "test",
            "task": "semantic",
            "channel_names": ("EM",),
            "classes": {"background": (0,), "cell": (1,), "nucleus": (2,)},
            "ignore": None,
            "out_channels": 3,
            "target_spacing": None,
            "spacing_unit": "nm",
            "median_shape": (64, 64, 64),
            "normalization": ({"channel": "EM", "scheme": "none"},),
            "case_numbers": {},
            "splits": (),
            "decisions": {},
        }
        for name, value in changes.items():
            target = dataset if name in DatasetPlan.model_fields else experiment
            nested = target.get(name)
            target[name] = {**nested, **value} if isinstance(nested, dict) and name != "classes" else value
        return Plan(
            f"{architecture}/test",
            ExperimentPlan.model_validate(experiment),
            DatasetPlan.model_validate(dataset),
        )

    return make


@pytest.fixture
def make_document(make_plan: PlanMaker) -> DocumentMaker:
    """A document with the plans ``unet/test`` and ``mednext_s/test``; arguments as of ``make_plan``."""

    def make(**changes: Any) -> PlansDocument:
        plans = [make_plan((32, 32, 32), architecture=name, **changes) for name in ("unet", "mednext_s")]
        return PlansDocument(
            provenance=Provenance(
                program="test",
                version="0",
                created="2026-01-01T00:00:00+00:00",
                options={},
                torch_version="2.13.0",
                fingerprint="none",
            ),
            dataset=plans[0].dataset,
            hardware=Hardware(
                gpus=(), ram=2**34, ram_available=2**33, cores=2, shared_memory=None, stated=True
            ),
            plans={plan.name: plan.experiment for plan in plans},
            recommended="unet/test",
        )

    return make


@pytest.fixture
def write_case(tmp_path: Path) -> CaseWriter:
    """Write an image and its labels (ZYX) into one chunked HDF5 file."""

    def write(
        name: str,
        image: np.ndarray[Any, Any],
        labels: np.ndarray[Any, Any],
        *,
        resolution: tuple[float, float, float] | None = None,
        chunks: tuple[int, int, int] = (4, 16, 16),
    ) -> CaseSource:
        path = tmp_path / f"{name}.h5"
        chunks = tuple(min(c, n) for c, n in zip(chunks, image.shape, strict=True))  # type: ignore[assignment]
        with h5py.File(path, "w") as file:
            raw = file.create_dataset("raw", data=image, chunks=chunks, compression="gzip")
            file.create_dataset("labels", data=labels, chunks=chunks, compression="gzip")
            if resolution is not None:
                raw.attrs["resolution"] = resolution
                raw.attrs["unit"] = "nm"
        return CaseSource(
            id=name,
            images=(VolumeSource(paths=(path,), key="raw"),),
            label=VolumeSource(paths=(path,), key="labels"),
        )

    return write
