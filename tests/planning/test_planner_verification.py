"""``--verify`` and ``--fit``: steps that really run on the CPU, in this process or in a limited one."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from voxplan.planning.limits import LIMITS
from voxplan.planning.memory.estimate import peak_total
from voxplan.planning.memory.request import make_request
from voxplan.planning.planned_step import StepOutcome, random_batch, run_steps
from voxplan.planning.planner import make_plans
from voxplan.planning.step_runner import NoGpuError, ProcessRunner
from voxplan.planning.verification import compare, largest_running, verify_document
from voxplan.plans.build import Plan
from voxplan.plans.document import validate_plans
from voxplan.plans.schema import IGNORE_BINARY, DatasetPlan, ExperimentPlan, PlansDocument

GIB = 1024**3
REGIONS = {"background": (0,), "whole": (1, 2), "core": (2,)}
Make = Callable[..., Any]


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
    make_fingerprint: Make, make_hardware: Make, options: dict[str, Any], task: Any, loss: str, channels: int
) -> None:
    document = make_plans(
        make_fingerprint(shapes=((32, 40, 40),) * 5, **options),
        make_hardware(ram_gb=8),
        architectures=["unet"],
        only=["3d_fullres"],
        task=task,
        overrides={"patch_size": [16, 16, 16], "batch_size": 2},
    )
    plan = Plan("unet/3d_fullres", document.plans["unet/3d_fullres"], document.dataset)
    assert plan.loss.name == loss
    image, target = random_batch(plan, torch.device("cpu"), 0)
    assert image.shape == (2, 1, 16, 16, 16)
    assert target.shape == (2, channels, 16, 16, 16)
    assert loss == "dice_ce" or int(target.max()) == IGNORE_BINARY
    assert all(math.isfinite(value) for value in run_steps(plan, torch.device("cpu"), 2))


@pytest.mark.parametrize("truth", [0, 1, 2, 5, 7, 40, 99])
@pytest.mark.parametrize("start", [1, 2, 6, 60])
@pytest.mark.parametrize("most", [1, 3, 60, 64])
def test_largest_running_batch_is_found_in_few_steps(truth: int, start: int, most: int) -> None:
    tried: list[int] = []

    def runs(batch: int) -> bool:
        tried.append(batch)
        assert 1 <= batch <= most
        return batch <= truth

    assert largest_running(runs, start, most) == min(truth, most)
    assert len(tried) == len(set(tried)) <= 12


class RealSteps:
    """Runs a plan's step on real CPU tensors, every storage followed; ``limit`` bytes are its memory."""

    device = "cpu"

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.ran: list[int] = []

    def run(self, experiment: ExperimentPlan, dataset: DatasetPlan) -> StepOutcome:
        self.ran.append(experiment.batch_size)
        taken = real_bytes(experiment, dataset)
        if taken > self.limit:
            return StepOutcome(ran=False, reason=f"{taken} bytes")
        return StepOutcome(ran=True, allocated=taken, reserved=taken, process=taken)


def real_bytes(experiment: ExperimentPlan, dataset: DatasetPlan) -> int:
    request = make_request(
        experiment,
        patch_size=None,
        batch_size=None,
        in_channels=dataset.in_channels,
        out_channels=dataset.out_channels,
        task=dataset.task,
        device="cpu",
    )
    return peak_total(request.trace(device="cpu"), request)


@pytest.fixture(scope="module")
def planned(make_fingerprint: Make, make_hardware: Make) -> PlansDocument:
    """A 2D plan whose batch the memory limits, well below the 5 % of the data (20 samples)."""
    fingerprint = make_fingerprint(shapes=((1, 48, 48),) * 400)
    options: dict[str, Any] = {"architectures": ["monai_unet"], "memory_fraction": 1.0}
    wide = make_plans(fingerprint, make_hardware(ram_gb=8), **options)
    plan = wide.plans["monai_unet/2d"]
    assert (plan.batch_size, plan.limits["batch_size"]) == (20, "dataset share")

    def total(batch: int) -> int:
        return real_bytes(plan.model_copy(update={"batch_size": batch}), wide.dataset)

    limit = (total(6) + total(7)) / 2 / GIB
    return make_plans(fingerprint, make_hardware(ram_gb=limit), **options)


def test_as_predicted(planned: PlansDocument) -> None:
    plan = planned.plans["monai_unet/2d"]
    assert (plan.batch_size, plan.limits["batch_size"]) == (6, "memory")
    runner = RealSteps(plan.memory.budget)
    verified = verify_document(planned, fit=True, runner=runner).plans["monai_unet/2d"]
    assert sorted(runner.ran) == [6, 7]
    measured = verified.memory.measured
    assert measured is not None
    assert (measured["batch_size"], measured["next_batch_size"]) == (6, 7)
    assert (measured["out_of_memory"], measured["next_out_of_memory"]) == (0, 1)
    found = compare(verified)
    assert found is not None
    assert found.measured == pytest.approx(found.predicted, rel=0.01)
    assert verified.decisions["batch_size"] == plan.decisions["batch_size"]


