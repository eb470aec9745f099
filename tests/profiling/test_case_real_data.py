"""Cases of the real data sets, beside what nnU-Net 2.8.1 computed from the same files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from voxplan.profiling.case import CaseError, CaseResult, ProfileOptions, profile_case
from voxplan.profiling.formats.base import CaseSource, ReadOptions, VolumeSource
from voxplan.profiling.labels import propose_label_kind
from voxplan.profiling.statistics import case_weighted

pytestmark = pytest.mark.real_data

# nnU-Net draws 10^8 / cases voxels a case with replacement: its quantiles and mean lie within this share of
# the intensity range of the exact ones, far above the standard error of so many draws.
SAMPLING = 1e-3


def one(*paths: Path, key: str | None = None) -> VolumeSource:
    return VolumeSource(paths=paths, key=key)


def heads(root: Path) -> list[CaseResult]:
    results = []
    for label in sorted((root / "labelsTr").glob("*.nii.gz")):
        name = label.name.removesuffix(".nii.gz")
        image = one(root / "imagesTr" / f"{name}_0000.nii.gz")
        results.append(
            profile_case(CaseSource(id=name, images=(image,), label=one(label)), root, ProfileOptions())
        )
    return results


@pytest.mark.parametrize("name", ["Dataset501_Heads", "Dataset502_HeadsAniso"])
def test_nnunets_fingerprint(voxplan_data: Path, voxplan_golden: Path, name: str) -> None:
    golden = json.loads(
        (voxplan_golden / "nnunet_fingerprints" / name / "dataset_fingerprint.json").read_text()
    )
    results = heads(voxplan_data / "nnunet_raw" / name)
    cases = [result.fingerprint for result in results]
    assert [list(case.shape_after_crop) for case in cases] == golden["shapes_after_crop"]
    assert [list(case.spacing.values or ()) for case in cases] == golden["spacings"]
    shares = [np.prod(case.shape_after_crop) / np.prod(case.shape) for case in cases]
    assert np.median(shares) == pytest.approx(golden["median_relative_size_after_cropping"], rel=1e-15)

    expected = golden["foreground_intensity_properties_per_channel"]["0"]
    mixture = case_weighted([result.foreground[0] for result in results])
    assert mixture is not None
    span = mixture.max - mixture.min
    for ours, theirs in (
        (mixture.mean, "mean"),
        (mixture.std, "std"),
        (mixture.median, "median"),
        (mixture.percentile_00_5, "percentile_00_5"),
        (mixture.percentile_99_5, "percentile_99_5"),
    ):
        assert ours == pytest.approx(expected[theirs], abs=SAMPLING * span), theirs
    assert (mixture.min, mixture.max) == (expected["min"], expected["max"])
    assert propose_label_kind([result.labels for result in results])[0] == "semantic"


def test_serial_section_tem_is_the_same_in_three_containers(voxplan_data: Path, tmp_path: Path) -> None:
    h5py, tifffile = pytest.importorskip("h5py"), pytest.importorskip("tifffile")
    slices = sorted((voxplan_data / "em_vnc" / "slices").glob("*.tif"))
    voxels = np.stack([tifffile.imread(path) for path in slices])
    tifffile.imwrite(tmp_path / "pages.tif", voxels, photometric="minisblack")
    with h5py.File(tmp_path / "volume.h5", "w") as file:
        file.create_dataset("raw", data=voxels, chunks=(8, 128, 128), compression="gzip")
    label = one(voxplan_data / "em_vnc" / "labels.tif")
    options = ProfileOptions(read=ReadOptions(spacing=(45.0, 4.6, 4.6), unit="nm"))
    results: list[Any] = []
    for image in (one(*slices), one(tmp_path / "pages.tif"), one(tmp_path / "volume.h5", key="raw")):
        results.append(profile_case(CaseSource(id="vnc", images=(image,), label=label), tmp_path, options))
    first = results[0].fingerprint
    for result in results:
        case = result.fingerprint
        assert (case.channels, case.crop_box, case.foreground_voxels, case.spacing) == (
            first.channels,
            first.crop_box,
            first.foreground_voxels,
            first.spacing,
        )
    assert (first.shape, first.dtype) == ((20, 1024, 1024), "uint8")
    truth = tifffile.imread(label.paths[0])
    counts = {int(v): int(np.count_nonzero(truth == v)) for v in np.unique(truth)}
    assert results[0].labels.counts == counts
    shares = [counts[v] / voxels.size for v in (0, 1, 2)]
    assert shares == pytest.approx([0.742, 0.204, 0.054], abs=5e-4)
    crop = first.channels[0].crop
    assert crop is not None
    assert (crop.count, crop.median) == (voxels.size, np.quantile(voxels, 0.5, method="inverted_cdf"))
    assert crop.mean == pytest.approx(voxels.mean(), rel=1e-12)


def test_scaled_ct(voxplan_data: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    path = voxplan_data / "nifti_misc" / "CT_AVM.nii.gz"
    result = profile_case(CaseSource(id="ct", images=(one(path),)), path.parent, ProfileOptions())
    voxels = np.asarray(nibabel.load(path).dataobj, np.float64)
    nonzero = result.fingerprint.channels[0].nonzero
    assert nonzero is not None
    assert nonzero.count == np.count_nonzero(voxels)
    assert nonzero.max == pytest.approx(voxels.max(), rel=1e-6)
    assert nonzero.mean == pytest.approx(voxels[voxels != 0].mean(), rel=1e-6)
    assert nonzero.median == pytest.approx(
        np.quantile(voxels[voxels != 0], 0.5, method="inverted_cdf"), rel=1e-6
    )
    assert result.fingerprint.foreground_voxels is None
    assert result.labels is None


def test_files_that_do_not_belong_together(voxplan_data: Path) -> None:
    folder = voxplan_data / "nifti_misc"
    image, label = folder / "PD25-fusion-template-1mm.nii.gz", folder / "PD25-subcortical-1mm.nii.gz"
    case = CaseSource(id="pd25", images=(one(image),), label=one(label))
    with pytest.raises(CaseError, match=r"PD25-fusion.*PD25-subcortical") as caught:
        profile_case(case, folder, ProfileOptions())
    assert caught.value.kind == "shape-mismatch"
