"""The machine that plans are made for: detected, or stated for one that is not here.

Detection never changes the current CUDA device, and asks the driver first: it counts what other processes
hold, and needs no CUDA context. Memory is in bytes.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Literal

from voxplan.plans.schema import Gpu, Hardware

from . import machine, nvidia_smi
from .gpus import GIB, UnknownGpuError, has_fp16, has_tensor_cores, stated_gpu

DEFAULT_MEMORY_FRACTION = 0.9
"""Share of the free memory that a plan may use; the rest is for fragmentation, other processes and the
driver.
"""
HELD_SHARE = 0.2
"""Of a card's memory: what a desktop, or the driver and ECC, take without a word."""
ASSUMED_CAPABILITY = (8, 0)
"""Of a card that is stated by its memory alone: Ampere, the oldest generation with bf16."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Bytes that one training process may use on one device."""

    bytes: int
    device: str
    """GPU name, or ``cpu``."""
    kind: Literal["cuda", "cpu"]
    compute_capability: tuple[int, int] | None
    why: str
    """One sentence: what it was computed from."""
    without_tensor_cores: str | None = None
    """A card that lacks those that its capability promises."""


def detect_hardware() -> Hardware:
    """The machine at hand: GPUs with their really free memory, usable main memory, cores and shared
    memory.
    """
    gpus, notes = detect_gpus()
    ram, available = machine.detect_ram()
    return Hardware(
        gpus=gpus,
        ram=ram,
        ram_available=available,
        cores=machine.detect_cores(),
        shared_memory=machine.detect_shared_memory(),
        stated=False,
        notes=notes,
    )


def detect_gpus() -> tuple[tuple[Gpu, ...], tuple[str, ...]]:
    """GPUs, and notes on what was found but is not modelled. Every failure of a driver means no GPU."""
    import torch

    everything = nvidia_smi.query()
    smi = nvidia_smi.visible(everything, os.environ.get("CUDA_VISIBLE_DEVICES"))
    if torch.cuda.is_available():
        by_uuid = {device.uuid: device for device in smi}
        gpus, notes = _torch_gpus(torch, by_uuid)
        return gpus, (*notes, *_held_by_others(gpus))
    if smi:
        found = tuple(
            Gpu(
                name=device.name,
                total_memory=device.total,
                free_memory=device.free,
                compute_capability=device.compute_capability,
                present=True,
            )
            for device in smi
        )
        count = "1 GPU" if len(found) == 1 else f"{len(found)} GPUs"
        note = (
            f"the driver shows {count}, which this torch ({torch.__version__}) cannot use: the plans are for "
            f"{count}; training needs a CUDA build of torch"
        )
        nominal = tuple(
            f"{device.name}: its nominal memory counts as free; what processes on the slice hold is not known"
            for device in smi
            if device.uuid.startswith("MIG-")
        )
        return found, (note, *dict.fromkeys(nominal), *_held_by_others(found))
    if not everything and nvidia_smi.is_installed():
        return (), ("nvidia-smi is here, but shows no usable GPU: the plans are for the CPU",)
    if everything:
        return (), ("CUDA_VISIBLE_DEVICES hides the GPUs of this machine: the plans are for the CPU",)
    if torch.backends.mps.is_available():
        return (), ("an Apple GPU (MPS) is here, but its memory is not modelled: the plans are for the CPU",)
    return (), ()


def _held_by_others(gpus: tuple[Gpu, ...]) -> tuple[str, ...]:
    """A note on every card of which other processes hold so much that a plan is much smaller for it."""
    return tuple(
        f"{(gpu.total_memory - gpu.free_memory) / GIB:.1f} of {gpu.total_memory / GIB:.1f} GiB of the "
        f"{gpu.name} are held by other processes: the plans are for the rest; CUDA_VISIBLE_DEVICES leaves a "
        "card out"
        for gpu in gpus
        if gpu.total_memory - gpu.free_memory > HELD_SHARE * gpu.total_memory
    )


def _torch_gpus(torch: Any, by_uuid: dict[str, nvidia_smi.SmiGpu]) -> tuple[tuple[Gpu, ...], tuple[str, ...]]:
    rocm = torch.version.hip is not None
    gpus = []
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        known = by_uuid.get(f"GPU-{getattr(properties, 'uuid', '')}")
        if (
            known is None
        ):  # ROCm, a MIG slice, or no nvidia-smi: asks the device itself, then restores the current
            free, total = torch.cuda.mem_get_info(index)
        else:
            free, total = known.free, known.total
        gpus.append(
            Gpu(
                name=properties.name,
                total_memory=int(total),
                free_memory=int(free),
                compute_capability=None if rocm else (properties.major, properties.minor),
                present=True,
                backend="rocm" if rocm else "cuda",
            )
        )
    notes = ("ROCm is not modelled: memory is predicted as for a CUDA GPU of the same size",) if rocm else ()
    return tuple(gpus), notes


def anonymous_gpu(memory_gb: float) -> Gpu:
    """An absent card of which only the memory is known."""
    memory = int(memory_gb * GIB)
    return Gpu(
        name=f"{memory_gb:g} GB GPU",
        total_memory=memory,
        free_memory=memory,
        compute_capability=ASSUMED_CAPABILITY,
        present=False,
    )


