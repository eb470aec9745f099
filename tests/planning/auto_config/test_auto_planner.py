"""The documented planner: defaults, overrides, patch and batch within 85 % of the memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from voxplan.planning import AutoConfigPlanner, AutoPlanResult
from voxplan.planning.auto_config import PlannedResult
from voxplan.planning.fitting import DoesNotFitError
from voxplan.planning.memory import estimate_training_memory
from voxplan.planning.overrides import OverrideError
from voxplan.plans.schema import Hardware

GIB = 1024**3
MakeHardware = Callable[..., Hardware]


@pytest.fixture
def planned(make_hardware: MakeHardware) -> Callable[..., PlannedResult]:
    """Plan for one card of so many GB, small volumes unless stated."""

    def plan(
        architecture: str = "monai_unet",
        *,
        memory: float | None = 24,
        overrides: dict[str, Any] | None = None,
        spacing: tuple[float, float, float] | None = (1.0, 1.0, 1.0),
        shape: tuple[int, int, int] | None = (64, 64, 64),
        **options: Any,
    ) -> PlannedResult:
        hardware = make_hardware(*(() if memory is None else (memory,)))
        return AutoConfigPlanner(architecture, spacing, shape, overrides, hardware=hardware).plan(**options)

    return plan


@pytest.mark.parametrize(
    ("architecture", "registered", "most", "lr", "advice"),
    [
        ("mednext", "mednext_s", 320, 1e-3, "none"),
        ("mednext_custom", "mednext_s", 320, 1e-3, "none"),
        ("monai_basic_unet3d", "basic_unet", 512, 1e-4, "cosine"),
        ("monai_unet", "monai_unet", 512, 1e-4, "cosine"),
    ],
)
def test_defaults_of_each_architecture(
    planned: Callable[..., PlannedResult],
    architecture: str,
    registered: str,
    most: int,
    lr: float,
    advice: str,
) -> None:
    result = planned(architecture, overrides={"batch_size": 2})
    assert (result.base_features, result.max_features, result.lr) == (32, most, lr)
    assert result.plan.architecture.name == registered
    assert result.auto_planned is True
    assert any(f"scheduler (advice only, nothing is set): {advice}" in note for note in result.planning_notes)
    assert result.patch_size == [64, 64, 64]


@pytest.mark.parametrize(
    ("architecture", "registered"), [("mednext", "mednext_s"), ("monai_unet", "monai_unet")]
)
def test_the_estimate_is_a_trace_of_what_was_planned(
    planned: Callable[..., PlannedResult], architecture: str, registered: str
) -> None:
    result = planned(architecture, memory=6)
    options = result.plan.architecture.arguments
    common: dict[str, Any] = {
        "patch_size": tuple(result.patch_size),
        "precision": "bf16",
        "deep_supervision": False,
        "compute_capability": (8, 6),
        **options,
    }
    traced = estimate_training_memory(registered, batch_size=result.batch_size, **common).total / GIB
    larger = estimate_training_memory(registered, batch_size=result.batch_size + 1, **common).total / GIB
    assert result.estimated_gpu_memory_gb == traced
    assert traced <= 0.85 * 6 < larger
    assert result.available_gpu_memory_gb == 6.0
    assert result.gpu_memory_per_sample_gb == traced / result.batch_size


def test_more_memory_gives_a_larger_batch(planned: Callable[..., PlannedResult]) -> None:
    small, large = planned(memory=4), planned(memory=12)
    assert small.patch_size == large.patch_size == [64, 64, 64]
    # Past the context of half a GB the batch is proportional: (0.85 * 12 - 0.5) / (0.85 * 4 - 0.5).
    assert large.batch_size / small.batch_size == pytest.approx(9.7 / 2.9, rel=0.1)


def test_less_memory_gives_a_smaller_patch(planned: Callable[..., PlannedResult]) -> None:
    shape = (128, 128, 128)
    small, large = (planned("mednext", memory=memory, shape=shape) for memory in (8, 24))
    assert large.patch_size == [128, 128, 128]
    assert all(edge % 16 == 0 and edge <= 112 for edge in small.patch_size)
    assert small.estimated_gpu_memory_gb <= 0.85 * 8


def test_no_patch_exceeds_the_padded_volume(planned: Callable[..., PlannedResult]) -> None:
    assert planned("monai_basic_unet3d", shape=(20, 100, 90)).patch_size == [32, 112, 96]


def test_without_a_median_shape_the_documented_default_holds(planned: Callable[..., PlannedResult]) -> None:
    result = planned(shape=None, spacing=None, overrides={"batch_size": 1})
    assert result.patch_size == [128, 128, 128]
    assert any("the documented default" in note for note in result.planning_notes)


def test_anisotropy_above_3_is_noted_and_the_patch_follows(planned: Callable[..., PlannedResult]) -> None:
    result = planned("monai_basic_unet3d", spacing=(40, 8, 8), shape=(100, 1024, 1024), memory=12)
    z, y, x = result.patch_size
    assert any(
        note.startswith("anisotropic spacing: z is 5.0 times coarser") for note in result.planning_notes
    )
    assert y == pytest.approx(5 * z, rel=0.35)  # steps of 16 voxels are coarse along z
    assert x == pytest.approx(y, abs=16)


def test_anisotropy_of_3_is_not_noted(planned: Callable[..., PlannedResult]) -> None:
    result = planned(spacing=(3, 1, 1), overrides={"batch_size": 1})
    assert not any("anisotropic" in note for note in result.planning_notes)


@pytest.mark.parametrize("architecture", ["mednext", "monai_basic_unet3d", "monai_unet"])
def test_planned_patches_are_multiples_of_16(
    planned: Callable[..., PlannedResult], architecture: str
) -> None:
    """Also MONAI's UNet, whose strides along thick sections would allow less."""
    result = planned(architecture, spacing=(30, 6, 6), shape=(25, 250, 250), overrides={"batch_size": 1})
    assert result.patch_size[0] in (16, 32)
    assert [size % 16 for size in result.patch_size] == [0, 0, 0]


