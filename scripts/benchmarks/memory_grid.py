"""What ``measure_memory.py`` measures: a grid of training steps, on which the constants of the model rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Case:
    """One training step to measure."""

    architecture: str
    """Registered name, or ``dynunet`` (MONAI's, heads stacked)."""
    patch: tuple[int, ...]
    batch: int
    precision: str = "fp16"
    checkpointing: bool = False
    classes: int = 2
    benchmark: bool = False
    optimizer: str = "adamw"
    snapshot: bool = False

    @property
    def name(self) -> str:
        """Unique in the grid."""
        flags = [
            "x".join(map(str, self.patch)),
            f"b{self.batch}",
            self.precision,
            *(["checkpointing"] if self.checkpointing else []),
            *([f"{self.classes}classes"] if self.classes != 2 else []),
            *(["benchmark"] if self.benchmark else []),
            *([self.optimizer] if self.optimizer != "adamw" else []),
        ]
        return "/".join([self.architecture, *flags])


def _cube(edge: int) -> tuple[int, int, int]:
    return (edge, edge, edge)


GRID: tuple[Case, ...] = (
    *(Case("mednext_s", _cube(edge), 2) for edge in (32, 64, 96)),
    Case("mednext_s", _cube(128), 2, snapshot=True),
    Case("mednext_s", _cube(128), 1, benchmark=True),
    Case("mednext_s", _cube(64), 8, precision="bf16"),
    Case("mednext_s", _cube(64), 2, precision="fp32"),
    Case("mednext_s", _cube(128), 2, checkpointing=True),
    Case("mednext_s", (32, 160, 160), 4),
    Case("mednext_s", (512, 512), 8),
    Case("mednext_s_k5", _cube(96), 2),
    Case("mednext_b", _cube(96), 2),
    Case("mednext_b", _cube(128), 1, precision="bf16"),
    Case("mednext_b_k5", _cube(64), 2),
    Case("mednext_m", _cube(96), 1),
    Case("mednext_m", _cube(128), 1, checkpointing=True),
    Case("mednext_m_k5", _cube(64), 1),
    Case("mednext_l", _cube(96), 1),
    Case("mednext_l", _cube(128), 1, checkpointing=True),
    Case("mednext_l_k5", _cube(64), 1, checkpointing=True),
    *(Case("basic_unet", _cube(edge), 2) for edge in (32, 64, 96)),
    Case("basic_unet", _cube(128), 2, snapshot=True),
    Case("basic_unet", _cube(128), 2, benchmark=True),
    Case("basic_unet", _cube(96), 2, precision="fp32"),
    Case("basic_unet", (512, 512), 8),
    Case("monai_unet", _cube(64), 4),
    Case("monai_unet", _cube(128), 2),
    Case("monai_unet", _cube(128), 2, benchmark=True),
    Case("monai_unet", (32, 128, 128), 8, precision="bf16"),
    Case("monai_unet", _cube(192), 1, precision="fp32"),
    Case("dynunet", _cube(96), 2),
    Case("dynunet", _cube(96), 2, benchmark=True),
    Case("dynunet", _cube(64), 1, classes=105),
    Case("unet", _cube(96), 2, optimizer="sgd"),
    Case("unet", _cube(128), 2, optimizer="sgd", snapshot=True),
    Case("unet", _cube(128), 2, optimizer="sgd", benchmark=True),
    Case("unet", _cube(128), 2, classes=105, optimizer="sgd"),
    Case("unet", _cube(160), 1, precision="fp32", optimizer="sgd"),
    Case("unet", (40, 192, 160), 2, precision="bf16"),
    Case("unet", (512, 512), 8, optimizer="sgd"),
    Case("resenc_unet", _cube(64), 8),
    Case("resenc_unet", _cube(128), 2, optimizer="sgd", snapshot=True),
    Case("resenc_unet", _cube(128), 2, optimizer="sgd", benchmark=True),
    Case("resenc_unet", _cube(192), 1, precision="bf16"),
    Case("resenc_unet", _cube(192), 1, checkpointing=True),
    Case("resenc_unet", _cube(96), 2, classes=105),
)
CPU_GRID: tuple[Case, ...] = (
    Case("basic_unet", (64, 64), 2, precision="fp32"),
    Case("mednext_s", _cube(32), 1, precision="fp32", checkpointing=True),
    Case("mednext_s", _cube(32), 2, precision="fp32"),
    Case("mednext_s_k5", _cube(32), 1, precision="fp32"),
    Case("mednext_b", _cube(32), 1, precision="fp32"),
    Case("basic_unet", _cube(32), 1, precision="fp32"),
    Case("monai_unet", _cube(32), 2, precision="fp32"),
    Case("monai_unet", (128, 128), 2, precision="fp32", classes=105),
    Case("dynunet", (64, 64), 2, precision="fp32"),
    Case("unet", (128, 128), 2, precision="fp32", optimizer="sgd"),
    Case("unet", (16, 32, 32), 1, precision="fp32", optimizer="sgd", checkpointing=True),
    Case("resenc_unet", (128, 96), 2, precision="fp32", optimizer="sgd"),
)
"""Small enough for a CPU. The first two are ``--quick``."""
QUICK = CPU_GRID[:2]


def build_dynunet(dimensions: int, classes: int) -> nn.Module:
    """MONAI's DynUNet with two deep-supervision heads, stacked on dimension 1."""
    from monai.networks.nets.dynunet import DynUNet

    strides = [1, 2, 2, 2, 2]
    return DynUNet(
        dimensions, 1, classes, [3] * 5, strides, strides[1:], deep_supervision=True, deep_supr_num=2
    )


def make_request(case: Case, device: str, capability: tuple[int, int] | None) -> Any:
    """The case as the memory model knows it."""
    from voxplan.planning.memory.request import make_request as request

    def dynunet() -> nn.Module:
        return build_dynunet(len(case.patch), case.classes)

    return request(
        dynunet if case.architecture == "dynunet" else case.architecture,
        patch_size=case.patch,
        batch_size=case.batch,
        out_channels=case.classes,
        precision=case.precision,  # type: ignore[arg-type]
        optimizer=case.optimizer,
        checkpointing=case.checkpointing,
        device=device,
        compute_capability=capability,
        cudnn_benchmark=case.benchmark,
    )
