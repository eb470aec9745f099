"""Choosing what to train: hardware, traced memory, rules, the one planner.

The names of the documented planning API are imported when they are first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .auto_config import (
        AutoConfigPlanner,
        AutoPlanResult,
        auto_plan_config,
        estimate_gpu_memory_required,
        get_gpu_info,
        get_optimal_num_workers,
        print_gpu_info,
        suggest_batch_size,
    )

__all__ = [
    "AutoConfigPlanner",
    "AutoPlanResult",
    "auto_plan_config",
    "estimate_gpu_memory_required",
    "get_gpu_info",
    "get_optimal_num_workers",
    "print_gpu_info",
    "suggest_batch_size",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from . import auto_config

        return getattr(auto_config, name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
