"""Bytes of a training step: trace, autocast, allocator, estimate.

torch is imported when something is traced, not before.
"""

from __future__ import annotations

from .estimate import estimate_training_memory
from .inference import estimate_inference_memory
from .model import MemoryModel
from .prediction import MemoryEstimate, TimelinePoint
from .search import DoesNotFitError, Fit, largest_batch, largest_patch
from .validate import NetworkFailedError

__all__ = [
    "DoesNotFitError",
    "Fit",
    "MemoryEstimate",
    "MemoryModel",
    "NetworkFailedError",
    "TimelinePoint",
    "estimate_inference_memory",
    "estimate_training_memory",
    "largest_batch",
    "largest_patch",
]
