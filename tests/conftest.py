"""Fixtures that every test folder shares: where the real data lies."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

NOT_SET = "VOXPLAN_DATA is not set to the real-data folder"
NO_BROWSER = "no Chromium was found"
REQUIRED = os.environ.get("VOXPLAN_REQUIRE_DATA") == "1"


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is kept on disk is kept for this run of the tests only: never a number from an earlier one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOXPLAN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def _folder(request: pytest.FixtureRequest, relative: str) -> Path:
    """A folder beside the real data; skips loudly, or fails where data is required."""
    root = os.environ.get("VOXPLAN_DATA")
    folder = Path(root, relative).resolve() if root else None
    if folder is not None and folder.is_dir():
        return folder
    why = f"{NOT_SET} (looked for {folder or 'nothing'})"
    if REQUIRED:
        pytest.fail(f"VOXPLAN_REQUIRE_DATA=1, but {why}")
    pytest.skip(why)


@pytest.fixture
def voxplan_data(request: pytest.FixtureRequest) -> Path:
    """The folder with the real volumes (``em_vnc``, ``nnunet_raw``, ``nifti_misc``)."""
    return _folder(request, ".")


@pytest.fixture
def voxplan_golden(request: pytest.FixtureRequest) -> Path:
    """The folder, beside the real volumes, with what nnU-Net itself computed."""
    return _folder(request, "../golden")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say loudly how many promises on real data were not checked (also where workers ran the tests)."""
    skipped = [
        report for report in terminalreporter.stats.get("skipped", []) if NOT_SET in str(report.longrepr)
    ]
    if skipped:
        terminalreporter.section("REAL DATA NOT RUN", sep="!", red=True)
        terminalreporter.line(
            f"{len(skipped)} tests on real data were NOT run: set VOXPLAN_DATA to the data folder."
        )
    blind = [r for r in terminalreporter.stats.get("skipped", []) if NO_BROWSER in str(r.longrepr)]
    if blind:
        terminalreporter.section("BROWSER NOT RUN", sep="!", red=True)
        terminalreporter.line(
            f"{len(blind)} tests of the HTML reports were NOT run: install chromium, or set VOXPLAN_CHROMIUM."
        )
