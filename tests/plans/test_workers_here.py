"""A plan on a machine that it was not made for: fewer workers, and a cache that fits."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from voxplan.plans.build import Plan
from voxplan.plans.data import make_dataset
from voxplan.plans.schema import Decision
from voxplan.plans.workers_here import batch_bytes, workers_by_shared_memory, workers_here
from voxplan.profiling.formats.base import CaseSource, VolumeSource

PlanMaker = Callable[..., Plan]
MIB = 2**20


def on_cores(plan: Plan, count: int, folder: Path) -> str:
    """What a process that may use so many cores makes of a plan's workers, and what it says."""
    (folder / "plan.json").write_text(plan.experiment.model_dump_json())
    (folder / "dataset.json").write_text(plan.dataset.model_dump_json())
    program = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:int(sys.argv[2])])\n"
        "from voxplan.plans.build import Plan\n"
        "from voxplan.plans.schema import DatasetPlan, ExperimentPlan\n"
        "from voxplan.plans.workers_here import workers_here\n"
        "folder = Path(sys.argv[1])\n"
        "experiment = ExperimentPlan.model_validate_json((folder / 'plan.json').read_text())\n"
        "dataset = DatasetPlan.model_validate_json((folder / 'dataset.json').read_text())\n"
        "print(workers_here(Plan('test', experiment, dataset)), flush=True)\n"
    )
    command = [sys.executable, "-c", program, str(folder), str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout + done.stderr


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores cannot be taken away here")
def test_fewer_cores_than_planned_for(make_plan: PlanMaker, tmp_path: Path) -> None:
    plan = make_plan(loader={"workers": 8})
    said = on_cores(plan, 1, tmp_path)
    assert said.startswith("0\n")
    assert "the plan has 8 loader workers, this machine bears 0: limited by its cores" in said
    if len(os.sched_getaffinity(0)) > 1:
        assert on_cores(plan, 2, tmp_path).startswith("1\n")
    stated = {"workers": Decision(by="user", why="set to 8 by the user")}
    by_user = Plan(plan.name, plan.experiment.model_copy(update={"decisions": stated}), plan.dataset)
    assert on_cores(by_user, 1, tmp_path) == "8\n"


def test_a_plan_that_fits_stays(make_plan: PlanMaker, caplog: pytest.LogCaptureFixture) -> None:
    assert workers_here(make_plan(loader={"workers": 0})) == 0
    assert not caplog.text


def test_batches_that_wait_in_shared_memory(make_plan: PlanMaker) -> None:
    """fp32 image of one channel and int16 classes, 2 x 8 x 16 x 16; two of them wait for each worker."""
    plan = make_plan()
    size = 2 * 8 * 16 * 16 * (4 + 2)
    assert batch_bytes(plan.experiment, plan.dataset) == size
    assert workers_by_shared_memory(64 * MIB, 16 * MIB, 1) == 1
    assert workers_by_shared_memory(64 * MIB - 1, 16 * MIB, 1) == 0
    assert workers_by_shared_memory(128 * MIB, 16 * MIB, 2) == 1
    assert workers_by_shared_memory(64 * MIB, 2**30, 1) == 0


@pytest.mark.parametrize(("kind", "cache"), [("nii.gz", "disk"), ("nii", "none")])
def test_a_cache_that_memory_cannot_hold(
    kind: str, cache: str, make_plan: PlanMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planned for a machine with more: the same patches from the disk, or from the files, and a warning."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (12, 40, 32)).astype(np.uint8)
    labels = rng.integers(0, 3, image.shape).astype(np.uint8)
    sources = []
    for name, array in (("image", image), ("label", labels)):
        path = tmp_path / f"{name}.{kind}"
        sitk.WriteImage(sitk.GetImageFromArray(array), str(path))
        sources.append(VolumeSource(paths=(path,)))
    case = CaseSource(id="a", images=(sources[0],), label=sources[1])
    plan = make_plan(loader={"cache": "ram"})
    options: dict[str, Any] = {"training": False, "cache_folder": tmp_path / "cache"}
    needed = 2 * image.size
    monkeypatch.setattr("voxplan.plans.data.holdable_ram", lambda _: needed)
    roomy = make_dataset(plan, [case], **options)
    assert (roomy.reader.cache, roomy.warnings) == ("ram", ())
    monkeypatch.setattr("voxplan.plans.data.holdable_ram", lambda _: needed - 1)
    small = make_dataset(plan, [case], **options)
    assert small.reader.cache == cache
    (warning,) = small.warnings
    assert warning.startswith("the plan caches in RAM, but its volumes take")
    assert ("cached on disk" in warning) == (cache == "disk")
    small.prepare()
    assert small.held_bytes() == 0
    for index in range(4):
        assert torch.equal(small[index]["image"], roomy[index]["image"])
        assert torch.equal(small[index]["target"], roomy[index]["target"])
    monkeypatch.setenv("VOXPLAN_CACHE", "off")
    assert make_dataset(plan, [case], training=False).reader.cache == "none"
