"""A second run: what did not change is not computed again, and what did is noticed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import tifffile

from voxplan.profiling.fingerprint import load_fingerprint
from voxplan.scripts.profile_dataset import main

UNCHANGED = "nothing has changed"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    data = tmp_path / "data"
    data.mkdir()
    for number in range(3):
        voxels = np.random.default_rng(number).integers(1, 200, (6, 16, 16), dtype=np.uint8)
        tifffile.imwrite(data / f"c{number}.tif", voxels)
    return data


def run(data: Path, output: Path, *options: str, status: int = 0) -> None:
    assert main([str(data), "-o", str(output), "--jobs", "1", *options]) == status


def test_an_unchanged_data_set_is_answered_from_what_is_written(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "f.json"
    run(folder, output)
    written, table = output.read_bytes(), capsys.readouterr().out
    before = output.stat().st_mtime_ns
    run(folder, output)
    said = capsys.readouterr()
    assert UNCHANGED in said.err
    assert said.out == table
    assert output.read_bytes() == written
    assert output.stat().st_mtime_ns == before


@pytest.mark.parametrize("change", ["touched", "added", "removed", "options", "output edited", "output gone"])
def test_every_change_is_noticed(
    folder: Path, tmp_path: Path, change: str, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "f.json"
    run(folder, output)
    capsys.readouterr()
    options: tuple[str, ...] = ()
    if change == "touched":
        status = (folder / "c1.tif").stat()
        os.utime(folder / "c1.tif", ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    elif change == "added":
        tifffile.imwrite(folder / "c3.tif", np.ones((6, 16, 16), np.uint8))
    elif change == "removed":
        (folder / "c1.tif").unlink()
    elif change == "options":
        options = ("--spacing", "4", "1", "1", "--unit", "nm")
    elif change == "output edited":
        output.write_text(output.read_text() + "\n")
    else:
        output.unlink()
    run(folder, output, *options)
    assert UNCHANGED not in capsys.readouterr().err
    fresh = tmp_path / "g.json"
    run(folder, fresh, "--fresh", *options)
    first, second = (load_fingerprint(path) for path in (output, fresh))
    assert first.model_copy(update={"provenance": second.provenance}) == second
    run(folder, output, *options)
    assert UNCHANGED in capsys.readouterr().err


def test_a_failure_that_another_run_may_not_meet_is_tried_again(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import voxplan.profiling.case as case

    real = case.profile_case

    def short_of_memory(source: case.CaseSource, *rest: object) -> case.CaseResult:
        if source.id == "c1":
            raise MemoryError
        return real(source, *rest)  # type: ignore[arg-type]

    output = tmp_path / "f.json"
    monkeypatch.setattr(case, "profile_case", short_of_memory)
    run(folder, output)
    assert [failure.kind for failure in load_fingerprint(output).failures] == ["memory"]
    monkeypatch.undo()
    run(folder, output)
    assert UNCHANGED not in capsys.readouterr().err
    assert load_fingerprint(output).failures == ()


def test_a_changed_spacing_sidecar_is_noticed(folder: Path, tmp_path: Path) -> None:
    """The sidecar decides the spacing, though it is no file of the case."""
    output = tmp_path / "f.json"
    run(folder, output)
    assert load_fingerprint(output).cases[0].spacing.source == "missing"
    (folder / "c0.json").write_text(json.dumps({"spacing": [4.0, 1.0, 1.0]}))
    run(folder, output)
    assert load_fingerprint(output).cases[0].spacing.values == (4.0, 1.0, 1.0)
    (folder / "c0.json").write_text(json.dumps({"spacing": [5.0, 1.0, 1.0]}))
    run(folder, output)
    assert load_fingerprint(output).cases[0].spacing.values == (5.0, 1.0, 1.0)


@pytest.mark.parametrize("suffix", [".mhd", ".nhdr"])
def test_changed_voxels_of_a_detached_header_are_noticed(tmp_path: Path, suffix: str) -> None:
    data, output = tmp_path / "data", tmp_path / "f.json"
    data.mkdir()
    path = data / f"c0{suffix}"
    for value in (3, 7):
        voxels = sitk.GetImageFromArray(np.full((4, 6, 8), value, np.uint8))
        header = path.read_bytes() if path.exists() else None
        status = path.stat() if path.exists() else None
        sitk.WriteImage(voxels, str(path))
        if header is not None and status is not None:
            assert path.read_bytes() == header
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        run(data, output)
        channel = load_fingerprint(output).summary.channels[0]
        assert channel.pooled is not None
        assert channel.pooled.mean == value
