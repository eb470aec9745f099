"""The four presets: what distinguishes nnU-Net 2.8.1's planners from each other, as numbers.

Source: ``default_experiment_planner.py`` lines 40 to 80 and ``residual_encoder_unet_planners.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """One of nnU-Net's planners."""

    name: str
    """As users of voxplan say it."""
    planner: str
    """nnU-Net's planner class."""
    plans_name: str
    """nnU-Net's plans identifier; its file is ``<plans_name>.json``."""
    residual: bool
    reference_gb: float
    """Target memory that the reference values stand for; also the default target."""
    reference_elements: Mapping[int, float]
    """Value of the proxy that fills ``reference_gb``, by number of axes."""
    dataset_share: float
    """Largest share of the data set that a batch may cover."""
    architecture: str
    """voxplan's registered name of the network."""


REFERENCE_BATCH: Mapping[int, int] = MappingProxyType({2: 12, 3: 2})
"""Batch that the reference values stand for, by number of axes."""

_ALL = (
    Preset(
        name="nnunet",
        planner="ExperimentPlanner",
        plans_name="nnUNetPlans",
        residual=False,
        reference_gb=8,
        reference_elements=MappingProxyType({3: 560e6, 2: 85e6}),
        dataset_share=0.05,
        architecture="unet",
    ),
    Preset(
        name="resenc-m",
        planner="nnUNetPlannerResEncM",
        plans_name="nnUNetResEncUNetMPlans",
        residual=True,
        reference_gb=8,
        reference_elements=MappingProxyType({3: 680e6, 2: 135e6}),
        dataset_share=1.0,
        architecture="resenc_unet",
    ),
    Preset(
        name="resenc-l",
        planner="nnUNetPlannerResEncL",
        plans_name="nnUNetResEncUNetLPlans",
        residual=True,
        reference_gb=24,
        reference_elements=MappingProxyType({3: 2.1e9, 2: 380e6}),
        dataset_share=1.0,
        architecture="resenc_unet",
    ),
    Preset(
        name="resenc-xl",
        planner="nnUNetPlannerResEncXL",
        plans_name="nnUNetResEncUNetXLPlans",
        residual=True,
        reference_gb=40,
        reference_elements=MappingProxyType({3: 3.6e9, 2: 560e6}),
        dataset_share=1.0,
        architecture="resenc_unet",
    ),
)
_BY_NAME = {preset.name: preset for preset in _ALL}

PRESETS: tuple[str, ...] = tuple(_BY_NAME)
"""Names that ``--preset`` takes."""


def get_preset(name: str) -> Preset:
    """The preset of that name.

    Raises:
        ValueError: there is none; the message lists the known ones.
    """
    if name not in _BY_NAME:
        msg = f"preset {name!r} is unknown; there are {', '.join(PRESETS)}"
        raise ValueError(msg)
    return _BY_NAME[name]
