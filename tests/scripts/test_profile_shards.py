"""``profile-dataset --shard I/N`` and ``profile-dataset merge``, as a user runs them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from voxplan.profiling.fingerprint import load_fingerprint
from voxplan.profiling.run_lock import output_locked
from voxplan.scripts.profile_dataset import main


def write(path: Path, array: np.ndarray[Any, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.Nifti1Image(array, np.diag([1.0, 1.0, 2.0, 1.0])).to_filename(path)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to be in, with five cases in ``data``."""
    for number in range(5):
        image = np.random.default_rng(number).integers(0, 300, (6, 8, 10)).astype(np.int16)
        write(tmp_path / "data" / "images" / f"c{number}.nii.gz", image)
        write(tmp_path / "data" / "labels" / f"c{number}.nii.gz", (image > 200).astype(np.uint8))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def shards(*arguments: str, of: int = 2, status: int = 0) -> list[str]:
    """Profile all shards; their files."""
    for number in range(1, of + 1):
        assert main(["data", "--jobs", "1", "--shard", f"{number}/{of}", *arguments]) == status
    return sorted(str(path) for path in Path().glob(f"*-of-{of}.shard"))


def test_merged_shards_are_one_run(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "-o", "one.json", "--jobs", "1"]) == 0
    one = capsys.readouterr().out.replace("one.json", "merged.json")
    files = shards("-o", "f.json", "--spacing-order", "zyx")
    said = capsys.readouterr().out
    assert "shard 1/2: 3 of 5 cases\nwritten: f.1-of-2.shard\n" in said
    assert files == ["f.1-of-2.shard", "f.2-of-2.shard"]
    assert not (here / "f.json").exists()
    assert main(["merge", *files, "-o", "merged.json"]) == 0
    assert capsys.readouterr().out == one
    fingerprints = [load_fingerprint(here / name) for name in ("one.json", "merged.json")]
    assert fingerprints[0] == fingerprints[1].model_copy(update={"provenance": fingerprints[0].provenance})
    assert (here / "one.histograms.npz").read_bytes() == (here / "merged.histograms.npz").read_bytes()


def test_the_merged_whole_as_a_page(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = shards("-q")
    assert main(["merge", *files, "-o", "f.json", "--report", "r.html"]) == 0
    assert capsys.readouterr().out.endswith("report: r.html (without pictures: merge reads no data)\n")
    page = (here / "r.html").read_text(encoding="utf-8")
    assert "The report was written without the data at hand." in page
    mean = load_fingerprint(here / "f.json").summary.channels[0].pooled
    assert mean is not None
    assert f"{mean.mean:.4g}" in page
    for case in range(5):
        assert f"c{case}" in page
    for wrong in ("r.txt", "nowhere/r.html"):
        with pytest.raises(SystemExit) as stopped:
            main(["merge", *files, "-o", "f.json", "--report", wrong])
        assert stopped.value.code == 2


def test_two_merges_into_one_file(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = shards("-q")
    with output_locked(Path("f.json")):
        assert main(["merge", *files, "-o", "f.json"]) == 1
    assert f"f.json: process {os.getpid()} on" in capsys.readouterr().err
    assert not Path("f.json").exists()


def test_failures_stand_in_shards_and_in_the_whole(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "data" / "images" / "c1.nii.gz").write_bytes(b"")
    files = shards("-q")
    err = capsys.readouterr().err
    assert err.count("FAILED") == 1, "in the shard that has the case"
    assert "c1.nii.gz" in err
    assert main(["merge", *files, "-o", "f.json", "--json"]) == 0
    out, err = capsys.readouterr()
    assert [failure["id"] for failure in json.loads(out)["failures"]] == ["c1"]
    assert "1 of 5 cases FAILED" in err
    assert main(["merge", *files, "-o", "f.json", "-q", "--strict"]) == 1
    assert main(["data", "--jobs", "1", "--shard", "1/2", "--strict", "-q"]) == 0
    assert main(["data", "--jobs", "1", "--shard", "2/2", "--strict", "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert (said["output"], said["shard"]) == ("fingerprint.2-of-2.shard", "2/2")
    assert [failure["id"] for failure in said["failures"]] == ["c1"]


def test_a_shard_without_cases_and_one_of_failures_are_no_error(here: Path) -> None:
    (here / "data" / "images" / "c1.nii.gz").write_bytes(b"")
    assert main(["merge", *shards("-q", of=7), "-o", "f.json", "-q"]) == 0
    assert len(load_fingerprint(here / "f.json").cases) == 4


def test_nothing_profiled_exits_1(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (here / "data" / "images").iterdir():
        path.write_bytes(b"")
    assert main(["merge", *shards("-q"), "-o", "f.json"]) == 1
    assert not (here / "f.json").exists()
    assert "5 of 5 cases FAILED" in capsys.readouterr().err


def test_what_does_not_belong_together_is_one_line(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = shards("-q")
    for given, word in (
        (files[:1], "1 of 2 shards are missing: 2"),
        ([*files, files[0]], "both are shard 1 of 2"),
        (["data/images/c0.nii.gz"], "is no shard"),
        (["nowhere.shard"], "cannot be read"),
    ):
        assert main(["merge", *given, "-o", "f.json"]) == 1
        err = capsys.readouterr().err
        assert word in err
        assert err.count("\n") == 1
        assert not (here / "f.json").exists()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["data", "--shard", "0/3"], "3/16"),
        (["data", "--shard", "4/3"], "3/16"),
        (["data", "--shard", "3"], "3/16"),
        (["data", "--shard", "1/2", "--report", "r.html"], "give it to profile-dataset merge"),
        (["data", "--backend", "dask"], "--scheduler"),
        (["data", "--backend", "spark"], "--backend"),
        (["data", "--scheduler", "tcp://127.0.0.1:1"], "--backend dask"),
        (["data", "--backend", "dask", "--scheduler", "x", "--jobs", "2"], "--jobs"),
        (["merge"], "SHARD"),
        (["merge", "f.shard"], "--output"),
        (["merge", "f.shard", "-o", "data"], "is a folder"),
        (["merge", "f.shard", "-o", "no/such/f.json"], "does not exist"),
        (["merge", "f.shard", "-o", "f.shard"], "one of the shards"),
    ],
)
def test_wrong_usage_exits_2(
    here: Path, arguments: list[str], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert word in capsys.readouterr().err