def test_a_patch_set_by_the_user_need_only_suit_the_network(
    planned: Callable[..., PlannedResult],
) -> None:
    overrides = {"patch_size": [20, 128, 128], "batch_size": 1}
    result = planned(spacing=(30, 6, 6), shape=(25, 250, 250), overrides=overrides)
    assert result.patch_size == [20, 128, 128]


def test_a_patch_that_cannot_be_is_refused_with_one_that_can(planned: Callable[..., PlannedResult]) -> None:
    with pytest.raises(ValueError, match=r"must be a multiple of 16.*next one that works is \(112, "):
        planned("mednext", overrides={"patch_size": [100, 100, 100]})


def test_overrides_are_what_is_estimated(planned: Callable[..., PlannedResult]) -> None:
    overrides = {
        "patch_size": [48, 64, 64],
        "batch_size": 3,
        "num_workers": 7,
        "precision": "16-mixed",
        "accumulate_grad_batches": 5,
        "lr": 3e-4,
    }
    result = planned("monai_basic_unet3d", overrides=overrides, in_channels=2, out_channels=4)
    assert {name: getattr(result, name) for name in overrides} == overrides
    traced = estimate_training_memory(
        "basic_unet",
        patch_size=(48, 64, 64),
        batch_size=3,
        in_channels=2,
        out_channels=4,
        precision="fp16",
        compute_capability=(8, 6),
    )
    assert result.estimated_gpu_memory_gb == traced.total / GIB
    assert [f"{name} is set by the user" in result.planning_notes for name in overrides] == [True] * 6


def test_an_override_that_does_not_fit_is_kept_and_said(
    planned: Callable[..., PlannedResult],
) -> None:
    result = planned("mednext", memory=4, overrides={"patch_size": [96, 96, 96], "batch_size": 3})
    assert (result.patch_size, result.batch_size) == ([96, 96, 96], 3)
    assert result.estimated_gpu_memory_gb > 4
    assert any("DOES NOT FIT" in warning for warning in result.warnings)


def test_unknown_overrides_are_refused_with_the_known_ones() -> None:
    known = "patch_size, batch_size, num_workers, precision, accumulate_grad_batches, lr"
    with pytest.raises(OverrideError, match=f"unknown override 'batchsize'; known ones: {known}"):
        AutoConfigPlanner(manual_overrides={"batchsize": 4})


