"""Networks without initial values: meta tensors have none, and drawing them costs most of building."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

INITIALIZERS = frozenset(
    {
        Tensor.normal_,
        Tensor.uniform_,
        Tensor.fill_,
        Tensor.zero_,
        torch.nn.init.normal_,
        torch.nn.init.uniform_,
        torch.nn.init.constant_,
        torch.nn.init.kaiming_uniform_,
    }
)
"""What convolutions and norms are filled by. Those of ``torch.nn.init`` hand themselves to a mode whole, with
all arguments by keyword; what they call inside does not come by here."""


class uninitialized(TorchFunctionMode):  # noqa: N801 - used as a context manager
    """Leaves meta tensors as they are where they would be filled; real tensors are filled."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Skip initializers on the meta device, call everything else."""
        kwargs = kwargs or {}
        if func in INITIALIZERS:
            target = args[0] if args else kwargs.get("tensor")
            if isinstance(target, Tensor) and target.is_meta:
                return target
        return func(*args, **kwargs)
