"""A plans file as text, made without the planner."""

from __future__ import annotations

from typing import Any

import pytest

from voxplan.plans.architectures import get_architecture
from voxplan.plans.schema import DatasetPlan, ExperimentPlan, Hardware, PlansDocument, Provenance


@pytest.fixture
def make_plans_text() -> str:
    """A valid plans.json with one plan, ``unet/3d_fullres``."""
    patch = (32, 32, 32)
    network = get_architecture("unet")
    arguments = network.topology(patch, None)
    levels = len(network.deep_supervision_scales(arguments, 3))
    experiment: dict[str, Any] = {
        "architecture": {"name": "unet", "arguments": arguments},
        "dimensions": 3,
        "spacing": None,
        "median_shape": (64, 64, 64),
        "patch_size": patch,
        "batch_size": 2,
        "global_batch_size": 2,
        "precision": "fp32",
        "deep_supervision": network.deep_supervision,
        "loss": {
            "name": "dice_ce",
            "batch_dice": True,
            "deep_supervision_weights": (1 / levels,) * levels if network.deep_supervision else (1.0,),
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
    document = PlansDocument(
        provenance=Provenance(
            program="test",
            version="0",
            created="2026-01-01T00:00:00+00:00",
            options={},
            torch_version="2.13.0",
            fingerprint="none",
        ),
        dataset=DatasetPlan.model_validate(dataset),
        hardware=Hardware(gpus=(), ram=2**34, ram_available=2**33, cores=2, shared_memory=None, stated=True),
        plans={"unet/3d_fullres": ExperimentPlan.model_validate(experiment)},
        recommended="unet/3d_fullres",
    )
    return document.model_dump_json()
