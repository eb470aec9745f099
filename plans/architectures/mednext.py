"""MedNeXt S, B, M and L with kernels of 3 and 5, as MONAI has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..schema import Floats, Ints, OptimizerChoice
from .base import Architecture, Arguments, Recipe

if TYPE_CHECKING:
    from torch import nn

DIVISOR = 16
"""Four halvings of every axis (``2 ** len(blocks_down)``)."""
MINIMUM_EDGE = 32
"""Voxels: leaves two at the bottleneck on every axis; from one voxel instance statistics fail."""
OUTPUTS = 5
"""Deep supervision at all five resolutions, the bottleneck's included."""

LEARNING_RATES = {3: 1e-3, 5: 5e-4}
"""By kernel. Kernel 5: the largest of the rates (5e-4, 2.5e-4, 1e-4) that the authors' trainers offer."""


class MedNeXt(Architecture):
    """One variant and kernel; the name decides everything."""

    deep_supervision = True
    checkpointing = True
    variant: str
    """``S``, ``B``, ``M`` or ``L``, as MONAI's ``create_mednext`` takes it."""
    kernel: int

    def topology(self, patch_size: Ints, spacing: tuple[float, ...] | None) -> dict[str, Any]:
        """No arguments: the name says it all."""
        return {}

    def divisors(self, arguments: Arguments, dimensions: int) -> Ints:
        """16 on every axis; other sizes fail, or broadcast silently."""
        return (DIVISOR,) * dimensions

    def minimum_patch(self, arguments: Arguments, dimensions: int) -> Ints:
        """32 on every axis."""
        return (MINIMUM_EDGE,) * dimensions

    def recipe(self, dimensions: int) -> Recipe:
        """The authors'. bf16 comes first: their own eps of 1e-4 is there because fp16 gave them NaN."""
        return Recipe(
            optimizer=OptimizerChoice(
                name="adamw", lr=LEARNING_RATES[self.kernel], weight_decay=3e-5, eps=1e-4
            ),
            schedule="poly",
            epochs=1000,
            steps_per_epoch=250,
            precisions=("bf16", "fp16", "tf32", "fp32"),
            source=(
                "Roy et al., MedNeXt, MICCAI 2023, and MIC-DKFZ/MedNeXt nnUNetTrainerV2_MedNeXt: AdamW, "
                "eps 1e-4 (1e-8 may give NaN in fp16), learning rate "
                f"{LEARNING_RATES[self.kernel]:g} for kernel {self.kernel}; weight decay 3e-5, poly 0.9 and "
                "1000 epochs of 250 steps from the nnU-Net trainer it inherits"
            ),
        )

    def deep_supervision_scales(self, arguments: Arguments, dimensions: int) -> tuple[Ints, ...]:
        """1, 2, 4, 8 and 16 on every axis."""
        return tuple((2**level,) * dimensions for level in range(OUTPUTS))

    def deep_supervision_weights(self, arguments: Arguments, dimensions: int) -> Floats:
        """Halved at every scale; unlike nnU-Net's, all five count (MIC-DKFZ/MedNeXt ``process_plans``)."""
        weights = [1 / 2**level for level in range(OUTPUTS)]
        return tuple(weight / sum(weights) for weight in weights)

    def build(
        self,
        arguments: Arguments,
        *,
        dimensions: int,
        in_channels: int,
        out_channels: int,
        deep_supervision: bool = False,
        checkpointing: bool = False,
    ) -> nn.Module:
        """MONAI's network, whose tuple of outputs becomes a list."""
        from .mednext_network import ListMedNeXt

        self.validate_arguments(arguments, dimensions=dimensions)
        return ListMedNeXt(
            self.variant,
            self.kernel,
            dimensions=dimensions,
            in_channels=in_channels,
            out_channels=out_channels,
            deep_supervision=deep_supervision,
            checkpointing=checkpointing,
        )


class MedNeXtS(MedNeXt):
    """Small: expansion 2, two blocks a stage."""

    name, title, variant, kernel = "mednext_s", "MedNeXt-S", "S", 3


class MedNeXtB(MedNeXt):
    """Base: expansions 2 to 4."""

    name, title, variant, kernel, smaller = "mednext_b", "MedNeXt-B", "B", 3, "mednext_s"


class MedNeXtM(MedNeXt):
    """Medium: three to four blocks a stage."""

    name, title, variant, kernel, smaller = "mednext_m", "MedNeXt-M", "M", 3, "mednext_b"


class MedNeXtL(MedNeXt):
    """Large: expansions 3 to 8, up to eight blocks a stage."""

    name, title, variant, kernel, smaller = "mednext_l", "MedNeXt-L", "L", 3, "mednext_m"


class MedNeXtSK5(MedNeXt):
    """Small, kernel 5."""

    name, title, variant, kernel, smaller = "mednext_s_k5", "MedNeXt-S, kernel 5", "S", 5, "mednext_s"


class MedNeXtBK5(MedNeXt):
    """Base, kernel 5."""

    name, title, variant, kernel, smaller = "mednext_b_k5", "MedNeXt-B, kernel 5", "B", 5, "mednext_s_k5"


class MedNeXtMK5(MedNeXt):
    """Medium, kernel 5."""

    name, title, variant, kernel, smaller = "mednext_m_k5", "MedNeXt-M, kernel 5", "M", 5, "mednext_b_k5"


class MedNeXtLK5(MedNeXt):
    """Large, kernel 5."""

    name, title, variant, kernel, smaller = "mednext_l_k5", "MedNeXt-L, kernel 5", "L", 5, "mednext_m_k5"
