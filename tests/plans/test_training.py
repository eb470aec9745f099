"""Training for real, on small data: the loss falls, memory may run out, checkpoints hold everything."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from voxplan.plans import training
from voxplan.plans.build import Plan
from voxplan.plans.checkpoint import CheckpointError, load_checkpoint, load_network, restore, save_checkpoint
from voxplan.plans.data import make_dataset, make_loader
from voxplan.plans.inference import block_size, blocks, overlap_counts, predict, validate
from voxplan.plans.schema import InferenceChoice, SpatialBlock, Split
from voxplan.plans.training import (
    BatchHalved,
    Event,
    StepDone,
    TrainingError,
    TrainingResult,
    Validated,
    prepare_training,
    train,
    training_step,
)
from voxplan.profiling.formats.base import CaseSource
from voxplan.scripts.phantom import draw_case

PlanMaker = Callable[..., Plan]
CaseWriter = Callable[..., CaseSource]
SCALE = {"channel": "EM", "scheme": "scale", "low": 0.0, "high": 255.0}
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small networks gain nothing from threads, and lose much on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def phantom(write_case: CaseWriter) -> CaseSource:
    image, labels = draw_case(np.random.default_rng(7), (12, 48, 48))
    return write_case("phantom", image, labels)


@pytest.fixture
def plan(make_plan: PlanMaker) -> Plan:
    return make_plan((8, 32, 32), normalization=(SCALE,))


def batches(plan: Plan, case: CaseSource, steps: int, seed: int = 0) -> Any:
    return make_loader(plan, make_dataset(plan, [case], seed=seed), steps=steps)


def test_loss_falls_and_dice_rises(plan: Plan, phantom: CaseSource) -> None:
    """Thirty steps at least halve the loss; the network then finds most of both classes."""
    torch.manual_seed(0)
    held_out = make_dataset(plan, [phantom], training=False)
    events: list[Event] = []
    state = prepare_training(plan, CPU)
    untrained = validate(state.network, plan, held_out, device=CPU)
    result = train(
        plan,
        batches(plan, phantom, 30),
        steps=30,
        device=CPU,
        state=state,
        validate=lambda network: validate(network, plan, held_out, device=CPU),
        on_event=events.append,
    )
    first, last = result.smoothed(last=False), result.smoothed(last=True)
    assert first is not None
    assert last is not None
    assert last < 0.5 * first
    assert result.validation is not None
    assert set(result.validation.dice) == {"cell", "nucleus"}
    assert result.validation.mean is not None
    assert result.validation.mean > 0.6 > 2 * (untrained.mean or 0)
    steps = [event for event in events if isinstance(event, StepDone)]
    assert [event.step for event in steps] == list(range(1, 31))
    assert steps[0].lr == 5e-3
    assert all(two.lr < one.lr for one, two in pairwise(steps))
    assert sum(isinstance(event, Validated) for event in events) == 1


@pytest.mark.parametrize("task", ["affinity", "boundary"])
def test_every_task_takes_steps(task: str, make_plan: PlanMaker, phantom: CaseSource) -> None:
    offsets = ((-1, 0, 0), (0, -1, 0), (0, 0, -1))
    channels = 3 if task == "affinity" else 1
    plan = make_plan(
        (8, 32, 32),
        task=task,
        offsets=offsets if task == "affinity" else (),
        out_channels=channels,
        classes={},
        loss={"name": "bce"},
        normalization=(SCALE,),
    )
    torch.manual_seed(0)
    result = train(plan, batches(plan, phantom, 8), steps=8, device=CPU)
    assert result.losses[-1] < result.losses[0]


def test_two_dimensions(make_plan: PlanMaker, phantom: CaseSource) -> None:
    plan = make_plan((32, 32), normalization=(SCALE,), batch_size=4, global_batch_size=4)
    torch.manual_seed(0)
    held_out = make_dataset(plan, [phantom], training=False)
    result = train(
        plan,
        batches(plan, phantom, 20),
        steps=20,
        device=CPU,
        validate=lambda network: validate(network, plan, held_out, device=CPU),
    )
    first, last = result.smoothed(last=False), result.smoothed(last=True)
    assert first is not None
    assert last is not None
    assert last < 0.85 * first
    assert result.validation is not None
    assert result.validation.dice["cell"] > 0.3


@pytest.mark.parametrize(
    ("losses", "first", "last"),
    [
        ([], None, None),
        ([3.0], 3, 3),
        ([3.0, 1.0], 3, 1),
        ([5.0, 4.0, 3.0, 2.0, 1.0], 4.5, 1.5),
        ([float(value) for value in range(9, 0, -1)], 8, 2),
        ([float(value) for value in range(100)], 4.5, 94.5),
    ],
)
def test_means_of_the_first_and_the_last_losses_share_none(
    losses: list[float], first: float | None, last: float | None
) -> None:
    result = TrainingResult(losses=losses)
    assert (result.smoothed(last=False), result.smoothed(last=True)) == (first, last)


class Hungry(nn.Module):
    """Runs out of memory for batches above a size, as a GPU would, at the end of the forward pass."""

    def __init__(self, network: nn.Module, largest: int) -> None:
        super().__init__()
        self.network, self.largest, self.sizes = network, largest, list[int]()

    def forward(self, image: Tensor) -> Any:
        outputs = self.network(image)
        if len(image) > self.largest:
            msg = "CUDA out of memory. Tried to allocate 2.00 GiB\nmore text"
            raise torch.OutOfMemoryError(msg)
        self.sizes.append(len(image))
        return outputs


def test_out_of_memory_halves_the_batch(make_plan: PlanMaker, phantom: CaseSource) -> None:
    """Three samples fit of eight: 8, 4, 2 at a time; then the same samples a step as without the trouble."""
    plan = make_plan((8, 32, 32), normalization=(SCALE,), batch_size=8, global_batch_size=8, accumulation=2)
    torch.manual_seed(0)
    state = prepare_training(plan, CPU)
    network = state.network
    hungry = Hungry(network, 3)
    state.network = hungry
    events: list[Event] = []
    train(plan, batches(plan, phantom, 2), steps=2, device=CPU, state=state, on_event=events.append)
    halved = [event for event in events if isinstance(event, BatchHalved)]
    assert [(event.batch_size, event.accumulation) for event in halved] == [(4, 4), (2, 8)]
    assert halved[0].reason == "CUDA out of memory. Tried to allocate 2.00 GiB"
    assert hungry.sizes == [2] * 16
    assert state.batch_size == 2
    assert state.step == 2


@pytest.mark.parametrize("scaled", [False, True])
def test_out_of_memory_in_the_first_optimizer_step(
    scaled: bool, make_plan: PlanMaker, phantom: CaseSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AdamW makes its state then, parameter by parameter, after gradients were unscaled: both begin anew."""
    plan = make_plan((8, 32, 32), normalization=(SCALE,))
    torch.manual_seed(0)
    state = prepare_training(plan, CPU)
    if scaled:
        state.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    make = torch.zeros_like
    made: list[int] = []

    def full(*arguments: Any, **options: Any) -> torch.Tensor:
        made.append(1)
        if len(made) == 6:  # of the third parameter: two states each
            msg = "CUDA out of memory. Tried to allocate 2.00 GiB"
            raise torch.OutOfMemoryError(msg)
        return make(*arguments, **options)

    state.optimizer.register_step_pre_hook(lambda *_: monkeypatch.setattr(torch, "zeros_like", full))
    events: list[Event] = []
    result = train(plan, batches(plan, phantom, 3), steps=3, device=CPU, state=state, on_event=events.append)
    assert [event.batch_size for event in events if isinstance(event, BatchHalved)] == [1]
    assert state.step == len(result.losses) == 3
    assert all("exp_avg_sq" in held for held in state.optimizer.state.values())
    assert len(made) > 6
    if scaled:
        assert state.scaler is not None
        assert state.scaler.get_scale() == 1024.0


