"""The learning rate over the training, as pure numbers."""

from __future__ import annotations

import math

from .schema import ScheduleChoice


def learning_rate_factor(schedule: ScheduleChoice, step: int) -> float:
    """What the initial learning rate is multiplied with at optimizer step ``step`` (from 0); 0 at the end.

    ``poly``: (1 - progress) ** power (nnU-Net's ``PolyLRScheduler``). ``cosine``: half a cosine to 0. Warm-up
    rises linearly to 1 over ``warmup_steps``; progress counts from its end.
    """
    total = schedule.epochs * schedule.steps_per_epoch
    if step < schedule.warmup_steps:
        return (step + 1) / (schedule.warmup_steps + 1)
    length = max(1, total - schedule.warmup_steps)
    progress = min(1.0, (step - schedule.warmup_steps) / length)
    if schedule.name == "poly":
        return float((1.0 - progress) ** schedule.power)
    if schedule.name == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * progress))
    return 1.0
