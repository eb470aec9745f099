"""The promises on real volumes: nnU-Net's numbers, one truth in three containers, refusals with reason."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile

from voxplan.profiling.fingerprint import CaseFingerprint, Fingerprint, load_fingerprint
from voxplan.scripts.profile_dataset import main

pytestmark = pytest.mark.real_data

INTENSITY_KEYS = {
    "mean": "mean",
    "median": "median",
    "percentile_00_5": "percentile_00_5",
    "percentile_99_5": "percentile_99_5",
    "std": "std",
}


@pytest.fixture
def profile(tmp_path: Path) -> Callable[..., Fingerprint]:
    """Run the command and load what it wrote."""

    def run(*arguments: object, name: str = "out") -> Fingerprint:
        output = tmp_path / f"{name}.json"
        assert main([*map(str, arguments), "-o", str(output), "--jobs", "1", "-q"]) == 0
        return load_fingerprint(output)

    return run


@pytest.mark.parametrize("name", ["Dataset501_Heads", "Dataset502_HeadsAniso"])
def test_nnunet_says_the_same(
    voxplan_data: Path, voxplan_golden: Path, profile: Callable[..., Fingerprint], name: str
) -> None:
    golden = json.loads(
        (voxplan_golden / "nnunet_fingerprints" / name / "dataset_fingerprint.json").read_text()
    )
    fingerprint = profile(voxplan_data / "nnunet_raw" / name)
    assert [list(case.shape_after_crop) for case in fingerprint.cases] == golden["shapes_after_crop"]
    spacings = [list(case.spacing.values or ()) for case in fingerprint.cases]
    assert spacings == golden["spacings"]
    relative = fingerprint.summary.median_relative_size_after_cropping
    assert relative == pytest.approx(golden["median_relative_size_after_cropping"], rel=1e-12)
    numbers = golden["foreground_intensity_properties_per_channel"]["0"]
    ours = fingerprint.summary.channels[0].case_weighted
    assert ours is not None
    # nnU-Net samples 1e8 / cases voxels with replacement; the issue allows 0.1 % of the range
    allowed = 0.001 * (ours.max - ours.min)
    for theirs, mine in INTENSITY_KEYS.items():
        assert getattr(ours, mine) == pytest.approx(numbers[theirs], abs=allowed), mine
    assert (ours.min, ours.max) == (numbers["min"], numbers["max"])
    assert fingerprint.dataset.labels.classes == {"background": (0,), "soft": (1,), "dense": (2,)}


def same_voxels(first: CaseFingerprint, second: CaseFingerprint) -> bool:
    return (first.shape, first.channels, first.crop_box, first.class_voxels, first.foreground_voxels) == (
        second.shape,
        second.channels,
        second.crop_box,
        second.class_voxels,
        second.foreground_voxels,
    )


def test_one_truth_in_three_containers(
    voxplan_data: Path, tmp_path: Path, profile: Callable[..., Fingerprint]
) -> None:
    source = sorted((voxplan_data / "em_vnc" / "slices").iterdir())[:8]
    raw = np.stack([tifffile.imread(path)[100:420, 200:600] for path in source])
    label = tifffile.imread(voxplan_data / "em_vnc" / "labels.tif")[:8, 100:420, 200:600]
    for place, volume in (("raw", raw), ("labels", label)):
        (tmp_path / "slices" / place).mkdir(parents=True)
        (tmp_path / "pages" / place).mkdir(parents=True)
        for number, plane in enumerate(volume):
            tifffile.imwrite(tmp_path / "slices" / place / f"{number:02}.tif", plane)
        tifffile.imwrite(tmp_path / "pages" / place / "vnc.tif", volume, photometric="minisblack")
    with h5py.File(tmp_path / "vnc.h5", "w") as file:
        file.create_dataset("volumes/raw", data=raw, chunks=(4, 64, 64), compression="gzip")
        file.create_dataset("volumes/labels/mitochondria", data=label, chunks=True)
    stated = ("--spacing", 45, 4.6, 4.6, "--unit", "nm")
    found = [
        profile(tmp_path / place, *stated, name=place.replace(".", "_"))
        for place in ("slices", "pages", "vnc.h5")
    ]
    cases = [fingerprint.cases[0] for fingerprint in found]
    assert same_voxels(cases[0], cases[1])
    assert same_voxels(cases[0], cases[2])
    assert {fingerprint.summary.channels for fingerprint in found} == {found[0].summary.channels}
    assert {case.spacing.values for case in cases} == {(45.0, 4.6, 4.6)}
    foreground = cases[0].channels[0].foreground
    assert foreground is not None
    assert foreground.mean == pytest.approx(raw[label > 0].mean(), rel=1e-13)
    assert foreground.std == pytest.approx(raw[label > 0].std(), rel=1e-12)
    assert cases[0].class_voxels == {str(value): int((label == value).sum()) for value in (0, 1, 2)}


def test_vnc_knows_its_spacing(voxplan_data: Path, profile: Callable[..., Fingerprint]) -> None:
    keys = ("--image-key", "volumes/raw", "--label-key", "volumes/labels/mitochondria")
    for arguments in ((), keys):
        fingerprint = profile(voxplan_data / "em_vnc" / "vnc.h5", *arguments)
        case = fingerprint.cases[0]
        assert case.shape == (20, 768, 768)
        assert case.spacing.values == (45.0, 4.6, 4.6)
        assert (case.spacing.unit, case.spacing.source) == ("nm", "attribute:resolution")
        assert case.label == "vnc.h5:volumes/labels/mitochondria"
        assert fingerprint.dataset.labels.kind == "semantic"


def test_slices_say_that_spacing_is_missing(voxplan_data: Path, profile: Callable[..., Fingerprint]) -> None:
    pair = (
        "--images",
        voxplan_data / "em_vnc" / "slices",
        "--labels",
        voxplan_data / "em_vnc" / "labels.tif",
    )
    fingerprint = profile(*pair)
    assert fingerprint.cases[0].shape == (20, 1024, 1024)
    assert fingerprint.cases[0].spacing.source == "missing"
    assert (fingerprint.summary.spacing, fingerprint.summary.spacing_missing) == (None, 1)
    assert any("spacing missing" in warning for warning in fingerprint.summary.warnings)
    shares = fingerprint.summary.class_frequencies
    assert shares is not None
    assert [round(share, 3) for share in shares.values()] == [0.742, 0.204, 0.054]
    told = profile(*pair, "--spacing", 45, 4.6, 4.6, "--unit", "nm")
    assert told.summary.spacing is not None
    assert (told.summary.spacing.median, told.summary.spacing_unit) == ((45.0, 4.6, 4.6), "nm")
    assert told.cases[0].spacing.source == "user"


def test_intensities_are_slope_times_stored(voxplan_data: Path, profile: Callable[..., Fingerprint]) -> None:
    import nibabel as nib

    path = voxplan_data / "nifti_misc" / "CT_AVM.nii.gz"
    image = nib.load(path)
    stored = np.asanyarray(image.dataobj.get_unscaled())
    case = profile(path).cases[0]
    assert case.shape == (154, 242, 256)
    statistics = case.channels[0].crop
    assert statistics is not None
    assert statistics.max == pytest.approx(float(image.dataobj.slope) * float(stored.max()), rel=1e-7)
    assert statistics.max > 255


def test_rgba_is_refused_with_the_reason(
    voxplan_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = voxplan_data / "nifti_misc" / "CIT168.nii.gz"
    assert main([str(path), "-o", str(tmp_path / "f.json"), "--jobs", "1"]) == 1
    err = capsys.readouterr().err
    assert "CIT168.nii.gz" in err
    assert "RGBA32" in err
    assert "Traceback" not in err
    assert not (tmp_path / "f.json").exists()


def test_a_pair_that_does_not_belong_together_does_not_stop_the_run(
    voxplan_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    misc, heads = voxplan_data / "nifti_misc", voxplan_data / "nnunet_raw" / "Dataset501_Heads"
    sources = {
        "images/pd25.nii.gz": misc / "PD25-fusion-template-1mm.nii.gz",
        "labels/pd25.nii.gz": misc / "PD25-subcortical-1mm.nii.gz",
        "images/case_00.nii.gz": heads / "imagesTr" / "case_00_0000.nii.gz",
        "labels/case_00.nii.gz": heads / "labelsTr" / "case_00.nii.gz",
    }
    for name, source in sources.items():
        target = tmp_path / "data" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
    output = tmp_path / "f.json"
    assert main([str(tmp_path / "data"), "-o", str(output), "--jobs", "1"]) == 0
    fingerprint = load_fingerprint(output)
    assert [case.id for case in fingerprint.cases] == ["case_00"]
    failure = fingerprint.failures[0]
    assert (failure.id, failure.kind) == ("pd25", "shape-mismatch")
    assert "images/pd25.nii.gz" in failure.reason
    assert "labels/pd25.nii.gz" in failure.reason
    err = capsys.readouterr().err
    assert "1 of 2 cases FAILED" in err
    assert "images/pd25.nii.gz" in err
    assert main([str(tmp_path / "data"), "-o", str(output), "--jobs", "1", "--strict"]) == 1
