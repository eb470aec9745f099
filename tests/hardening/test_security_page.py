"""SECURITY.md names a test for every promise; each of them exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def test_every_named_test_exists() -> None:
    named = NAMED.findall((ROOT / "SECURITY.md").read_text(encoding="utf-8"))
    assert len(named) > 40
    for file, name in named:
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        assert name in defined, f"{file}::{name}"


def test_every_promise_has_a_test() -> None:
    """Rows of the tables of promises end in a test."""
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    promises = text.partition("## Promises")[2].partition("## Out of scope")[0]
    rows = [
        line
        for line in promises.splitlines()
        if line.startswith("|") and not line.startswith(("| Promise", "|---"))
    ]
    assert len(rows) > 35
    assert [row for row in rows if not NAMED.search(row)] == []