def test_pieces_give_the_gradient_of_the_whole_batch(make_plan: PlanMaker, phantom: CaseSource) -> None:
    """With a loss that is a mean over samples, SGD ends at the same weights whatever the piece size."""
    plan = make_plan(
        (8, 32, 32),
        normalization=(SCALE,),
        batch_size=3,
        global_batch_size=3,
        task="boundary",
        classes={},
        out_channels=1,
        loss={"name": "bce"},
        optimizer={"name": "sgd", "lr": 0.1},
    )
    ends = []
    for size in (3, 2, 1):
        torch.manual_seed(0)
        state = prepare_training(plan, CPU)
        state.batch_size = size
        train(plan, batches(plan, phantom, 1), steps=1, device=CPU, state=state)
        ends.append(torch.cat([p.detach().ravel() for p in state.network.parameters()]))
    torch.manual_seed(0)
    start = torch.cat([p.detach().ravel() for p in prepare_training(plan, CPU).network.parameters()])
    assert (ends[0] - start).abs().max() > 1e-3
    for end in ends[1:]:
        torch.testing.assert_close(end, ends[0], atol=2e-6, rtol=1e-4)


def test_not_even_one_sample_fits(plan: Plan, phantom: CaseSource) -> None:
    state = prepare_training(plan, CPU)
    state.network = Hungry(state.network, 0)
    with pytest.raises(TrainingError, match=r"single sample of \(8, 32, 32\).*Tried to allocate.*plan again"):
        train(plan, batches(plan, phantom, 1), steps=1, device=CPU, state=state)


