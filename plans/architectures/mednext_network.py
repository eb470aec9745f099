"""MONAI's MedNeXt with outputs as a list and, if asked, gradient checkpointing of its blocks."""

from __future__ import annotations

from monai.networks.blocks.mednext_block import MedNeXtBlock, MedNeXtDownBlock, MedNeXtUpBlock
from monai.networks.nets.mednext import create_mednext
from torch import Tensor, nn

from .checkpointing import run


class ListMedNeXt(nn.Module):
    """A variant of MedNeXt; in training with deep supervision ``[full, half, ..., sixteenth]``."""

    def __init__(
        self,
        variant: str,
        kernel: int,
        *,
        dimensions: int,
        in_channels: int,
        out_channels: int,
        deep_supervision: bool,
        checkpointing: bool,
    ) -> None:
        super().__init__()
        self.network = create_mednext(
            variant, dimensions, in_channels, out_channels, kernel, deep_supervision=deep_supervision
        )
        if checkpointing:
            _checkpoint_blocks(self.network)

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        """Logits of ``(batch, channels, *patch)``."""
        outputs = self.network(image)
        return outputs if isinstance(outputs, Tensor) else list(outputs)


class _CheckpointedBlock(MedNeXtBlock):
    def forward(self, x: Tensor) -> Tensor:
        return run(super().forward, x, checkpointing=True)


class _CheckpointedDownBlock(MedNeXtDownBlock):
    def forward(self, x: Tensor) -> Tensor:
        return run(super().forward, x, checkpointing=True)


class _CheckpointedUpBlock(MedNeXtUpBlock):
    def forward(self, x: Tensor) -> Tensor:
        return run(super().forward, x, checkpointing=True)


_CHECKPOINTED: dict[type[nn.Module], type[nn.Module]] = {
    MedNeXtBlock: _CheckpointedBlock,
    MedNeXtDownBlock: _CheckpointedDownBlock,
    MedNeXtUpBlock: _CheckpointedUpBlock,
}


def _checkpoint_blocks(network: nn.Module) -> None:
    """Run every block under checkpointing, as the authors' ``outside_block`` style does.

    The blocks change class in place, since MONAI's factory takes none: parameters keep names and values.
    """
    for module in network.modules():
        if type(module) in _CHECKPOINTED:
            module.__class__ = _CHECKPOINTED[type(module)]
