"""The documented AutoConfigPlanner API: a thin face on the one planner and the traced memory.

GB here means 1024**3 bytes, as in the system that this API comes from. Sizes are ZYX. Nothing here imports
torch before it is needed.
"""

from __future__ import annotations

from .apply import auto_plan_config
from .gpu_info import GpuInfo, get_gpu_info, print_gpu_info
from .loading import LoadedConfig, load_config
from .memory import estimate_gpu_memory_required, suggest_batch_size
from .planner import AutoConfigPlanner
from .result import AutoPlanResult, PlannedResult
from .workers import get_optimal_num_workers

__all__ = [
    "AutoConfigPlanner",
    "AutoPlanResult",
    "GpuInfo",
    "LoadedConfig",
    "PlannedResult",
    "auto_plan_config",
    "estimate_gpu_memory_required",
    "get_gpu_info",
    "get_optimal_num_workers",
    "load_config",
    "print_gpu_info",
    "suggest_batch_size",
]
