"""Whole plans from fingerprints and machines; memory is really traced."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from voxplan.planning import traced_memory
from voxplan.planning.hardware import state_hardware
from voxplan.planning.memory import estimate_training_memory
from voxplan.planning.planner import make_plans
from voxplan.plans.architectures import get_architecture
from voxplan.plans.document import validate_plans
from voxplan.plans.schema import ExperimentPlan, Hardware, PlansDocument
from voxplan.profiling.fingerprint import Fingerprint

GIB = 1024**3
MakeFingerprint = Callable[..., Fingerprint]
MakeHardware = Callable[..., Hardware]
EXPLAINED = set(ExperimentPlan.model_fields) - {"alternatives", "decisions", "warnings"}
"""Fields that need a decision."""

SMALL: dict[str, Any] = {"shapes": ((40, 200, 200),) * 6, "spacing": (3.0, 1.0, 1.0)}
EM: dict[str, Any] = {
    "shapes": ((20, 1024, 1024),),
    "spacing": (45.0, 4.6, 4.6),
    "unit": "nm",
    "channels": ("em",),
    "dtype": "uint8",
}


def check(document: PlansDocument) -> None:
    """What must hold for every plan of every document."""
    assert validate_plans(document.model_dump(mode="json")) == []
    for name, plan in document.plans.items():
        architecture = get_architecture(plan.architecture.name)
        arguments = plan.architecture.arguments
        architecture.validate(arguments, dimensions=plan.dimensions, patch_size=plan.patch_size)
        divisors = architecture.divisors(arguments, plan.dimensions)
        least = architecture.minimum_patch(arguments, plan.dimensions)
        for size, median, divisor, edge in zip(
            plan.patch_size, plan.median_shape, divisors, least, strict=True
        ):
            assert size <= max(edge, math.ceil(median / divisor) * divisor), name
        assert plan.memory.fits, name
        assert plan.memory.total <= plan.memory.budget
        assert plan.memory.total == plan.memory.reserved + plan.memory.context
        assert set(plan.decisions) >= EXPLAINED, EXPLAINED - set(plan.decisions)
        assert [alternative.verdict for alternative in plan.alternatives].count("chosen") == 1
    assert document.recommended in document.plans


def larger_ones_do_not_fit(document: PlansDocument, name: str) -> None:
    """By estimates of our own: one more sample, and one more divisor on any axis, exceed the budget."""
    plan, dataset = document.plans[name], document.dataset
    architecture = get_architecture(plan.architecture.name)
    divisors = architecture.divisors(plan.architecture.arguments, plan.dimensions)

    def total(patch: tuple[int, ...], batch: int) -> int:
        return estimate_training_memory(
            plan.architecture,
            patch_size=patch,
            batch_size=batch,
            in_channels=dataset.in_channels,
            out_channels=dataset.out_channels,
            precision=plan.precision,
            deep_supervision=plan.deep_supervision,
            optimizer=plan.optimizer,
            loss=plan.loss,
            task=dataset.task,
            compute_capability=document.hardware.gpus[0].compute_capability,
        ).total

    assert total(plan.patch_size, plan.batch_size) == plan.memory.total
    assert total(plan.patch_size, plan.batch_size + 1) > plan.memory.budget
    for axis, divisor in enumerate(divisors):
        if plan.patch_size[axis] < plan.median_shape[axis]:
            longer = list(plan.patch_size)
            longer[axis] += divisor
            assert total(tuple(longer), plan.batch_size) > plan.memory.budget


MEASURED: dict[int, list[traced_memory.TracedMemory]] = {}
"""What :func:`by_memory` traced, by card."""


@pytest.fixture(scope="module")
def by_memory(make_fingerprint: MakeFingerprint, make_hardware: MakeHardware) -> dict[int, PlansDocument]:
    """Volumes of objects, which get 3D plans only, on three cards."""
    fingerprint = make_fingerprint(
        shapes=((160, 300, 300),) * 20, spacing=(2.0, 1.0, 1.0), label_kind="instance", objects=50
    )
    original = traced_memory.TracedMemory.confirm
    documents = {}
    with pytest.MonkeyPatch.context() as patch:
        for size in (8, 24, 80):
            made = MEASURED.setdefault(size, [])

            def counted(self: traced_memory.TracedMemory, *args: Any, **kwargs: Any) -> Any:
                if not any(self is known for known in made):  # noqa: B023 - used within this round only
                    made.append(self)  # noqa: B023
                return original(self, *args, **kwargs)

            patch.setattr(traced_memory.TracedMemory, "confirm", counted)
            documents[size] = make_plans(fingerprint, make_hardware(size))
    return documents


def test_three_cards_three_plans(by_memory: dict[int, PlansDocument]) -> None:
    for document in by_memory.values():
        check(document)
        assert set(document.plans) == {"unet/3d_fullres", "mednext_s/3d_fullres"}
        assert document.recommended == "unet/3d_fullres"
    for name in ("unet/3d_fullres", "mednext_s/3d_fullres"):
        work = [
            math.prod(document.plans[name].patch_size) * document.plans[name].batch_size
            for document in by_memory.values()
        ]
        assert work[0] < work[1] < work[2], name


def test_chosen_plan_is_the_largest(by_memory: dict[int, PlansDocument]) -> None:
    larger_ones_do_not_fit(by_memory[24], "mednext_s/3d_fullres")
    assert "exceeds the budget" in by_memory[24].plans["mednext_s/3d_fullres"].decisions["patch_size"].why


def test_precision_follows_recipe_and_card(by_memory: dict[int, PlansDocument]) -> None:
    plans = by_memory[24].plans
    assert plans["unet/3d_fullres"].precision == "fp16"
    assert plans["mednext_s/3d_fullres"].precision == "bf16"
    assert plans["mednext_s/3d_fullres"].optimizer.eps == 1e-4


def test_turing_without_tensor_cores(make_fingerprint: MakeFingerprint, make_hardware: MakeHardware) -> None:
    """The card's name decides, from the catalogue's to the plan's precision."""
    hardware = state_hardware(gpu="GTX 1660 Ti", base=make_hardware())
    document = make_plans(
        make_fingerprint(**SMALL),
        hardware,
        architectures=["unet"],
        only=["3d_fullres"],
        overrides={"patch_size": [16, 32, 32], "batch_size": 2},
    )
    plan = document.plans["unet/3d_fullres"]
    assert plan.precision == "fp32"
    assert "GTX 1660 Ti" in plan.decisions["precision"].why


