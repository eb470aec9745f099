"""The plans that the documentation shows are what the planner writes, and what training can load."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from voxplan.plans.document import read_document
from voxplan.scripts.benchmarks.example_plans import EXAMPLES, example_text

FOLDER = Path(str(resources.files("voxplan.plans.examples")))
REMEDY = "python -m voxplan.scripts.benchmarks.example_plans"


def without_versions(text: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(text)
    for key in ("version", "torch_version"):
        del content["provenance"][key]
    return content


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_example_is_what_is_planned(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOXPLAN_CACHE", "off")  # what is planned now, not what was planned here once
    written = (FOLDER / f"{name}.json").read_text(encoding="utf-8")
    assert without_versions(written) == without_versions(example_text(name)), REMEDY


def test_every_example_loads() -> None:
    found = sorted(path.stem for path in FOLDER.glob("*.json"))
    assert found == sorted(EXAMPLES)
    for name in found:
        document = read_document(FOLDER / f"{name}.json")
        assert document.recommended in document.plans
        assert set(next(iter(document.plans.values())).limits) == {"patch_size", "batch_size"}
