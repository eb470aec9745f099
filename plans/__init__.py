"""What a plan may say, and using it in training. Importing this imports no torch."""

from __future__ import annotations

from .build import Plan, Plans, load_plans
from .document import PlansError

__all__ = ["Plan", "Plans", "PlansError", "load_plans"]
