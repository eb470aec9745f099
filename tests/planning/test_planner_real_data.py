"""Plans for a real serial-section volume: another card, another plan, and every one within its budget."""

from __future__ import annotations

from pathlib import Path

import pytest

from voxplan.planning.hardware import state_hardware
from voxplan.planning.planner import make_plans
from voxplan.plans.architectures import get_architecture
from voxplan.plans.schema import Hardware
from voxplan.profiling.case import ProfileOptions
from voxplan.profiling.extract import profile_dataset
from voxplan.profiling.formats.base import ReadOptions
from voxplan.profiling.layouts import discover

MACHINE = Hardware(gpus=(), ram=64 << 30, ram_available=60 << 30, cores=8, shared_memory=None, stated=True)


@pytest.mark.real_data
def test_every_card_gets_a_plan_of_its_own(voxplan_data: Path) -> None:
    found = discover(
        voxplan_data / "em_vnc" / "vnc.h5",
        image_key="volumes/raw",
        label_key="volumes/labels/mitochondria",
    )
    fingerprint = profile_dataset(found, ProfileOptions(read=ReadOptions()), jobs=1)
    median = fingerprint.cases[0].shape_after_crop
    patches = []
    for memory in (8, 24, 80):
        document = make_plans(fingerprint, state_hardware(gpu_memory_gb=memory, base=MACHINE))
        for name, plan in document.plans.items():
            assert plan.memory.fits, name
            assert plan.memory.total <= plan.memory.budget <= memory << 30
            architecture = get_architecture(plan.architecture.name)
            arguments, axes = plan.architecture.arguments, plan.dimensions
            divisors = architecture.divisors(arguments, axes)
            least = architecture.minimum_patch(arguments, axes)
            for size, divisor, minimum, edge in zip(
                plan.patch_size, divisors, least, median[-axes:], strict=True
            ):
                assert size % divisor == 0
                assert size <= max(-(-edge // divisor) * divisor, minimum), "not above the padded median"
        patches.append(
            tuple(document.plans[name].patch_size for name in ("unet/3d_fullres", "mednext_s/3d_fullres"))
        )
    assert len(set(patches)) == 3
