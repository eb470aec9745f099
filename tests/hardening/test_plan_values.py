"""Numbers that no plan can have: the file is refused with the field, before a network or a loader is made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from voxplan.plans import PlansError, load_plans

PLAN = "plans.unet/3d_fullres"
WRONG: list[tuple[str, Any]] = [
    ("dataset.target_spacing", [0.0, 1.0, 1.0]),
    ("dataset.target_spacing", [1.0, -1.0, 1.0]),
    ("dataset.target_spacing", [1.0, 1.0, 1e308]),
    ("dataset.median_shape", [0, 64, 64]),
    ("dataset.median_shape", [64, 64, 10**30]),
    ("dataset.out_channels", 10**9),
    ("dataset.out_channels", 1),
    ("dataset.splits", [{"train": ["a", "b"], "validation": ["b"]}]),
    ("dataset.splits", [{"train_blocks": [{"case": "a", "axis": 3, "start": 0, "stop": 9}]}]),
    ("dataset.splits", [{"validation_blocks": [{"case": "a", "axis": 0, "start": 9, "stop": 9}]}]),
    ("dataset.splits", [{"train_blocks": [{"case": "a", "axis": 0, "start": -5, "stop": 9}]}]),
    ("dataset.case_numbers", {"a": {"mean": [0.0], "std": [-1.0]}}),
    ("dataset.normalization", [{"channel": "EM", "scheme": "ct", "mean": 0, "std": -1, "low": 0, "high": 1}]),
    ("dataset.normalization", [{"channel": "EM", "scheme": "ct", "mean": 0, "std": 1, "low": 2, "high": 1}]),
    (f"{PLAN}.spacing", [0.0, 1.0, 1.0]),
    (f"{PLAN}.median_shape", [-1, 64, 64]),
    (f"{PLAN}.patch_size", [10**9] * 3),
    (f"{PLAN}.inference.window", [0, 32, 32]),
    (f"{PLAN}.inference.window", [10**9] * 3),
    (f"{PLAN}.inference.overlap", 1.0),
    (f"{PLAN}.inference.overlap", -0.5),
    (f"{PLAN}.inference.batch_size", 10**9),
    (f"{PLAN}.batch_size", 10**9),
    (f"{PLAN}.loader.workers", 10**9),
    (f"{PLAN}.loader.oversample_foreground", 1.5),
    (f"{PLAN}.optimizer.weight_decay", -1.0),
    (f"{PLAN}.optimizer.momentum", 1.0),
    (f"{PLAN}.optimizer.eps", -1e-8),
    (f"{PLAN}.optimizer.betas", [0.9, 1.0]),
    (f"{PLAN}.schedule.power", -0.9),
    (f"{PLAN}.schedule.warmup_steps", -1),
    (f"{PLAN}.memory.total", -1),
    (f"{PLAN}.memory.budget", -1),
]


def changed(text: str, place: str, value: Any) -> str:
    content = json.loads(text)
    inner = content
    *way, last = place.split(".")
    for step in way:
        inner = inner[step]
    inner[last] = value
    return json.dumps(content)


@pytest.mark.parametrize(("place", "value"), WRONG, ids=[f"{place}={value}" for place, value in WRONG])
def test_values_that_cannot_be(place: str, value: Any, make_plans_text: str, tmp_path: Path) -> None:
    path = tmp_path / "plans.json"
    path.write_text(make_plans_text)
    load_plans(path)
    path.write_text(changed(make_plans_text, place, value))
    with pytest.raises(PlansError) as caught:
        load_plans(path)
    assert any(problem.location.startswith(place) for problem in caught.value.problems)
    assert str(path) in str(caught.value)


def test_names_in_problems_are_printable(make_plans_text: str, tmp_path: Path) -> None:
    content = json.loads(make_plans_text)
    content["plans"]["\u202e\x1b[31m"] = content["plans"].pop("unet/3d_fullres")
    path = tmp_path / "plans.json"
    path.write_text(json.dumps(content))
    with pytest.raises(PlansError) as caught:
        load_plans(path)
    assert all(line.isprintable() for line in str(caught.value).split("\n"))
    assert "\\u202e" in str(caught.value)
