"""What is kept on disk, what never is, and what a broken cache does."""

from __future__ import annotations

import copy
import gzip
import json
import os
import shutil
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from monai.networks.nets.basic_unet import BasicUNet
from torch import Tensor

from voxplan.planning.memory import estimate_training_memory
from voxplan.planning.memory import request as request_module
from voxplan.plans.architectures import get_architecture


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VOXPLAN_CACHE", str(tmp_path))
    return tmp_path / "memory"


def _estimate(architecture: Any = "basic_unet", **options: Any) -> Any:
    return estimate_training_memory(architecture, **{"patch_size": (32, 32), "batch_size": 2, **options})


def _count_traces(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    traces: list[int] = []
    real = request_module.Request.trace

    def counted(self: Any, **options: Any) -> Any:
        traces.append(1)
        return real(self, **options)

    monkeypatch.setattr(request_module.Request, "trace", counted)
    return traces


def test_a_second_estimate_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    traces = _count_traces(monkeypatch)
    first = _estimate()
    assert _estimate() == first
    assert len(traces) == 1
    assert len(list(folder.iterdir())) == 1
    # Anything that changes the answer is another file.
    for options in (
        {"batch_size": 3},
        {"precision": "bf16"},
        {"compute_capability": (9, 0)},
        {"optimizer": "sgd"},
    ):
        _estimate(**options)
    assert len(traces) == 5


def test_callables_are_never_kept(folder: Path) -> None:
    def loss(outputs: Tensor, target: Tensor) -> Tensor:
        return outputs.sum()

    _estimate(lambda: BasicUNet(2, 1, 2))
    _estimate(loss=loss)
    assert not folder.exists()


def test_an_architecture_that_only_shares_a_name_is_never_kept(folder: Path) -> None:
    _estimate(copy.copy(get_architecture("basic_unet")))
    assert not folder.exists()


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """The packages once more, to be edited."""
    root = tmp_path / "copy"
    for name in ("profiling", "plans", "planning"):
        package = Path(str(resources.files(f"voxplan.{name}")))
        shutil.copytree(package, root / "voxplan" / name, ignore=shutil.ignore_patterns("__pycache__"))
    return root


def test_other_code_is_another_estimate(folder: Path, copied: Path) -> None:
    """A step that keeps one tensor longer was answered from the days before it did."""
    program = (
        "from voxplan.planning.memory import estimate_training_memory as estimate\n"
        "print(estimate('basic_unet', patch_size=(32, 32), batch_size=2).total)"
    )

    def run() -> None:
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONPATH": str(copied)},
            cwd=copied,
            check=True,
            capture_output=True,
        )

    run()
    run()
    assert len(list(folder.iterdir())) == 1
    for kept, edited in enumerate(("planning/memory/step.py", "plans/losses.py"), start=2):
        with (copied / "voxplan" / edited).open("a", encoding="utf-8") as file:
            file.write("# edited\n")
        run()
        assert len(list(folder.iterdir())) == kept


BROKEN = {
    "empty": b"",
    "no-gzip": b"no gzip",
    "cut-json": gzip.compress(b"{"),
    "another-shape": gzip.compress(b"[]"),
    "missing-fields": gzip.compress(b'{"timeline": [], "notes": []}'),
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=list(BROKEN))
def test_a_broken_file_is_computed_again(folder: Path, content: bytes) -> None:
    first = _estimate()
    (path,) = folder.iterdir()
    path.write_bytes(content)
    assert _estimate() == first
    assert json.loads(gzip.decompress(path.read_bytes()))["total"] == first.total


def test_a_folder_that_cannot_be_written_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("")
    monkeypatch.setenv("VOXPLAN_CACHE", str(blocker))
    assert _estimate().total > 0


def test_xdg_cache_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VOXPLAN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    _estimate()
    assert list((tmp_path / "voxplan" / "memory").iterdir())
