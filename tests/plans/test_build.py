"""From a plans file to what trains: the parts are what the plan says, and loading executes nothing."""

from __future__ import annotations

import copy
import json
import math
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from voxplan.plans import Plan, Plans, PlansError, load_plans
from voxplan.plans.document import save_document
from voxplan.plans.schedule import learning_rate_factor
from voxplan.plans.schema import ExperimentPlan, PlansDocument, ScheduleChoice

PlanMaker = Callable[..., Plan]
DocumentMaker = Callable[..., PlansDocument]


@pytest.fixture
def plans(make_document: DocumentMaker, tmp_path: Path) -> Plans:
    save_document(make_document(), tmp_path / "plans.json")
    return load_plans(tmp_path / "plans.json")


def test_a_file_is_a_mapping_of_plans(plans: Plans) -> None:
    assert list(plans) == ["unet/test", "mednext_s/test"]
    assert len(plans) == 2
    assert "unet/test" in plans
    assert "unet" not in plans
    assert plans.recommended is not None
    assert plans.recommended.name == "unet/test"
    assert {name: plan.patch_size for name, plan in plans.items()} == dict.fromkeys(plans, (32, 32, 32))
    assert plans.dataset.name == "test"
    assert plans.hardware.cores == 2
    assert repr(plans) == "Plans(unet/test, mednext_s/test)"


def test_an_unknown_plan_lists_the_known(plans: Plans) -> None:
    with pytest.raises(KeyError, match="no plan 'unet'; known: unet/test, mednext_s/test"):
        plans["unet"]
    assert plans.get("unet") is None


def test_every_field_of_the_experiment_is_an_attribute(plans: Plans) -> None:
    plan = plans["unet/test"]
    for field in ExperimentPlan.model_fields:
        assert getattr(plan, field) == getattr(plans.document.plans["unet/test"], field)
    with pytest.raises(AttributeError, match="a plan has no 'patchsize'; its fields: architecture,"):
        _ = plan.patchsize


def test_a_plan_goes_to_workers_and_copies(plans: Plans) -> None:
    plan = plans["unet/test"]
    for again in (pickle.loads(pickle.dumps(plan)), copy.deepcopy(plan)):
        assert again.experiment == plan.experiment
        assert again.patch_size == (32, 32, 32)


@pytest.mark.parametrize("name", ["unet/test", "mednext_s/test"])
def test_network_and_loss_fit_each_other(plans: Plans, name: str) -> None:
    plan = plans[name]
    network = plan.build_network(device="meta").train()
    outputs = network(torch.empty(plan.batch_size, 1, *plan.patch_size, device="meta"))
    assert outputs[0].shape == (2, 3, 32, 32, 32)
    assert len(outputs) == len(plan.loss.deep_supervision_weights)
    target = torch.zeros(2, 1, *plan.patch_size, dtype=torch.int16, device="meta")
    assert plan.build_loss()(outputs, target).shape == ()


def test_device_is_the_default_or_as_told(make_plan: PlanMaker) -> None:
    plan = make_plan((16, 16), architecture="monai_unet")
    assert next(plan.build_network().parameters()).device.type == "cpu"
    assert next(plan.build_network(device="meta").parameters()).device.type == "meta"
    with torch.device("meta"):
        assert next(plan.build_network().parameters()).device.type == "meta"
        assert next(plan.build_network(device="cpu").parameters()).device.type == "cpu"


def test_checkpointing_reaches_the_network(make_plan: PlanMaker) -> None:
    for checkpointing in (False, True):
        network = make_plan((16, 16), checkpointing=checkpointing).build_network(device="meta")
        assert network.checkpointing is checkpointing


def test_a_patch_that_does_not_fit_is_refused_when_building(make_plan: PlanMaker) -> None:
    plan = make_plan((32, 32))
    broken = Plan(plan.name, plan.experiment.model_copy(update={"patch_size": (32, 33)}), plan.dataset)
    with pytest.raises(ValueError, match=r"unet: patch_size .* axis 1: 33 must be a multiple of 8"):
        broken.build_network()


