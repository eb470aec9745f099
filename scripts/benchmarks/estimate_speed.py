"""How long estimates take: one under 2 s, a batch search under 10 s, on one core.

    python scripts/benchmarks/estimate_speed.py

Imports of torch and MONAI are timed apart and not counted: a process pays them once. The disk cache is off.
Seconds are those of the processor, which other programs hardly lengthen; those of the clock stand beside
them. Set ``OMP_NUM_THREADS=1`` for one core.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

ONE_ESTIMATE = 2.0
"""Seconds that one estimate may take."""
ONE_SEARCH = 10.0
"""Seconds that a search for the largest batch may take, its two traces and its confirmation included."""
ARCHITECTURES = ("unet", "resenc_unet", "mednext_s", "mednext_l", "basic_unet", "monai_unet")
BUDGET = 24 * 10**9


class Seconds(NamedTuple):
    """How long something took."""

    processor: float
    clock: float

    def __str__(self) -> str:
        """For the table."""
        return f"{self.processor:.2f} s ({self.clock:.2f} s on the clock)"


def _seconds(run: Callable[[], object]) -> Seconds:
    processor, clock = time.process_time(), time.perf_counter()
    run()
    return Seconds(time.process_time() - processor, time.perf_counter() - clock)


def _warm() -> None:
    from voxplan.planning.memory import estimate_training_memory

    estimate_training_memory("basic_unet", patch_size=(32, 32, 32), batch_size=1)


def main(argv: Sequence[str] | None = None) -> int:
    """Print seconds; exit 1 if something took longer than promised."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--architectures", nargs="+", default=ARCHITECTURES)
    options = parser.parse_args(argv)
    os.environ["VOXPLAN_CACHE"] = "off"
    from voxplan.planning.memory import MemoryModel, estimate_training_memory, largest_batch

    print(f"imports and first trace: {_seconds(_warm)}")
    slow = []
    for name in options.architectures:
        estimate = _seconds(partial(estimate_training_memory, name, patch_size=(128, 128, 128), batch_size=2))
        search = _seconds(partial(largest_batch, MemoryModel(name), (64, 64, 64), BUDGET))
        print(f"{name}: estimate {estimate}, largest batch {search}", flush=True)
        if estimate.processor > ONE_ESTIMATE or search.processor > ONE_SEARCH:
            slow.append(name)
    if slow:
        print(f"slower than promised ({ONE_ESTIMATE} s, {ONE_SEARCH} s): {', '.join(slow)}", file=sys.stderr)
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