def test_a_loss_that_stays_nan_ends_training(
    plan: Plan, phantom: CaseSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "NON_FINITE_STEPS", 2)
    state = prepare_training(plan, CPU)
    with torch.no_grad():
        next(iter(state.network.parameters())).fill_(float("nan"))
    with pytest.raises(TrainingError, match="not finite for 2 steps, up to step 2: lower the learning rate"):
        train(plan, batches(plan, phantom, 5), steps=5, device=CPU, state=state)


def test_a_short_loader_is_said(plan: Plan, phantom: CaseSource) -> None:
    with pytest.raises(TrainingError, match="loader ended before 2 steps"):
        train(plan, batches(plan, phantom, 1), steps=2, device=CPU)


def test_training_step_clips_as_nnunet() -> None:
    """One weight, loss 100 w: a gradient of 100, clipped to 12, at learning rate 0.5."""
    network = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        network.weight.fill_(1.0)

    class Steep(nn.Module):
        def forward(self, output: Tensor, target: Tensor) -> Tensor:
            return (100 * output).sum()

    optimizer = torch.optim.SGD(network.parameters(), lr=0.5)
    one = torch.ones(1, 1)
    loss = training_step(network, Steep(), optimizer, one, one, precision="fp32")
    assert loss.item() == 100
    assert network.weight.item() == pytest.approx(1 - 0.5 * 12, rel=1e-5)
    assert network.weight.grad is None


def test_bf16_autocast_on_cpu(plan: Plan, phantom: CaseSource) -> None:
    state = prepare_training(plan, CPU)
    seen = []
    state.network.register_forward_hook(lambda module, inputs, output: seen.append(output[0].dtype))
    sample = next(iter(batches(plan, phantom, 1)))
    loss = training_step(
        state.network, plan.build_loss(), state.optimizer, sample["image"], sample["target"], precision="bf16"
    )
    assert seen == [torch.bfloat16]
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss)


def test_half_precision_plans_run_in_fp32_on_a_cpu(make_plan: PlanMaker, phantom: CaseSource) -> None:
    """Half precision on a CPU is many times slower than float32, in training and validation alike."""
    plan = make_plan((8, 32, 32), normalization=(SCALE,), precision="fp16", inference={"overlap": 0.0})
    state = prepare_training(plan, CPU)
    seen = set()
    state.network.register_forward_hook(
        lambda module, inputs, output: seen.add((module.training, output[0].dtype))
    )
    held_out = make_dataset(plan, [phantom], training=False)
    train(
        plan,
        batches(plan, phantom, 1),
        steps=1,
        device=CPU,
        state=state,
        validate=lambda network: validate(network, plan, held_out, device=CPU),
    )
    assert seen == {(True, torch.float32), (False, torch.float32)}
    assert torch.get_float32_matmul_precision() == "highest"


