"""Bytes of a training step: trace, autocast, allocator, estimate.

torch is imported when something is traced, not before.
"""

from __future__ import annotations

from .estimate import MemoryEstimate, TimelinePoint, estimate_training_memory
from .model import MemoryModel
from .validate import NetworkFailedError

__all__ = [
    "MemoryEstimate",
    "MemoryModel",
    "NetworkFailedError",
    "TimelinePoint",
    "estimate_training_memory",
]
