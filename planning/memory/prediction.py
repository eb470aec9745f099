"""What an estimate says: the bytes of a process at its peak, and over a step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from .events import KINDS


class TimelinePoint(NamedTuple):
    """Memory after one event of the step, for plotting."""

    step: int
    phase: str
    operator: str
    allocated: int
    reserved: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryEstimate:
    """Predicted peak memory of a process, in bytes.

    ``parameters`` to ``workspace`` are what is held at the moment of the peak, and sum up to ``allocated``.
    """

    parameters: int
    """Parameters and buffers."""
    gradients: int
    """Gradients of parameters held at the peak, and DDP's buckets."""
    optimizer: int
    """Optimizer state."""
    activations: int
    """Every other tensor: activations, their gradients, casts, inputs, targets, optimizer temporaries."""
    workspace: int
    """Temporaries inside kernels: cuDNN's workspaces and copies of strided operands."""
    allocated: int
    """As ``torch.cuda.max_memory_allocated`` would say."""
    reserved: int
    """As ``torch.cuda.max_memory_reserved`` would say; on the CPU equal to ``allocated``."""
    context: int
    """CUDA context, or on the CPU the Python process."""
    total: int
    """``reserved + context``: what the driver shows for the process, or the CPU process's resident bytes."""
    peak_operator: str
    """Operator during which the peak is reached."""
    peak_phase: str
    """``forward``, ``loss``, ``backward`` or ``optimizer``."""
    first_step_allocated: int
    """Peak of the first step, which has no optimizer state before its end."""
    device: str
    timeline: tuple[TimelinePoint, ...]
    """Every event of the second step, which stands for all that follow."""
    unmeasured: dict[str, str]
    """Constants behind the estimate that nobody has measured: name and assumption."""
    notes: tuple[str, ...]

    @property
    def parts(self) -> dict[str, int]:
        """The parts at the peak, by name."""
        return {kind: getattr(self, kind) for kind in KINDS}
