"""The machine detected, and what the user states in its place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from voxplan.planning.gpus import UnknownGpuError
from voxplan.planning.hardware import ASSUMED_CAPABILITY, budget, detect_hardware, state_hardware
from voxplan.plans.schema import Hardware

GIB = 1024**3
Make = Callable[..., Hardware]


def test_detection_is_what_torch_sees() -> None:
    torch = pytest.importorskip("torch")
    found = detect_hardware()
    assert not found.stated
    assert all(gpu.present for gpu in found.gpus)
    if torch.cuda.is_available():
        assert len(found.gpus) == torch.cuda.device_count()
        assert torch.cuda.current_device() == 0
    assert found.ram >= found.ram_available > 0


def test_named_card(make_hardware: Make) -> None:
    stated = state_hardware(gpu="rtx 3090", num_gpus=2, cores=8, ram_gb=48, base=make_hardware())
    assert [gpu.name for gpu in stated.gpus] == ["GeForce RTX 3090"] * 2
    assert stated.gpus[0].total_memory == 24 * GIB
    assert not stated.gpus[0].present
    assert (stated.cores, stated.ram, stated.ram_available, stated.stated) == (8, 48 * GIB, 48 * GIB, True)


def test_card_known_by_memory_alone_says_what_is_assumed(make_hardware: Make) -> None:
    stated = state_hardware(gpu_memory_gb=20, base=make_hardware())
    assert stated.gpus[0].total_memory == 20 * GIB
    assert stated.gpus[0].compute_capability == ASSUMED_CAPABILITY
    assert "8.0" in stated.notes[0]
    assert "20 GB" in stated.notes[0]


def test_named_card_with_other_memory(make_hardware: Make) -> None:
    stated = state_hardware(gpu="RTX 2080 Ti", gpu_memory_gb=22, base=make_hardware())
    assert stated.gpus[0].total_memory == 22 * GIB
    assert stated.gpus[0].compute_capability == (7, 5)


def test_nothing_stated_is_what_is_there(make_hardware: Make) -> None:
    base = make_hardware(24)
    assert state_hardware(base=base) == base


def test_cpu_drops_the_gpus(make_hardware: Make) -> None:
    assert state_hardware(cpu=True, base=make_hardware(24, 24)).gpus == ()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cpu": True, "gpu": "T4"}, "--cpu"),
        ({"gpu_memory_gb": 0}, "--gpu-memory"),
        ({"cores": -1}, "--cores"),
        ({"ram_gb": float("nan")}, "--ram"),
        ({"num_gpus": 3}, "this machine has 1"),
    ],
)
def test_contradictions_name_the_option(make_hardware: Make, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        state_hardware(base=make_hardware(24), **options)


def test_unknown_card(make_hardware: Make) -> None:
    with pytest.raises(UnknownGpuError, match="RTX 3090"):
        state_hardware(gpu="RTX 3091", base=make_hardware())


def test_smallest_gpu_rules_and_least_able_decides(make_hardware: Make) -> None:
    large, small = make_hardware(80).gpus[0], make_hardware(24, capability=(9, 0)).gpus[0]
    old = large.model_copy(update={"compute_capability": (7, 0), "free_memory": 60 * GIB})
    hardware = make_hardware().model_copy(update={"gpus": (old, small)})
    found = budget(hardware, 0.5)
    assert (found.bytes, found.kind, found.device) == (12 * GIB, "cuda", "test 24 GB")
    assert found.compute_capability == (7, 0)
    assert "smallest of 2" in found.why


def test_free_memory_counts_not_total(make_hardware: Make) -> None:
    card = make_hardware(24).gpus[0].model_copy(update={"free_memory": 10 * GIB, "present": True})
    hardware = make_hardware().model_copy(update={"gpus": (card,)})
    assert budget(hardware).bytes == int(10 * GIB * 0.9)


def test_cpu_budget_is_the_available_ram(make_hardware: Make) -> None:
    found = budget(make_hardware(ram_gb=16), 0.75)
    assert (found.bytes, found.kind, found.compute_capability) == (12 * GIB, "cpu", None)


def test_shared_memory_of_another_machine_is_not_known(make_hardware: Make) -> None:
    """A card that is not here stands in a machine whose /dev/shm nobody has seen."""
    here = make_hardware(24, shared_memory=64 * 1024**2)
    card = here.gpus[0].model_copy(update={"name": "NVIDIA GeForce RTX 3090"})
    here = here.model_copy(update={"gpus": (card,)})
    bare = make_hardware(shared_memory=64 * 1024**2)
    assert state_hardware(gpu="A100 80GB", base=here).shared_memory is None
    assert state_hardware(gpu="A100 80GB", base=bare).shared_memory is None
    assert state_hardware(gpu_memory_gb=24, base=bare).shared_memory is None
    same: list[dict[str, Any]] = [{"gpu": "rtx 3090"}, {"gpu_memory_gb": 20}, {"num_gpus": 1}, {"cpu": True}]
    for options in same:
        assert state_hardware(base=here, **options).shared_memory == 64 * 1024**2, options


def test_turing_without_tensor_cores(make_hardware: Make) -> None:
    """One such card among others rules, whatever their memory."""
    turing, other = make_hardware(6, 24, capability=(7, 5)).gpus
    named = turing.model_copy(update={"name": "NVIDIA GeForce GTX 1660 Ti"})
    assert budget(make_hardware(6, capability=(7, 5))).without_tensor_cores is None
    for gpus in ((named,), (other, named)):
        found = budget(make_hardware().model_copy(update={"gpus": gpus}))
        assert found.without_tensor_cores == "NVIDIA GeForce GTX 1660 Ti"


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.5, float("nan")])
def test_fraction_out_of_range(make_hardware: Make, fraction: float) -> None:
    with pytest.raises(ValueError, match="--memory-fraction"):
        budget(make_hardware(24), fraction)
