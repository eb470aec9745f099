"""A sample of the sweep: real plans keep their promises, and broken ones are caught."""

from __future__ import annotations

from math import prod

import pytest

from voxplan.planning.planner import make_plans
from voxplan.planning.traced_memory import Models
from voxplan.plans.schema import Limit, PlansDocument
from voxplan.scripts.benchmarks.plan_sweep import CARDS_GB, card, find_problems, make_table, sweep_task
from voxplan.scripts.benchmarks.sweep_data import SWEPT

LIMITS: set[str] = set(Limit.__args__)  # type: ignore[attr-defined]


def test_thirty_different_data_sets() -> None:
    assert len(SWEPT) == len({data.name for data in SWEPT}) == 30
    for data in SWEPT:
        fingerprint = data.fingerprint()
        assert len(fingerprint.cases) == data.cases
        assert fingerprint.summary.shape.median == pytest.approx(data.shape, rel=0.01)


@pytest.mark.parametrize(
    ("data", "architecture"), [("snemi3d", "monai_unet"), ("hippocampus", "basic_unet"), ("thin", "unet")]
)
def test_sample_of_the_sweep(data: str, architecture: str) -> None:
    swept = next(item for item in SWEPT if item.name == data)
    rows = sweep_task(swept, architecture)
    assert [row.card for row in rows] == list(CARDS_GB)
    for row in rows:
        assert row.problems == ()
        assert row.plan is not None
        assert {row.patch_limit, row.batch_limit} <= LIMITS - {"user", "compute"}
    ordered = sorted(rows, key=lambda row: row.card)
    work = [prod(row.patch) * row.batch for row in ordered]
    assert work == sorted(work)
    assert "| **all** | 6 |" in make_table([{**_as_dict(row)} for row in rows])


def _as_dict(row: object) -> dict[str, object]:
    from dataclasses import asdict

    return asdict(row)  # type: ignore[call-overload, no-any-return]


@pytest.fixture(scope="module")
def sound() -> tuple[PlansDocument, Models]:
    swept = next(item for item in SWEPT if item.name == "snemi3d")
    models: Models = {}
    document = make_plans(
        swept.fingerprint(), card(11), architectures=["monai_unet"], only=["3d_fullres"], models=models
    )
    return document, models


NAME = "monai_unet/3d_fullres"


def broken(document: PlansDocument, **changes: object) -> PlansDocument:
    return document.model_copy(update={"plans": {NAME: document.plans[NAME].model_copy(update=changes)}})


def test_promises_are_checked_by_traces_of_their_own(sound: tuple[PlansDocument, Models]) -> None:
    document, _ = sound
    assert list(find_problems(document, NAME)) == []


def test_broken_promises_are_caught(sound: tuple[PlansDocument, Models]) -> None:
    document, models = sound
    plan = document.plans[NAME]
    assert list(find_problems(document, NAME, models)) == []
    roomier = plan.memory.model_copy(update={"budget": 2 * plan.memory.budget})
    said = " ".join(find_problems(broken(document, memory=roomier), NAME, models))
    assert "would fit as well" in said
    tighter = plan.memory.model_copy(update={"budget": plan.memory.total - 1})
    assert "takes" in " ".join(find_problems(broken(document, memory=tighter), NAME, models))
    limits = {"patch_size": "median shape", "batch_size": "dataset share"}
    said = " ".join(find_problems(broken(document, limits=limits), NAME, models))
    assert "limited by the median shape, but" in said
    said = " ".join(find_problems(broken(document, limits=limits, batch_size=3), NAME, models))
    assert "batch 3 is said to be 5 % of the data, which are 2" in said
    limits = {"patch_size": "memory", "batch_size": "compute"}
    assert "limited by 'compute'" in " ".join(find_problems(broken(document, limits=limits), NAME, models))
