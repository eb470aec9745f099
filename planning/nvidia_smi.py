"""What ``nvidia-smi`` says, parsed: it sees other processes' memory and needs no CUDA context.

Formats: ``nvidia-smi --help-query-gpu`` and ``nvidia-smi -L``.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

QUERY = "uuid,name,memory.total,memory.free,compute_cap"
TIMEOUT = 20.0
"""Seconds; a driver that hangs must not hang the planner."""
MIB = 1024**2
GIB = 1024**3

_GPU_LINE = re.compile(r"^GPU (\d+): (?P<name>.+?) \(UUID: (?P<uuid>GPU-[^)]+)\)")
_MIG_LINE = re.compile(
    r"^\s+MIG (?P<profile>\S+)\s+Device\s+\d+:\s+\(UUID: (?P<uuid>MIG-[^)]+)\)", re.IGNORECASE
)
_MIG_MEMORY = re.compile(r"(\d+)gb", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class SmiGpu:
    """One card, or one MIG slice of a card; memory in bytes."""

    uuid: str
    name: str
    total: int
    free: int
    compute_capability: tuple[int, int] | None


def parse_query(text: str) -> tuple[SmiGpu, ...]:
    """Cards from the CSV (``csv,noheader,nounits``) of the fields in :data:`QUERY`.

    Lines with numbers that the driver does not give (``[N/A]``, ``[Unknown Error]``) are left out; a
    capability that an old driver does not know is None.
    """
    cards = []
    for line in text.splitlines():
        fields = [field.strip() for field in line.split(",")]
        if len(fields) != 5 or not (fields[2].isdigit() and fields[3].isdigit()):
            continue
        uuid, name, total, free, capability = fields
        major, _, minor = capability.partition(".")
        cards.append(
            SmiGpu(
                uuid=uuid,
                name=name,
                total=int(total) * MIB,
                free=int(free) * MIB,
                compute_capability=(int(major), int(minor)) if major.isdigit() and minor.isdigit() else None,
            )
        )
    return tuple(cards)


def parse_mig(text: str) -> dict[str, list[tuple[str, str]]]:
    """MIG slices from ``nvidia-smi -L``: card UUID to (slice UUID, profile)."""
    slices: dict[str, list[tuple[str, str]]] = {}
    card = ""
    for line in text.splitlines():
        if found := _GPU_LINE.match(line):
            card = found["uuid"]
        elif (found := _MIG_LINE.match(line)) and card:
            slices.setdefault(card, []).append((found["uuid"], found["profile"]))
    return slices


def with_slices(cards: Sequence[SmiGpu], slices: dict[str, list[tuple[str, str]]]) -> tuple[SmiGpu, ...]:
    """The devices that CUDA sees: a card with MIG slices is replaced by them, with their nominal memory."""
    devices: list[SmiGpu] = []
    for card in cards:
        if card.uuid not in slices:
            devices.append(card)
            continue
        for uuid, profile in slices[card.uuid]:
            memory = _MIG_MEMORY.search(profile)
            if memory is not None:
                size = int(memory[1]) * GIB
                name = f"{card.name} MIG {profile}"
                capability = card.compute_capability
                devices.append(
                    SmiGpu(uuid=uuid, name=name, total=size, free=size, compute_capability=capability)
                )
    return tuple(devices)


def visible(devices: Sequence[SmiGpu], cuda_visible_devices: str | None) -> tuple[SmiGpu, ...]:
    """The devices that ``CUDA_VISIBLE_DEVICES`` leaves, in its order: indices or UUIDs (also abbreviated).

    As in CUDA, everything from the first entry that names no device on is hidden.
    """
    if cuda_visible_devices is None:
        return tuple(devices)
    chosen: list[SmiGpu] = []
    for entry in (part.strip() for part in cuda_visible_devices.split(",")):
        named = [device for device in devices if entry and device.uuid.startswith(entry)]
        if entry.isdigit() and int(entry) < len(devices):
            named = [devices[int(entry)]]
        if len(named) != 1:
            break
        chosen.append(named[0])
    return tuple(chosen)


def is_installed() -> bool:
    """Whether there is an ``nvidia-smi`` to ask."""
    return shutil.which("nvidia-smi") is not None


def query() -> tuple[SmiGpu, ...]:
    """All cards and slices of the machine; empty without a driver, or where it does not answer."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    cards = parse_query(_run(program, f"--query-gpu={QUERY}", "--format=csv,noheader,nounits"))
    return with_slices(cards, parse_mig(_run(program, "-L"))) if cards else ()


def parse_processes(text: str, pid: int) -> int | None:
    """Bytes that a process holds on all cards, from ``--query-compute-apps=pid,used_memory``.

    None where the driver does not list it, as in containers with process ids of their own.
    """
    used = [
        int(memory) * MIB
        for line in text.splitlines()
        for number, _, memory in [line.replace(" ", "").partition(",")]
        if number == str(pid) and memory.isdigit()
    ]
    return sum(used) if used else None


def process_memory(pid: int) -> int | None:
    """What the driver shows for a process; None without a driver, or where it does not tell."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    fields = "--query-compute-apps=pid,used_memory"
    return parse_processes(_run(program, fields, "--format=csv,noheader,nounits"), pid)


def _run(*command: str) -> str:
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return ran.stdout if ran.returncode == 0 else ""
