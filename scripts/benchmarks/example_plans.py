"""Write the ``plans.json`` files that the documentation shows.

    python -m voxplan.scripts.benchmarks.example_plans        # writes plans/examples/*.json

A test makes them again and compares, so that they never fall behind the program.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from .sweep_data import SWEPT

if TYPE_CHECKING:
    from voxplan.plans.schema import PlansDocument
    from voxplan.profiling.fingerprint import Fingerprint

GIB = 1024**3
CREATED = "2026-01-01T00:00:00+00:00"
"""Time that stands in the examples, so that writing them again changes nothing."""


def _fingerprint(name: str) -> Fingerprint:
    return next(data for data in SWEPT if data.name == name).fingerprint()


def em_rtx3090() -> PlansDocument:
    """One isotropic EM volume on an RTX 3090: the default architectures, 3D."""
    from voxplan.planning.gpus import stated_gpu
    from voxplan.planning.planner import make_plans
    from voxplan.plans.schema import Hardware

    machine = Hardware(
        gpus=(stated_gpu("RTX 3090"),),
        ram=64 * GIB,
        ram_available=56 * GIB,
        cores=16,
        shared_memory=32 * GIB,
        stated=True,
    )
    options = {"gpu": "RTX 3090", "configuration": "3d_fullres"}
    return make_plans(_fingerprint("lucchi"), machine, only=["3d_fullres"], options=options)


def heart_cpu() -> PlansDocument:
    """Cardiac MR on a laptop without a GPU: a UNet of half the width."""
    from voxplan.planning.planner import make_plans
    from voxplan.plans.schema import Hardware

    machine = Hardware(
        gpus=(), ram=16 * GIB, ram_available=12 * GIB, cores=8, shared_memory=8 * GIB, stated=True
    )
    return make_plans(
        _fingerprint("heart"),
        machine,
        architectures=["unet"],
        only=["3d_fullres"],
        overrides={"base_features": 16},
        options={"cpu": "True", "configuration": "3d_fullres", "settings": "base_features=16"},
    )


EXAMPLES: dict[str, Callable[[], PlansDocument]] = {"em_rtx3090": em_rtx3090, "heart_cpu": heart_cpu}
"""Makers by file name without suffix."""


def example_text(name: str) -> str:
    """The file as it is written."""
    document = EXAMPLES[name]()
    provenance = document.provenance.model_copy(update={"created": CREATED})
    return document.model_copy(update={"provenance": provenance}).model_dump_json(indent=1) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Write all examples."""
    default = Path(str(resources.files("voxplan.plans.examples")))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("-o", "--output", type=Path, default=default, metavar="FOLDER")
    options = parser.parse_args(argv)
    for name in EXAMPLES:
        path = options.output / f"{name}.json"
        path.write_text(example_text(name), encoding="utf-8")
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