def test_em_stack_gets_thin_patches_and_affinities(
    make_fingerprint: MakeFingerprint, make_hardware: MakeHardware
) -> None:
    fingerprint = make_fingerprint(**EM, label_kind="instance", objects=4321)
    document = make_plans(fingerprint, make_hardware(24))
    check(document)
    assert document.dataset.task == "affinity"
    assert document.dataset.out_channels == 3
    assert document.dataset.spacing_unit == "nm"
    assert document.dataset.normalization[0].scheme == "scale"
    assert set(document.plans) == {"unet/3d_fullres", "mednext_s/3d_fullres"}
    for plan in document.plans.values():
        z, y, x = plan.patch_size
        assert z <= 32
        assert min(y, x) >= 4 * z
        assert plan.loss.name == "bce"
    assert len(document.dataset.splits) == 5
    assert document.dataset.splits[0].validation_blocks[0].axis == 1


def test_missing_spacing_is_planned_in_voxels_and_said(
    make_fingerprint: MakeFingerprint, make_hardware: MakeHardware
) -> None:
    fingerprint = make_fingerprint(**{**SMALL, "spacing": None})
    document = make_plans(fingerprint, make_hardware(11), architectures=["monai_unet"])
    check(document)
    assert document.dataset.target_spacing is None
    assert document.plans["monai_unet/3d_fullres"].spacing is None
    assert any("NO SPACING" in warning and "--spacing" in warning for warning in document.dataset.warnings)
    stated = make_plans(
        fingerprint, make_hardware(11), architectures=["monai_unet"], spacing=(30.0, 10.0, 10.0), unit="nm"
    )
    assert stated.dataset.target_spacing == (30.0, 10.0, 10.0)
    assert stated.dataset.spacing_unit == "nm"
    assert not any("NO SPACING" in warning for warning in stated.dataset.warnings)