def test_checkpoint_continues_exactly(plan: Plan, phantom: CaseSource, tmp_path: Path) -> None:
    """Six steps in a row, and three, a checkpoint, three more: the same weights."""
    torch.manual_seed(0)
    whole = prepare_training(plan, CPU)
    start = {name: tensor.clone() for name, tensor in whole.network.state_dict().items()}
    train(plan, batches(plan, phantom, 6), steps=6, device=CPU, state=whole)

    half = prepare_training(plan, CPU)
    half.network.load_state_dict(start)
    train(plan, batches(plan, phantom, 3), steps=3, device=CPU, state=half)
    path = tmp_path / "deep" / "checkpoint.pt"
    save_checkpoint(path, plan, half)
    assert list(path.parent.iterdir()) == [path]

    checkpoint = load_checkpoint(path)
    assert checkpoint.step == 3
    resumed = prepare_training(checkpoint.plan, CPU)
    restore(checkpoint, resumed)
    dataset = make_dataset(plan, [phantom])
    train(plan, make_loader(plan, dataset, steps=3, start=3), steps=3, device=CPU, state=resumed)
    assert resumed.step == 6
    for name, tensor in whole.network.state_dict().items():
        torch.testing.assert_close(resumed.network.state_dict()[name], tensor, atol=1e-6, rtol=1e-5)
    assert resumed.scheduler.get_last_lr() == whole.scheduler.get_last_lr()


def test_checkpoint_rebuilds_the_network_alone(plan: Plan, tmp_path: Path) -> None:
    state = prepare_training(plan, CPU)
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, plan, state)
    content = torch.load(path, weights_only=True)
    assert content["plan"]["name"] == plan.name
    network, inside = load_network(path)
    assert inside.experiment == plan.experiment
    assert inside.dataset == plan.dataset
    assert not network.training
    image = torch.rand(1, 1, 8, 32, 32)
    state.network.eval()
    with torch.no_grad():
        assert torch.equal(network(image), state.network(image))


def test_unusable_checkpoints_are_named(plan: Plan, make_plan: PlanMaker, tmp_path: Path) -> None:
    text = tmp_path / "text.pt"
    text.write_text("nothing")
    with pytest.raises(CheckpointError, match=r"text\.pt: is no checkpoint"):
        load_checkpoint(text)
    other = tmp_path / "other.pt"
    torch.save({"weights": torch.zeros(1)}, other)
    with pytest.raises(CheckpointError, match=r"other\.pt: is no voxplan checkpoint"):
        load_checkpoint(other)
    mine = tmp_path / "mine.pt"
    save_checkpoint(mine, plan, prepare_training(plan, CPU))
    state = prepare_training(make_plan((16, 32, 32), architecture="basic_unet"), CPU)
    with pytest.raises(CheckpointError, match="does not fit this plan's network"):
        restore(load_checkpoint(mine), state)


class Offset(nn.Module):
    """Two channels of logits from the voxel itself alone, so that windows cannot matter."""

    def forward(self, image: Tensor) -> Tensor:
        return torch.cat([image - 3, 2 * image], dim=1)


@pytest.mark.parametrize("window", [(4, 6, 8), (6, 8)])
@pytest.mark.parametrize("shape", [(9, 17, 21), (3, 5, 40)])
def test_windows_cover_every_voxel(window: tuple[int, ...], shape: tuple[int, int, int]) -> None:
    image = np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)
    choice = InferenceChoice(window=window, overlap=0.5, batch_size=3)
    logits = predict(Offset(), image, choice, device=CPU).numpy()
    np.testing.assert_allclose(logits, np.concatenate([image - 3, 2 * image]), atol=1e-5)


