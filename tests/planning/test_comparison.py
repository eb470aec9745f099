"""What ``plan-experiment diff`` says: values that people can read, each with the decision that is its own."""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from voxplan.planning.comparison import Difference, differences
from voxplan.planning.planner import make_plans
from voxplan.planning.report import print_differences
from voxplan.plans.schema import PlansDocument

Make = Callable[..., Any]
NAME = "monai_unet/3d_fullres"


@pytest.fixture
def make_document(make_fingerprint: Make, make_hardware: Make) -> Callable[..., PlansDocument]:
    """A plan of one network for volumes of 64 x 128 x 128 voxels."""

    def make(memory: float = 8, gpus: int = 1, **overrides: Any) -> PlansDocument:
        return make_plans(
            make_fingerprint(shapes=((64, 128, 128),) * 30),
            make_hardware(*(memory,) * gpus),
            architectures=["monai_unet"],
            only=["3d_fullres"],
            overrides={"patch_size": [32, 64, 64], "batch_size": 8, **overrides},
        )

    return make


def _by_field(before: PlansDocument, after: PlansDocument) -> dict[str, Difference]:
    return {found.field: found for found in differences(before, after)}


def test_equal_documents_have_no_differences(make_document: Make) -> None:
    assert differences(make_document(), make_document()) == ()


def test_values_are_for_people(make_document: Make) -> None:
    found = _by_field(make_document(8), make_document(24, gpus=2, task="affinity", affinity_offsets=3))
    assert found["gpus"].before == "test 8 GB (8.0 GiB)"
    assert found["gpus"].after == "test 24 GB (24.0 GiB), test 24 GB (24.0 GiB)"
    assert (found["offsets"].before, found["offsets"].after) == (
        "none",
        "(-1 x 0 x 0), (0 x -1 x 0), (0 x 0 x -1)",
    )
    assert found["memory.parts.activations"].before.endswith(" GiB")
    assert not any("{" in one.before + one.after or "=" in one.before + one.after for one in found.values())


def test_each_value_has_its_own_reason(make_document: Make) -> None:
    plain = make_document()
    other = make_document(batch_size=2, inference_overlap=0.25, lr=3e-4)
    found = {one.field: one for one in differences(plain, other) if one.where == NAME}
    assert found["batch_size"].why_after == "[user] set to 2 by the user"
    # The windows at once follow from the training batch; the user has not set them.
    assert found["inference.batch_size"].why_before.startswith("[rule] the patch as window")
    assert found["inference.batch_size"].why_after == "[rule] the patch as window, the user's overlap"
    assert found["inference.overlap"].why_after == "[user] set to 0.25 by the user"
    assert found["optimizer.lr"].why_after == "[user] set to 0.0003 by the user"
    assert found["memory.total"].why_after.startswith("[hardware] one step traced")


def test_units_are_those_of_the_field(make_document: Make) -> None:
    """Millions of voxels are no gibibytes, and little memory is memory, too."""
    before = make_document()
    plan = before.plans[NAME]
    memory = plan.memory.model_copy(
        update={
            "context": 300 * 1024**2,
            "parts": {**plan.memory.parts, "workspace": 512 * 1024, "gradients": 2048},
            "measured": {"batch_size": 2, "process": 3 * 1024**3},
        }
    )
    schedule = plan.schedule.model_copy(update={"steps_per_epoch": 2_000_000})
    after = before.model_copy(
        update={
            "dataset": before.dataset.model_copy(update={"training_voxels": 60_000_000}),
            "hardware": before.hardware.model_copy(update={"shared_memory": 64 * 1024**2}),
            "plans": {NAME: plan.model_copy(update={"memory": memory, "schedule": schedule})},
        }
    )
    found = _by_field(before, after)
    # 30 cases of 64 x 128 x 128.
    assert found["training_voxels"].before == "31,457,280"
    assert found["training_voxels"].after == "60,000,000"
    assert found["schedule.steps_per_epoch"].after == "2,000,000"
    assert found["shared_memory"].after == "64.0 MiB"
    assert found["memory.context"].after == "0.29 GiB"
    assert found["memory.parts.workspace"].after == "0.5 MiB"
    assert found["memory.parts.gradients"].after == "2,048 bytes"
    assert found["memory.measured.process"].after == "3.00 GiB"
    assert found["memory.measured.batch_size"].after == "2"


def test_bytes_are_bytes_and_other_large_numbers_are_not(make_document: Make) -> None:
    before, after = make_document(), make_document(base_features=16, steps_per_epoch=5_000_000)
    found = _by_field(before, after)
    name = next(iter(before.plans))
    for field in ("optimizer", "parameters"):
        count = before.plans[name].memory.parts[field]
        shown = found[f"memory.parts.{field}"].before
        assert shown.endswith((" GiB", " MiB", " bytes")), shown
        number, unit = shown.split()
        size = {"GiB": 2**30, "MiB": 2**20, "bytes": 1}[unit]
        assert float(number.replace(",", "")) * size == pytest.approx(count, rel=0.06)
    assert found["schedule.steps_per_epoch"].after == "5,000,000"


def test_values_that_differ_do_not_look_the_same(make_document: Make) -> None:
    before = make_document()
    plan = before.plans[NAME]
    memory = plan.memory.model_copy(update={"total": plan.memory.total + 1})
    after = before.model_copy(update={"plans": {NAME: plan.model_copy(update={"memory": memory})}})
    (found,) = differences(before, after)
    assert found.field == "memory.total"
    assert (found.before, found.after) == (f"{plan.memory.total:,} bytes", f"{plan.memory.total + 1:,} bytes")


def test_reasons_that_many_values_share_are_said_once(make_document: Make) -> None:
    found = differences(make_document(8), make_document(8, patch_size=[32, 32, 32]))
    console = Console(file=StringIO(), width=80)
    print_differences(found, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert text.count("  memory.") > 3
    assert text.count("one step traced at this patch and batch") == 1