def test_flat_data_gets_2d_plans_only(make_fingerprint: MakeFingerprint, make_hardware: MakeHardware) -> None:
    fingerprint = make_fingerprint(shapes=((1, 300, 400),) * 40, spacing=(999.0, 0.5, 0.5))
    document = make_plans(fingerprint, make_hardware(8))
    check(document)
    assert set(document.plans) == {"unet/2d", "mednext_s/2d"}
    assert all(len(plan.patch_size) == 2 for plan in document.plans.values())
    assert document.plans["unet/2d"].loss.batch_dice
    assert document.recommended == "unet/2d"


@pytest.mark.parametrize("shape", [(3, 20, 30), (3000, 5000, 4000)])
def test_tiny_and_huge_shapes(
    make_fingerprint: MakeFingerprint, make_hardware: MakeHardware, shape: tuple[int, int, int]
) -> None:
    fingerprint = make_fingerprint(shapes=(shape,), spacing=(8.0, 8.0, 8.0), unit="nm")
    document = make_plans(fingerprint, make_hardware(11), architectures=["unet", "monai_unet"])
    check(document)
    assert "unet/3d_fullres" in document.plans


def test_overrides_decide_before_the_estimate(
    make_fingerprint: MakeFingerprint, make_hardware: MakeHardware
) -> None:
    document = make_plans(
        make_fingerprint(**SMALL),
        make_hardware(24),
        architectures=["unet"],
        overrides={
            "patch_size": [32, 64, 64],
            "batch_size": 3,
            "precision": "fp32",
            "unet.lr": 0.5,
            "workers": 5,
        },
    )
    plan = document.plans["unet/3d_fullres"]
    assert (plan.patch_size, plan.batch_size, plan.precision) == ((32, 64, 64), 3, "fp32")
    assert (plan.optimizer.lr, plan.loader.workers) == (0.5, 5)
    for field in ("patch_size", "batch_size", "precision", "lr", "workers"):
        assert plan.decisions[field].by == "user", field
    assert plan.decisions["schedule"].by == "architecture"
    estimate = estimate_training_memory(
        plan.architecture,
        patch_size=(32, 64, 64),
        batch_size=3,
        precision="fp32",
        optimizer=plan.optimizer,
        loss=plan.loss,
        compute_capability=(8, 6),
    )
    assert plan.memory.total == estimate.total


def test_override_that_cannot_fit_is_said_with_the_number(
    make_fingerprint: MakeFingerprint, make_hardware: MakeHardware
) -> None:
    document = make_plans(
        make_fingerprint(**SMALL),
        make_hardware(4),
        architectures=["unet"],
        overrides={"3d_fullres": {"patch_size": [40, 192, 192], "batch_size": 8}, "2d.batch_size": 2},
    )
    plan = document.plans["unet/3d_fullres"]
    assert (plan.patch_size, plan.batch_size, plan.memory.fits) == ((40, 192, 192), 8, False)
    assert f"{plan.memory.total / GIB:.1f} GiB" in plan.warnings[0]
    assert "DOES NOT FIT" in plan.warnings[0]
    assert document.recommended == "unet/2d"


def test_impossible_patch_fails_its_architecture_only(
    make_fingerprint: MakeFingerprint, make_hardware: MakeHardware
) -> None:
    document = make_plans(
        make_fingerprint(**EM, label_kind="instance"),
        make_hardware(ram_gb=4),
        overrides={"patch_size": [16, 48, 48]},
    )
    assert set(document.plans) == {"unet/3d_fullres"}
    assert "(32, 48, 48)" in document.failures["mednext_s/3d_fullres"]
    plan = document.plans["unet/3d_fullres"]
    assert (plan.precision, plan.memory.device, plan.loader.pin_memory) == ("fp32", "cpu", False)


