"""docs/training.md, command by command and block by block, in a fresh folder."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "training.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """Code blocks of a language that stand behind a ``<!-- run -->`` mark."""
    return re.findall(rf"<!-- run -->\n```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


def test_no_python_block_is_left_out() -> None:
    assert len(blocks("python")) == PAGE.count("```python") == 4


@pytest.mark.timeout(900)
def test_the_page_runs(tmp_path: Path) -> None:
    """All Python blocks in one process, each in a namespace of its own."""
    env = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONSAFEPATH": "1",
        "OMP_NUM_THREADS": "1",
    }
    commands = [line.removeprefix("$ ") for block in blocks("console") for line in block.splitlines()]
    assert len(commands) == 4
    for command in commands:
        ran = subprocess.run(
            command, shell=True, cwd=tmp_path, env=env, capture_output=True, encoding="utf-8", check=False
        )
        assert ran.returncode == 0, f"{command}\n{ran.stdout}\n{ran.stderr}"
    (tmp_path / "blocks.json").write_text(json.dumps(blocks("python")))
    program = (
        "import json\n"
        "for number, block in enumerate(json.load(open('blocks.json'))):\n"
        "    exec(compile(block, f'block {number}', 'exec'), {'__name__': f'block{number}'})\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert "StepDone(step=2" in ran.stdout
    assert "Validated(step=2" in ran.stdout
    assert "'predicted': {" in ran.stdout
    assert (tmp_path / "checkpoint.pt").is_file()