def test_unknown_architectures_are_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'resnet' is unknown; known ones: mednext, mednext_custom, monai_"):
        AutoConfigPlanner("resnet")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("batch_size", 0),
        ("batch_size", True),
        ("lr", -1.0),
        ("precision", "8-bit"),
        ("patch_size", [64, 64]),
        ("num_workers", -2),
    ],
)
def test_overrides_that_cannot_be_are_named(
    planned: Callable[..., PlannedResult], name: str, value: object
) -> None:
    with pytest.raises(OverrideError, match=f"override {name}="):
        planned(overrides={name: value})


@pytest.mark.parametrize(("batch", "accumulation"), [(1, 4), (2, 1)])
def test_batch_1_accumulates_4(planned: Callable[..., PlannedResult], batch: int, accumulation: int) -> None:
    result = planned(overrides={"batch_size": batch})
    assert result.accumulate_grad_batches == result.plan.accumulation == accumulation


def test_planning_without_a_gpu(planned: Callable[..., PlannedResult]) -> None:
    result = planned(memory=None)
    assert result.precision == "32-true"
    assert (result.available_gpu_memory_gb, result.estimated_gpu_memory_gb) == (0.0, 0.0)
    assert result.gpu_memory_per_sample_gb == 0.0
    assert result.num_workers == 4
    assert result.warnings[0].startswith("no GPU: planned for the CPU")
    assert result.plan.memory.device == "cpu"
    assert (result.patch_size, result.batch_size) == ([48, 48, 48], 2)
    assert result.plan.decisions["workers"].by == "rule"


@pytest.mark.parametrize(
    ("mixed", "capability", "precision"),
    [(True, (8, 6), "bf16-mixed"), (True, (7, 5), "16-mixed"), (False, (8, 6), "32-true")],
)
def test_precision_follows_the_gpu(
    make_hardware: MakeHardware, mixed: bool, capability: tuple[int, int], precision: str
) -> None:
    hardware = make_hardware(24, capability=capability)
    planner = AutoConfigPlanner(
        "monai_unet", median_shape=(64, 64, 64), manual_overrides={"batch_size": 2}, hardware=hardware
    )
    assert planner.plan(use_mixed_precision=mixed).precision == precision


def test_the_planner_keeps_what_it_was_told() -> None:
    planner = AutoConfigPlanner("monai_unet", (5.0, 1, 1), np.array([64, 256, 256]), {"lr": 5e-4})
    assert (planner.architecture, planner.manual_overrides) == ("monai_unet", {"lr": 5e-4})
    assert (planner.target_spacing, planner.median_shape) == ([5.0, 1.0, 1.0], [64, 256, 256])
    assert AutoConfigPlanner().architecture == "mednext"


@pytest.mark.parametrize(
    "spacing", ["abc", (None, 1, 1), (float("inf"), 1, 1), (1, 1), (0, 1, 1), 5, (True,) * 3]
)
def test_a_spacing_that_cannot_be_is_named(spacing: Any) -> None:
    with pytest.raises(ValueError, match=r"target_spacing must be three positive numbers \(ZYX\), got "):
        AutoConfigPlanner(target_spacing=spacing)


@pytest.mark.parametrize(
    "shape", ["abc", (64, 64), (float("inf"), 64, 64), (float("nan"), 64, 64), (64.5, 64, 64)]
)
def test_a_shape_that_cannot_be_is_named(shape: Any) -> None:
    with pytest.raises(ValueError, match=r"median_shape must be three positive whole numbers \(ZYX\), got "):
        AutoConfigPlanner(median_shape=shape)


def test_a_result_of_ones_own_can_be_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """All documented fields, and no other."""
    result = AutoPlanResult(
        patch_size=[128, 128, 128],
        batch_size=4,
        num_workers=8,
        base_features=32,
        max_features=320,
        precision="16-mixed",
        accumulate_grad_batches=1,
        lr=1e-3,
        gpu_memory_per_sample_gb=4.5,
        estimated_gpu_memory_gb=18.0,
        available_gpu_memory_gb=24.0,
        planning_notes=["mine"],
        warnings=["careful"],
    )
    assert result.auto_planned is True
    AutoConfigPlanner().print_plan(result)
    printed = capsys.readouterr().out
    assert "patch size     128 x 128 x 128\n" in printed
    assert "GPU memory     18.0 of 24.0 GB free, 4.5 GB a sample\n" in printed
    assert printed.endswith("Notes:\n  - mine\nWarnings:\n  ! careful\n")


