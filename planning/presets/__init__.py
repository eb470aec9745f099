"""nnU-Net's presets: its own plan from the same fingerprint, and that plan in voxplan's terms."""

from .document import preset_document
from .nnunet_plans import nnunet_configurations, nnunet_plans
from .settings import PRESETS, Preset, get_preset

__all__ = ["PRESETS", "Preset", "get_preset", "nnunet_configurations", "nnunet_plans", "preset_document"]