@pytest.mark.parametrize(("batch", "limit"), [(1, "memory"), (9, "memory"), (20, "dataset share")])
def test_the_batch_becomes_what_runs(planned: PlansDocument, batch: int, limit: str) -> None:
    plan = planned.plans["monai_unet/2d"]

    def total(size: int) -> int:
        return real_bytes(plan.model_copy(update={"batch_size": size}), planned.dataset)

    runner = RealSteps((total(batch) + total(batch + 1)) // 2 if batch < 20 else 8 * GIB)
    document = verify_document(planned, fit=True, runner=runner)
    adapted = document.plans["monai_unet/2d"]
    assert (adapted.batch_size, adapted.global_batch_size) == (batch, batch)
    assert adapted.accumulation == (2 if batch == 1 else 1)
    assert adapted.limits["batch_size"] == limit
    assert adapted.memory.fits
    assert adapted.memory.total == pytest.approx(total(batch), rel=0.01)
    assert adapted.memory.measured is not None
    assert adapted.memory.measured["out_of_memory"] == 0
    assert adapted.memory.measured.get("next_out_of_memory") == (1 if batch < 20 else None)
    assert f"{batch} runs" in adapted.decisions["batch_size"].why
    assert "predicted 6" in adapted.decisions["batch_size"].why
    workers = adapted.loader.workers
    assert adapted.decisions["workers"].why.startswith(
        f"{workers} worker{'' if workers == 1 else 's'}: limited"
    )
    accumulated = "2 steps of batch 1 make one" if batch == 1 else "no accumulation needed"
    assert adapted.decisions["accumulation"].why == accumulated
    assert adapted.decisions["limits"].why.endswith(f"; batch: {LIMITS[adapted.limits['batch_size']]}")
    assert [item.batch_size for item in adapted.alternatives if item.verdict == "chosen"] == [batch]
    assert adapted.inference.batch_size == min(4, batch)
    assert validate_plans(document.model_dump(mode="json")) == []


def test_verify_alone_changes_nothing_and_says_what_is_wrong(planned: PlansDocument) -> None:
    plan = planned.plans["monai_unet/2d"]
    small = verify_document(planned, runner=RealSteps(plan.memory.context)).plans["monai_unet/2d"]
    assert (small.batch_size, small.memory.fits) == (6, False)
    assert any("out of memory at batch 6" in text and "--fit" in text for text in small.warnings)
    roomy = verify_document(planned, runner=RealSteps(8 * GIB)).plans["monai_unet/2d"]
    assert (roomy.batch_size, roomy.memory.fits) == (6, True)
    assert any("batch 7 runs as well" in text for text in roomy.warnings)


def test_nothing_runs(planned: PlansDocument) -> None:
    none = verify_document(planned, fit=True, runner=RealSteps(0)).plans["monai_unet/2d"]
    assert (none.batch_size, none.memory.fits) == (6, False)
    assert any("--memory-fraction" in text for text in none.warnings)


def test_the_users_batch_stays(make_fingerprint: Make, make_hardware: Make) -> None:
    document = make_plans(
        make_fingerprint(shapes=((1, 48, 48),) * 400),
        make_hardware(ram_gb=8),
        architectures=["monai_unet"],
        overrides={"batch_size": 3},
    )
    runner = RealSteps(8 * GIB)
    assert verify_document(document, fit=True, runner=runner).plans["monai_unet/2d"].batch_size == 3
    assert runner.ran == [3]


def test_a_process_of_its_own_is_really_limited(planned: PlansDocument) -> None:
    """The operating system's limit, no count of ours: the same step with room, and without."""
    plan = planned.plans["monai_unet/2d"]

    def under(budget: int) -> StepOutcome:
        memory = plan.memory.model_copy(update={"budget": budget})
        return ProcessRunner("cpu", "cpu").run(plan.model_copy(update={"memory": memory}), planned.dataset)

    roomy = under(8 * GIB)
    assert roomy.ran
    # Parameters, gradients and two states of AdamW are the least that a step takes.
    assert roomy.allocated > plan.memory.parts["parameters"] * 3
    assert roomy.process is not None
    assert roomy.process > roomy.allocated
    starved = under(plan.memory.context + 4 * 1024**2)
    assert not starved.ran
    assert starved.reason


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu(make_fingerprint: Make, make_hardware: Make) -> None:
    document = make_plans(
        make_fingerprint(shapes=((1, 40, 40),) * 5),
        make_hardware(8),
        architectures=["monai_unet"],
        overrides={"patch_size": [32, 32], "batch_size": 2},
    )
    with pytest.raises(NoGpuError, match="torch sees none"):
        verify_document(document)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_measured_beside_predicted(make_fingerprint: Make, make_hardware: Make) -> None:
    document = make_plans(
        make_fingerprint(shapes=((64, 64, 64),) * 5), make_hardware(6), architectures=["unet"]
    )
    for plan in verify_document(document, fit=True).plans.values():
        assert plan.memory.measured is not None
        assert plan.memory.measured["out_of_memory"] == 0
        assert plan.memory.measured.get("next_out_of_memory", 1) == 1
        assert 0 < plan.memory.measured["reserved"] <= plan.memory.budget
