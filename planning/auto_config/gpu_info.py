"""What GPUs there are, and what of their memory no process holds."""

from __future__ import annotations

from typing import TypedDict

from ..gpus import GIB
from ..hardware import detect_gpus
from ..machine import detect_ram


class GpuInfo(TypedDict):
    """The GPUs, one list entry each."""

    num_gpus: int
    gpu_names: list[str]
    total_memory_gb: list[float]
    available_memory_gb: list[float]
    """What no process holds, this one included, as the driver says."""
    cuda_available: bool
    """Whether this torch can use them."""


def get_gpu_info() -> GpuInfo:
    """The GPUs of this machine that the process may see; the current CUDA device stays as it is."""
    import torch

    gpus, _ = detect_gpus()
    return GpuInfo(
        num_gpus=len(gpus),
        gpu_names=[gpu.name for gpu in gpus],
        total_memory_gb=[gpu.total_memory / GIB for gpu in gpus],
        available_memory_gb=[gpu.free_memory / GIB for gpu in gpus],
        cuda_available=torch.cuda.is_available(),
    )


def print_gpu_info() -> None:
    """Print the GPUs and the main memory."""
    from rich.console import Console

    info = get_gpu_info()
    lines = [f"CUDA: {'available' if info['cuda_available'] else 'not available'}"]
    if not info["num_gpus"]:
        lines.append("GPUs: none")
    for index, name in enumerate(info["gpu_names"]):
        total, available = info["total_memory_gb"][index], info["available_memory_gb"][index]
        lines.append(f"GPU {index}: {name}, {available:.1f} of {total:.1f} GB free")
    ram, free = detect_ram()
    lines.append(f"System RAM: {free / GIB:.1f} of {ram / GIB:.1f} GB available")
    console = Console(highlight=False, markup=False, soft_wrap=True)
    for line in lines:
        console.print(line)
