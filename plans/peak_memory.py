"""What memory a stretch of work took at its peak: of the GPU's allocator, or of the process on a CPU."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """Highest marks, in bytes; None where the device has no such mark."""

    allocated: int | None = None
    """Tensors on the GPU (``torch.cuda.max_memory_allocated``)."""
    reserved: int | None = None
    """What PyTorch's allocator held on the GPU (``torch.cuda.max_memory_reserved``)."""
    process: int | None = None
    """The resident set of this process, on a CPU."""

    def highest(self, other: Peak) -> Peak:
        """The larger of each mark."""
        marks = {}
        for name in ("allocated", "reserved", "process"):
            values = [value for value in (getattr(self, name), getattr(other, name)) if value is not None]
            marks[name] = max(values, default=None)
        return Peak(**marks)


def restart_peak(device: torch.device) -> None:
    """Let the marks start anew from what is held now.

    On a CPU by Linux's ``clear_refs`` (``proc(5)``); where that cannot be written, the mark stays that of the
    whole process.
    """
    import torch

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return


def read_peak(device: torch.device) -> Peak:
    """The marks since :func:`restart_peak`; nothing on devices that keep none."""
    import torch

    if device.type == "cuda":
        return Peak(
            allocated=torch.cuda.max_memory_allocated(device), reserved=torch.cuda.max_memory_reserved(device)
        )
    if device.type != "cpu":
        return Peak()
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return Peak()
    found = re.search(r"^VmHWM:\s+(\d+) kB", status, flags=re.MULTILINE)
    return Peak(process=int(found[1]) * 1024) if found else Peak()
