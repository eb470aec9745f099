"""Networks with the signature that nnU-Net builds from a plans file: ``(input_channels, num_classes, ...)``.

nnU-Net finds them by import path, so voxplan must be installed beside nnU-Net. Only code that trains imports
this module; it imports torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

from torch import Tensor, nn

from voxplan.plans.architectures import get_architecture

REQUIRED_STAGES = 5
"""Resolutions of every MedNeXt."""


class MedNeXt(nn.Module):
    """MedNeXt as nnU-Net's trainer handles its own networks.

    The trainer compares the outputs with targets scaled by ``strides``, its bottleneck left out: so the
    coarsest of MedNeXt's five outputs is dropped. It switches deep supervision through
    ``network.decoder.deep_supervision``, and expects a list of outputs in validation as well.

    Args:
        input_channels: image channels.
        num_classes: channels of the logits.
        variant: voxplan's name, e.g. ``mednext_s``.
        strides: per stage and axis; nnU-Net's trainer reads it from the plans, here it says the dimensions.
        deep_supervision: whether ``forward`` returns a list of logits, full resolution first.
        checkpointing: recompute blocks in the backward pass, for less memory.

    Raises:
        ValueError: ``strides`` are not those of MedNeXt, or ``variant`` is unknown.
    """

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        *,
        variant: str,
        strides: Sequence[Sequence[int]],
        deep_supervision: bool = False,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        dimensions = len(strides[0])
        expected = [[1] * dimensions, *([2] * dimensions for _ in range(REQUIRED_STAGES - 1))]
        if [list(stride) for stride in strides] != expected:
            msg = f"{variant}: strides must be {expected}, as the network has them, got {list(strides)}"
            raise ValueError(msg)
        if not variant.startswith("mednext_"):
            msg = f"variant must be one of voxplan's MedNeXts, such as mednext_s, got {variant!r}"
            raise ValueError(msg)
        self.network = get_architecture(variant).build(
            {},
            dimensions=dimensions,
            in_channels=input_channels,
            out_channels=num_classes,
            deep_supervision=True,
            checkpointing=checkpointing,
        )
        self.decoder = SimpleNamespace(deep_supervision=deep_supervision)

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        """Logits of ``(batch, channels, *patch)``, a list of them with deep supervision."""
        inner = self.network.network
        assert isinstance(inner, nn.Module)
        # MONAI's network returns all outputs in training mode only; the flag decides nothing else in it.
        inner.training = bool(self.decoder.deep_supervision)
        outputs = self.network(image)
        if isinstance(outputs, Tensor):
            return outputs
        return list(outputs[: REQUIRED_STAGES - 1])
