"""The house's import rules: one direction, no heavy library where it does not belong."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("profiling", "plans", "planning", "scripts")
ALLOWED = {
    "profiling": {"profiling"},
    "plans": {"plans", "profiling"},
    "planning": {"planning", "plans", "profiling"},
    "scripts": {"scripts", "planning", "plans", "profiling"},
}
PLANS_MAY_USE = ("voxplan.profiling.formats", "voxplan.profiling.fingerprint")
TORCH_FREE = ("torch", "monai", "matplotlib")


def modules(folder: str) -> list[Path]:
    """Every Python file of a top-level folder."""
    return sorted((ROOT / folder).rglob("*.py"))


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(path: Path) -> Iterator[str]:
    """Absolute names of all that a module imports, lazily or not, relative imports resolved."""
    yield from (name for names in named_by(path, ast.walk(_tree(path))) for name in names)


def named_by(path: Path, nodes: Iterable[ast.AST]) -> Iterator[tuple[str, ...]]:
    """Of every import among the nodes: the module, and what is taken from it, which may be modules."""
    parts = ("voxplan", *path.relative_to(ROOT).with_suffix("").parts)
    package = parts[:-1]
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((alias.name,) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            stem = ".".join((*base, *([node.module] if node.module else [])))
            yield from ((stem, f"{stem}.{alias.name}") for alias in node.names)


def module_name(path: Path) -> str:
    """Import name of a file."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(("voxplan", *(parts[:-1] if parts[-1] == "__init__" else parts)))


@pytest.mark.parametrize("folder", FOLDERS)
def test_imports_run_one_way(folder: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules(folder)
        for name in imported(path)
        if name.startswith("voxplan.") and name.split(".")[1] not in ALLOWED[folder]
    ]
    assert not wrong


def test_plans_use_only_formats_and_fingerprint_of_profiling() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules("plans")
        for name in imported(path)
        if name.startswith("voxplan.profiling.") and not name.startswith(PLANS_MAY_USE)
    ]
    assert not wrong


def test_profiling_never_names_torch() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules("profiling")
        for name in imported(path)
        if name.split(".")[0] in ("torch", "monai")
    ]
    assert not wrong


def test_profiling_and_plans_schema_import_without_torch() -> None:
    """In a process where torch, monai and matplotlib cannot be imported at all."""
    names = [module_name(path) for path in modules("profiling")]
    names += ["voxplan.plans", "voxplan.plans.schema", "voxplan.plans.document", "voxplan.plans.build"]
    names += ["voxplan.plans.architectures", "voxplan.scripts.profile_dataset"]
    block = "; ".join(f"sys.modules[{name!r}] = None" for name in TORCH_FREE)
    program = f"import sys; {block}; import " + ", ".join(names)
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


def run_time_imports(body: Iterable[ast.AST]) -> Iterator[ast.Import | ast.ImportFrom]:
    """All imports that are ever run, in functions too; not those below ``if TYPE_CHECKING``."""
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            yield from run_time_imports(node.orelse)
        else:
            yield from run_time_imports(ast.iter_child_nodes(node))


def test_imports_that_are_run_are_found() -> None:
    """The walk below would pass over circles that it does not see."""
    text = (
        "import a\n"
        "if TYPE_CHECKING:\n    import b\nelse:\n    import c\n"
        "def f():\n    with x:\n        import d\n"
        "class C:\n    try:\n        import e\n    except E:\n        import f\n"
        "async def g():\n    return [h async for h in i] or (lambda: 0)\n"
    )
    found = [alias.name for node in run_time_imports([ast.parse(text)]) for alias in node.names]
    assert found == ["a", "c", "d", "e", "f"]


def test_no_module_needs_itself() -> None:
    """No circles among modules, lazy ones included: each can be read, tested and moved without the others."""
    paths = {module_name(path): path for folder in FOLDERS for path in modules(folder)}
    needs: dict[str, set[str]] = {}
    for name, path in paths.items():
        # ``from .package import module`` needs the module, not what else the package's __init__ imports.
        found = (
            [place for place in names if place in paths][-1:]
            for names in named_by(path, run_time_imports([_tree(path)]))
        )
        needs[name] = {place for places in found for place in places} - {name}
    assert needs["voxplan.plans.prepared"] >= {"voxplan.plans.cache_files", "voxplan.plans.sampling"}
    assert "voxplan.plans.case_grid" not in needs["voxplan.plans.prepared"], "for type checkers only"
    try:
        order = list(TopologicalSorter(needs).static_order())
    except CycleError as error:
        pytest.fail(f"imports in a circle: {' <- '.join(error.args[1])}")
    assert len(order) == len(paths)


def test_no_module_is_a_drawer() -> None:
    assert not [
        path for folder in FOLDERS for path in modules(folder) if path.stem in ("utils", "helpers", "misc")
    ]
