"""How a network is trained: precision, optimizer, schedule, loss; from recipe, device and user."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from voxplan.plans.architectures.base import Architecture, Arguments, Recipe
from voxplan.plans.optimizers import USUAL_OPTIMIZERS, USUAL_SOURCES
from voxplan.plans.schema import LossChoice, OptimizerChoice, Precision, ScheduleChoice

from .decisions import Decisions
from .hardware import Budget
from .overrides import PlanOverrides
from .rules.precision import choose_precision
from .rules.task import TaskChoice

NUMBERS_OF_ONE: Final = {"momentum": "sgd", "eps": "adamw"}
"""Numbers that one optimizer has and the other has not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingChoice:
    """Everything about a training step but patch and batch."""

    precision: Precision
    optimizer: OptimizerChoice
    schedule: ScheduleChoice
    deep_supervision: bool
    loss: LossChoice
    """With the weight of one output; :meth:`loss_for` gives those of a network's outputs."""

    def loss_for(self, architecture: Architecture, arguments: Arguments, dimensions: int) -> LossChoice:
        """The loss with one weight an output."""
        if not self.deep_supervision:
            return self.loss
        weights = architecture.deep_supervision_weights(arguments, dimensions)
        return self.loss.model_copy(update={"deep_supervision_weights": weights})


def choose_training(
    architecture: Architecture,
    dimensions: int,
    task: TaskChoice,
    budget: Budget,
    overrides: PlanOverrides,
    decisions: Decisions,
) -> TrainingChoice:
    """Precision, optimizer, schedule, deep supervision and loss, each with its decision.

    Raises:
        ValueError: deep supervision is demanded of an architecture that has none, another precision than fp32
            of a CPU, or a warm-up that is as long as the training.
    """
    recipe = architecture.recipe(dimensions)
    return TrainingChoice(
        precision=_precision(recipe, budget, overrides, decisions),
        optimizer=_optimizer(recipe, overrides, decisions),
        schedule=_schedule(recipe, overrides, decisions),
        deep_supervision=_deep_supervision(architecture, overrides, decisions),
        loss=_loss(dimensions, task, overrides, decisions),
    )


def _precision(recipe: Recipe, budget: Budget, overrides: PlanOverrides, decisions: Decisions) -> Precision:
    chosen, decision = choose_precision(
        recipe.precisions,
        budget.kind,
        budget.compute_capability,
        without_tensor_cores=budget.without_tensor_cores,
    )
    if overrides.precision is not None:
        if budget.kind == "cpu" and overrides.precision != "fp32":
            msg = f"override precision={overrides.precision}: a CPU trains in fp32"
            raise ValueError(msg)
        decisions.user("precision", overrides.precision)
        return overrides.precision
    decisions.put("precision", decision)
    return chosen


def _optimizer(recipe: Recipe, overrides: PlanOverrides, decisions: Decisions) -> OptimizerChoice:
    base, source = recipe.optimizer, recipe.source
    rate = f"the recipe's {base.lr:g}; not scaled with the batch"
    if overrides.optimizer is not None:
        decisions.user("optimizer", overrides.optimizer)
        if overrides.optimizer != base.name:  # the recipe's numbers belong to its own optimizer
            base, source = USUAL_OPTIMIZERS[overrides.optimizer], USUAL_SOURCES[overrides.optimizer]
            rate = f"{base.lr:g}, {source}: {recipe.optimizer.lr:g} is for {recipe.optimizer.name}"
    decisions.add("optimizer", "architecture", source)
    decisions.add("lr", "architecture", rate)
    changes: dict[str, float | bool] = {}
    for field in ("lr", "weight_decay", "momentum", "eps"):
        value = getattr(overrides, field)
        if value is None:
            continue
        if field in NUMBERS_OF_ONE and base.name != NUMBERS_OF_ONE[field]:
            decisions.add(field, "architecture", f"{base.name} has none: the override {value:g} is not used")
            continue
        changes[field] = value
        decisions.user(field, value)
    if changes.get("momentum") == 0:
        changes["nesterov"] = False  # torch refuses it without momentum
    return base.model_copy(update=changes)


def _schedule(recipe: Recipe, overrides: PlanOverrides, decisions: Decisions) -> ScheduleChoice:
    fields = {"schedule": "name", "epochs": "epochs", "steps_per_epoch": "steps_per_epoch"}
    fields["warmup_steps"] = "warmup_steps"
    changes = {}
    for override, field in fields.items():
        value = getattr(overrides, override)
        if value is not None:
            changes[field] = value
            decisions.user(override, value)
    decisions.add(
        "schedule", "architecture", f"{recipe.schedule}, {recipe.epochs} epochs, as its recipe has it"
    )
    base = ScheduleChoice(name=recipe.schedule, epochs=recipe.epochs, steps_per_epoch=recipe.steps_per_epoch)
    schedule = base.model_copy(update=changes)
    if schedule.warmup_steps >= (steps := schedule.epochs * schedule.steps_per_epoch):
        msg = f"override warmup_steps={schedule.warmup_steps}: the whole training has {steps} steps"
        raise ValueError(msg)
    return schedule


def _deep_supervision(architecture: Architecture, overrides: PlanOverrides, decisions: Decisions) -> bool:
    if overrides.deep_supervision is not None:
        if overrides.deep_supervision and not architecture.deep_supervision:
            msg = f"override deep_supervision=true: {architecture.name} has no deep-supervision outputs"
            raise ValueError(msg)
        decisions.user("deep_supervision", overrides.deep_supervision)
        return overrides.deep_supervision
    why = "its authors train with it" if architecture.deep_supervision else "the network has one output"
    decisions.add("deep_supervision", "architecture", why)
    return architecture.deep_supervision


def _loss(dimensions: int, task: TaskChoice, overrides: PlanOverrides, decisions: Decisions) -> LossChoice:
    if overrides.batch_dice is not None:
        decisions.user("batch_dice", overrides.batch_dice)
    batch_dice = dimensions == 2 if overrides.batch_dice is None else overrides.batch_dice
    if task.task != "semantic":
        decisions.add(
            "loss", "rule", f"binary cross-entropy over the {task.out_channels} {task.task} channels"
        )
        return LossChoice(name="bce")
    decisions.add("batch_dice", "rule", "over the whole batch in 2D, sample by sample in 3D, as nnU-Net does")
    if task.regions:
        decisions.add(
            "loss", "rule", "Dice and binary cross-entropy: the classes overlap, as nnU-Net's regions do"
        )
        return LossChoice(name="dice_bce", batch_dice=batch_dice)
    decisions.add("loss", "rule", "Dice and cross-entropy, as nnU-Net trains")
    return LossChoice(name="dice_ce", batch_dice=batch_dice)