@pytest.mark.parametrize(
    "architecture",
    [
        {"name": "os.system", "arguments": {"command": "touch pwned"}},
        {"name": "voxplan.plans.build.load_plans", "arguments": {}},
        {"name": "mednext_s", "arguments": {"__reduce__": ["os.system", "touch pwned"]}},
        {"name": "unet", "arguments": {"strides": "__import__('os').system('touch pwned')"}},
        {"name": "../unet", "arguments": {}},
    ],
)
def test_loading_executes_nothing_from_the_file(
    make_document: DocumentMaker,
    tmp_path: Path,
    architecture: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    content = json.loads(make_document().model_dump_json())
    content["plans"]["unet/test"]["architecture"] = architecture
    (tmp_path / "plans.json").write_text(json.dumps(content))
    with pytest.raises(PlansError, match=r"plans\.unet/test\.architecture\."):
        load_plans(tmp_path / "plans.json")
    assert not (tmp_path / "pwned").exists()


def test_sgd_is_as_chosen(make_plan: PlanMaker) -> None:
    chosen = {"name": "sgd", "lr": 0.01, "momentum": 0.99, "nesterov": True, "weight_decay": 3e-5}
    plan = make_plan((16, 16), optimizer=chosen)
    network = torch.nn.Linear(2, 2)
    for parameters in (network, network.parameters()):
        optimizer = plan.build_optimizer(parameters)
        assert isinstance(optimizer, torch.optim.SGD)
        (group,) = optimizer.param_groups
        assert {key: group[key] for key in ("lr", "momentum", "nesterov", "weight_decay")} == {
            key: value for key, value in chosen.items() if key != "name"
        }
        assert len(group["params"]) == 2


def test_adamw_is_as_chosen(make_plan: PlanMaker) -> None:
    chosen = {"name": "adamw", "lr": 1e-3, "eps": 1e-4, "weight_decay": 3e-5, "betas": (0.8, 0.9)}
    optimizer = make_plan((16, 16), optimizer=chosen).build_optimizer(torch.nn.Linear(2, 2))
    assert isinstance(optimizer, torch.optim.AdamW)
    (group,) = optimizer.param_groups
    assert (group["lr"], group["eps"], group["weight_decay"], group["betas"]) == (
        1e-3,
        1e-4,
        3e-5,
        (0.8, 0.9),
    )


def test_poly_is_nnunets_at_the_start_of_each_epoch(make_plan: PlanMaker) -> None:
    """nnU-Net sets ``initial * (1 - epoch / epochs) ** 0.9`` once an epoch."""
    plan = make_plan(
        (16, 16), optimizer={"lr": 1e-3}, schedule={"name": "poly", "epochs": 4, "steps_per_epoch": 5}
    )
    optimizer = plan.build_optimizer(torch.nn.Linear(1, 1))
    scheduler = plan.build_scheduler(optimizer)
    rates = []
    for _step in range(20):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates[::5] == pytest.approx([1e-3 * (1 - epoch / 4) ** 0.9 for epoch in range(4)])
    assert rates == sorted(rates, reverse=True)
    assert optimizer.param_groups[0]["lr"] == 0
    scheduler.step()
    assert optimizer.param_groups[0]["lr"] == 0


def test_cosine_is_torchs(make_plan: PlanMaker) -> None:
    plan = make_plan((16, 16), schedule={"name": "cosine", "epochs": 2, "steps_per_epoch": 5})
    optimizers = [plan.build_optimizer(torch.nn.Linear(1, 1)) for _ in range(2)]
    ours = plan.build_scheduler(optimizers[0])
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizers[1], T_max=10)
    for _step in range(10):
        for optimizer, scheduler in zip(optimizers, (ours, theirs), strict=True):
            optimizer.step()
            scheduler.step()
        assert ours.get_last_lr() == pytest.approx(theirs.get_last_lr(), abs=1e-12)


def test_warm_up_rises_to_the_full_rate_and_constant_stays() -> None:
    schedule = ScheduleChoice(name="constant", epochs=1, steps_per_epoch=10, warmup_steps=3)
    factors = [learning_rate_factor(schedule, step) for step in range(12)]
    assert factors == pytest.approx([0.25, 0.5, 0.75] + [1.0] * 9)
    poly = ScheduleChoice(name="poly", epochs=1, steps_per_epoch=10, warmup_steps=3)
    assert learning_rate_factor(poly, 3) == 1
    assert learning_rate_factor(poly, 5) == pytest.approx((5 / 7) ** 0.9)
    only = ScheduleChoice(name="poly", epochs=1, steps_per_epoch=3, warmup_steps=3)
    assert [learning_rate_factor(only, step) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]


def test_ignore_reaches_the_loss(make_plan: PlanMaker) -> None:
    logits = torch.randn(1, 3, 16, 16)
    target = torch.randint(0, 3, (1, 1, 16, 16), dtype=torch.int16)
    target[..., :8] = -1
    plan = make_plan((16, 16), ignore=255)
    whole = plan.build_loss()(logits, target).item()
    half = make_plan((16, 16)).build_loss()(logits[..., 8:], target[..., 8:]).item()
    assert whole == pytest.approx(half, rel=1e-5)


