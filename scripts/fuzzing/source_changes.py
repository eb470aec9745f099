"""Small changes of a source file, one at a time: what mutation testing puts in its place.

Operators: comparisons and arithmetic exchanged, numbers moved by one, conditions negated, ``and`` for ``or``,
``min`` for ``max``, returns emptied.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}
NAMES = {"min": "max", "max": "min", "any": "all", "all": "any", "floor": "ceil", "ceil": "floor"}


@dataclass(frozen=True)
class Change:
    """One mutant."""

    file: str
    line: int
    what: str
    text: str
    """The whole changed source."""


def changes(path: Path, source: str | None = None) -> Iterator[Change]:
    """Every mutant of a file (or of a ``source`` in its place), but of what only types or documents."""
    tree = ast.parse(path.read_text(encoding="utf-8") if source is None else source)
    count = sum(1 for _ in _sites(tree))
    for number in range(count):
        changed = copy.deepcopy(tree)
        node, what, apply = list(_sites(changed))[number]
        apply()
        line = getattr(node, "lineno", 0)
        yield Change(
            path.relative_to(ROOT).as_posix(), line, what, ast.unparse(ast.fix_missing_locations(changed))
        )


def _sites(tree: ast.AST) -> Iterator[tuple[ast.AST, str, Any]]:
    """Places, what happens there, and the function that does it."""
    for node in _code(tree):
        if isinstance(node, ast.Compare):
            for i, op in enumerate(node.ops):
                if (other := COMPARISONS.get(type(op))) is not None:
                    what = f"{type(op).__name__} -> {other.__name__}"
                    yield node, what, lambda n=node, i=i, o=other: n.ops.__setitem__(i, o())
        elif isinstance(node, ast.BinOp | ast.AugAssign) and type(node.op) in ARITHMETIC:
            new = ARITHMETIC[type(node.op)]
            yield (
                node,
                f"{type(node.op).__name__} -> {new.__name__}",
                lambda n=node, o=new: setattr(n, "op", o()),
            )
        elif isinstance(node, ast.BoolOp):
            swapped = ast.Or if isinstance(node.op, ast.And) else ast.And
            yield node, f"-> {swapped.__name__}", lambda n=node, o=swapped: setattr(n, "op", o())
        elif isinstance(node, ast.If | ast.While | ast.IfExp):
            yield node, "condition negated", lambda n=node: setattr(n, "test", ast.UnaryOp(ast.Not(), n.test))
        elif isinstance(node, ast.Constant) and _is_number(node.value):
            number: Any = node.value
            yield node, f"{number} -> {number + 1}", lambda n=node, v=number: setattr(n, "value", v + 1)
        elif isinstance(node, ast.Name) and node.id in NAMES and isinstance(node.ctx, ast.Load):
            yield node, f"{node.id} -> {NAMES[node.id]}", lambda n=node: setattr(n, "id", NAMES[n.id])
        elif isinstance(node, ast.Return) and node.value is not None and not _is_none(node.value):
            yield node, "returns None", lambda n=node: setattr(n, "value", ast.Constant(None))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _code(tree: ast.AST) -> Iterator[ast.AST]:
    """Nodes that run: no annotations, no messages of exceptions, no documentation."""
    for name, value in ast.iter_fields(tree):
        if name in ("annotation", "returns", "decorator_list"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or isinstance(child, ast.JoinedStr | ast.Raise):
                continue
            yield child
            yield from _code(child)
