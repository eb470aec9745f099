"""What is said of data that a newcomer would misread: marks of what is not annotated, time series, 2D."""

from __future__ import annotations

import json
from pathlib import Path

import imagecodecs
import nibabel
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from voxplan.profiling.case import ProfileOptions
from voxplan.profiling.extract import profile_dataset
from voxplan.profiling.fingerprint import Fingerprint
from voxplan.profiling.formats.base import FormatError
from voxplan.profiling.layouts import discover

SHAPE = (4, 20, 24)


def nifti(path: Path, array: NDArray[np.generic]) -> None:
    """An array whose last axes are ZYX, time before them, 2 x 1 x 1 mm."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array.T, np.diag([1, 1, 2, 1])), path)


def profiled(folder: Path) -> Fingerprint:
    return profile_dataset(discover(folder), ProfileOptions(), jobs=1)


def with_labels(folder: Path, *values: int, dtype: type = np.uint8) -> Fingerprint:
    """Two cases whose label maps hold these values besides 0."""
    for case in ("a", "b"):
        nifti(folder / "images" / f"{case}.nii", np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE))
        labels = np.zeros(SHAPE, dtype)
        for place, value in enumerate(values):
            labels[1, place] = value
        nifti(folder / "labels" / f"{case}.nii", labels)
    return profiled(folder)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((1, 255), "label value 255 beside 1: "),
        ((1, 2, 3, 255), "label value 255 beside 1 to 3: "),
        ((255,), None),  # a mask in black and white
        ((51, 102, 255), None),  # classes as grey values
        ((1, 2), None),
        ((1, 3, 255), None),
    ],
)
def test_a_mark_of_what_is_not_annotated_is_asked_about(
    tmp_path: Path, values: tuple[int, ...], said: str | None
) -> None:
    remarks = [text for text in with_labels(tmp_path, *values).summary.warnings if "--ignore-label" in text]
    assert [text.startswith(said or "?") for text in remarks] == ([True] if said else [])


def test_65535_in_uint16_too(tmp_path: Path) -> None:
    (remark,) = with_labels(tmp_path, 1, 65535, dtype=np.uint16).summary.warnings
    assert remark.endswith("say --ignore-label 65535")


def test_declared_labels_are_not_asked_about(tmp_path: Path) -> None:
    root = tmp_path / "Dataset001_Known"
    nifti(root / "imagesTr" / "a_0000.nii", np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE))
    labels = np.zeros(SHAPE, np.uint8)
    labels[1, 1], labels[1, 2] = 1, 255
    nifti(root / "labelsTr" / "a.nii", labels)
    known = {"background": 0, "cell": 1, "ignore": 255}
    said = {"channel_names": {"0": "EM"}, "labels": known, "numTraining": 1, "file_ending": ".nii"}
    (root / "dataset.json").write_text(json.dumps(said))
    assert not [text for text in profiled(root).summary.warnings if "--ignore-label" in text]


def test_a_time_series_is_said_to_be_read_as_channels(tmp_path: Path) -> None:
    series = np.random.default_rng(0).integers(0, 90, (3, *SHAPE)).astype(np.int16)
    nifti(tmp_path / "s1.nii", series)
    nifti(tmp_path / "s2.nii", series + 1)
    found = profiled(tmp_path)
    assert len(found.cases[0].channels) == 3
    (remark,) = found.summary.warnings
    assert remark == (
        "time points are read as channels in 2 cases (s1, s2): cut the series into volumes if one point in "
        "time is one image"
    )


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_images_in_2d_are_told_how_to_be_named(tmp_path: Path, suffix: str) -> None:
    """A folder of numbered images of one size is read as one volume, which is wrong of 2D data."""
    for kind in ("images", "labels"):
        folder = tmp_path / kind
        folder.mkdir()
        for number in range(3):
            image = np.full((20, 24), 1 + number, np.uint8)
            path = folder / f"cell_{number}{suffix}"
            if suffix == ".png":
                path.write_bytes(imagecodecs.png_encode(image))
            else:
                tifffile.imwrite(path, image, photometric="minisblack")
    stacked = discover(tmp_path)
    assert len(stacked.cases) == 1
    globs = [note.rsplit(", ", 1)[1].strip("'") for note in stacked.warnings if "of their own" in note]
    assert globs == [f"{tmp_path}/images/*{suffix}", f"{tmp_path}/labels/*{suffix}"]
    apart = discover(None, images=globs[0], labels=globs[1])
    assert [case.id for case in apart.cases] == ["cell_0", "cell_1", "cell_2"]
    assert not apart.warnings


def test_masks_of_images_that_are_no_slices_are_none_either(tmp_path: Path) -> None:
    """Colour TIFFs beside numbered masks: the masks were one volume, and no name fitted another."""
    for number in range(3):
        for kind, shape, photometric in (("images", (20, 24, 3), "rgb"), ("masks", (20, 24), "minisblack")):
            path = tmp_path / kind / f"im{number}.tif"
            path.parent.mkdir(exist_ok=True)
            tifffile.imwrite(path, np.ones(shape, np.uint8), photometric=photometric)
    found = discover(tmp_path)
    assert [case.id for case in found.cases] == ["im0", "im1", "im2"]
    assert all(case.label is not None for case in found.cases)
    assert not found.failures
    assert not found.warnings


def test_a_folder_without_volumes_says_what_lies_there(tmp_path: Path) -> None:
    for name in ("a1.jpg", "a2.JPG", "readme.txt", ".DS_Store"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(FormatError, match=r"no volume found here \(.*\), only \.jpg \(2\), \.txt \(1\); "):
        discover(tmp_path)