def test_blocks_partition_and_stay_in_budget() -> None:
    shape, window = (40, 300, 200), (16, 32, 32)
    size = block_size(shape, window, channels=4, budget=4 * 4 * 30 * 130 * 130)
    assert all(s >= w for s, w in zip(size, window, strict=True))
    covered = np.zeros(shape, int)
    for core, around in blocks([(0, n) for n in shape], size, [w // 2 for w in window]):
        covered[tuple(slice(*part) for part in core)] += 1
        assert np.prod([stop - start for start, stop in around]) <= 30 * 130 * 130
    assert (covered == 1).all()
    assert block_size(shape, window, channels=4, budget=2**40) == shape


def test_dice_does_not_depend_on_blocks(make_plan: PlanMaker, write_case: CaseWriter) -> None:
    """Threshold 3 on the voxel itself, against Dice of the whole volume by numpy, split in two blocks."""
    rng = np.random.default_rng(1)
    image = rng.integers(-6, 7, (10, 60, 40)).astype(np.int16)
    labels = (rng.random(image.shape) < 0.4).astype(np.uint8)
    labels[0] = 7
    split = Split(
        train_blocks=(SpatialBlock(case="a", axis=1, start=0, stop=10),),
        validation_blocks=(
            SpatialBlock(case="a", axis=1, start=10, stop=30),
            SpatialBlock(case="a", axis=1, start=40, stop=60),
        ),
    )
    plan = make_plan(classes={"background": (0,), "thing": (1,)}, out_channels=2, ignore=7, splits=(split,))
    dataset = make_dataset(plan, [write_case("a", image, labels)], training=False)
    held = np.r_[10:30, 40:60]
    predicted = image[1:, held] > -3
    reference = labels[1:, held] == 1
    expected = 2 * (predicted & reference).sum() / (predicted.sum() + reference.sum())
    for budget in (2**30, 4 * 5 * 16 * 32 * 32):
        result = validate(Offset(), plan, dataset, device=CPU, block_bytes=budget)
        assert result.dice == {"thing": pytest.approx(expected)}


def test_overlap_counts_by_hand() -> None:
    logits = np.array([[0.2, -1.0, 3.0, 1.0], [-0.1, 2.0, 1.0, 2.0]], np.float32).reshape(2, 1, 1, 4)
    classes = np.array([0, 1, 1, -1], np.int16).reshape(1, 1, 1, 4)
    assert overlap_counts(logits, classes).tolist() == [[1, 1], [2, 1], [1, 2]]
    binary = np.array([[1, 1, 0, 255], [1, 1, 255, 0]], np.uint8).reshape(2, 1, 1, 4)
    assert overlap_counts(logits, binary).tolist() == [[1, 1], [2, 2], [2, 2]]


@pytest.mark.real_data
def test_mitochondria_of_serial_sections(voxplan_data: Path, make_plan: PlanMaker, tmp_path: Path) -> None:
    """Sixty steps of a small CPU plan on the real ssTEM volume; held back: its last 128 rows."""
    from voxplan.profiling.formats.base import VolumeSource

    path = voxplan_data / "em_vnc" / "vnc.h5"
    case = CaseSource(
        id="vnc",
        images=(VolumeSource(paths=(path,), key="volumes/raw"),),
        label=VolumeSource(paths=(path,), key="volumes/labels/mitochondria"),
    )
    split = Split(
        train_blocks=(SpatialBlock(case="vnc", axis=1, start=0, stop=640),),
        validation_blocks=(SpatialBlock(case="vnc", axis=1, start=640, stop=768),),
    )
    plan = make_plan(
        (1, 128, 128),
        normalization=(SCALE,),
        classes={"background": (0,), "mitochondria": (1,)},
        out_channels=2,
        splits=(split,),
        spacing=(45.0, 4.6, 4.6),
        target_spacing=(45.0, 4.6, 4.6),
    )
    torch.manual_seed(0)
    dataset = make_dataset(plan, [case])
    assert all(grid.identity for grid in dataset.cases[0].grids)
    state = prepare_training(plan, CPU)
    result = train(plan, make_loader(plan, dataset, steps=60), steps=60, device=CPU, state=state)
    first, last = result.smoothed(last=False), result.smoothed(last=True)
    assert first is not None
    assert last is not None
    assert last < 0.8 * first
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, plan, state)
    network, inside = load_network(path)
    held_out = make_dataset(inside, [case], training=False)
    sample = held_out[0]
    with torch.no_grad():
        state.network.eval()
        assert torch.equal(network(sample["image"][None]), state.network(sample["image"][None]))
