"""docs/checks.md says of every check what the code does: no row too few, none too many, no number off."""

from __future__ import annotations

import ast
from pathlib import Path

from voxplan.profiling import outliers
from voxplan.profiling.outliers import CHECKS

ROOT = Path(__file__).resolve().parents[3]
DOCUMENT = ROOT / "docs" / "checks.md"


def table(heading: str) -> dict[str, list[str]]:
    """Rows of the table below a heading, by the word in their first cell."""
    section = DOCUMENT.read_text(encoding="utf-8").split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    found = {cells[0].strip("` "): cells[1:] for cells in rows}
    assert len(found) == len(rows), "a kind stands twice"
    return found


def test_what_stands_out_is_documented_word_for_word() -> None:
    words = {"error": "error", "warning": "warning", "no": "–"}
    assert table("Cases that stand out") == {
        check.kind: [check.what, check.rule, words[check.nnunet]] for check in CHECKS
    }


def raised_kinds() -> set[str]:
    """Every kind of failure that the profiler's source can give."""
    kinds = {"unreadable"}  # the default of FormatError
    for path in (ROOT / "profiling").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            values: list[ast.expr] = []
            if node.func.id in ("FormatError", "Failure"):
                values = [keyword.value for keyword in node.keywords if keyword.arg == "kind"]
            elif node.func.id == "CaseError":
                values = node.args[:1]
            for value in values:
                branches = [value.body, value.orelse] if isinstance(value, ast.IfExp) else [value]
                kinds |= {
                    branch.value
                    for branch in branches
                    if isinstance(branch, ast.Constant) and isinstance(branch.value, str)
                }
    return kinds


def test_every_kind_of_failure_is_documented() -> None:
    assert set(table("Cases that fail")) == raised_kinds()


def test_numbers_in_the_rules_are_those_of_the_code() -> None:
    rules = {check.kind: check.rule for check in CHECKS}
    stated = {
        "spacing": (
            f"{outliers.base.MAIN_SHARE:.0%}",
            f"{outliers.base.FEWEST_CASES} cases",
            f"{outliers.base.MODIFIED_Z}",
            f"factor of {outliers.geometry.SPACING_FACTOR:g}",
        ),
        "shape": (f"{outliers.base.MODIFIED_Z}", f"factor of {outliers.geometry.SHAPE_FACTOR:g}"),
        "clipped": (
            f"{outliers.intensities.CLIPPED_SHARE:.0%}",
            f"{outliers.intensities.CLIPPED_TIMES_EVEN:g} times",
        ),
        "intensity": (
            f"factor of {outliers.intensities.WIDTH_FACTOR:g}",
            f"{outliers.base.FEWEST_FOR_SPREAD} cases",
        ),
        "label-share": (
            f"factor of {outliers.labels.SHARE_FACTOR:g}",
            f"{outliers.labels.ABSENT_SHARE:.0%}",
        ),
    }
    for kind, words in stated.items():
        for word in words:
            assert word.replace("%", " %") in rules[kind], (kind, word)
