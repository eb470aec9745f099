"""The wheel contains what the tree does, and installs the console commands."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("profiling", "plans", "planning", "scripts")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """A wheel built from a copy of the tracked tree, so that no build folder is left in the checkout."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in tracked():
        target = source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_file():
            target.write_bytes((ROOT / name).read_bytes())
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)],
        check=True,
        capture_output=True,
    )
    (path,) = out.glob("*.whl")
    return zipfile.ZipFile(path)


def tracked() -> list[str]:
    """Files that git tracks."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in listed.stdout.split("\0") if name]


def expected() -> set[str]:
    """What belongs into the wheel: every module, and the data files that the code reads."""
    data = (".yaml", ".json", ".html", ".css", ".js", "py.typed")
    return {
        f"voxplan/{name}"
        for name in tracked()
        if name.split("/")[0] in FOLDERS
        and not name.startswith(("scripts/benchmarks/", "scripts/fuzzing/"))
        and (name.endswith(".py") or name.endswith(data))
        and (ROOT / name).is_file()
    }


def test_wheel_contains_what_the_tree_does(wheel: zipfile.ZipFile) -> None:
    packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert packed == expected()


def test_wheel_has_the_licence_and_the_commands(wheel: zipfile.ZipFile) -> None:
    (entry_points,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    text = wheel.read(entry_points).decode()
    for command in ("profile-dataset", "plan-experiment", "train-from-plans"):
        assert f"{command} = voxplan.scripts." in text
    assert any(name.endswith("licenses/LICENSE") for name in wheel.namelist())


def test_every_package_folder_is_listed() -> None:
    """setuptools takes an explicit list: a new folder that is missing there would silently stay behind."""
    listed = set(
        tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    )
    folders = {
        "voxplan." + str(Path(name).parent).replace("/", ".")
        for name in tracked()
        if name.endswith(".py")
        and name.split("/")[0] in FOLDERS
        and not name.startswith(("scripts/benchmarks/", "scripts/fuzzing/"))
    }
    assert folders == listed


def test_constraints_pin_every_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pinned = {
        line.split("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if "==" in line
    }
    extras = [name for group in project["optional-dependencies"].values() for name in group]
    needed = {
        name.split(">")[0].split("[")[0].lower().replace("_", "-")
        for name in [*project["dependencies"], *extras]
        if not name.startswith("voxplan")
    }
    assert needed <= pinned, sorted(needed - pinned)


def test_the_scripts_run_nothing_that_the_extras_do_not_install() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [name for group in project["optional-dependencies"].values() for name in group]
    installed = {re.split(r"[>\[]", name)[0].lower() for name in [*project["dependencies"], *extras]}
    used = {
        module
        for script in (ROOT / "scripts").iterdir()
        if script.is_file() and script.suffix in ("", ".sh")
        for module in re.findall(r"-m (\w+)", script.read_text(encoding="utf-8"))
    }
    assert {"pytest", "coverage"} <= used
    assert used - {"pip", "venv", "voxplan"} <= installed
