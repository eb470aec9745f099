"""Drivers, slices, containers and accelerators that are not modelled, as the machine would present them."""

from __future__ import annotations

import stat
from pathlib import Path
from types import SimpleNamespace

import pytest

from voxplan.planning import hardware, machine, nvidia_smi

GIB = 1024**3
CARDS = """\
GPU-11111111-aaaa-bbbb-cccc-000000000001, NVIDIA GeForce RTX 3090, 24576, 23900, 8.6
GPU-22222222-aaaa-bbbb-cccc-000000000002, NVIDIA A100-SXM4-40GB, 40960, 4096, 8.0
"""
LIST = """\
GPU 0: NVIDIA GeForce RTX 3090 (UUID: GPU-11111111-aaaa-bbbb-cccc-000000000001)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-22222222-aaaa-bbbb-cccc-000000000002)
"""
SLICES = LIST + "  MIG 3g.20gb     Device  0: (UUID: MIG-c7384736-a75d-5afc-978f-d2f1294409fd)\n"


def install(folder: Path, cards: str, listing: str, status: int = 0) -> None:
    """An ``nvidia-smi`` that says this."""
    (folder / "cards").write_text(cards)
    (folder / "list").write_text(listing)
    program = folder / "nvidia-smi"
    program.write_text(
        f'#!/bin/sh\ncase "$1" in -L) cat {folder}/list;; *) cat {folder}/cards;; esac\nexit {status}\n'
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("this machine has GPUs of its own")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path


def test_memory_that_others_hold_counts_and_is_said(driver: Path) -> None:
    install(driver, CARDS, LIST)
    found = hardware.detect_hardware()
    assert [gpu.free_memory // GIB for gpu in found.gpus] == [23, 4]
    limit = hardware.budget(found)
    assert (limit.bytes, limit.device) == (int(4 * GIB * 0.9), "NVIDIA A100-SXM4-40GB")
    held = [note for note in found.notes if "held by other processes" in note]
    assert held == [note for note in found.notes if "36.0 of 40.0 GiB of the NVIDIA A100" in note] != []


def test_hidden_devices(driver: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(driver, CARDS, LIST)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    found = hardware.detect_hardware()
    assert [gpu.name for gpu in found.gpus] == ["NVIDIA GeForce RTX 3090"]
    assert "1 GPU," in found.notes[0]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    found = hardware.detect_hardware()
    assert found.gpus == ()
    assert "CUDA_VISIBLE_DEVICES" in found.notes[0]


def test_mig_slice_is_a_card_of_nominal_memory(driver: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(driver, CARDS, SLICES)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-c738")
    found = hardware.detect_hardware()
    assert [gpu.total_memory // GIB for gpu in found.gpus] == [20]
    assert any("nominal memory" in note and "3g.20gb" in note for note in found.notes)


def test_a_driver_that_fails_is_no_gpu_and_is_said(driver: Path) -> None:
    install(driver, "NVIDIA-SMI has failed because it couldn't communicate with the driver\n", "", status=9)
    found = hardware.detect_hardware()
    assert found.gpus == ()
    assert "nvidia-smi" in found.notes[0]


def fake_torch(*, hip: str | None, count: int) -> SimpleNamespace:
    """What the detection asks of torch, as a ROCm build answers."""
    properties = SimpleNamespace(name="AMD Instinct MI250X", total_memory=64 * GIB, major=9, minor=0)
    return SimpleNamespace(
        version=SimpleNamespace(hip=hip),
        cuda=SimpleNamespace(
            device_count=lambda: count,
            get_device_properties=lambda index: properties,
            mem_get_info=lambda index: (60 * GIB, 64 * GIB),
        ),
    )


def test_rocm_is_used_and_said_to_be_unmodelled() -> None:
    gpus, notes = hardware._torch_gpus(fake_torch(hip="6.2", count=2), {})
    assert [(gpu.backend, gpu.compute_capability, gpu.free_memory) for gpu in gpus] == [
        ("rocm", None, 60 * GIB)
    ] * 2
    assert "ROCm is not modelled" in notes[0]


def test_apple_gpu_is_said_to_be_unmodelled(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(nvidia_smi, "query", lambda: ())
    monkeypatch.setattr(nvidia_smi, "is_installed", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    gpus, notes = hardware.detect_gpus()
    assert gpus == ()
    assert "MPS" in notes[0]
    assert "not modelled" in notes[0]


@pytest.mark.parametrize("version", [1, 2])
def test_container_limits_are_found_from_the_inside_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    """A group of 8 GiB inside one of 6 GiB, 2.5 cores: the tighter of both, file cache counted as free."""
    memory, cpu = (tmp_path, tmp_path) if version == 2 else (tmp_path / "memory", tmp_path / "cpu")
    names = {2: ("memory.max", "memory.current"), 1: ("memory.limit_in_bytes", "memory.usage_in_bytes")}
    for folder, limit in ((memory / "outer", 6), (memory / "outer" / "inner", 8)):
        folder.mkdir(parents=True)
        (folder / names[version][0]).write_text(f"{limit * GIB}\n")
        (folder / names[version][1]).write_text(f"{3 * GIB}\n")
        (folder / "memory.stat").write_text(f"inactive_file {GIB}\n")
    group = cpu / "outer"
    group.mkdir(parents=True, exist_ok=True)
    if version == 2:
        (group / "cpu.max").write_text("250000 100000\n")
        text = "0::/outer/inner\n"
    else:
        (group / "cpu.cfs_quota_us").write_text("250000\n")
        (group / "cpu.cfs_period_us").write_text("100000\n")
        text = "4:memory:/outer/inner\n3:cpu,cpuacct:/outer/inner\n"
    read = machine._read
    proc = Path("/proc/self/cgroup")
    monkeypatch.setattr(machine, "_read", lambda path: text if path == proc else read(path))
    monkeypatch.setattr(machine, "_V2_MOUNT", tmp_path)
    monkeypatch.setattr(machine, "_V1_MEMORY", tmp_path / "memory")
    monkeypatch.setattr(machine, "_V1_CPU", tmp_path / "cpu")
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    vast = SimpleNamespace(total=256 * GIB, available=200 * GIB)
    monkeypatch.setattr(machine.psutil, "virtual_memory", lambda: vast)
    assert machine.detect_ram() == (6 * GIB, 4 * GIB)
    assert machine.detect_cores({}) == 2
    assert machine.detect_cores({"SLURM_CPUS_PER_TASK": "1"}) == 1
