"""What the exported MONAI configuration names as its network's ``_target_``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from voxplan.plans.architectures import get_architecture


def network(
    architecture: str,
    arguments: Mapping[str, Any],
    dimensions: int,
    in_channels: int,
    out_channels: int,
    deep_supervision: bool,
    checkpointing: bool,
) -> nn.Module:
    """A registered architecture, built as the plan says, in the order of the image's axes."""
    return get_architecture(architecture).build(
        arguments,
        dimensions=dimensions,
        in_channels=in_channels,
        out_channels=out_channels,
        deep_supervision=deep_supervision,
        checkpointing=checkpointing,
    )
