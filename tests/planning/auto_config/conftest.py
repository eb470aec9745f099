"""Estimates are kept for this run of the tests only: never numbers from an earlier one."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def _fresh_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("estimates")


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, _fresh_cache: Path) -> None:
    monkeypatch.setenv("VOXPLAN_CACHE", str(_fresh_cache))
