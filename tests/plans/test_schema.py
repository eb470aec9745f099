"""The schema: frozen, strict about names, importable without torch."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
from pydantic import ValidationError

from voxplan.plans.schema import LossChoice, OptimizerChoice, PlansDocument, ScheduleChoice

HEAVY = ("torch", "monai", "matplotlib", "lightning")
CHECK = f"import sys, {{}}; print([name for name in {HEAVY} if name in sys.modules])"


@pytest.mark.parametrize(
    "imported",
    [
        "voxplan.plans",
        "voxplan.plans.schema",
        "voxplan.plans.document",
        "voxplan.plans.consistency",
        "voxplan.plans.build",
        "voxplan.plans.architectures",
        "voxplan.plans.examples",
    ],
)
def test_no_torch_at_import(imported: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", CHECK.format(imported)], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"


def test_a_typo_never_passes() -> None:
    with pytest.raises(ValidationError, match="weigth_decay"):
        OptimizerChoice(name="adamw", lr=1e-3, weigth_decay=0.1)  # type: ignore[call-arg]


def test_values_are_bounded() -> None:
    with pytest.raises(ValidationError, match="greater than 0"):
        OptimizerChoice(name="sgd", lr=-1.0)
    with pytest.raises(ValidationError, match="finite number"):
        OptimizerChoice(name="sgd", lr=float("inf"))
    with pytest.raises(ValidationError, match="'poly', 'cosine' or 'constant'"):
        ScheduleChoice(name="plateau", epochs=1, steps_per_epoch=1)  # type: ignore[arg-type]


def test_models_are_frozen() -> None:
    choice = LossChoice(name="bce")
    with pytest.raises(ValidationError, match="frozen"):
        choice.name = "dice_ce"  # type: ignore[misc]


def test_json_and_back_is_the_same(make_document: Callable[..., PlansDocument]) -> None:
    document = make_document()
    assert PlansDocument.model_validate_json(document.model_dump_json(), strict=True) == document


def test_channels_are_counted_by_name(make_document: Callable[..., PlansDocument]) -> None:
    names = ("T1", "T2", "FLAIR")
    normalization = [{"channel": name, "scheme": "none"} for name in names]
    dataset = make_document(channel_names=names, normalization=normalization).dataset
    assert dataset.in_channels == 3
