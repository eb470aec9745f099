"""A real Trainer on the CPU: memory may run out, on one process and on one of two, and nothing is lost."""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch
import numpy as np
import pytest
import pytorch_lightning
import torch
from torch import Tensor, nn

from voxplan.plans.build import Plan
from voxplan.plans.checkpoint import CheckpointError, load_plan, plan_content
from voxplan.plans.data import PatchDataset, make_dataset, make_loader
from voxplan.plans.lightning import FitResult, PlanCallback, fit_with_plan
from voxplan.plans.training import TrainingError, is_out_of_memory
from voxplan.profiling.formats.base import CaseSource
from voxplan.scripts.phantom import draw_case

PlanMaker = Callable[..., Plan]
CaseWriter = Callable[..., CaseSource]
SCALE = {"channel": "EM", "scheme": "scale", "low": 0.0, "high": 255.0}

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*smaller than the logging interval.*"),
    pytest.mark.filterwarnings("ignore:.*exists and is not empty.*"),
    pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`.*"),
    pytest.mark.filterwarnings("ignore:.*lr_scheduler.step.*"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*"),
]


class Steps:
    """What a user writes; it also keeps the samples that it saw, and runs out of memory where told to."""

    def prepare(self: Any, plan: Plan, fails_at: tuple[int, ...] = (), largest: int = 99) -> None:
        self.plan = plan
        self.network = plan.build_network()
        self.loss = plan.build_loss()
        self.fails_at = list(fails_at)
        """Optimizer steps in which memory runs out, each once."""
        self.largest = largest
        self.sizes: list[int] = []
        self.seen: list[tuple[int, float]] = []

    def training_step(self: Any, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        loss: Tensor = self.loss(self.network(batch["image"]), batch["target"])
        last = (batch_idx + 1) % self.trainer.accumulate_grad_batches == 0
        if len(batch["image"]) > self.largest or (last and self.global_step in self.fails_at):
            if self.global_step in self.fails_at:
                self.fails_at.remove(self.global_step)
            msg = "CUDA out of memory. Tried to allocate 2.00 GiB\nmore text"
            raise torch.OutOfMemoryError(msg)
        self.sizes.append(len(batch["image"]))
        self.seen += [(self.global_step, float(image.sum())) for image in batch["image"]]
        return loss

    def configure_optimizers(self: Any) -> Any:
        optimizer = self.plan.build_optimizer(self.network)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": self.plan.build_scheduler(optimizer), "interval": "step"},
        }


class PlanModule(Steps, lightning.pytorch.LightningModule):
    def __init__(self, plan: Plan, **options: Any) -> None:
        super().__init__()
        self.prepare(plan, **options)


class OtherModule(Steps, pytorch_lightning.LightningModule):
    def __init__(self, plan: Plan, **options: Any) -> None:
        super().__init__()
        self.prepare(plan, **options)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def plan(make_plan: PlanMaker) -> Plan:
    """Two epochs of three steps of four samples; a loss whose mean over halves is that over the whole."""
    return make_plan(
        (8, 16, 16),
        normalization=(SCALE,),
        batch_size=4,
        global_batch_size=4,
        schedule={"epochs": 2, "steps_per_epoch": 3},
        loss={"name": "dice_ce", "batch_dice": False},
        optimizer={"name": "sgd", "lr": 0.05},
    )


@pytest.fixture
def dataset(plan: Plan, write_case: CaseWriter) -> PatchDataset:
    image, labels = draw_case(np.random.default_rng(7), (12, 48, 48))
    return make_dataset(plan, [write_case("phantom", image, labels)])


def loaders(dataset: PatchDataset) -> Callable[[Plan], Any]:
    return lambda plan: make_loader(plan, dataset, steps=plan.schedule.steps_per_epoch)


def quiet(trainer: type[Any], folder: Path, **more: Any) -> Callable[..., Any]:
    """A factory of trainers that write into a folder, checkpoints included."""
    options = {
        "default_root_dir": folder,
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        **more,
    }
    return partial(trainer, **options)


def with_checkpoints(folder: Path, every: int) -> Callable[..., Any]:
    """A factory as users write it: callbacks of their own beside those that are given."""

    def make(callbacks: list[Any], **settings: Any) -> Any:
        saver = lightning.pytorch.callbacks.ModelCheckpoint(
            folder, every_n_train_steps=every, save_top_k=-1, filename="{step}"
        )
        return quiet(lightning.pytorch.Trainer, folder)(callbacks=[*callbacks, saver], **settings)

    return make


def fit(plan: Plan, dataset: PatchDataset, factory: Any, **options: Any) -> tuple[PlanModule, FitResult]:
    torch.manual_seed(0)
    module = PlanModule(plan, **options)
    return module, fit_with_plan(factory, module, loaders(dataset), plan)


def weights(module: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().ravel() for parameter in module.parameters()])


def test_trainer_kwargs_fit_a_trainer(plan: Plan, dataset: PatchDataset, tmp_path: Path) -> None:
    """Six steps in two epochs, each of other samples: those of the plain loop."""
    torch.manual_seed(0)
    module = PlanModule(plan)
    trainer = quiet(lightning.pytorch.Trainer, tmp_path)(**plan.trainer_kwargs())
    trainer.fit(module, loaders(dataset)(plan))
    assert trainer.global_step == 6
    assert module.sizes == [4] * 6
    expected = [float(dataset[index]["image"].sum()) for index in range(24)]
    assert [value for _, value in module.seen] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("trainer", "module_class"),
    [(lightning.pytorch.Trainer, PlanModule), (pytorch_lightning.Trainer, OtherModule)],
)
def test_out_of_memory_without_checkpoint_starts_anew(
    trainer: type[Any],
    module_class: Any,
    plan: Plan,
    dataset: PatchDataset,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Batches of one fit: 4, 2, 1 at a time; the end is that of a run that never had the trouble."""
    untroubled, _ = fit(plan, dataset, quiet(lightning.pytorch.Trainer, tmp_path, enable_checkpointing=False))
    torch.manual_seed(0)
    module = module_class(plan, largest=1)
    start = weights(module)
    with caplog.at_level(logging.WARNING, logger="voxplan"):
        result = fit_with_plan(
            quiet(trainer, tmp_path, enable_checkpointing=False), module, loaders(dataset), plan
        )
    assert [(halved.batch_size, halved.accumulation) for halved in result.halvings] == [(2, 2), (1, 4)]
    assert "Tried to allocate 2.00 GiB" in result.halvings[0].reason
    assert "more text" not in result.halvings[0].reason
    assert (result.plan.batch_size, result.plan.accumulation, result.plan.global_batch_size) == (1, 4, 1)
    assert result.trainer.global_step == 6
    assert module.sizes == [1] * 24
    assert (weights(module) - start).abs().max() > 1e-2
    torch.testing.assert_close(weights(module), weights(untroubled), atol=1e-4, rtol=0)
    assert "from now on batches of 2, 2 of them a step; again from the start" in caplog.text


@pytest.mark.parametrize("every", [2, 3])
def test_goes_on_from_the_last_checkpoint(
    every: int, plan: Plan, dataset: PatchDataset, tmp_path: Path
) -> None:
    """Memory runs out in step 5 (from 0); step 4 (in mid-epoch) or 3 (an epoch's end) was the last saved."""
    untroubled, _ = fit(plan, dataset, quiet(lightning.pytorch.Trainer, tmp_path, enable_checkpointing=False))
    module, result = fit(plan, dataset, with_checkpoints(tmp_path / "saved", every), fails_at=(5,))
    saved = 5 // every * every
    assert [halved.step for halved in result.halvings] == [6]
    assert result.trainer.global_step == 6
    assert module.sizes == [4] * 5 + [2] * 2 * (6 - saved)
    again = [value for step, value in module.seen[20:]]
    assert again == pytest.approx([value for step, value in untroubled.seen if step >= saved])
    torch.testing.assert_close(weights(module), weights(untroubled), atol=1e-4, rtol=0)
    assert load_plan(tmp_path / "saved" / "step=6.ckpt").batch_size == 2
    assert load_plan(tmp_path / "saved" / f"step={saved}.ckpt").batch_size in (2, 4)


def test_an_odd_batch_is_cut_into_equal_parts(plan: Plan, dataset: PatchDataset, tmp_path: Path) -> None:
    """Five samples a step, whether at once or one by one, in mid-epoch too."""
    odd = plan.with_batch(5, 1, why="test")
    untroubled, _ = fit(odd, dataset, quiet(lightning.pytorch.Trainer, tmp_path, enable_checkpointing=False))
    module, result = fit(odd, dataset, with_checkpoints(tmp_path / "saved", 2), fails_at=(4,))
    assert [(halved.batch_size, halved.accumulation) for halved in result.halvings] == [(1, 5)]
    assert module.sizes == [5] * 4 + [1] * 10
    assert [value for _, value in module.seen] == pytest.approx([value for _, value in untroubled.seen])
    torch.testing.assert_close(weights(module), weights(untroubled), atol=1e-4, rtol=0)


def test_checkpoints_of_weights_alone_are_not_gone_on_from(
    plan: Plan, dataset: PatchDataset, tmp_path: Path
) -> None:
    def make(callbacks: list[Any], **settings: Any) -> Any:
        saver = lightning.pytorch.callbacks.ModelCheckpoint(
            tmp_path / "saved", every_n_train_steps=1, save_weights_only=True
        )
        return quiet(lightning.pytorch.Trainer, tmp_path)(callbacks=[*callbacks, saver], **settings)

    module, result = fit(plan, dataset, make, fails_at=(4,))
    assert result.trainer.global_step == 6
    assert module.sizes == [4] * 4 + [2] * 12


def test_a_resumed_run_takes_the_batch_that_it_is_given(
    plan: Plan, dataset: PatchDataset, tmp_path: Path
) -> None:
    """Saved in mid-epoch with batches of 4, continued by hand with batches of 2."""
    untroubled, _ = fit(plan, dataset, with_checkpoints(tmp_path / "first", 4))
    smaller = plan.with_batch(2, 2, why="test")
    module = PlanModule(smaller)
    factory = quiet(lightning.pytorch.Trainer, tmp_path, enable_checkpointing=False)
    fit_with_plan(factory, module, loaders(dataset), smaller, ckpt_path=tmp_path / "first" / "step=4.ckpt")
    assert module.sizes == [2] * 4
    torch.testing.assert_close(weights(module), weights(untroubled), atol=1e-4, rtol=0)


def test_not_even_one_sample_fits(plan: Plan, dataset: PatchDataset, tmp_path: Path) -> None:
    factory = quiet(lightning.pytorch.Trainer, tmp_path, enable_checkpointing=False)
    with pytest.raises(TrainingError, match=r"single sample of \(8, 16, 16\).*Tried to allocate.*plan again"):
        fit(plan, dataset, factory, largest=0)


def test_other_errors_and_validation_are_not_restarted(
    plan: Plan, dataset: PatchDataset, tmp_path: Path
) -> None:
    attempts: list[int] = []

    class Hungry(PlanModule):
        def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
            attempts.append(batch_idx)
            msg = "CUDA out of memory in validation"
            raise torch.OutOfMemoryError(msg)

    def both(plan: Plan) -> Any:
        return loaders(dataset)(plan), loaders(dataset)(plan)

    factory = quiet(lightning.pytorch.Trainer, tmp_path, enable_checkpointing=False)
    with pytest.raises(torch.OutOfMemoryError, match="in validation"):
        fit_with_plan(factory, Hungry(plan), both, plan)
    assert attempts == [0]

    class Broken(PlanModule):
        def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
            attempts.append(batch_idx)
            msg = "shapes do not fit"
            raise RuntimeError(msg)

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        fit_with_plan(factory, Broken(plan), loaders(dataset), plan)
    assert attempts == [0, 0]


def test_wrong_use_is_said(plan: Plan, dataset: PatchDataset, tmp_path: Path) -> None:
    loader = loaders(dataset)(plan)
    with pytest.raises(TypeError, match=r"expected a LightningModule .* got Linear"):
        fit_with_plan(lightning.pytorch.Trainer, nn.Linear(1, 1), loaders(dataset), plan)

    def forgetful(**settings: Any) -> Any:
        return quiet(lightning.pytorch.Trainer, tmp_path)(**{**settings, "callbacks": []})

    with pytest.raises(ValueError, match="trainer_factory must pass on the callbacks"):
        fit_with_plan(forgetful, PlanModule(plan), loaders(dataset), plan)
    with pytest.raises(TypeError, match=r"list.* has a fixed batch size: give a function of a plan"):
        fit_with_plan(lightning.pytorch.Trainer, PlanModule(plan), [loader], plan)


def test_a_data_module_with_a_batch_size(plan: Plan, dataset: PatchDataset, tmp_path: Path) -> None:
    class Patches(lightning.pytorch.LightningDataModule):
        def __init__(self) -> None:
            super().__init__()
            self.batch_size = 1

        def train_dataloader(self) -> Any:
            return torch.utils.data.DataLoader(dataset, self.batch_size)

    module, data = PlanModule(plan, largest=2), Patches()
    factory = quiet(lightning.pytorch.Trainer, tmp_path, enable_checkpointing=False)
    result = fit_with_plan(factory, module, data, plan)
    assert data.batch_size == result.plan.batch_size == 2
    assert module.sizes == [2] * 12


def test_peaks_stand_beside_the_prediction(
    make_plan: PlanMaker, dataset: PatchDataset, tmp_path: Path
) -> None:
    """Training holds 256 MiB more than validation, and validation 64 MiB more than was held before."""
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("the kernel does not let peaks start anew")
    mebi = 2**20
    plan = make_plan(
        (8, 16, 16),
        normalization=(SCALE,),
        schedule={"epochs": 1, "steps_per_epoch": 2},
        memory={"total": 123 * mebi},
        inference={"memory": 45 * mebi},
    )

    class Holding(PlanModule):
        def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
            torch.ones(256 * mebi, dtype=torch.uint8)
            return super().training_step(batch, batch_idx)

        def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
            torch.ones(64 * mebi, dtype=torch.uint8)

    def both(plan: Plan) -> Any:
        return loaders(dataset)(plan), loaders(dataset)(plan)

    result = fit_with_plan(quiet(lightning.pytorch.Trainer, tmp_path), Holding(plan), both, plan)
    peaks = result.callback.peaks
    assert set(peaks) == {"train", "validate"}
    assert peaks["train"].process is not None
    assert peaks["validate"].process is not None
    assert peaks["train"].process - peaks["validate"].process == pytest.approx(192 * mebi, rel=0.5)
    (path,) = tmp_path.rglob("*.ckpt")
    content = torch.load(path, weights_only=True)["voxplan"]
    assert content["memory"]["train"]["measured"]["process"] == peaks["train"].process
    assert content["memory"]["train"]["predicted"]["process"] == 123 * mebi
    assert content["memory"]["validate"]["predicted"]["process"] == 45 * mebi
    assert load_plan(path).experiment == plan.experiment
    assert load_plan(path).dataset == plan.dataset
    bare = tmp_path / "bare.ckpt"
    torch.save({"state_dict": {}}, bare)
    with pytest.raises(CheckpointError, match="holds no plan: it was written without PlanCallback"):
        load_plan(bare)


def test_the_callback_alone_works_with_both_trainers(
    plan: Plan, dataset: PatchDataset, tmp_path: Path
) -> None:
    for name, trainer, module in (
        ("new", lightning.pytorch.Trainer, PlanModule(plan)),
        ("old", pytorch_lightning.Trainer, OtherModule(plan)),
    ):
        callback = PlanCallback(plan)
        settings = {**plan.trainer_kwargs(), "max_epochs": 1, "callbacks": [callback]}
        quiet(trainer, tmp_path / name)(**settings).fit(module, loaders(dataset)(plan))
        (path,) = (tmp_path / name).rglob("*.ckpt")
        assert load_plan(path).experiment == plan.experiment
        assert callback.peaks.keys() == {"train"}


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("x"), True),
        (MemoryError(), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (torch.AcceleratorError("CUDA error: out of memory"), True),
        (torch.AcceleratorError("CUDA error: device-side assert triggered"), False),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`"), False),
        (RuntimeError("shapes do not fit"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_counts_as_out_of_memory(error: BaseException, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_plans_import_no_lightning() -> None:
    program = (
        "import sys\n"
        "for name in ('lightning', 'pytorch_lightning', 'torch'): sys.modules[name] = None\n"
        "from voxplan.plans import load_plans"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    program = (
        "import sys\n"
        "for name in ('lightning', 'pytorch_lightning'): sys.modules[name] = None\n"
        "import voxplan.plans.lightning"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "ImportError: Lightning is not installed: pip install voxplan[lightning]" in ran.stderr


RANK_PROGRAM = """
import json, os, sys
from pathlib import Path
import lightning.pytorch as pl
import torch
from torch import nn
from voxplan.plans import lightning_ranks
from voxplan.plans.checkpoint import _plan
from voxplan.plans.lightning import fit_with_plan

allocate_buckets = lightning_ranks.allocate_buckets
torch.set_num_threads(1)
folder = Path(sys.argv[1])
plan = _plan(json.loads((folder / "plan.json").read_text()))


class Numbers(torch.utils.data.Dataset):
    def __getitem__(self, index):
        return torch.full((3,), float(index % 7)), torch.tensor([float(index % 5)])

    def __len__(self):
        return 10**6


class Line(pl.LightningModule):
    def __init__(self):
        super().__init__()
        torch.manual_seed(int(os.environ["LOCAL_RANK"]))
        self.line = nn.Linear(3, 1)
        self.unused = nn.Linear(3, 1)
        self.seen, self.fails = [], [tuple(failure) for failure in json.loads(sys.argv[2])]

    def training_step(self, batch, batch_idx):
        image, target = batch
        failure = next((f for f in self.fails if f[:2] == (self.global_rank, self.global_step)), None)
        if failure is not None:
            self.fails.remove(failure)
            if failure[2] == "forward":
                raise torch.OutOfMemoryError("CUDA out of memory on this rank")
            if failure[2] == "averaging":
                lightning_ranks.allocate_buckets = self.no_room
            image.requires_grad_()
            if failure[2] == "backward":
                image.register_hook(self.full)
        self.seen.append([self.global_step, *image[:, 0].tolist()])
        return nn.functional.mse_loss(self.line(image), target)

    def no_room(self, gradients):
        lightning_ranks.allocate_buckets = allocate_buckets
        raise torch.OutOfMemoryError("CUDA out of memory before gradients are averaged")

    def full(self, gradient):
        raise torch.OutOfMemoryError("CUDA out of memory in the backward pass")

    def configure_optimizers(self):
        return torch.optim.SGD(self.line.parameters(), lr=0.01)


def data(plan):
    from voxplan.plans.loading import PatchLoader, PatchSampler
    batches = plan.schedule.steps_per_epoch * plan.accumulation
    return PatchLoader(Numbers(), batch_size=plan.batch_size, sampler=PatchSampler(plan.batch_size, batches))


def factory(callbacks, **settings):
    saver = pl.callbacks.ModelCheckpoint(folder / "saved", every_n_train_steps=2, save_top_k=-1)
    return pl.Trainer(
        callbacks=[*callbacks, saver], logger=False, enable_progress_bar=False, enable_model_summary=False,
        use_distributed_sampler=True, **settings,
    )


module = Line()
result = fit_with_plan(factory, module, data, plan)
report = {
    "weights": [p.tolist() for p in module.line.parameters()],
    "halvings": [[h.batch_size, h.accumulation, h.step, h.reason] for h in result.halvings],
    "steps": result.trainer.global_step,
    "peak": result.callback.peaks["train"].process,
    "sizes": [len(entry) - 1 for entry in module.seen],
}
(folder / f"{result.trainer.global_rank}.json").write_text(json.dumps(report))
"""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def run_ranks(folder: Path, failures: list[tuple[int, int, str]]) -> list[dict[str, Any]]:
    """Two processes, as torchrun would start them; a failure is a rank, a step and a place."""
    shared = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "WORLD_SIZE": "2",
        "NODE_RANK": "0",
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", RANK_PROGRAM, str(folder), json.dumps(failures)],
            env={**os.environ, **shared, "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
        )
        for rank in range(2)
    ]
    try:
        outputs = [process.communicate(timeout=500)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, output in zip(processes, outputs, strict=True):
        assert process.returncode == 0, output[-3000:]
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


def descend(weights: np.ndarray[Any, Any], steps: int, samples: int, rate: float) -> np.ndarray[Any, Any]:
    """Least squares of a line by hand: gradients over all samples of a step, clipped to a norm of 12."""
    for step in range(steps):
        index = np.arange(step * samples, (step + 1) * samples)
        inputs = np.stack([index % 7] * 3 + [np.ones(samples)], axis=1)
        gradient = 2 * inputs.T @ (inputs @ weights - index % 5) / samples
        weights = weights - rate * gradient * min(1, 12 / np.linalg.norm(gradient))
    return weights


@pytest.mark.timeout(600)
def test_two_ranks_agree_when_one_runs_out_of_memory(make_plan: PlanMaker, tmp_path: Path) -> None:
    """Rank 1 in the first forward pass, rank 0 in a later backward pass: both go on together.

    The unused layer has no gradient anywhere. Ranks begin with different weights, and go by rank 0's.
    """
    plan = make_plan(
        batch_size=4,
        global_batch_size=8,
        schedule={"epochs": 2, "steps_per_epoch": 3},
    )
    (tmp_path / "plan.json").write_text(json.dumps(plan_content(plan)))
    ranks = run_ranks(tmp_path, [(1, 0, "forward"), (0, 3, "backward")])
    for rank in ranks:
        assert [halved[:3] for halved in rank["halvings"]] == [[2, 2, 1], [1, 4, 4]]
        assert rank["steps"] == 6
        # From the checkpoint of step 2 on, batches of one: four a step on each rank.
        assert rank["sizes"][-16:] == [1] * 16
    reasons = [[halved[3] for halved in rank["halvings"]] for rank in ranks]
    other = "another rank ran out of memory"
    assert reasons[0] == [other, "CUDA out of memory in the backward pass"]
    assert reasons[1] == ["CUDA out of memory on this rank", other]
    assert ranks[0]["peak"] == ranks[1]["peak"]
    torch.manual_seed(0)
    line = nn.Linear(3, 1)
    start = np.concatenate([parameter.detach().numpy().ravel() for parameter in line.parameters()])
    expected = descend(start.astype(np.float64), steps=6, samples=8, rate=0.01)
    assert np.abs(expected - start).max() > 0.1
    for rank in ranks:
        ended = np.concatenate([np.ravel(part) for part in rank["weights"]])
        np.testing.assert_allclose(ended, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.timeout(600)
def test_no_rank_waits_for_one_that_cannot_average(make_plan: PlanMaker, tmp_path: Path) -> None:
    """Rank 1 lacks the memory for the message itself, after all ranks have ended their backward pass."""
    plan = make_plan(batch_size=4, global_batch_size=8, schedule={"epochs": 1, "steps_per_epoch": 3})
    (tmp_path / "plan.json").write_text(json.dumps(plan_content(plan)))
    ranks = run_ranks(tmp_path, [(1, 1, "averaging")])
    reasons = ["another rank ran out of memory", "CUDA out of memory before gradients are averaged"]
    for rank, reason in zip(ranks, reasons, strict=True):
        assert rank["halvings"] == [[2, 2, 2, reason]]
        assert rank["steps"] == 3
    assert ranks[0]["weights"] == ranks[1]["weights"]
