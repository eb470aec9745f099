"""Networks without initial values: meta tensors have none, and drawing them costs most of building."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

INITIALIZERS = frozenset({Tensor.normal_, Tensor.uniform_, Tensor.fill_, Tensor.zero_})
"""What ``torch.nn.init`` ends in for convolutions and norms."""


class uninitialized(TorchFunctionMode):  # noqa: N801 - used as a context manager
    """Leaves meta tensors as they are where they would be filled; real tensors are filled."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Skip initializers on the meta device, call everything else."""
        if func in INITIALIZERS and isinstance(args[0], torch.Tensor) and args[0].is_meta:
            return args[0]
        return func(*args, **(kwargs or {}))
