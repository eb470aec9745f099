"""docs/auto_config.md says what the code does: signatures, keys, architectures, and the tables of figures."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from voxplan import planning
from voxplan.planning import AutoConfigPlanner, AutoPlanResult
from voxplan.planning.auto_config.keys import KNOWN
from voxplan.planning.auto_config.networks import NETWORKS
from voxplan.planning.auto_config.settings import FIELDS
from voxplan.scripts.benchmarks import documented_auto_config as figures

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "auto_config.md").read_text(encoding="utf-8")
WORDS = " ".join(PAGE.split())
UPDATE = "python scripts/benchmarks/documented_auto_config.py --update docs/auto_config.md"


def table(name: str) -> list[str]:
    begin, end = figures.markers(name)
    return PAGE.split(begin)[1].split(end)[0].strip().splitlines()


def call(name: str, function: Callable[..., Any]) -> str:
    """As the page writes it: names and defaults without types."""
    signature = inspect.signature(function)
    bare = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in signature.parameters.values()
        if parameter.name != "self"
    ]
    parameters = inspect.Signature(bare)
    return f"{name}{parameters}".replace("'", '"')


@pytest.mark.parametrize("name", [name for name in planning.__all__ if name != "AutoPlanResult"])
def test_signatures(name: str) -> None:
    assert call(name, getattr(planning, name)) in WORDS


@pytest.mark.parametrize("name", ["plan", "print_plan"])
def test_signatures_of_the_planner(name: str) -> None:
    assert call(f"AutoConfigPlanner.{name}", getattr(AutoConfigPlanner, name)) in WORDS


def test_fields_of_a_result_and_overrides() -> None:
    assert f"`{', '.join(field.name for field in dataclasses.fields(AutoPlanResult))}`" in WORDS
    assert f"Overrides (`{', '.join(FIELDS)}`)" in WORDS


def test_every_key_is_named() -> None:
    for key in KNOWN:
        section, _, name = key.partition(".")
        listed = WORDS.split(f"`{section}.{{")[-1].split("}`")[0].split(", ")
        assert f"`{key}`" in WORDS or name in listed


@pytest.mark.parametrize("name", NETWORKS)
def test_features_of_each_architecture(name: str) -> None:
    row = next(line for line in PAGE.splitlines() if line.startswith("| `") and f"`{name}`" in line)
    assert f"| {NETWORKS[name].base_features} to {NETWORKS[name].max_features} |" in row


def test_tables_have_the_rows_of_the_script() -> None:
    assert len(table("deep supervision")) == 2 + len(figures.SUPERVISED)
    assert len(table("documented")) == 2 + sum(map(len, (figures.MEMORY, figures.HALVED, figures.SUGGESTED)))


@pytest.mark.parametrize(
    ("name", "row", "step"),
    [
        ("deep supervision", figures.supervised_row, figures.SUPERVISED[0]),
        ("deep supervision", figures.supervised_row, figures.SUPERVISED[3]),
        ("documented", figures.memory_row, figures.MEMORY[0]),
        ("documented", figures.memory_row, figures.MEMORY[2]),
        ("documented", figures.halved_row, figures.HALVED[0]),
        ("documented", figures.suggested_row, figures.SUGGESTED[2]),
    ],
)
def test_figures_are_those_of_the_script(name: str, row: Callable[..., str], step: tuple[Any, ...]) -> None:
    """A cheap part of them; all are written by the command."""
    assert row(*step) in table(name), f"the memory model has changed: {UPDATE}"


def test_the_script_writes_between_the_markers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "TABLES", {"documented": lambda: "| new |"})
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- documented: begin -->\nold\n<!-- documented: end -->\nafter\n")
    assert figures.main(["--update", str(page)]) == 0
    assert page.read_text() == (
        "before\n<!-- documented: begin -->\n| new |\n<!-- documented: end -->\nafter\n"
    )
    page.write_text("no markers")
    assert figures.main(["--update", str(page)]) == 2
    assert page.read_text() == "no markers"
