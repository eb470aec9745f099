"""nnU-Net's presets: its own plan from the same fingerprint, and that plan in voxplan's terms."""

from .nnunet_plans import nnunet_configurations, nnunet_plans
from .settings import PRESETS, Preset, get_preset

__all__ = ["PRESETS", "Preset", "get_preset", "nnunet_configurations", "nnunet_plans"]
