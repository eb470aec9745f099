"""What ``profile-dataset`` shows a person: in a real terminal of 80 columns, and in a log."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
import pytest
import tifffile

from voxplan.profiling.fingerprint import load_fingerprint
from voxplan.scripts.profile_dataset import main

COMMAND = (sys.executable, "-m", "voxplan.scripts.profile_dataset")
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
COLOUR = re.compile(r"\x1b\[(?:[0-9;]*;)?(?:3[0-8]|9[0-7])[0-9;]*m")


def write(path: Path, array: np.ndarray[Any, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(array.transpose(), np.diag([1.0, 1.0, 2.0, 1.0]))
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)


def noise(seed: int, shape: tuple[int, ...] = (6, 8, 10)) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(1, 300, shape).astype(np.int16)


@pytest.fixture
def odd_folder(tmp_path: Path) -> Path:
    """Long names, a damaged file, a constant and an empty image."""
    data = tmp_path / "a_folder_of_many_volumes"
    for number in range(8):
        write(
            data / f"patient_with_a_rather_long_name_{number:03}_of_the_first_study_2019.nii.gz",
            noise(number),
        )
    write(data / "constant.nii.gz", np.full((6, 8, 10), 7, np.int16))
    (data / "cut_short.nii.gz").write_bytes(b"\x1f\x8b")
    (data / "empty.nii.gz").write_bytes(b"")
    (data / "notes [draft].txt").write_text("not a volume")
    return data


def lines_shown(said: str) -> list[str]:
    """Lines as they stand on the screen: what a carriage return went over is gone."""
    return [ESCAPE.sub("", line).split("\r")[-1] for line in said.replace("\r\n", "\n").split("\n")]


def test_a_terminal_shows_colour_progress_and_eighty_columns(odd_folder: Path, terminal: Any) -> None:
    run = terminal(*COMMAND, str(odd_folder), "-o", "f.json", "--jobs", "1")
    assert run.finish() == 0
    shown = lines_shown(run.said)
    assert max(len(line.rstrip()) for line in shown) <= 80
    assert COLOUR.search(run.said)
    assert re.search(r"11/11.*/s.*left, .*2 FAILED", ESCAPE.sub("", run.said))
    text = " ".join(" ".join(shown).split())
    assert text.count("constant.nii.gz") == 0
    assert "constant [constant] the image is 7 everywhere" in text
    assert "2 of 11 cases FAILED and are not in the numbers:" in text
    assert "left out, not a volume: notes [draft].txt" in text
    for name in ("cut_short", "empty"):
        assert text.count(f"{name} [") == 1, "each failure is shown once"


def test_no_color(odd_folder: Path, terminal: Any) -> None:
    run = terminal(*COMMAND, str(odd_folder), "-o", "f.json", "--jobs", "1", NO_COLOR="1")
    assert run.finish() == 0
    assert not COLOUR.search(run.said)
    assert "FAILED" in run.said


def test_a_log_has_whole_lines_without_control_characters(
    odd_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(odd_folder), "-o", str(tmp_path / "f.json"), "--jobs", "1"]) == 0
    out, err = capsys.readouterr()
    assert "\x1b" not in out + err
    assert err.splitlines()[0] == "profiling 11 cases with 1 worker"
    assert "done: 11 cases, 2 FAILED" in err
    reasons = [line for line in (out + err).splitlines() if "cut_short [" in line]
    assert len(reasons) == 1
    assert reasons[0].startswith("  cut_short [unreadable] ")
    assert len((out + err).split("cut_short.nii.gz")) == 2, "why it failed is said once"


def test_ctrl_c_keeps_what_is_finished_and_says_how_to_go_on(tmp_path: Path, terminal: Any) -> None:
    data = tmp_path / "data"
    write(data / "c00.nii.gz", noise(0, (60, 200, 200)))
    for number in range(1, 16):
        (data / f"c{number:02}.nii.gz").write_bytes((data / "c00.nii.gz").read_bytes())
    command = (*COMMAND, str(data), "-o", "f.json", "--jobs", "2")
    run = terminal(*command)
    run.read(lambda said: re.search(r"\b[2-9]/16", ESCAPE.sub("", said)) is not None)
    run.interrupt()
    assert run.finish() == 130
    text = " ".join(" ".join(lines_shown(run.said)).split())
    assert "interrupted; finished cases are kept in f.json.journal: run the same command again" in text
    assert "Traceback" not in text
    assert run.said.rindex("\x1b[?25h") > run.said.rindex("\x1b[?25l"), "the cursor is shown again"
    assert not (tmp_path / "f.json").exists()
    again = terminal(*command, "-v")
    assert again.finish() == 0
    text = " ".join(lines_shown(again.said))
    assert "(unchanged)" in text
    assert len(load_fingerprint(tmp_path / "f.json").cases) == 16


def test_remarks_of_the_layout_are_said_when_every_case_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "a.nii.gz").write_bytes(b"")
    (data / "protocol.pdf").write_text("x")
    assert main([str(data), "-o", str(tmp_path / "f.json"), "--jobs", "1"]) == 1
    err = capsys.readouterr().err
    assert "left out, not a volume: protocol.pdf" in err
    assert "1 of 1 case FAILED:" in err
    assert main([str(data), "-o", str(tmp_path / "f.json"), "--jobs", "1", "--json"]) == 1
    assert "protocol.pdf" in json.loads(capsys.readouterr().out)["warnings"][0]


def test_nothing_is_counted_where_there_is_no_case(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "images" / "a.nii", noise(0))
    write(tmp_path / "labels" / "b.nii", noise(0))
    write(tmp_path / "labels" / "c.nii", noise(0))
    assert main([str(tmp_path), "-o", str(tmp_path / "f.json"), "--jobs", "1"]) == 1
    err = capsys.readouterr().err
    assert "profiling 0" not in err
    assert "3 of 3 cases FAILED:" in err


def test_the_default_output_never_replaces_another_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "two"):
        write(tmp_path / name / "a.nii", noise(0))
    monkeypatch.chdir(tmp_path)
    assert main(["one", "--jobs", "1"]) == 0
    before = Path("fingerprint.json").read_bytes()
    for other in ("two", "two/a.nii"):
        with pytest.raises(SystemExit) as caught:
            main([other, "--jobs", "1"])
        assert caught.value.code == 2
        err = capsys.readouterr().err
        assert "fingerprint.json is the fingerprint of one in" in err
        assert "-o " in err
    assert Path("fingerprint.json").read_bytes() == before
    assert main(["one", "--jobs", "1"]) == 0, "the same data set again"
    assert main(["two", "-o", "fingerprint.json", "--jobs", "1"]) == 0, "as the user says"
    assert load_fingerprint(Path("fingerprint.json")).dataset.name == "two"
    Path("fingerprint.json").write_text("{}")
    with pytest.raises(SystemExit):
        main(["two", "--jobs", "1"])
    assert "is no fingerprint" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["semantic", "instance"])
def test_a_kind_of_labels_without_label_maps_is_remarked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    write(tmp_path / "d" / "a.nii", noise(0))
    assert main([str(tmp_path / "d"), "-o", str(tmp_path / "f.json"), "--jobs", "1", "--labels", kind]) == 0
    assert f"the labels are said to be {kind}, but no case has a label map" in capsys.readouterr().out


@pytest.mark.parametrize("cases", [1, 2])
def test_numbers_that_agree_are_shown_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], cases: int
) -> None:
    with_label = tmp_path / "d"
    for number in range(cases):
        write(with_label / "images" / f"{number}.nii", noise(number))
        write(with_label / "labels" / f"{number}.nii", (noise(number) > 100).astype(np.uint8))
    assert main([str(with_label), "-o", str(tmp_path / "f.json"), "--jobs", "1"]) == 0
    out = capsys.readouterr().out
    assert out.count("6 x 8 x 10") == 2, "shape and shape after crop"
    assert out.count("2 x 1 x 1") == 1
    maps = "1 label map" if cases == 1 else "2 label maps"
    assert re.search(rf"1 value besides background in {maps}\s", out)


def test_most_cases_say_how_many_channels_there_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "d"
    data.mkdir()
    for number in range(4):
        with h5py.File(data / f"{number}.h5", "w") as file:
            file["raw"] = noise(number, (3, 6, 8, 10) if number == 2 else (1, 6, 8, 10))
    assert main([str(data), "-o", str(tmp_path / "f.json"), "--jobs", "1", "--axes", "czyx"]) == 0
    fingerprint = load_fingerprint(tmp_path / "f.json")
    assert fingerprint.dataset.channel_names == ("channel_0",)
    assert len(fingerprint.summary.channels) == 1
    assert "2 [channels] has 3 channels, while 3 of 4 cases have 1" in capsys.readouterr().out


def test_many_channels_do_not_fill_the_screen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise(0, (30, 4, 6, 8)).astype(np.uint16), photometric="minisblack")
    assert main([str(path), "-o", str(tmp_path / "f.json"), "--jobs", "1", "--axes", "czyx"]) == 0
    out = capsys.readouterr().out
    assert "24 more channels in the file" in out
    assert len(out.splitlines()) < 30


def test_json_names_what_stands_out(
    odd_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(odd_folder), "-o", str(tmp_path / "f.json"), "--jobs", "1", "--json", "--strict"]
    assert main(arguments) == 1
    out, err = capsys.readouterr()
    said = json.loads(out)
    assert [(one["case_id"], one["kind"]) for one in said["outliers"]] == [("constant", "constant")]
    assert "--strict: 2 cases failed and 1 case stands out" in err
    assert "constant [constant]" in err


def test_verbose_shows_what_is_said_of_single_cases(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "d" / "a.nii", noise(0))
    write(tmp_path / "d" / "b.nii", noise(1, (3, 6, 8, 10)))
    assert main([str(tmp_path / "d"), "-o", str(tmp_path / "f.json"), "--jobs", "1", "-v"]) == 0
    assert "b: 4-D: 3 time points are read as channels" in capsys.readouterr().err


def test_help_fits_eighty_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        main(["--help"])
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


@pytest.mark.parametrize("profiled", [0, 1])
def test_many_failures_do_not_fill_the_screen(
    profiled: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of each kind the first five, and where the rest stands; a rare kind is not hidden by a frequent one."""
    for number in range(60):
        data = tmp_path / "data"
        data.mkdir(exist_ok=True)
        (data / f"c{number:02}.nii.gz").write_bytes(b"" if number < 59 else b"no gzip stream at all")
    if profiled:
        write(tmp_path / "data" / "good.nii.gz", noise(0))
    arguments = [str(tmp_path / "data"), "-o", str(tmp_path / "o.json"), "--jobs", "1"]
    assert main([*arguments, "-q"]) == 1 - profiled
    err = capsys.readouterr().err
    where = "all stand in the file" if profiled else "--json names them all"
    assert f"  and 54 more [empty]; {where}\n" in err
    assert err.count(".nii.gz: ") == 6
    assert "c59 [unreadable]" in err
    assert main([*arguments, "-q", "--json"]) == 1 - profiled
    assert len(json.loads(capsys.readouterr().out)["failures"]) == 60
