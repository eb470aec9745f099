"""Gradient checkpointing of blocks without randomness: backward computes their inner activations again."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def run(block: Callable[..., Tensor], *inputs: Tensor, checkpointing: bool) -> Tensor:
    """``block(*inputs)``, keeping only inputs and output for backward if ``checkpointing``.

    Exact for blocks without dropout or running statistics; autocast is the same in the second pass.
    """
    if checkpointing and torch.is_grad_enabled():
        output: Tensor = checkpoint(block, *inputs, use_reentrant=False, preserve_rng_state=False)
        return output
    return block(*inputs)
