"""What deep supervision costs, traced: its documented "+15 %" beside the estimates.

    python scripts/benchmarks/deep_supervision.py

Prints the table of docs/auto_config.md: peak of live tensors and of the whole process, without and with
heads.
"""

from __future__ import annotations

import sys
from typing import Any

from voxplan.planning.auto_config.memory import plain_unet
from voxplan.planning.memory import MemoryEstimate, estimate_training_memory

GIB = 1024**3
STEPS: tuple[tuple[str, str, dict[str, Any], tuple[int, int, int], int], ...] = (
    ("plain UNet, 32 to 512", "unet", plain_unet(32, 4), (96, 96, 96), 2),
    ("plain UNet, 32 to 512", "unet", plain_unet(32, 4), (128, 128, 128), 2),
    ("plain UNet, 32 to 512", "unet", plain_unet(32, 4), (128, 128, 128), 4),
    ("plain UNet, 8 to 128", "unet", plain_unet(8, 4), (96, 96, 96), 4),
    ("nnU-Net's UNet", "unet", {}, (128, 128, 128), 2),
    ("MedNeXt-S", "mednext_s", {}, (128, 128, 128), 2),
)


def traced(
    name: str, arguments: dict[str, Any], patch: tuple[int, int, int], batch: int, supervised: bool
) -> MemoryEstimate:
    """One step, fp16, two classes."""
    return estimate_training_memory(
        name,
        patch_size=patch,
        batch_size=batch,
        precision="fp16",
        deep_supervision=supervised,
        **arguments,
    )


def main() -> int:
    """Print the table."""
    print("| network | patch | batch | tensors | with heads | | process | with heads | |")
    print("|---|---|---|---|---|---|---|---|---|")
    for title, name, arguments, patch, batch in STEPS:
        plain, heads = (traced(name, arguments, patch, batch, supervised) for supervised in (False, True))
        cells = [title, "×".join(map(str, patch)), str(batch)]
        for field in ("allocated", "total"):
            without, with_heads = getattr(plain, field), getattr(heads, field)
            share = with_heads / without - 1
            cells += [f"{without / GIB:.3f} GB", f"{with_heads / GIB:.3f} GB", f"{share:+.2%}"]
        print(f"| {' | '.join(cells)} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
