"""Defects planted in files on disk: each is named, with its case and its reason, and clean data have none."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import tifffile

from voxplan.profiling.case import ProfileOptions
from voxplan.profiling.extract import profile_dataset
from voxplan.profiling.fingerprint import Fingerprint
from voxplan.profiling.layouts import discover
from voxplan.profiling.outliers import CHECKS

CASES = 12
SHAPE = (16, 24, 28)
"""ZYX."""
ODD = "c07"
Array = np.ndarray[Any, Any]


class Case:
    """One case as it goes to disk; a test spoils one of them."""

    def __init__(self, number: int) -> None:
        rng = np.random.default_rng(number)
        self.image: Array = np.clip(rng.normal(120 + number, 25, SHAPE), 1, 900).astype(np.float32)
        self.label: Array = np.zeros(SHAPE, np.uint8)
        self.label[4:12, 6:18, 6 : 18 + number % 3] = 1
        self.label[6:10, 8:12, 8:12] = 2
        self.image[self.label > 0] += 60
        self.affine: Array = np.diag([-0.5, -0.5, 1.25, 1.0])  # XYZ, LPS
        self.label_affine: Array | None = None
        self.channels = 1


def spoil_spacing(case: Case) -> None:
    case.affine = np.diag([-0.5, -0.5, 2.5, 1.0])


def spoil_shape(case: Case) -> None:
    case.image, case.label = np.tile(case.image, (3, 1, 1)), np.tile(case.label, (3, 1, 1))


def spoil_channels(case: Case) -> None:
    case.channels = 2


def spoil_by_mirror(case: Case) -> None:
    case.affine = np.diag([0.5, -0.5, 1.25, 1.0])


def spoil_orientation(case: Case) -> None:
    case.affine = np.diag([0.5, 0.5, 1.25, 1.0])


def spoil_label_spacing(case: Case) -> None:
    case.label_affine = np.diag([-0.5, -0.5, 1.3, 1.0])


def spoil_label_origin(case: Case) -> None:
    case.label_affine = case.affine.copy()
    case.label_affine[:3, 3] = (0.0, 0.0, 5.0)


def spoil_label_direction(case: Case) -> None:
    case.label_affine = np.diag([0.5, -0.5, 1.25, 1.0])


def spoil_with_nan(case: Case) -> None:
    case.image[5, 5, 5:8] = np.nan


def spoil_with_zeros(case: Case) -> None:
    case.image[:] = 0
    case.label[:] = 0


def spoil_with_constant(case: Case) -> None:
    case.image[:] = 7


def spoil_by_clipping(case: Case) -> None:
    case.image = np.minimum(case.image, np.float32(np.quantile(case.image, 0.97)))


def spoil_brightness(case: Case) -> None:
    case.image += 700


def spoil_contrast(case: Case) -> None:
    case.image = (180 + (case.image - 180) / 50).astype(np.float32)


def spoil_foreground(case: Case) -> None:
    case.label[:] = 0


def spoil_label_values(case: Case) -> None:
    case.label[1, 1, 1:4] = 9


def spoil_label_share(case: Case) -> None:
    case.label[case.label == 2] = 1
    case.label[7, 9, 9:12] = 2


def spoil_by_absence(case: Case) -> None:
    case.label[case.label == 2] = 1


SPOILERS: dict[tuple[str, str], tuple[Callable[[Case], None], str]] = {
    ("spacing", ""): (spoil_spacing, "2.5 x 0.5 x 0.5 mm, while 11 of 12 cases have about 1.25 x 0.5 x 0.5"),
    ("shape", ""): (spoil_shape, "48 x 24 x 28, while the median is 16 x 24 x 28"),
    ("channels", ""): (spoil_channels, "has 2 channels, while 11 of 12 cases have 1"),
    ("flip", ""): (
        spoil_by_mirror,
        "left-handed (SPR), while those of most cases are right-handed (mostly SPL)",
    ),
    ("orientation", ""): (spoil_orientation, "SAR (ZYX), while those of most cases point SPL"),
    ("spacing-mismatch", ""): (spoil_label_spacing, "1.3 x 0.5 x 0.5"),
    ("origin-mismatch", ""): (spoil_label_origin, "4, 0, 0 voxels (ZYX)"),
    ("direction-mismatch", ""): (spoil_label_direction, "SPR"),
    ("non-finite", ""): (spoil_with_nan, "3 NaN"),
    ("empty", "no-foreground"): (spoil_with_zeros, "zero everywhere"),
    ("constant", "intensity"): (spoil_with_constant, "7 everywhere"),
    ("clipped", ""): (spoil_by_clipping, "3.0% of its voxels have the highest value"),
    ("intensity", ""): (spoil_brightness, "median"),
    ("intensity", "contrast"): (spoil_contrast, "from its 10th to its 90th percentile"),
    ("no-foreground", ""): (spoil_foreground, "no foreground"),
    ("label-value", ""): (spoil_label_values, "holds 9, which no class has (declared: 0, 1, 2)"),
    ("label-share", ""): (spoil_label_share, "core takes 0.028% of the voxels, while 0.595% is usual"),
    ("label-share", "absent"): (spoil_by_absence, "core does not occur, while 11 of 12 cases have it"),
}
"""What is planted; a second kind that comes with it, or a word that tells two defects of one kind apart."""
NOT_PLANTED_HERE = {"duplicate", "no-label", "label-gap", "case-count"}
"""Those have tests of their own below."""


def write_volume(path: Path, array: Array, affine: Array) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(array.transpose(), affine)
    image.header.set_xyzt_units("mm")
    image.to_filename(path)


def write_case(folder: Path, name: str, case: Case) -> None:
    channels = range(case.channels)
    for channel in channels:
        write_volume(folder / "imagesTr" / f"{name}_{channel:04}.nii", case.image + channel, case.affine)
    affine = case.affine if case.label_affine is None else case.label_affine
    write_volume(folder / "labelsTr" / f"{name}.nii", case.label, affine)


def write_json(folder: Path, **labels: int) -> None:
    content = {"channel_names": {"0": "CT"}, "labels": labels, "numTraining": CASES, "file_ending": ".nii"}
    folder.mkdir(exist_ok=True)
    (folder / "dataset.json").write_text(json.dumps(content))


def profile(folder: Path, **options: Any) -> Fingerprint:
    return profile_dataset(discover(folder), ProfileOptions(**options), jobs=1)


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clean") / "data"
    write_json(folder, background=0, shell=1, core=2)
    for number in range(CASES):
        write_case(folder, f"c{number:02}", Case(number))
    return folder


@pytest.fixture
def data(clean: Path, tmp_path: Path) -> Path:
    """A copy of the clean data set to spoil: links to its folders' files would lead out of it."""
    import shutil

    return Path(shutil.copytree(clean, tmp_path / "data"))


