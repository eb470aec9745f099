"""Every fenced block of docs/ runs, page by page, in a fresh folder; and the site builds.

How pages are written so that this works stands in CONTRIBUTING.md ("Documentation").
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from voxplan.scripts.phantom import main as phantom
from voxplan.scripts.plan_experiment import main as plan_experiment
from voxplan.scripts.profile_dataset import main as profile_dataset
from voxplan.scripts.train_from_plans import main as train_from_plans

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted((ROOT / "docs").rglob("*.md"))
COMMANDS: Mapping[str, Callable[[Sequence[str]], int]] = {
    "profile-dataset": profile_dataset,
    "plan-experiment": plan_experiment,
    "train-from-plans": train_from_plans,
    "python -m voxplan.scripts.phantom": phantom,
}
"""Run in this process, which has torch imported already."""
SHOWN = ("text", "json", "yaml", "toml", "mermaid")
"""Languages of blocks that are read, not run; data must be well-formed."""
RUN = ("console", "bash", "python")
BLOCK = re.compile(
    r"^(?:<!-- (?P<mark>(?:(?!-->).)*) -->\n\n?)?(?P<indent> *)```(?P<language>\S*)[^\n]*\n"
    r"(?P<body>.*?)^(?P=indent)```\s*$",
    flags=re.DOTALL | re.MULTILINE,
)
NOT_RUN = re.compile(r"not run: (?P<why>.{10,})")
MOST_NOT_RUN = 1 / 3
"""Share of the runnable blocks that may be left out with a reason."""


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    page: Path
    line: int
    language: str
    body: str
    not_run: str | None
    """Why it is not run."""

    @property
    def where(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = []
    for match in BLOCK.finditer(text):
        line = text.count("\n", 0, match.start("language")) + 1
        indent = len(match["indent"])
        body = "\n".join(row[indent:] for row in match["body"].splitlines()) + "\n"
        reason = NOT_RUN.fullmatch(match["mark"] or "")
        found.append(Block(page, line, match["language"], body, reason["why"] if reason else None))
    return found


def test_every_fence_is_found_and_has_a_known_language() -> None:
    for page in PAGES:
        fences = len(re.findall(r"^ *```", page.read_text(encoding="utf-8"), flags=re.MULTILINE))
        assert fences == 2 * len(blocks_of(page)), f"{page}: a fence that is not closed, or not understood"
        for block in blocks_of(page):
            assert block.language in (*RUN, *SHOWN), f"{block.where}: language {block.language!r}"


def test_few_blocks_are_left_out_and_each_says_why(record_property: Callable[[str, object], None]) -> None:
    runnable = [block for page in PAGES for block in blocks_of(page) if block.language in RUN]
    left_out = [block for block in runnable if block.not_run]
    record_property("not run", [f"{block.where}: {block.not_run}" for block in left_out])
    assert len(left_out) <= MOST_NOT_RUN * len(runnable), [block.where for block in left_out]


def test_no_command_hides_in_an_indented_block() -> None:
    """Only fenced blocks are run."""
    for page in PAGES:
        outside = BLOCK.sub("", page.read_text(encoding="utf-8"))
        hidden = re.findall(
            r"^    (?:\$ )?(?:profile-dataset|plan-experiment|train-from-plans) .*", outside, re.M
        )
        assert not hidden, f"{page}: {hidden}"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What every page finds but the tutorials, which begin in an empty folder.

    ``data/`` with phantom volumes in three formats; ``fingerprint.json`` of those in NIfTI; ``plans.json``, a
    UNet for a small CPU budget on those in HDF5; and, as in a clone, ``plans/`` and ``scripts/``.
    """
    folder = tmp_path_factory.mktemp("docs")
    with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()):
        assert phantom(["data"]) == 0
        assert (
            profile_dataset(["data/nifti/Dataset900_Phantom", "-o", "fingerprint.json", "-j", "1", "-q"]) == 0
        )
        keys = ["--image-key", "raw", "--label-key", "labels"]
        assert profile_dataset(["data/hdf5", *keys, "-o", "hdf5.json", "-j", "1", "-q"]) == 0
        network = ["--architecture", "unet", "--configuration", "3d_fullres", "--set", "patch_size=16,48,48"]
        assert plan_experiment(["hdf5.json", "--cpu", "--ram", "4", *network, "-o", "plans.json", "-q"]) == 0
    for part in ("plans", "scripts"):
        (folder / part).symlink_to(ROOT / part)
    return folder


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "page",
    [p for p in PAGES if any(b.language in RUN and not b.not_run for b in blocks_of(p))],
    ids=lambda p: p.stem,
)
def test_page_runs(page: Path, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "here"
    if page.parent.name == "tutorials":
        folder.mkdir()  # a tutorial makes what it needs: it is followed literally
    else:
        shutil.copytree(prepared, folder, symlinks=True)
    monkeypatch.chdir(folder)
    bin_folder = str(Path(sys.executable).parent)
    monkeypatch.setenv("PATH", f"{bin_folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONSAFEPATH", "1")
    monkeypatch.setenv("COLUMNS", "80")
    # Five small cases take less time than starting worker processes for them.
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    monkeypatch.setenv("VOXPLAN_CACHE", str(prepared / "cache"))
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks_of(page):
        if block.not_run or block.language not in RUN:
            continue
        if block.language == "python":
            run_python(block, names)
        else:
            run_commands(block)


def run_python(block: Block, names: dict[str, Any]) -> None:
    """One page's blocks share their names, as in one session."""
    code = compile("\n" * block.line + block.body, str(block.page), "exec")
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("default")
        exec(code, names)


def run_commands(block: Block) -> None:
    for command, shown in commands_of(block):
        status, output = run_command(command)
        assert status == 0, f"{block.where}: {command}\nended with {status}\n{output}"
        printed = {" ".join(line.split()) for line in output.splitlines()}
        for line in shown:
            assert line in printed, f"{block.where}: {command}\ndoes not print\n  {line}\nbut\n{output}"


def commands_of(block: Block) -> Iterator[tuple[str, list[str]]]:
    """Commands, continued lines joined; in console blocks with the output lines that are shown below."""
    lines = iter(block.body.replace("\\\n", " ").splitlines())
    if block.language == "bash":
        yield from ((line, []) for line in lines if line.strip() and not line.startswith("#"))
        return
    command, shown = None, []
    for line in lines:
        if line.startswith("$ "):
            if command:
                yield command, shown
            command, shown = line.removeprefix("$ "), []
        elif line.strip() and line.strip() not in ("…", "..."):
            shown.append(" ".join(line.split()))
    assert command, f"{block.where}: a console block without a line that begins with '$ '"
    yield command, shown


def run_command(command: str) -> tuple[int, str]:
    """Our own commands in this process, anything else in a shell."""
    words = shlex.split(command, comments=True)
    plain = not re.search(r"[|&;<>$*`]", command)
    for name, main in COMMANDS.items():
        parts = name.split()
        if plain and words[: len(parts)] == parts:
            return in_process(main, words[len(parts) :])
    ran = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    return ran.returncode, ran.stdout + ran.stderr


def in_process(main: Callable[[Sequence[str]], int], words: Sequence[str]) -> tuple[int, str]:
    output = io.StringIO()
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(output),
    ):
        warnings.simplefilter("default")
        try:
            status = main(words)
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
    return status, output.getvalue()


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_shown_data_is_well_formed(page: Path) -> None:
    parsers: Mapping[str, Callable[[str], Any]] = {
        "json": json.loads,
        "yaml": yaml.safe_load,
        "toml": tomllib.loads,
    }
    for block in blocks_of(page):
        if block.language in parsers:
            parsers[block.language](block.body)


