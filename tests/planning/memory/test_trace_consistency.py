"""The trace against a real training step on the CPU, in fp32: this checks the trace, not the hardware."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from monai.networks.nets.attentionunet import AttentionUnet
from monai.networks.nets.basic_unet import BasicUNet
from monai.networks.nets.dynunet import DynUNet
from monai.networks.nets.mednext import create_mednext
from monai.networks.nets.segresnet import SegResNet
from monai.networks.nets.unet import UNet
from torch import nn

from voxplan.planning.memory.events import Trace
from voxplan.planning.memory.request import Request, make_request
from voxplan.planning.memory.step import trace_training

CUBE = (32, 32, 32)
SQUARE = (64, 64)
FEATURES = (16, 16, 32, 64, 128, 16)


def _plain() -> nn.Module:
    layers: list[nn.Module] = []
    channels = 1
    for _ in range(4):
        layers += [
            nn.Conv3d(channels, 16, 3, padding=1),
            nn.InstanceNorm3d(16, affine=True),
            nn.LeakyReLU(inplace=True),
        ]
        channels = 16
    return nn.Sequential(*layers, nn.Conv3d(16, 2, 1))


def _dynunet() -> nn.Module:
    strides = [1, 2, 2, 2]
    return DynUNet(
        3,
        1,
        2,
        [3] * 4,
        strides,
        strides[1:],
        filters=[16, 32, 64, 64],
        deep_supervision=True,
        deep_supr_num=1,
    )


NETWORKS: dict[str, tuple[str | Callable[[], nn.Module], tuple[int, ...], dict[str, Any]]] = {
    "basic_unet": (lambda: BasicUNet(3, 1, 2, FEATURES), CUBE, {}),
    "basic_unet_trilinear": (lambda: BasicUNet(3, 1, 2, FEATURES, upsample="nontrainable"), CUBE, {}),
    "monai_unet": (lambda: UNet(3, 1, 2, (16, 32, 64, 128), (2, 2, 2), num_res_units=2), CUBE, {}),
    "dynunet_stacked_heads": (_dynunet, CUBE, {}),
    "mednext_s": (lambda: create_mednext("S", 3, 1, 2, 3, True), CUBE, {}),
    "segresnet": (lambda: SegResNet(3, 8, 1, 2), CUBE, {}),
    "attention_unet": (lambda: AttentionUnet(3, 1, 2, (16, 32, 64), (2, 2)), CUBE, {}),
    "plain_in_place": (_plain, CUBE, {"out_channels": 2, "optimizer": "sgd"}),
    "registered_unet_2d": ("unet", SQUARE, {"optimizer": "sgd"}),
    "registered_unet_2d_checkpointing": ("unet", SQUARE, {"checkpointing": True}),
    "registered_monai_unet_105_classes": ("monai_unet", SQUARE, {"out_channels": 105}),
    "registered_basic_unet_affinities": ("basic_unet", SQUARE, {"out_channels": 12, "task": "affinity"}),
}


def _request(name: str, batch_size: int = 1) -> Request:
    architecture, patch_size, options = NETWORKS[name]
    return make_request(
        architecture, patch_size=patch_size, batch_size=batch_size, precision="fp32", device="cpu", **options
    )


def _live_peak(trace: Trace) -> int:
    """Independent of the package's own replay."""
    live = peak = 0
    for block, _ in trace.events:
        live += trace.sizes[block] if block >= 0 else -trace.sizes[~block]
        peak = max(peak, live)
    return peak


@pytest.mark.parametrize("name", NETWORKS)
def test_real_step_has_the_traced_peak(name: str) -> None:
    request = _request(name)
    traced, real = _live_peak(request.trace()), _live_peak(request.trace(device="cpu"))
    assert traced == pytest.approx(real, rel=0.01)


def _allocator_peak(run: Callable[[], object]) -> int:
    """Peak of what torch's CPU allocator handed out, by its own events."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        run()
    assert profile.profiler is not None
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]  # type: ignore[union-attr]
    live = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak


@pytest.mark.parametrize("name", ["basic_unet", "registered_unet_2d", "mednext_s"])
def test_torchs_allocator_has_the_traced_peak(name: str) -> None:
    """MONAI's UNet is not here: inside its convolutions' backward, oneDNN takes 30 % of its own."""
    request = _request(name, batch_size=2)
    measured = _allocator_peak(
        lambda: trace_training(request.build, request.make_loss, request.settings(), device="cpu")
    )
    assert _live_peak(request.trace()) == pytest.approx(measured, rel=0.06)
