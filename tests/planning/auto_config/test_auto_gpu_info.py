"""What the documented API says about GPUs and loader workers."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace

import psutil
import pytest
import torch

from voxplan.planning import get_gpu_info, get_optimal_num_workers, nvidia_smi, print_gpu_info

TWO_CARDS = """\
GPU-1, NVIDIA A100-SXM4-80GB, 81920, 40960, 8.0
GPU-2, NVIDIA GeForce RTX 3090, 24576, 24064, 8.6
"""


@pytest.fixture
def no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvidia_smi, "query", lambda: ())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture
def two_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the driver lists them, with a torch that cannot use them."""
    monkeypatch.setattr(nvidia_smi, "query", lambda: nvidia_smi.parse_query(TWO_CARDS))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.usefixtures("no_driver")
def test_info_without_cuda() -> None:
    assert get_gpu_info() == {
        "num_gpus": 0,
        "gpu_names": [],
        "total_memory_gb": [],
        "available_memory_gb": [],
        "cuda_available": False,
    }


@pytest.mark.usefixtures("two_cards")
def test_info_lists_each_gpu_with_what_other_processes_leave_free() -> None:
    """81920 MiB are 80 GB of 1024**3 bytes, of which somebody holds half."""
    info = get_gpu_info()
    assert info["gpu_names"] == ["NVIDIA A100-SXM4-80GB", "NVIDIA GeForce RTX 3090"]
    assert info["num_gpus"] == 2
    assert info["total_memory_gb"] == [80.0, 24.0]
    assert info["available_memory_gb"] == [40.0, 23.5]
    assert info["cuda_available"] is False


@pytest.mark.usefixtures("two_cards")
def test_info_follows_cuda_visible_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert get_gpu_info()["gpu_names"] == ["NVIDIA GeForce RTX 3090"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="SKIPPED: needs a GPU that torch can use")
def test_info_of_a_real_gpu_agrees_with_torch() -> None:
    before = torch.cuda.current_device()
    info = get_gpu_info()
    assert info["cuda_available"] is True
    assert info["num_gpus"] == torch.cuda.device_count()
    assert info["gpu_names"] == [torch.cuda.get_device_name(index) for index in range(info["num_gpus"])]
    for index, total in enumerate(info["total_memory_gb"]):
        seen = torch.cuda.get_device_properties(index).total_memory / 1024**3
        assert total == pytest.approx(seen, rel=0.03)
        assert 0 < info["available_memory_gb"][index] <= total
    assert torch.cuda.current_device() == before


@pytest.mark.usefixtures("two_cards")
def test_printed_info_has_gpus_and_main_memory(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """16 GB and 12.5 GB as the kernel counts them, without a container's limit."""
    memory = SimpleNamespace(total=16 * 1024**3, available=25 * 1024**3 // 2)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    monkeypatch.setattr("voxplan.planning.machine._read", lambda _: None)
    print_gpu_info()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "CUDA: not available"
    assert lines[1] == "GPU 0: NVIDIA A100-SXM4-80GB, 40.0 of 80.0 GB free"
    assert lines[2] == "GPU 1: NVIDIA GeForce RTX 3090, 23.5 of 24.0 GB free"
    assert lines[3] == "System RAM: 12.5 of 16.0 GB available"


@pytest.mark.usefixtures("no_driver")
def test_printed_info_says_that_there_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    print_gpu_info()
    assert "GPUs: none" in capsys.readouterr().out


@pytest.fixture
def sixteen_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    monkeypatch.setattr("voxplan.planning.machine._read", lambda _: None)


@pytest.mark.usefixtures("sixteen_cores")
@pytest.mark.parametrize(("gpus", "workers"), [(0, 4), (1, 4), (2, 8), (3, 12), (4, 16), (8, 16)])
def test_four_workers_a_gpu_up_to_the_cores(gpus: int, workers: int) -> None:
    assert get_optimal_num_workers(gpus) == workers


@pytest.mark.usefixtures("sixteen_cores")
def test_workers_keep_to_what_slurm_gave(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "3")
    assert get_optimal_num_workers() == 3


@pytest.mark.usefixtures("sixteen_cores")
def test_workers_keep_to_the_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {5, 7}, raising=False)
    assert get_optimal_num_workers(4) == 2


@pytest.mark.usefixtures("sixteen_cores")
def test_workers_keep_to_the_container(monkeypatch: pytest.MonkeyPatch) -> None:
    """``docker run --cpus 2.5``: 250 ms of CPU in every 100 ms."""
    files = {"/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/cpu.max": "250000 100000\n"}
    monkeypatch.setattr("voxplan.planning.machine._read", lambda path: files.get(str(path)))
    assert get_optimal_num_workers(4) == 2


@pytest.mark.parametrize("gpus", [-1, 1.5, True, "2"])
def test_a_number_of_gpus_that_cannot_be_is_refused(gpus: object) -> None:
    with pytest.raises(ValueError, match="num_gpus must be a whole number from 0 on, got "):
        get_optimal_num_workers(gpus)  # type: ignore[arg-type]


def test_importing_the_package_is_cheap_and_knows_its_names() -> None:
    program = (
        "import sys, voxplan.planning as p; assert 'voxplan.planning.auto_config' not in sys.modules; "
        "assert set(p.__all__) <= set(dir(p)); p.AutoConfigPlanner; assert 'torch' not in sys.modules"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