def state_hardware(
    *,
    gpu: str | None = None,
    gpu_memory_gb: float | None = None,
    num_gpus: int | None = None,
    cores: int | None = None,
    ram_gb: float | None = None,
    cpu: bool = False,
    base: Hardware,
) -> Hardware:
    """``base`` with what the user states put in its place.

    Args:
        gpu: a catalogue name; replaces the GPUs.
        gpu_memory_gb: a card of that memory; with ``gpu``, that card with another memory.
        num_gpus: how many of the stated card, or the first so many of the detected ones.
        cores: usable cores.
        ram_gb: usable main memory, binary gigabytes; caps what is available.
        cpu: no GPU at all.
        base: usually :func:`detect_hardware`.

    Raises:
        UnknownGpuError: ``gpu`` is not in the catalogue.
        ValueError: contradicting or impossible statements.
    """
    if cpu and (gpu is not None or gpu_memory_gb is not None or num_gpus):
        msg = "--cpu plans without a GPU; it cannot stand with --gpu, --gpu-memory or --num-gpus"
        raise ValueError(msg)
    _refuse_not_positive(gpu_memory=gpu_memory_gb, num_gpus=num_gpus, cores=cores, ram=ram_gb)
    changes: dict[str, Any] = {}
    notes = list(base.notes)
    if cpu:
        changes["gpus"], notes = (), []
    elif gpu is not None or gpu_memory_gb is not None:
        card = (
            anonymous_gpu(gpu_memory_gb)
            if gpu is None and gpu_memory_gb is not None
            else stated_gpu(gpu or "")
        )
        if gpu is not None and gpu_memory_gb is not None:
            memory = int(gpu_memory_gb * GIB)
            card = card.model_copy(update={"total_memory": memory, "free_memory": memory})
        changes["gpus"], notes = (card,) * (num_gpus or 1), []
        if not _is_here(card if gpu is not None else None, base.gpus):
            changes["shared_memory"] = None
        if gpu is None:
            major, minor = ASSUMED_CAPABILITY
            notes.append(f"compute capability {major}.{minor} (Ampere) is assumed for the {card.name}")
    elif num_gpus is not None:
        changes["gpus"] = _first_gpus(base.gpus, num_gpus)
    if cores is not None:
        changes["cores"] = cores
    if ram_gb is not None:
        changes["ram"] = changes["ram_available"] = int(ram_gb * GIB)
    if not changes:
        return base
    return base.model_copy(update={**changes, "stated": True, "notes": tuple(notes)})


def _is_here(card: Gpu | None, gpus: tuple[Gpu, ...]) -> bool:
    """Whether a card is one of these; where only memory was stated (None): whether there is any."""
    if card is None:
        return bool(gpus)
    for gpu in gpus:
        try:
            if stated_gpu(gpu.name).name == card.name:
                return True
        except UnknownGpuError:
            continue
    return False


def _refuse_not_positive(**values: float | None) -> None:
    for name, value in values.items():
        if value is not None and not 0 < value < float("inf"):
            msg = f"--{name.replace('_', '-')} must be a positive number, got {value}"
            raise ValueError(msg)


def _first_gpus(gpus: tuple[Gpu, ...], count: int) -> tuple[Gpu, ...]:
    if not gpus:
        msg = f"--num-gpus {count}: this machine has no GPU; name the absent ones with --gpu or --gpu-memory"
        raise ValueError(msg)
    if count > len(gpus):
        msg = f"--num-gpus {count}: this machine has {len(gpus)}; name absent ones with --gpu or --gpu-memory"
        raise ValueError(msg)
    return gpus[:count]


def budget(hardware: Hardware, fraction: float = DEFAULT_MEMORY_FRACTION) -> Budget:
    """What one process may use: ``fraction`` of the smallest GPU's free memory, else of the available RAM.

    Raises:
        ValueError: ``fraction`` is not in (0, 1].
    """
    if not 0 < fraction <= 1:
        msg = f"--memory-fraction must be above 0 and at most 1, got {fraction}"
        raise ValueError(msg)
    if not hardware.gpus:
        size = hardware.ram_available
        why = f"{fraction:.0%} of {size / GIB:.1f} GiB main memory (no GPU)"
        return Budget(bytes=int(size * fraction), device="cpu", kind="cpu", compute_capability=None, why=why)
    smallest = min(hardware.gpus, key=lambda gpu: gpu.free_memory)
    kind = "free" if smallest.present else "nominal"
    why = f"{fraction:.0%} of the {smallest.free_memory / GIB:.1f} GiB {kind} memory of the {smallest.name}"
    if len(hardware.gpus) > 1:
        why += f", the smallest of {len(hardware.gpus)} GPUs"
    # The least able card decides the precision, also where it is not the smallest one.
    capabilities = [gpu.compute_capability for gpu in hardware.gpus]
    known = [capability for capability in capabilities if capability is not None]
    return Budget(
        bytes=int(smallest.free_memory * fraction),
        device=smallest.name,
        kind="cuda",
        compute_capability=min(known) if len(known) == len(capabilities) else None,
        why=why,
        without_tensor_cores=next(
            (
                gpu.name
                for gpu in hardware.gpus
                if has_fp16(gpu.compute_capability) and not has_tensor_cores(gpu.name, gpu.compute_capability)
            ),
            None,
        ),
    )
