"""The autocast table against torch's own, and its casts on meta tensors."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from voxplan.planning.memory.autocast import KEY, POLICIES, play_autocast, play_recomputation
from voxplan.planning.memory.tracker import Tracker

HALF, FLOAT = torch.float16, torch.float32
NOT_OURS = re.compile(r"dimname|\.names_|^_cudnn_rnn$", re.IGNORECASE)
"""Named tensors and cuDNN's recurrent networks, which older torches autocast too."""
REGISTERED = {
    name.removeprefix("aten::")
    for name in torch._C._dispatch_get_registrations_for_dispatch_key("AutocastCUDA")
    if not NOT_OURS.search(name.removeprefix("aten::"))
}
"""What the torch at hand autocasts on CUDA."""
TABLE_OF = (2, 13)
"""The torch whose table ours is; older ones lack some of it."""


@pytest.mark.parametrize(
    ("macro", "policy"),
    [
        ("AT_FORALL_LOWER_PRECISION_FP", "lower"),
        ("AT_FORALL_FP32", "fp32"),
        ("AT_FORALL_FP32_SET_OPT_DTYPE", "fp32_set_dtype"),
        ("AT_FORALL_PROMOTE", "promote"),
    ],
)
def test_table_is_that_of_the_header(macro: str, policy: str) -> None:
    header = Path(torch.__file__).parent.joinpath("include/ATen/autocast_mode.h").read_text()
    body = re.search(rf"#define {macro}\(_\)(.*?)\n\n", header, re.S)
    assert body is not None
    entries = re.findall(r"_\(([^)]+)\)", body[1])
    names = {".".join(part.strip() for part in entry.split(",")) for entry in entries}
    listed = {name for name in names if not NOT_OURS.search(name)}
    assert len(listed) > 8
    by_hand = {"cudnn_convolution", "cudnn_convolution_transpose"}
    ours = {name for name, known in POLICIES.items() if known == policy}
    assert listed == (ours & REGISTERED) - by_hand


def test_table_is_what_torch_registers_for_cuda() -> None:
    assert set(POLICIES) >= REGISTERED
    if torch.torch_version.TorchVersion(torch.__version__) >= TABLE_OF:
        assert set(POLICIES) == REGISTERED
    # Neither promotes by autocast: they do it themselves.
    assert not {"cat", "stack"} & set(POLICIES)


def test_no_other_backend_owns_the_key() -> None:
    with play_autocast(HALF):
        pass
    played = torch._C._dispatch_get_registrations_for_dispatch_key(KEY)
    assert set(played) == {f"aten::{name}" for name in REGISTERED}


def _meta(*shape: int, dtype: torch.dtype = FLOAT) -> torch.Tensor:
    return torch.empty(*shape, dtype=dtype, device="meta")


def test_casts() -> None:
    low = _meta(2, 4, 8, 8, 8, dtype=HALF)
    volume = _meta(2, 4, 8, 8, 8)
    weight, slope = _meta(4, 4, 3, 3, 3), _meta(4)
    with play_autocast(HALF):
        assert functional.conv3d(volume, weight).dtype is HALF
        assert functional.prelu(low, slope).dtype is HALF
        assert functional.group_norm(low, 2).dtype is FLOAT
        assert functional.instance_norm(low).dtype is HALF
        assert functional.softmax(low, 1).dtype is FLOAT
        assert low.sum().dtype is FLOAT
        assert torch.norm(low).dtype is FLOAT
        assert (low**2).dtype is FLOAT
        assert (low + low).dtype is HALF
        assert functional.leaky_relu(low).dtype is HALF
        assert torch.cat([low, low]).dtype is HALF
        assert torch.cat([low, volume]).dtype is FLOAT
        assert torch.stack([low, volume]).dtype is FLOAT
        assert torch.addcmul(low, low, volume).dtype is FLOAT
        # Called inside Python functions, where a TorchFunctionMode is blind.
        assert functional.interpolate(low, scale_factor=2.0, mode="trilinear").dtype is FLOAT
        assert functional.scaled_dot_product_attention(*[_meta(1, 2, 8, 8)] * 3).dtype is HALF
        with pytest.raises(RuntimeError, match="unsafe to autocast"):
            functional.binary_cross_entropy(low, low)
    with play_autocast(torch.bfloat16):
        assert functional.conv3d(volume, weight).dtype is torch.bfloat16
    assert functional.conv3d(volume, weight).dtype is FLOAT


def test_double_is_left_alone() -> None:
    with play_autocast(HALF):
        assert functional.softmax(_meta(2, 3, dtype=torch.float64), 1).dtype is torch.float64


def test_a_weight_is_cast_once_while_autocast_lasts() -> None:
    layer = nn.Conv3d(2, 2, 1, bias=False, device="meta")
    tracker = Tracker()
    with tracker, play_autocast(HALF):
        value = _meta(1, 2, 4, 4, 4, dtype=HALF)
        layer(layer(value))
    casts = [
        operation for operation in tracker.trace.operations if operation.name.startswith("aten._to_copy")
    ]
    assert len(casts) == 1


def test_recomputation_runs_under_autocast_and_backward_does_not() -> None:
    seen: list[torch.dtype] = []

    class Watched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv3d(1, 2, 3, device="meta")

        def forward(self, value: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.layer(value)
            seen.append(out.dtype)
            return torch.exp(out)

    network = Watched()
    with play_autocast(HALF):
        out = checkpoint(network, _meta(1, 1, 8, 8, 8), use_reentrant=False)
        loss = out.sum()
    with play_recomputation(HALF):
        loss.backward()
    assert seen == [HALF, HALF]
    assert network.layer.weight.grad is not None
    assert network.layer.weight.grad.dtype is FLOAT
