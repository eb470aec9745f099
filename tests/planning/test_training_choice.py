"""How a network is trained, and what the user may change of it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from voxplan.planning.decisions import Decisions
from voxplan.planning.hardware import Budget
from voxplan.planning.overrides import PlanOverrides
from voxplan.planning.rules.task import choose_task
from voxplan.planning.training_choice import TrainingChoice, choose_training
from voxplan.plans.architectures import ARCHITECTURES
from voxplan.plans.schema import Decision, ScheduleChoice

CARD = Budget(bytes=8 << 30, device="card", kind="cuda", compute_capability=(8, 6), why="stated")
PROCESSOR = Budget(bytes=8 << 30, device="cpu", kind="cpu", compute_capability=None, why="stated")
SEMANTIC = choose_task("semantic", {"background": (0,), "organ": (1,)})


def chosen(
    architecture: str, budget: Budget = CARD, dimensions: int = 3, **overrides: Any
) -> tuple[TrainingChoice, dict[str, Decision]]:
    decisions = Decisions()
    choice = choose_training(
        ARCHITECTURES[architecture], dimensions, SEMANTIC, budget, PlanOverrides(**overrides), decisions
    )
    return choice, decisions.as_dict()


@pytest.mark.parametrize("architecture", ["unet", "mednext_s", "basic_unet"])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_another_optimizer_brings_numbers_of_its_own(architecture: str, optimizer: str) -> None:
    """SGD's learning rate of 0.01 stood in plans with AdamW, and SGD had no momentum."""
    recipe = ARCHITECTURES[architecture].recipe(3).optimizer
    choice, decisions = chosen(architecture, optimizer=optimizer)
    assert decisions["optimizer"].by == "user"
    numbers = (choice.optimizer.lr, choice.optimizer.momentum, choice.optimizer.nesterov)
    if optimizer == recipe.name:
        assert choice.optimizer == recipe
    elif optimizer == "sgd":  # nnU-Net's trainer
        assert numbers == (
            0.01,
            0.99,
            True,
        )
        assert "nnUNetTrainer" in decisions["lr"].why
    else:  # nnU-Net's nnUNetTrainerAdam1en3
        assert numbers == (
            0.001,
            0,
            False,
        )
        assert "0.01 is for sgd" in decisions["lr"].why
    choice, decisions = chosen(architecture, optimizer=optimizer, lr=0.5)
    assert choice.optimizer.lr == 0.5
    assert decisions["lr"].by == "user"


def test_without_momentum_there_is_no_nesterov() -> None:
    """torch refuses the pair: training from such a plan ended before its first step."""
    optimizer = chosen("unet", momentum=0.0)[0].optimizer
    weight = torch.nn.Parameter(torch.zeros(1))
    torch.optim.SGD([weight], lr=optimizer.lr, momentum=optimizer.momentum, nesterov=optimizer.nesterov)
    assert chosen("unet", momentum=0.5)[0].optimizer.nesterov


@pytest.mark.parametrize(("architecture", "field"), [("mednext_s", "momentum"), ("unet", "eps")])
def test_numbers_that_an_optimizer_has_not(architecture: str, field: str) -> None:
    choice, decisions = chosen(architecture, **{field: 0.25})
    assert choice.optimizer == ARCHITECTURES[architecture].recipe(3).optimizer
    assert decisions[field].by != "user"
    assert "0.25 is not used" in decisions[field].why


@pytest.mark.parametrize("precision", ["bf16", "fp16", "tf32"])
def test_a_processor_trains_in_fp32(precision: str) -> None:
    with pytest.raises(ValueError, match=f"precision={precision}: a CPU trains in fp32"):
        chosen("unet", PROCESSOR, precision=precision)
    assert chosen("unet", PROCESSOR, precision="fp32")[0].precision == "fp32"
    assert chosen("unet", PROCESSOR)[0].precision == "fp32"
    choice, decisions = chosen("unet", precision=precision)
    assert choice.precision == precision
    assert decisions["precision"].by == "user"


def test_deep_supervision_of_networks_with_one_output() -> None:
    with pytest.raises(ValueError, match="basic_unet has no deep-supervision outputs"):
        chosen("basic_unet", deep_supervision=True)
    assert not chosen("basic_unet")[0].deep_supervision
    assert chosen("unet")[0].deep_supervision
    choice, decisions = chosen("unet", deep_supervision=False)
    assert not choice.deep_supervision
    assert decisions["deep_supervision"].by == "user"


@pytest.mark.parametrize("dimensions", [2, 3])
def test_dice_over_the_batch(dimensions: int) -> None:
    assert chosen("unet", dimensions=dimensions)[0].loss.batch_dice == (dimensions == 2)
    for asked in (True, False):
        choice, decisions = chosen("unet", dimensions=dimensions, batch_dice=asked)
        assert choice.loss.batch_dice == asked
        assert decisions["batch_dice"].by == "user"


def test_the_schedule_is_the_users_where_he_sets_it() -> None:
    choice, decisions = chosen("unet", schedule="cosine", epochs=7, warmup_steps=3)
    assert choice.schedule == ScheduleChoice(name="cosine", epochs=7, steps_per_epoch=250, warmup_steps=3)
    assert [decisions[key].by for key in ("schedule", "epochs", "warmup_steps")] == ["user"] * 3


def test_a_warm_up_ends_before_the_training() -> None:
    assert chosen("unet", epochs=2, steps_per_epoch=5, warmup_steps=9)[0].schedule.warmup_steps == 9
    with pytest.raises(ValueError, match="warmup_steps=10: the whole training has 10 steps"):
        chosen("unet", epochs=2, steps_per_epoch=5, warmup_steps=10)
