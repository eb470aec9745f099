"""Checkpoints that are damaged, cut short or of other programs: a CheckpointError that names the file."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from voxplan.plans import checkpoint
from voxplan.plans.checkpoint import FORMAT, VERSION, CheckpointError, load_checkpoint, load_plan

WHOLE: dict[str, Any] = {
    "format": FORMAT,
    "version": VERSION,
    "plan": {"name": "x", "experiment": "{}", "dataset": "{}"},
    "step": 1,
    "batch_size": 2,
    **{name: {} for name in ("network", "optimizer", "scheduler", "scaler")},
}
CONTENTS: dict[str, Any] = {
    "list": [1],
    "format-alone": {"format": FORMAT},
    "version-of-text": {**WHOLE, "version": "x"},
    "plan-without-fields": WHOLE,
    "plan-of-no-fields": {**WHOLE, "plan": {}},
    "plan-list": {**WHOLE, "plan": [1]},
    "plan-none": {**WHOLE, "plan": None},
    "plan-deep": {**WHOLE, "plan": {"name": "x", "experiment": "[" * 100_000, "dataset": "{}"}},
    "step-of-text": {**WHOLE, "step": "x"},
    "step-negative": {**WHOLE, "step": -5},
    "lightning-number": {"voxplan": 5},
    "lightning-none": {"voxplan": None},
    "lightning-plan": {"voxplan": {"plan": 5}},
}


@pytest.mark.parametrize("name", CONTENTS)
def test_contents_of_another_form(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save(CONTENTS[name], path)
    for load in (load_checkpoint, load_plan):
        with pytest.raises(CheckpointError) as caught:
            load(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [b"", b"PK\x03\x04" + bytes(99), bytes(range(256)), pickle.dumps({"a": 1})],
    ids=["empty", "zip", "noise", "pickle"],
)
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
def test_bytes_of_another_form(content: bytes, tmp_path: Path) -> None:
    """What torch says of them advises to load them unsafely; that is not passed on."""
    path = tmp_path / "a.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    assert str(path) in str(caught.value)
    assert "weights_only" not in str(caught.value)


def test_every_field_that_is_written_is_required(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    for name in checkpoint.CONTENT:
        torch.save({key: value for key, value in WHOLE.items() if key != name}, path)
        with pytest.raises(CheckpointError, match=f"has no {name}"):
            load_checkpoint(path)
