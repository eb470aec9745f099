"""The README's tour, command by command and block by block, in a fresh folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).resolve().parent.parent / "README.md").read_text(encoding="utf-8")


def tour(language: str) -> list[str]:
    """Code blocks of a language that stand behind a ``<!-- tour -->`` mark."""
    return re.findall(rf"<!-- tour -->\n```{language}\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.timeout(600)
def test_the_tour_runs_and_prints_what_is_shown(tmp_path: Path) -> None:
    commands = [
        line.removeprefix("$ ") for block in tour("console") for line in block.splitlines() if line.strip()
    ]
    assert len(commands) >= 5
    bin_folder = str(Path(sys.executable).parent)
    env = {**os.environ, "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}", "PYTHONSAFEPATH": "1"}
    env["COLUMNS"] = "80"
    printed = {}
    for command in commands:
        ran = subprocess.run(
            command, shell=True, cwd=tmp_path, env=env, capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, f"{command}\n{ran.stdout}\n{ran.stderr}"
        printed[command] = ran.stdout
    shown = re.search(r"```text\n(GPU  .*?)```", README, flags=re.DOTALL)
    assert shown is not None
    first = next(command for command in commands if command.startswith("plan-experiment"))
    assert without_machine(shown[1]) == without_machine(printed[first])
    (program,) = tour("python")
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("(16, 48, 48) 2 ")


def without_machine(text: str) -> list[str]:
    """Lines without blanks at their ends, and without the one that tells cores and memory of this machine."""
    return [line.rstrip() for line in text.strip().splitlines() if not line.startswith("machine")]


def test_the_summary_shown_is_the_one_printed(tmp_path: Path) -> None:
    from voxplan.scripts.phantom import write_phantom

    write_phantom(tmp_path / "data")
    program = "import sys; from voxplan.scripts.profile_dataset import main; sys.exit(main(sys.argv[1:]))"
    words = ["data/hdf5", "--image-key", "raw", "--label-key", "labels", "-o", "fingerprint.json"]
    ran = subprocess.run(
        [sys.executable, "-c", program, *words],
        cwd=tmp_path,
        env={**os.environ, "COLUMNS": "80"},
        capture_output=True,
        text=True,
        check=True,
    )
    shown = re.search(r"```text\n(hdf5  .*?)```", README, flags=re.DOTALL)
    assert shown is not None
    tidy = "\n".join(line.rstrip() for line in ran.stdout.strip().splitlines())

    def without_bytes(text: str) -> str:
        """The compressed size depends on the version of HDF5."""
        return re.sub(r"\(.* stored\)", "", text)

    assert without_bytes(tidy) == without_bytes(shown[1].strip())
