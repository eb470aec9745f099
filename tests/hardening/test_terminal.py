"""What files say about themselves cannot control the terminal, forge a line, become markup, or be unseen."""

from __future__ import annotations

import ast
import io
import json
import re
from pathlib import Path

import nibabel
import numpy as np
import pytest
from rich.text import Text

from voxplan.planning.report import print_explanation, print_plans, print_warnings
from voxplan.planning.report_html.report import write_report
from voxplan.plans.document import read_document
from voxplan.profiling.report.console import json_lines, printable_lines, safe_console
from voxplan.profiling.report.html.page import page_environment
from voxplan.profiling.report.html.tables import Table, columns, words
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


UNSEEN = "a\u202eb\u2066c\u200bd\ufeffe\u00adf\U000e0041<script>alert(1)</script>\x1b"
"""Marks that turn the direction of writing, zero-width and soft characters, a tag, markup, a control."""
SEEN = "a\\u202eb\\u2066c\\u200bd\\ufeffe\\xadf\\U000e0041&lt;script&gt;alert(1)&lt;/script&gt;\\x1b"


def require_all_seen(page: str) -> None:
    """Nothing in a report, nor in what its script reads, is invisible; the name stands there as text."""
    assert SEEN in page
    assert "<script>alert" not in page
    assert {c for c in page if not c.isprintable()} == {"\n"}
    for rows in re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', page, re.DOTALL):
        assert json.dumps(json.loads(rows), ensure_ascii=False).isprintable()


def test_reports_of_data_sets(data: Path, tmp_path: Path) -> None:
    description = data / "dataset.json"
    content = json.loads(description.read_text(encoding="utf-8"))
    changes = {"name": UNSEEN, "channel_names": {"0": UNSEEN}, "labels": {"background": 0, UNSEEN: 1, "b": 2}}
    description.write_text(json.dumps({**content, **changes}))
    report = tmp_path / "report.html"
    given = [str(data), "-o", str(tmp_path / "f.json"), "-j", "1", "-q", "--report", str(report)]
    assert profile_dataset.main(given) == 0
    require_all_seen(report.read_text(encoding="utf-8"))


def test_rows_that_a_script_adds_to_a_report() -> None:
    cells = [[words(f"{number} {UNSEEN}")] for number in range(3)]
    table = Table(key="t", caption=UNSEEN, columns=columns("name"), rows=cells, page=1)
    source = '{% from "parts.html" import table %}{{ table(t) }}'
    page = page_environment().from_string(source).render(t=table)
    require_all_seen(page)
    assert page.count("application/json") == 1


def test_reports_of_plans(tmp_path: Path, make_plans_text: str) -> None:
    content = json.loads(make_plans_text)
    content["dataset"]["name"] = UNSEEN
    content["dataset"]["channel_names"] = [UNSEEN]
    content["dataset"]["normalization"][0]["channel"] = UNSEEN
    content["plans"]["unet/3d_fullres"]["decisions"] = {"patch_size": {"by": "rule", "why": UNSEEN}}
    path = tmp_path / "plans.json"
    path.write_text(json.dumps(content))
    write_report(read_document(path), tmp_path / "report.html")
    require_all_seen((tmp_path / "report.html").read_text(encoding="utf-8"))


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
        tree = ast.parse(path.read_text(encoding="utf-8"))
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        names = {node.func.id for node in calls if isinstance(node.func, ast.Name)}
        assert not names & {"print", "Console"}, path.name
