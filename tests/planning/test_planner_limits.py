"""What stops a plan, what it says about it, and what happens where the quick prediction is too low."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from voxplan.planning.memory import MemoryModel
from voxplan.planning.nvidia_smi import parse_processes
from voxplan.planning.planner import make_plans

Make = Callable[..., Any]
VOLUMES: dict[str, Any] = {"shapes": ((64, 128, 128),) * 30}
GIB = 1024**3


@pytest.mark.parametrize("share", [0.6, 0.9])
def test_a_quick_prediction_that_is_too_low_is_outgrown(
    make_fingerprint: Make, make_hardware: Make, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    """The full traces stay right: the plan fits by them, and nobody is blamed."""
    right = MemoryModel.total
    monkeypatch.setattr(MemoryModel, "total", lambda self, *size: int(right(self, *size) * share))
    document = make_plans(
        make_fingerprint(**VOLUMES), make_hardware(4), architectures=["monai_unet"], only=["3d_fullres"]
    )
    plan = document.plans["monai_unet/3d_fullres"]
    assert plan.memory.fits
    assert plan.memory.total <= plan.memory.budget
    assert not any("user" in warning for warning in plan.warnings)


def test_what_the_data_limits_says_how_much_stays_unused(make_fingerprint: Make, make_hardware: Make) -> None:
    document = make_plans(
        make_fingerprint(shapes=((40, 48, 48),) * 6),
        make_hardware(24),
        architectures=["monai_unet"],
        only=["3d_fullres"],
    )
    plan = document.plans["monai_unet/3d_fullres"]
    assert plan.limits == {"patch_size": "median shape", "batch_size": "dataset share"}
    unused = (plan.memory.budget - plan.memory.total) / GIB
    assert f"{unused:.1f} of 21.6 GiB stay unused" in plan.decisions["batch_size"].why
    assert document.dataset.training_voxels == 6 * 40 * 48 * 48


def test_the_users_sizes_are_named_as_limits(make_fingerprint: Make, make_hardware: Make) -> None:
    document = make_plans(
        make_fingerprint(**VOLUMES),
        make_hardware(24),
        architectures=["monai_unet"],
        only=["3d_fullres"],
        overrides={"patch_size": [32, 64, 64], "batch_size": 2},
    )
    assert document.plans["monai_unet/3d_fullres"].limits == {"patch_size": "user", "batch_size": "user"}


def test_reasons_of_a_demand_that_does_not_fit_are_true_of_it(
    make_fingerprint: Make, make_hardware: Make
) -> None:
    document = make_plans(
        make_fingerprint(shapes=((256, 512, 512),) * 4),
        make_hardware(4),
        architectures=["unet"],
        only=["3d_fullres"],
        overrides={"patch_size": [256, 256, 256]},
    )
    plan = document.plans["unet/3d_fullres"]
    assert not plan.memory.fits
    assert (plan.batch_size, plan.checkpointing) == (1, True)
    assert "even this one exceeds the budget" in plan.decisions["batch_size"].why
    assert "even this one exceeds the budget" in plan.decisions["limits"].why
    assert (
        plan.decisions["checkpointing"].why == "it takes the least memory, and even so the plan does not fit"
    )
    by_verdict = {alternative.verdict: alternative for alternative in plan.alternatives}
    assert by_verdict["chosen by the user, does not fit"].total == plan.memory.total
    assert "exceeds the budget, without checkpointing" in by_verdict


def test_checkpointing_for_a_patch_that_the_user_set_says_so(
    make_fingerprint: Make, make_hardware: Make
) -> None:
    document = make_plans(
        make_fingerprint(shapes=((256, 512, 512),) * 4),
        make_hardware(9),
        architectures=["unet"],
        only=["3d_fullres"],
        overrides={"patch_size": [192, 192, 192]},
    )
    plan = document.plans["unet/3d_fullres"]
    assert plan.memory.fits
    assert plan.checkpointing
    assert plan.decisions["checkpointing"].why == "without it not even batch 1 of the patch that was set fits"


def test_inference_that_does_not_fit_is_planned_with_fewer_windows_or_said_so(
    make_fingerprint: Make, make_hardware: Make
) -> None:
    def plan(**overrides: Any) -> Any:
        document = make_plans(
            make_fingerprint(shapes=((256, 512, 512),) * 40),
            make_hardware(4),
            architectures=["monai_unet"],
            only=["3d_fullres"],
            overrides={"patch_size": [64, 64, 64], "batch_size": 8, **overrides},
        )
        return document.plans["monai_unet/3d_fullres"]

    usual = plan()
    assert (usual.inference.window, usual.inference.batch_size) == ((64, 64, 64), 4)
    fewer = plan(inference_window=[256, 256, 256])
    assert fewer.inference.batch_size < 4
    assert fewer.inference.memory <= fewer.memory.budget
    assert fewer.decisions["inference_batch_size"].by == "hardware"
    assert not fewer.warnings
    demanded = plan(inference_window=[256, 256, 256], inference_batch_size=4)
    assert demanded.inference.batch_size == 4
    needed = demanded.inference.memory / GIB
    assert demanded.inference.memory > demanded.memory.budget
    assert any(
        warning.startswith("DOES NOT FIT: inference") and f"needs {needed:.1f} GiB" in warning
        for warning in demanded.warnings
    )


def test_base_features_make_a_network_narrower(make_fingerprint: Make, make_hardware: Make) -> None:
    sizes = {"patch_size": [32, 64, 64], "batch_size": 2}
    options: dict[str, Any] = {"architectures": ["unet", "mednext_s"], "only": ["3d_fullres"]}
    fingerprint, machine = make_fingerprint(**VOLUMES), make_hardware(ram_gb=16)
    wide = make_plans(fingerprint, machine, overrides=sizes, **options).plans["unet/3d_fullres"]
    document = make_plans(fingerprint, machine, overrides={**sizes, "base_features": 8}, **options)
    narrow = document.plans["unet/3d_fullres"]
    assert wide.architecture.arguments["features"][:3] == [32, 64, 128]
    assert narrow.architecture.arguments["features"][:3] == [8, 16, 32]
    assert narrow.memory.parts["parameters"] < wide.memory.parts["parameters"] / 10
    assert narrow.decisions["base_features"].by == "user"
    assert "mednext_s has one width" in document.failures["mednext_s/3d_fullres"]


def test_only_what_is_asked_for_is_planned(make_fingerprint: Make, make_hardware: Make) -> None:
    options: dict[str, Any] = {"architectures": ["monai_unet"], "overrides": {"batch_size": 2}}
    fingerprint = make_fingerprint(**VOLUMES)
    document = make_plans(fingerprint, make_hardware(8), only=["2d"], **options)
    assert set(document.plans) == {"monai_unet/2d"}
    assert document.failures == {}
    with pytest.raises(ValueError, match="3d_fullres, 2d"):
        make_plans(fingerprint, make_hardware(8), only=["3d"], **options)
    flat = make_plans(
        make_fingerprint(shapes=((1, 64, 64),) * 9), make_hardware(8), only=["3d_fullres"], **options
    )
    assert "no plan of 3d_fullres" in flat.failures["monai_unet"]


def test_cpu_plans_speak_of_steps_not_of_gpus(make_fingerprint: Make, make_hardware: Make) -> None:
    document = make_plans(
        make_fingerprint(**VOLUMES),
        make_hardware(ram_gb=16),
        architectures=["monai_unet"],
        only=["3d_fullres"],
    )
    decisions = document.plans["monai_unet/3d_fullres"].decisions
    assert decisions["batch_size"].why.startswith("per step: ")
    assert "GPU" not in decisions["global_batch_size"].why


def test_memory_of_one_process_by_the_driver() -> None:
    text = "4711, 1234\n17, 300\n4711, 66\n99, [N/A]\n"
    assert parse_processes(text, 4711) == 1300 * 1024**2
    assert parse_processes(text, 99) is None
    assert parse_processes("", 1) is None
