"""Figures that the replaced automatic configuration documented, beside traces of the same steps.

    python scripts/benchmarks/documented_auto_config.py                          # prints both tables
    python scripts/benchmarks/documented_auto_config.py --update docs/auto_config.md

The documented figures are those of PyTorch Connectomics, October 2025 (``PHASE10_SUMMARY.md``); they came
without a command. Ours are predictions: no GPU is used. GB is 1024**3 bytes, as there.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from voxplan.planning.memory import MemoryEstimate

GIB = 1024**3
PLAIN = "plain UNet, 32 to 512"
NETWORKS: dict[str, tuple[str, tuple[int, int] | None]] = {
    PLAIN: ("unet", (32, 4)),
    "plain UNet, 8 to 128": ("unet", (8, 4)),
    "nnU-Net's UNet": ("unet", None),
    "MedNeXt-S": ("mednext_s", None),
    "MedNeXt-B": ("mednext_b", None),
    "MONAI's BasicUNet": ("basic_unet", None),
}
"""Title to registered name, and for the plain UNet its features and poolings."""
SUPERVISED = (
    (PLAIN, 96, 2),
    (PLAIN, 128, 2),
    (PLAIN, 128, 4),
    ("plain UNet, 8 to 128", 96, 4),
    ("nnU-Net's UNet", 128, 2),
    ("MedNeXt-S", 128, 2),
)
"""Network, edge of the cubic patch, batch: steps without and with deep supervision."""
MEMORY = (
    ("MedNeXt-S", 128, 4, True, "19.2 GB"),
    ("MedNeXt-B", 96, 8, True, "21.8 GB"),
    ("MONAI's BasicUNet", 128, 2, False, "9.1 GB"),
)
"""Network, edge, batch, deep supervision, and the "actual" memory that was documented."""
HALVED = ((PLAIN, 128, 2, "55%"), ("MedNeXt-S", 128, 4, "55%"))
"""Network, edge, batch, and the share of fp32's memory that fp16 was documented to take."""
SUGGESTED = ((24, 128, "4"), (48, 128, "10"), (16, 96, "6"))
"""GB of the card, edge, and the batch that was documented as the suggestion."""


def traced(
    network: str, edge: int, batch: int, *, supervised: bool = False, precision: Any = "fp16"
) -> MemoryEstimate:
    """One step with two classes."""
    from voxplan.planning.auto_config.memory import plain_unet
    from voxplan.planning.memory import estimate_training_memory

    name, features = NETWORKS[network]
    return estimate_training_memory(
        name,
        patch_size=(edge, edge, edge),
        batch_size=batch,
        precision=precision,
        deep_supervision=supervised,
        **({} if features is None else plain_unet(*features)),
    )


def supervised_row(network: str, edge: int, batch: int) -> str:
    """Live tensors and the whole process without and with heads."""
    plain, heads = (traced(network, edge, batch, supervised=supervised) for supervised in (False, True))
    cells = [network, _cube(edge), str(batch)]
    for field in ("allocated", "total"):
        without, with_heads = getattr(plain, field), getattr(heads, field)
        cells += [_gb(without, 3), _gb(with_heads, 3), f"{with_heads / without - 1:+.2%}"]
    return _row(cells)


def memory_row(network: str, edge: int, batch: int, supervised: bool, documented: str) -> str:
    """The whole process in fp16."""
    heads = ", deep supervision" if supervised else ""
    found = traced(network, edge, batch, supervised=supervised).total
    return _row([f"{network}, {_cube(edge)}, batch {batch}{heads}", documented, _gb(found, 1)])


def halved_row(network: str, edge: int, batch: int, documented: str) -> str:
    """The whole process in fp16 as a share of that in fp32."""
    half, full = (traced(network, edge, batch, precision=name).total for name in ("fp16", "fp32"))
    of = f"fp16 of fp32: {network}, {_cube(edge)}, batch {batch}"
    return _row([of, documented, f"{half / full:.0%}: {_gb(half, 1)} of {_gb(full, 1)}"])


def suggested_row(card: float, edge: int, documented: str) -> str:
    """The batch that ``suggest_batch_size`` answers for a card of so many GB."""
    from voxplan.planning.auto_config import suggest_batch_size

    batch = suggest_batch_size((edge, edge, edge), 1, 2, card)
    return _row([f"batch on {card} GB: {PLAIN}, {_cube(edge)}", documented, str(batch)])


def deep_supervision_table() -> str:
    """What deep supervision costs, as Markdown."""
    head = [
        "| network | patch | batch | tensors | with heads | | process | with heads | |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    return "\n".join([*head, *(supervised_row(*step) for step in SUPERVISED)])


def claims_table() -> str:
    """The other figures beside ours, as Markdown."""
    rows = [memory_row(*step) for step in MEMORY]
    rows += [halved_row(*step) for step in HALVED]
    rows += [suggested_row(*step) for step in SUGGESTED]
    return "\n".join(["| of what | documented | traced |", "|---|---|---|", *rows])


TABLES = {"deep supervision": deep_supervision_table, "documented": claims_table}
"""By the name in the markers of the page."""


def markers(name: str) -> tuple[str, str]:
    """Around a table in the page."""
    return f"<!-- {name}: begin -->", f"<!-- {name}: end -->"


def _cube(edge: int) -> str:
    return f"{edge}×{edge}×{edge}"


def _gb(size: int, digits: int) -> str:
    return f"{size / GIB:.{digits}f} GB"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables, or write them into a page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--update", type=Path, help="page whose tables, between their markers, are replaced")
    options = parser.parse_args(argv)
    if options.update is None:
        print("\n\n".join(make() for make in TABLES.values()))
        return 0
    page = options.update.read_text(encoding="utf-8")
    for name, make in TABLES.items():
        begin, end = markers(name)
        if begin not in page or end not in page:
            print(f"{options.update} has no markers {begin} and {end}", file=sys.stderr)
            return 2
        page = f"{page.split(begin)[0]}{begin}\n{make()}\n{end}{page.split(end)[1]}"
    options.update.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