def test_readme_runs_its_blocks_too() -> None:
    """tests/test_readme.py runs those with a tour mark; the others must say why they are not run."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for match in BLOCK.finditer(text):
        if match["language"] in RUN:
            mark = match["mark"] or ""
            assert mark == "tour" or NOT_RUN.fullmatch(mark), match["body"]


@pytest.mark.timeout(600)
def test_the_site_builds(tmp_path: Path) -> None:
    """Strict: a dead link, a missing page or an unknown name of the API is an error."""
    ran = subprocess.run(
        [
            sys.executable,
            "-m",
            "mkdocs",
            "build",
            "--strict",
            "--quiet",
            "--site-dir",
            str(tmp_path / "site"),
        ],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    schema = json.loads((tmp_path / "site" / "reference" / "plans.schema.json").read_text(encoding="utf-8"))
    assert "ExperimentPlan" in schema["$defs"]
    api = (tmp_path / "site" / "reference" / "api" / "index.html").read_text(encoding="utf-8")
    assert "Plan.build_network" in api or "build_network" in api
    files = (tmp_path / "site" / "reference" / "files" / "index.html").read_text(encoding="utf-8")
    assert 'id="voxplan.profiling.fingerprint.IntensityStatistics.median"' in files, (
        "a field without docstring"
    )
    for page in (tmp_path / "site").rglob("*.html"):
        roles = re.findall(r":(?:class|meth|func|data|mod|attr|exc):.{30}", page.read_text(encoding="utf-8"))
        assert not roles, f"{page}: Sphinx roles are shown as they are written: {roles}"
