"""The house's import rules: one direction, no heavy library where it does not belong."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
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


def imported(path: Path) -> Iterator[str]:
    """Absolute names of all that a module imports, lazily or not, relative imports resolved."""
    parts = ("voxplan", *path.relative_to(ROOT).with_suffix("").parts)
    package = parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            stem = ".".join((*base, *([node.module] if node.module else [])))
            yield stem
            yield from (f"{stem}.{alias.name}" for alias in node.names)


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


def test_no_module_is_a_drawer() -> None:
    assert not [
        path for folder in FOLDERS for path in modules(folder) if path.stem in ("utils", "helpers", "misc")
    ]