def test_a_mednext_of_ones_own_sizes_is_warned_of(planned: Callable[..., PlannedResult]) -> None:
    small = {"patch_size": [32, 32, 32], "batch_size": 2}
    custom, standard = (planned(name, overrides=small) for name in ("mednext_custom", "mednext"))
    assert [text for text in custom.warnings if text not in standard.warnings] == [
        "mednext_custom is planned as MedNeXt-S: other widths, depths or kernels need other memory "
        "(plan-experiment plans mednext_b, mednext_m and mednext_l)"
    ]
    assert "traced network: mednext_s" in standard.planning_notes


def test_advice_on_the_schedule_beside_the_plans_own(planned: Callable[..., PlannedResult]) -> None:
    """The documented advice is a constant rate; MedNeXt's own trainer inherits nnU-Net's decay."""
    result = planned("mednext", overrides={"patch_size": [32, 32, 32], "batch_size": 2})
    assert result.plan.schedule.name == "poly"
    assert result.planning_notes[-1].endswith("the plan itself, as its authors train: poly")


def test_several_gpus_are_planned_by_the_smallest(make_hardware: MakeHardware) -> None:
    planner = AutoConfigPlanner(
        "monai_unet", median_shape=(64, 64, 64), hardware=make_hardware(24, 8, cores=6)
    )
    result = planner.plan()
    assert result.available_gpu_memory_gb == 8.0
    assert result.estimated_gpu_memory_gb <= 0.85 * 8
    assert result.num_workers == 3  # 4 for each of 2, capped by 6 cores
    why = "4 a GPU (or for the CPU), at most the usable cores: 6, shared by 2 processes"
    assert f"3 loader workers for each of 2 processes: {why}" in result.planning_notes
    assert result.plan.decisions["workers"].why == why


def test_shared_memory_may_lower_the_workers(make_hardware: MakeHardware) -> None:
    """Docker's default of 64 MiB holds no two waiting batches of 8 MiB for each of 4 workers."""
    hardware = make_hardware(24, shared_memory=64 * 1024**2)
    planner = AutoConfigPlanner(
        "monai_unet", median_shape=(96,) * 3, manual_overrides={"batch_size": 2}, hardware=hardware
    )
    ready = 2 * 2 * 96**3 * (4 + 2)
    result = planner.plan()
    assert result.num_workers == 32 * 1024**2 // ready == 1
    assert "1 loader workers: 1 worker: limited by /dev/shm" in result.planning_notes


def test_nothing_fits_says_what_would_be_needed(planned: Callable[..., PlannedResult]) -> None:
    with pytest.raises(DoesNotFitError, match=r"needs \d+\.\d GiB for its smallest sensible patch"):
        planned("mednext", memory=1)


def test_deep_supervision_only_where_there_is_some(planned: Callable[..., PlannedResult]) -> None:
    assert planned("mednext", deep_supervision=True, overrides={"batch_size": 1}).plan.deep_supervision
    with pytest.raises(ValueError, match="deep_supervision: monai_unet has no outputs for it"):
        planned("monai_unet", deep_supervision=True)


def test_one_output_channel_is_a_binary_map(planned: Callable[..., PlannedResult]) -> None:
    result = planned(out_channels=1, overrides={"batch_size": 2})
    assert (result.plan.loss.name, result.dataset.out_channels) == ("bce", 1)


def test_printed_plan_shows_values_notes_and_warnings(
    planned: Callable[..., PlannedResult], capsys: pytest.CaptureFixture[str]
) -> None:
    result = planned(memory=None)
    AutoConfigPlanner("monai_unet").print_plan(result)
    printed = capsys.readouterr().out
    assert "patch size     " + " x ".join(map(str, result.patch_size)) in printed
    assert "learning rate  0.0001" in printed
    assert all(text in printed for text in (*result.planning_notes, *result.warnings))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="SKIPPED: needs a GPU that torch can use")
def test_plan_for_the_real_gpu() -> None:
    result = AutoConfigPlanner("mednext", (1, 1, 1), (128, 128, 128)).plan()
    assert result.estimated_gpu_memory_gb <= 0.85 * result.available_gpu_memory_gb
    assert result.plan.memory.device == torch.cuda.get_device_name(0)
