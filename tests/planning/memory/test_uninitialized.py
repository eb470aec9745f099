"""Networks on the meta device are built without the operators that would fill them."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from voxplan.planning.memory.uninitialized import uninitialized
from voxplan.plans.architectures import get_architecture

FILLS = {"uniform_", "normal_", "fill_", "zero_"}


class _Recorder(TorchDispatchMode):
    """Names of all operators that run inside."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.names.append(func._schema.name.removeprefix("aten::"))
        return func(*args, **(kwargs or {}))


def _fills(name: str) -> set[str]:
    architecture = get_architecture(name)
    arguments = architecture.topology((64, 64, 64), None)
    recorder = _Recorder()
    with torch.device("meta"), uninitialized(), recorder:
        architecture.build(
            arguments,
            dimensions=3,
            in_channels=1,
            out_channels=2,
            deep_supervision=True,
            checkpointing=False,
        )
    return FILLS & set(recorder.names)


def test_networks_on_meta_are_never_filled() -> None:
    # Torch's initializers hand themselves to a mode whole: what they call inside is no longer seen by it.
    assert _fills("unet") == set()
    assert _fills("mednext_s") == set()
    assert _fills("monai_unet") == set()


def test_real_tensors_are_filled() -> None:
    with uninitialized():
        layer = torch.nn.Conv3d(1, 2, 3)
        constant = torch.nn.init.constant_(torch.empty(3), 7.0)
    assert layer.weight.abs().sum() > 0
    assert constant.tolist() == [7.0, 7.0, 7.0]
