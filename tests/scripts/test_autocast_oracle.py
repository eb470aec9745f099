"""What the oracle counts, by hand; the comparison itself needs a CUDA build of torch."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from voxplan.planning.memory.autocast import play_autocast
from voxplan.scripts.benchmarks import autocast_oracle
from voxplan.scripts.benchmarks.autocast_oracle import BATCH, PATCH, saved_bytes

VOXELS = BATCH * PATCH[0] * PATCH[1] * PATCH[2]


def test_saved_bytes_by_hand() -> None:
    """A convolution keeps its fp16 input and weights, exp keeps its fp32 result."""

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv3d(1, 2, 1, bias=False)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return torch.exp(self.layer(image))

    saved, kinds = saved_bytes(Network, "meta", play_autocast(torch.float16))
    assert kinds == {torch.float32}
    assert saved == 2 * VOXELS + 2 * 2 + 4 * 2 * VOXELS


def test_a_cpu_build_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    assert autocast_oracle.main() == 2
    assert "install a CUDA build" in capsys.readouterr().err
