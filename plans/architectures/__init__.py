"""The registered architectures, one file a family. Adding one: a file, and a line in ``ARCHITECTURES``.

Importing this package imports neither torch nor monai.
"""

from __future__ import annotations

from .base import Architecture, Arguments, Recipe
from .basic_unet import BasicUNet
from .mednext import (
    MedNeXtB,
    MedNeXtBK5,
    MedNeXtL,
    MedNeXtLK5,
    MedNeXtM,
    MedNeXtMK5,
    MedNeXtS,
    MedNeXtSK5,
)
from .monai_unet import MonaiUNet
from .resenc_unet import ResEncUNet
from .unet import UNet

ARCHITECTURES: dict[str, Architecture] = {
    "unet": UNet(),
    "resenc_unet": ResEncUNet(),
    "mednext_s": MedNeXtS(),
    "mednext_b": MedNeXtB(),
    "mednext_m": MedNeXtM(),
    "mednext_l": MedNeXtL(),
    "mednext_s_k5": MedNeXtSK5(),
    "mednext_b_k5": MedNeXtBK5(),
    "mednext_m_k5": MedNeXtMK5(),
    "mednext_l_k5": MedNeXtLK5(),
    "basic_unet": BasicUNet(),
    "monai_unet": MonaiUNet(),
}
"""By registered name, which is what a plan holds."""


def get_architecture(name: str) -> Architecture:
    """The architecture of a registered name.

    Raises:
        ValueError: listing the known names.
    """
    try:
        return ARCHITECTURES[name]
    except KeyError:
        msg = f"unknown architecture {name!r}; known: {', '.join(ARCHITECTURES)}"
        raise ValueError(msg) from None


__all__ = ["ARCHITECTURES", "Architecture", "Arguments", "Recipe", "get_architecture"]
