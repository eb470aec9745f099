"""What is kept on disk, what never is, and what a broken cache does."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from monai.networks.nets.basic_unet import BasicUNet
from torch import Tensor

from voxplan.planning.memory import estimate_training_memory
from voxplan.planning.memory import request as request_module


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
