"""Optimizers that are asked for by name alone, outside the recipe of an architecture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from .schema import OptimizerChoice

USUAL_OPTIMIZERS: Final[Mapping[str, OptimizerChoice]] = {
    "adamw": OptimizerChoice(name="adamw", lr=1e-3, weight_decay=3e-5),
    "sgd": OptimizerChoice(name="sgd", lr=1e-2, weight_decay=3e-5, momentum=0.99, nesterov=True),
}
"""nnU-Net's numbers for each."""
USUAL_SOURCES: Final[Mapping[str, str]] = {
    "adamw": "nnU-Net's for AdamW (nnUNetTrainerAdam1en3, 2.8.1)",
    "sgd": "nnU-Net's for SGD (nnUNetTrainer, 2.8.1: Nesterov momentum 0.99)",
}
