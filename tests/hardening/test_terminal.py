"""What files say about themselves cannot control the terminal, forge a line, or become markup."""

from __future__ import annotations

import ast
import io
import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from rich.text import Text

from voxplan.planning.report import print_explanation, print_plans, print_warnings
from voxplan.plans.document import read_document
from voxplan.profiling.report.console import json_lines, printable_lines, safe_console
from voxplan.scripts import plan_experiment, profile_dataset

HOSTILE = "x\x1b]0;title\x07\x1b[2J\x9b31m\u202e\r\nforged [/bold] [red]"
CONTROLS = ("\x1b", "\x07", "\x9b", "\u202e", "\r", "\x00", "\x7f")
ROOT = Path(profile_dataset.__file__).resolve().parent


def require_harmless(text: str) -> None:
    assert text
    assert not [c for c in CONTROLS if c in text]
    assert not [line for line in text.splitlines() if line.startswith("forged")]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder of nnU-Net's whose dataset.json is hostile in every string."""
    folder = tmp_path / "data"
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    rng = np.random.default_rng(1)
    for number in range(2):
        voxels = rng.integers(0, 3, (6, 7, 8)).astype(np.uint8)
        nibabel.Nifti1Image(voxels, np.eye(4)).to_filename(folder / f"imagesTr/c{number}_0000.nii")
        nibabel.Nifti1Image(voxels, np.eye(4)).to_filename(folder / f"labelsTr/c{number}.nii")
    content = {
        "name": HOSTILE,
        "channel_names": {"0": HOSTILE},
        "labels": {"background": 0, HOSTILE: 1, f"b{HOSTILE}": 2},
        "numTraining": 3,
        "file_ending": ".nii",
    }
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize("more", [[], ["-v"], ["--json"], ["--json", "--fresh", "--strict"]])
def test_profile_dataset(
    data: Path, tmp_path: Path, more: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert profile_dataset.main([str(data), "-o", str(tmp_path / "f.json"), "-j", "1", *more]) in (0, 1)
    told = capfd.readouterr()
    require_harmless(told.out + told.err)
    if "--json" in more:
        assert json.loads(told.out)["dataset"]["channel_names"] == [HOSTILE]
    else:
        assert "x\\x1b]0;titl" in told.out


def test_errors_that_quote_a_file(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "plans.json"
    path.write_text(json.dumps({"format_version": 1, HOSTILE: 1}))
    assert plan_experiment.main(["diff", str(path), str(path)]) == 2
    require_harmless(capfd.readouterr().err)


def test_tables_of_plans(tmp_path: Path, make_plans_text: str) -> None:
    content = json.loads(make_plans_text)
    content["dataset"]["name"] = HOSTILE
    content["dataset"]["channel_names"] = [HOSTILE]
    content["dataset"]["normalization"][0]["channel"] = HOSTILE
    content["plans"]["unet/3d_fullres"]["decisions"] = {"patch_size": {"by": "rule", "why": HOSTILE}}
    path = tmp_path / "plans.json"
    path.write_text(json.dumps(content))
    document = read_document(path)
    file = io.StringIO()
    console = safe_console(file=file, width=200)
    print_plans(document, console)
    print_explanation(document, console)
    print_warnings(document, console)
    require_harmless(file.getvalue())
    assert "\\x1b" in file.getvalue()


def test_colours_of_the_program_stay() -> None:
    file = io.StringIO()
    console = safe_console(file=file, force_terminal=True, color_system="standard", width=80)
    console.print(Text.assemble(("good", "red"), "\x1b[2J"))
    assert file.getvalue() == "\x1b[31mgood\x1b[0m\\x1b[2J\n"


def test_json_with_escapes_means_the_same() -> None:
    value = {HOSTILE: ["\U000e0001", "é", "脳", "\u2028"]}
    text = json_lines(json.dumps(value, ensure_ascii=False, indent=1))
    assert json.loads(text) == value
    assert all(line.isprintable() for line in text.split("\n"))
    assert "é" in text


def test_lines_stay_lines() -> None:
    assert printable_lines("a\nb\tc") == "a\nb\\tc"


def test_the_commands_print_by_no_other_way() -> None:
    """Their modules call neither ``print`` nor a console of rich's own."""
    for path in ROOT.glob("*.py"):
        if path.name in ("phantom.py", "completion.py"):  # print nothing that a file says
            continue
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        names = {node.func.id for node in calls if isinstance(node.func, ast.Name)}
        assert not names & {"print", "Console"}, path.name