def test_clean_data_have_none(clean: Path) -> None:
    fingerprint = profile(clean)
    assert len(fingerprint.cases) == CASES
    assert fingerprint.outliers == ()
    assert fingerprint.summary.warnings == ()
    assert profile(clean, headers_only=True).outliers == ()


@pytest.mark.parametrize("planted", SPOILERS, ids=lambda planted: "-".join(filter(None, planted)))
def test_what_is_planted_is_found_and_nothing_else(data: Path, planted: tuple[str, str]) -> None:
    kind, beside = planted
    spoil, words = SPOILERS[planted]
    case = Case(int(ODD[1:]))
    spoil(case)
    if kind == "channels":
        (data / "dataset.json").unlink()  # with it, too many channels are a failure
    write_case(data, ODD, case)
    found = profile(data).outliers
    assert {outlier.case_id for outlier in found} == {ODD}
    kinds = {outlier.kind for outlier in found}
    assert kinds in ({kind}, {kind, beside})
    assert any(words in outlier.reason for outlier in found if outlier.kind == kind), found


def test_every_check_is_planted() -> None:
    assert {kind for kind, _ in SPOILERS} | NOT_PLANTED_HERE == {check.kind for check in CHECKS}


def test_copies_are_found_whatever_their_format(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    for number in range(3):
        case = Case(number)
        write_volume(folder / f"c{number}.nii", case.image.astype(np.int16), case.affine)
    volume = Case(1).image.astype(np.int16)
    tifffile.imwrite(folder / "copy.tif", volume.astype(np.float32), photometric="minisblack")
    write_volume(folder / "mirror.nii.gz", volume[:, :, ::-1], Case(1).affine)
    write_volume(folder / "turned.nii.gz", volume.transpose(0, 2, 1), Case(1).affine)
    found = {outlier.case_id: outlier for outlier in profile(folder).outliers if outlier.kind == "duplicate"}
    assert set(found) == {"copy", "mirror", "turned"}
    assert found["copy"].reason == "the image has the same voxels as that of c1"
    assert "that of c1, to the last digit" in found["mirror"].reason
    assert "mirrored, turned" in found["turned"].reason


def test_images_that_are_alike_by_chance_are_no_copies(tmp_path: Path) -> None:
    """Binary images of as many voxels, and empty ones."""
    folder = tmp_path / "data"
    for number in range(4):
        image = np.zeros(SHAPE, np.uint8)
        image[number, 3:9, 2:8] = 1 if number < 3 else 200
        write_volume(folder / f"c{number}.nii", image, np.eye(4))
    assert not [outlier for outlier in profile(folder).outliers if outlier.kind == "duplicate"]


def test_a_data_set_that_is_clipped_throughout_has_no_odd_case(data: Path) -> None:
    for number in range(CASES):
        case = Case(number)
        spoil_by_clipping(case)
        write_case(data, f"c{number:02}", case)
    fingerprint = profile(data)
    assert fingerprint.outliers == ()
    assert "clipped: 12 of 12 cases, such as c00" in fingerprint.summary.warnings[0]


def test_a_tenth_of_the_spacing_stands_out_where_no_spacing_is_usual(data: Path) -> None:
    """Centimetres written as millimetres, among three slice thicknesses none of which most cases have."""
    for number in range(CASES):
        case = Case(number)
        case.affine = np.diag([-0.5, -0.5, (1.25, 2.5, 5.0)[number % 3], 1.0])
        if f"c{number:02}" == ODD:
            case.affine = np.diag([-0.05, -0.05, 0.25, 1.0])
        write_case(data, f"c{number:02}", case)
    found = profile(data).outliers
    assert [(outlier.case_id, outlier.kind) for outlier in found] == [(ODD, "spacing")]
    assert found[0].reason == "spacing 0.25 x 0.05 x 0.05 mm, while the median is 2.5 x 0.5 x 0.5"


def test_the_usual_shape_is_the_median_of_the_edges(data: Path) -> None:
    """Half of the cases have 16 slices and half 18: the median is what numpy and the summary say."""
    for number in range(CASES):
        case = Case(number)
        if number % 2:
            case.image = np.pad(case.image, ((0, 2), (0, 0), (0, 0)), mode="edge")
            case.label = np.pad(case.label, ((0, 2), (0, 0), (0, 0)))
        if f"c{number:02}" == ODD:
            spoil_shape(case)
        write_case(data, f"c{number:02}", case)
    fingerprint = profile(data)
    assert [outlier.case_id for outlier in fingerprint.outliers if outlier.kind == "shape"] == [ODD]
    median = " x ".join(f"{edge:g}" for edge in np.median([case.shape for case in fingerprint.cases], axis=0))
    assert next(o.reason for o in fingerprint.outliers if o.kind == "shape").endswith(f"median is {median}")


def test_a_missing_label_map(data: Path) -> None:
    import h5py

    folder = data / "hdf5"
    folder.mkdir()
    for number in range(4):
        with h5py.File(folder / f"c{number}.h5", "w") as file:
            file["raw"] = Case(number).image
            if number != 2:
                file["labels"] = Case(number).label
    found = profile(folder).outliers
    assert [(outlier.case_id, outlier.kind) for outlier in found] == [("c2", "no-label")]
    assert "3 of 4 cases" in found[0].reason


def test_declared_values_with_a_gap(data: Path) -> None:
    write_json(data, background=0, shell=1, core=2, other=4)
    found = profile(data).outliers
    assert [(outlier.case_id, outlier.kind) for outlier in found] == [("dataset.json", "label-gap")]
    assert "0, 1, 2, 4" in found[0].reason


def test_another_number_of_cases_than_declared(data: Path) -> None:
    path = data / "dataset.json"
    there = len(list((data / "imagesTr").iterdir()))
    content = json.loads(path.read_text())
    for declared, kinds in ((there, []), (there + 3, ["case-count"])):
        path.write_text(json.dumps({**content, "numTraining": declared}))
        found = profile(data).outliers
        assert [outlier.kind for outlier in found] == kinds
    assert found[0].reason == f"numTraining is {there + 3}, but there are {there} cases"


@pytest.mark.parametrize("key", ["labels", "channel_names", "numTraining", "file_ending"])
def test_keys_that_nnunet_requires(data: Path, key: str) -> None:
    """nnU-Net stops; here the rest is used, and it is said."""
    path = data / "dataset.json"
    content = json.loads(path.read_text())
    for lacking in (False, True):
        used = {name: value for name, value in content.items() if not lacking or name != key}
        path.write_text(json.dumps(used))
        warnings = [text for text in profile(data).summary.warnings if text.startswith(f"{path}: ")]
        if not lacking:
            assert warnings == []
        elif key == "file_ending":
            assert "has neither file_ending" in warnings[0]
        else:
            assert warnings == [f"{path}: lacks {key}, which nnU-Net requires"]


def test_classes_taken_from_the_label_maps_may_have_gaps(data: Path) -> None:
    (data / "dataset.json").unlink()
    for number in range(CASES):
        case = Case(number)
        case.label[case.label == 2] = 7
        write_case(data, f"c{number:02}", case)
    assert profile(data).outliers == ()


def test_few_cases_have_no_odd_one(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    for number in range(4):
        case = Case(number)
        if number == 3:
            spoil_spacing(case)
            spoil_shape(case)
            spoil_brightness(case)
        write_volume(folder / f"c{number}.nii", case.image, case.affine)
    assert profile(folder).outliers == ()
