"""A fingerprint that others made may say anything: one that contradicts itself is refused, no plans made."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from voxplan.profiling.fingerprint import FingerprintError, load_fingerprint
from voxplan.scripts import plan_experiment, profile_dataset


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The content of a fingerprint of two labelled cases, as the program writes it."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(1)
    for name in ("images", "labels"):
        (folder / name).mkdir()
        for number in range(2):
            image = nibabel.Nifti1Image(rng.integers(0, 3, (9, 8, 7)).astype(np.uint8), np.eye(4))
            image.to_filename(folder / name / f"{number}.nii")
    assert profile_dataset.main([str(folder), "-o", str(folder / "f.json"), "-j", "1", "-q"]) == 0
    content: dict[str, Any] = json.loads((folder / "f.json").read_text())
    return content


def refused(content: Any, path: Path) -> str:
    path.write_text(json.dumps(content))
    with pytest.raises(FingerprintError) as caught:
        load_fingerprint(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


WRONG = {
    "cases.0.shape": [0, 8, 9],
    "cases.1.shape": [7, -8, 9],
    "cases.0.shape_after_crop": [5, 5, 500],
    "cases.0.crop_box": [[5, 0], [0, 8], [0, 9]],
    "cases.1.crop_box": [[0, 10**30], [0, 8], [0, 9]],
    "cases.0.spacing.values": [1.0, 0.0, 1.0],
    "cases.1.spacing.values": [1.0, -1.0, 1e308],
    "cases.0.stored_bytes": -1,
    "cases.0.dtype": "(2,(i4",
    "cases.1.label_dtype": "object",
    "cases.0.class_voxels": {"0": 7, "1": -1},
    "cases.0.channels.0.crop.count": 0,
    "cases.0.channels.0.nonzero.std": -1.0,
    "cases.1.channels.0.foreground.percentile_00_5": 1e300,
    "cases.1.id": "0",
    "cases": [],
    "summary.cases": 3,
    "summary.failures": 1,
    "summary.channels": [{"region": "nonzero", "case_weighted": None, "pooled": None}] * 2,
    "summary.shape.median": [7.0, 8.0, 1e300],
    "summary.shape.min": [0.0, 8.0, 9.0],
    "summary.shape_after_crop.percentile_90": [1.0, 1.0, 1.0],
    "summary.spacing.median": [-1.0, 1.0, 1.0],
    "summary.spacing.min": [0.0, 1.0, 1.0],
    "summary.anisotropy": 0.0,
    "summary.median_relative_size_after_cropping": 1e9,
    "summary.voxels": -1,
    "summary.channels.0.pooled.min": 1e9,
    "summary.channels.0.case_weighted.count": -3,
    "summary.class_frequencies": {"background": 2.0, "class_1": -1.0},
    "dataset.channel_names": ["a", "b"],
    "dataset.labels.classes": {"background": [0], "x": []},
}


@pytest.mark.parametrize("place", WRONG)
def test_what_contradicts_itself_is_refused(place: str, good: dict[str, Any], tmp_path: Path) -> None:
    content: Any = copy.deepcopy(good)
    *way, last = place.split(".")
    inner = content
    for step in way:
        inner = inner[int(step)] if isinstance(inner, list) else inner[step]
    inner[int(last) if isinstance(inner, list) else last] = WRONG[place]
    reason = refused(content, tmp_path / "f.json")
    assert "contradicts itself" in reason
    assert reason.count(place.split(".")[0]) > 0


@pytest.mark.parametrize("value", [2**64, -(2**64), 10**30])
def test_label_values_of_no_type(value: int, good: dict[str, Any], tmp_path: Path) -> None:
    content = copy.deepcopy(good)
    content["dataset"]["labels"]["classes"] = {"background": [0], "x": [value]}
    assert "of no type of voxels" in refused(content, tmp_path / "f.json")


def test_what_the_program_writes_is_taken(good: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "f.json"
    path.write_text(json.dumps(good))
    assert load_fingerprint(path).model_dump(mode="json") == good


@pytest.mark.parametrize("named", [True, False], ids=["dataset-json", "folders"])
@pytest.mark.parametrize("preset", [[], ["--preset", "nnunet"]], ids=["plan", "preset"])
def test_plans_from_headers_alone(
    named: bool, preset: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Such a fingerprint is a good one, with nothing to normalize by; the reason once was one of ``zip``."""
    images, labels, suffix = ("imagesTr", "labelsTr", "_0000") if named else ("images", "labels", "")
    for name in (images, labels):
        (tmp_path / "data" / name).mkdir(parents=True)
    voxels = nibabel.Nifti1Image(np.ones((9, 8, 7), np.uint8), np.eye(4))
    voxels.to_filename(tmp_path / "data" / images / f"a{suffix}.nii")
    voxels.to_filename(tmp_path / "data" / labels / "a.nii")
    if named:
        description = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "x": 1}}
        content = json.dumps({**description, "numTraining": 1, "file_ending": ".nii"})
        (tmp_path / "data" / "dataset.json").write_text(content)
    output, plans = tmp_path / "f.json", tmp_path / "p.json"
    assert profile_dataset.main([str(tmp_path / "data"), "-o", str(output), "-q", "--headers-only"]) == 0
    load_fingerprint(output)
    assert plan_experiment.main([str(output), "-o", str(plans), "--cpu", "--ram", "8", *preset]) == 2
    told = capsys.readouterr().err
    assert "--headers-only" in told
    assert told.count("\n") == 1
    assert not plans.exists()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"shapes_after_crop": [[0, 50, 60]]}, "at least 1"),
        ({"shapes_after_crop": [[-4, 50, 60]]}, "at least 1"),
        ({"spacings": [[1e308, 1e-308, 1.0]]}, "positive finite"),
        ({"median_relative_size_after_cropping": 5.0}, "share of 1"),
        ({"std": -1.0}, "not negative"),
        ({"percentile_00_5": 5.0}, "ascend"),
        ({"mean": float("inf")}, "finite"),
        ({"channel_names": {"0": "CT", "1": "MR"}}, "channels"),
    ],
    ids=str,
)
def test_nnunet_s_own_fingerprint(
    change: dict[str, Any], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    channel = {"max": 1.0, "mean": 0.5, "median": 0.5, "min": 0.0, "std": 0.1}
    channel |= {"percentile_00_5": 0.0, "percentile_99_5": 1.0}
    channel |= {key: value for key, value in change.items() if key in channel}
    numbers = {
        "foreground_intensity_properties_per_channel": {"0": channel},
        "median_relative_size_after_cropping": 1.0,
        "shapes_after_crop": [[40, 50, 60]],
        "spacings": [[1.0, 1.0, 1.0]],
    }
    described: dict[str, Any] = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "x": 1}}
    described |= {"numTraining": 1, "file_ending": ".nii.gz"}
    for content in (numbers, described):
        content |= {key: value for key, value in change.items() if key in content}
    (tmp_path / "dataset_fingerprint.json").write_text(json.dumps(numbers))
    (tmp_path / "dataset.json").write_text(json.dumps(described))
    words = [
        str(tmp_path / "dataset_fingerprint.json"),
        "-o",
        str(tmp_path / "p.json"),
        "--cpu",
        "--ram",
        "8",
    ]
    assert plan_experiment.main(words) == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1
