"""The steps that ``--verify`` runs on a GPU, run here on the CPU for every kind of loss."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from voxplan.planning.planner import make_plans
from voxplan.planning.verification import NoGpuError, random_batch, run_steps, verify_document
from voxplan.plans.build import Plan
from voxplan.plans.schema import IGNORE_BINARY

REGIONS = {"background": (0,), "whole": (1, 2), "core": (2,)}


@pytest.mark.parametrize(
    ("options", "task", "loss", "channels"),
    [
        ({}, None, "dice_ce", 1),
        ({"classes": REGIONS}, None, "dice_bce", 2),
        ({"label_kind": "instance"}, None, "bce", 3),
        ({"label_kind": "instance"}, "boundary", "bce", 1),
    ],
)
def test_steps_run_for_every_task(
    make_fingerprint: Callable[..., Any],
    make_hardware: Callable[..., Any],
    options: dict[str, Any],
    task: Any,
    loss: str,
    channels: int,
) -> None:
    document = make_plans(
        make_fingerprint(shapes=((32, 40, 40),) * 5, **options),
        make_hardware(ram_gb=8),
        architectures=["unet"],
        task=task,
        overrides={"3d_fullres.patch_size": [16, 16, 16], "2d.patch_size": [16, 16], "batch_size": 2},
    )
    plan = Plan("unet/3d_fullres", document.plans["unet/3d_fullres"], document.dataset)
    assert plan.loss.name == loss
    image, target = random_batch(plan, torch.device("cpu"), 0)
    assert image.shape == (2, 1, 16, 16, 16)
    assert target.shape == (2, channels, 16, 16, 16)
    assert loss == "dice_ce" or int(target.max()) == IGNORE_BINARY
    assert all(math.isfinite(value) for value in run_steps(plan, torch.device("cpu"), 2))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu(make_fingerprint: Callable[..., Any], make_hardware: Callable[..., Any]) -> None:
    document = make_plans(
        make_fingerprint(shapes=((1, 40, 40),) * 5),
        make_hardware(8),
        architectures=["monai_unet"],
        overrides={"patch_size": [32, 32], "batch_size": 2},
    )
    with pytest.raises(NoGpuError, match="torch sees none"):
        verify_document(document)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_measured_beside_predicted(
    make_fingerprint: Callable[..., Any], make_hardware: Callable[..., Any]
) -> None:
    document = make_plans(
        make_fingerprint(shapes=((64, 64, 64),) * 5), make_hardware(6), architectures=["unet"]
    )
    for plan in verify_document(document).plans.values():
        assert plan.memory.measured is not None
        assert plan.memory.measured["out_of_memory"] == 0
        assert 0 < plan.memory.measured["reserved"] <= plan.memory.budget