def test_a_step_makes_the_loss_fall(make_plan: PlanMaker) -> None:
    torch.manual_seed(0)
    plan = make_plan((16, 16), optimizer={"lr": 1e-2})
    network, loss = plan.build_network(), plan.build_loss()
    optimizer = plan.build_optimizer(network)
    scheduler = plan.build_scheduler(optimizer)
    image = torch.randn(2, 1, 16, 16)
    target = (image > 0.5).to(torch.int16) + (image > 1.5).to(torch.int16)
    losses = []
    for _step in range(15):
        value = loss(network(image), target)
        value.backward()
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(value.item())
    assert losses[-1] < 0.6 * losses[0]


def test_normalize_takes_the_numbers_of_the_case(make_plan: PlanMaker) -> None:
    plan = make_plan(
        (16, 16),
        normalization=[{"channel": "EM", "scheme": "zscore"}],
        case_numbers={"a": {"mean": (10.0,), "std": (2.0,)}},
    )
    volume = np.full((1, 2, 2, 2), 14, np.uint8)
    assert np.array_equal(plan.normalize(volume, "a"), np.full((1, 2, 2, 2), 2, np.float32))
    image = np.random.default_rng(0).normal(5, 3, (1, 4, 4, 4))
    expected = (image - image.mean()) / image.std()
    assert plan.normalize(image) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("precision", "expected"),
    [("fp32", "32-true"), ("tf32", "32-true"), ("fp16", "16-mixed"), ("bf16", "bf16-mixed")],
)
def test_trainer_arguments(make_plan: PlanMaker, precision: str, expected: str) -> None:
    plan = make_plan(
        (16, 16),
        precision=precision,
        accumulation=3,
        schedule={"name": "poly", "epochs": 7, "steps_per_epoch": 11},
        memory={"device": "NVIDIA A100"},
    )
    assert plan.trainer_kwargs() == {
        "accelerator": "gpu",
        "devices": 1,
        "precision": expected,
        "accumulate_grad_batches": 3,
        "gradient_clip_val": 12.0,
        "gradient_clip_algorithm": "norm",
        "max_epochs": 7,
        "limit_train_batches": 33,
    }


def test_several_gpus_train_with_ddp(make_plan: PlanMaker) -> None:
    """A head of weight 0 has no gradient, which plain DDP refuses."""
    plan = make_plan(
        (32, 32, 32), architecture="mednext_s", global_batch_size=8, memory={"device": "NVIDIA A100"}
    )
    assert plan.trainer_kwargs()["devices"] == 4
    assert plan.trainer_kwargs()["strategy"] == "ddp"
    loss = {"name": "dice_ce", "deep_supervision_weights": (2 / 3, 1 / 3, 0.0)}
    plan = make_plan((16, 16), global_batch_size=8, loss=loss, memory={"device": "NVIDIA A100"})
    assert plan.trainer_kwargs()["strategy"] == "ddp_find_unused_parameters_true"


def test_lightning_trains_with_these_arguments(make_plan: PlanMaker, tmp_path: Path) -> None:
    """A real Trainer, two epochs of two optimizer steps, each of two accumulated batches."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lightning = pytest.importorskip("lightning")

    plan = make_plan(
        (16, 16),
        accumulation=2,
        optimizer={"lr": 1e-3},
        schedule={"name": "poly", "epochs": 2, "steps_per_epoch": 2},
    )
    rates = []

    class Module(lightning.LightningModule):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            super().__init__()
            self.network, self.loss = plan.build_network(), plan.build_loss()

        def training_step(self, batch: list[torch.Tensor], _index: int) -> torch.Tensor:
            loss: torch.Tensor = self.loss(self.network(batch[0]), batch[1])
            return loss

        def configure_optimizers(self) -> dict[str, Any]:
            optimizer = plan.build_optimizer(self.network)
            scheduler = {"scheduler": plan.build_scheduler(optimizer), "interval": "step"}
            return {"optimizer": optimizer, "lr_scheduler": scheduler}

        def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
            rates.append(optimizer.param_groups[0]["lr"])

    data = torch.utils.data.TensorDataset(
        torch.randn(20, 1, 16, 16), torch.zeros(20, 1, 16, 16, dtype=torch.int16)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = lightning.Trainer(
            **plan.trainer_kwargs(),
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path,
        )
        trainer.fit(Module(), torch.utils.data.DataLoader(data, batch_size=plan.batch_size))
    assert trainer.global_step == 4
    assert rates == pytest.approx([1e-3 * (1 - step / 4) ** 0.9 for step in range(4)])
    assert math.isclose(trainer.gradient_clip_val, 12.0)