def test_fallbacks_end_in_a_clear_number(
    make_fingerprint: MakeFingerprint, make_hardware: MakeHardware
) -> None:
    fingerprint = make_fingerprint(**SMALL)
    document = make_plans(
        fingerprint,
        make_hardware(1.2),
        architectures=["mednext_b"],
        overrides={"2d": {"patch_size": [32, 32]}},
    )
    reason = document.failures["mednext_b/3d_fullres"]
    assert "mednext_b needs" in reason
    assert "mednext_s needs" in reason
    assert "the budget is 1.1 GiB" in reason


def test_batch_one_accumulates(make_fingerprint: MakeFingerprint, make_hardware: MakeHardware) -> None:
    """A budget between what one and what two samples of the smallest patch need."""
    fingerprint = make_fingerprint(shapes=((64, 64, 64),) * 6)

    def total(batch: int) -> int:
        return estimate_training_memory(
            "mednext_s",
            patch_size=(64, 64, 64),
            batch_size=batch,
            precision="bf16",
            optimizer=get_architecture("mednext_s").recipe(3).optimizer,
            compute_capability=(8, 6),
        ).total

    size = (total(1) + total(2)) / 2 / 0.9 / GIB
    document = make_plans(
        fingerprint,
        make_hardware(size),
        architectures=["mednext_s"],
        overrides={"2d": {"patch_size": [32, 32], "batch_size": 2}},
    )
    plan = document.plans["mednext_s/3d_fullres"]
    assert (plan.patch_size, plan.batch_size, plan.accumulation) == ((64, 64, 64), 1, 2)
    assert not plan.checkpointing
    assert "batch 2 does not fit" in plan.decisions["accumulation"].why


def test_several_gpus_share_the_global_batch(
    make_fingerprint: MakeFingerprint, make_hardware: MakeHardware
) -> None:
    fingerprint = make_fingerprint(shapes=((1, 256, 256),) * 400, spacing=(1.0, 1.0, 1.0))
    one = make_plans(fingerprint, make_hardware(24), architectures=["monai_unet"])
    four = make_plans(fingerprint, make_hardware(24, 24, 24, 24), architectures=["monai_unet"])
    name = "monai_unet/2d"
    share = round(0.05 * 400)
    assert one.plans[name].global_batch_size == one.plans[name].batch_size == share
    assert four.plans[name].batch_size == share // 4
    assert four.plans[name].global_batch_size == share // 4 * 4
    assert "5 %" in four.plans[name].decisions["batch_size"].why


def test_few_traces(by_memory: dict[int, PlansDocument]) -> None:
    """What the planner's speed hangs on: topologies fitted (two small traces each), and confirmations."""
    made = MEASURED[24]
    assert [memory.confirmations for memory in made] == [1, 1]
    assert len(made[0].own[False]) <= 4
    assert len(made[1].own[False]) == 1


def test_zscore_numbers_are_the_cases_own(
    make_fingerprint: MakeFingerprint, make_hardware: MakeHardware
) -> None:
    fingerprint = make_fingerprint(**SMALL, channels=("T1",), relative_size=0.5)
    document = make_plans(
        fingerprint, make_hardware(11), architectures=["monai_unet"], overrides={"2d.batch_size": 2}
    )
    assert document.dataset.normalization[0].scheme == "zscore"
    assert document.dataset.normalization[0].masked
    assert document.dataset.case_numbers["case_002"].mean == (97.0,)
    assert document.dataset.case_numbers["case_002"].std == (21.0,)


def test_nothing_to_plan(make_fingerprint: MakeFingerprint, make_hardware: MakeHardware) -> None:
    fingerprint = make_fingerprint()
    with pytest.raises(ValueError, match="no cases"):
        make_plans(fingerprint.model_copy(update={"cases": ()}), make_hardware(24))
    with pytest.raises(ValueError, match="unet"):
        make_plans(fingerprint, make_hardware(24), architectures=["resnet"])
