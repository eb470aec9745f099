"""The real volumes, against nibabel, SimpleITK, h5py and tifffile, and against what is known of them."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile

from voxplan.profiling.formats import open_volume
from voxplan.profiling.formats.base import FormatError, Region, Spacing, VolumeSource

pytestmark = pytest.mark.real_data


def everything(shape: tuple[int, int, int]) -> Region:
    return slice(0, shape[0]), slice(0, shape[1]), slice(0, shape[2])


@pytest.mark.parametrize("dataset", ["Dataset501_Heads", "Dataset502_HeadsAniso"])
def test_spacings_are_those_of_nnunet(voxplan_data: Path, voxplan_golden: Path, dataset: str) -> None:
    """Bit for bit: nnU-Net's fingerprint, cases in the order of their names."""
    golden = json.loads(
        (voxplan_golden / "nnunet_fingerprints" / dataset / "dataset_fingerprint.json").read_text()
    )
    files = sorted((voxplan_data / "nnunet_raw" / dataset / "imagesTr").glob("*.nii.gz"))
    assert len(files) == len(golden["spacings"])
    for path, spacing in zip(files, golden["spacings"], strict=True):
        with open_volume(VolumeSource(paths=(path,))) as volume:
            assert volume.header.spacing == Spacing(values=tuple(spacing), unit="mm", source="header")


def test_nifti_agrees_with_nibabel_and_simpleitk(voxplan_data: Path) -> None:
    files = [p for p in sorted(voxplan_data.rglob("*.nii.gz")) if p.name != "CIT168.nii.gz"]
    assert len(files) == 29
    for path in files:
        truth = nibabel.load(path)
        assert isinstance(truth, nibabel.Nifti1Image)
        itk = sitk.ImageFileReader()
        itk.SetFileName(str(path))
        itk.ReadImageInformation()
        with open_volume(VolumeSource(paths=(path,))) as volume:
            header = volume.header
            stored = volume.read(everything(header.shape))
        assert header.shape == itk.GetSize()[2::-1] == truth.shape[2::-1]
        assert header.spacing.values == itk.GetSpacing()[2::-1]
        assert header.dtype == truth.get_data_dtype().newbyteorder("=")
        assert header.orientation == "".join(nibabel.aff2axcodes(truth.affine))[::-1]
        unscaled = truth.dataobj.get_unscaled()  # type: ignore[union-attr]
        np.testing.assert_array_equal(stored, np.asarray(unscaled).T.reshape(stored.shape))
        np.testing.assert_allclose(
            stored[0] * header.slope + header.intercept,
            sitk.GetArrayFromImage(sitk.ReadImage(str(path), sitk.sitkFloat64)).reshape(stored.shape)[0],
            rtol=1e-6,
            atol=1e-6,
        )


def test_ct_avm_is_scaled(voxplan_data: Path) -> None:
    with open_volume(VolumeSource(paths=(voxplan_data / "nifti_misc/CT_AVM.nii.gz",))) as volume:
        header = volume.header
    assert header.shape == (154, 242, 256)
    assert header.dtype == np.uint8
    assert header.slope == pytest.approx(2.2086, abs=1e-4)
    assert header.spacing.values == pytest.approx((1.0, 0.721, 0.72), abs=1e-3)
    assert header.sequential


def test_cit168_is_refused(voxplan_data: Path) -> None:
    path = voxplan_data / "nifti_misc/CIT168.nii.gz"
    with pytest.raises(FormatError, match="RGBA32") as caught:
        open_volume(VolumeSource(paths=(path,)))
    assert caught.value.kind == "not-intensities"
    assert str(path) in str(caught.value)


def test_pcasl_time_points_are_channels(voxplan_data: Path) -> None:
    path = voxplan_data / "nifti_misc/pcasl.nii.gz"
    truth = np.asarray(nibabel.load(path).dataobj)  # type: ignore[attr-defined]
    with open_volume(VolumeSource(paths=(path,))) as volume:
        assert volume.header.shape == (20, 68, 52)
        assert volume.header.channels == 10
        assert volume.header.spacing == Spacing(values=(6.0, 3.0, 3.0), unit="mm", source="header")
        assert "10 time points" in volume.header.warnings[0]
        for time in (7, 2):
            got = volume.read((slice(3, 9), slice(10, 30), slice(5, 50)), time)
            np.testing.assert_array_equal(got, truth[5:50, 10:30, 3:9, time].T)


def test_vnc_knows_its_spacing(voxplan_data: Path) -> None:
    path = voxplan_data / "em_vnc/vnc.h5"
    with open_volume(VolumeSource(paths=(path,), key="volumes/raw")) as volume:
        assert volume.header.shape == (20, 768, 768)
        assert volume.header.spacing == Spacing(
            values=(45.0, 4.6, 4.6), unit="nm", source="attribute:resolution"
        )
        got = volume.read((slice(3, 11), slice(200, 500), slice(7, 300)), 0)
    with h5py.File(path) as file:
        np.testing.assert_array_equal(got, file["volumes/raw"][3:11, 200:500, 7:300])  # type: ignore[index]
    with pytest.raises(FormatError, match="volumes/raw"):
        open_volume(VolumeSource(paths=(path,)))


def test_a_folder_of_slices_is_one_volume(voxplan_data: Path) -> None:
    paths = tuple(sorted((voxplan_data / "em_vnc/slices").glob("*.tif")))
    with open_volume(VolumeSource(paths=paths)) as volume:
        assert volume.header.shape == (20, 1024, 1024)
        assert volume.header.dtype == np.uint8
        assert volume.header.spacing == Spacing.missing()
        got = volume.read((slice(4, 7), slice(0, 1024), slice(100, 900)), 0)
    np.testing.assert_array_equal(got, np.stack([tifffile.imread(p) for p in paths[4:7]])[:, :, 100:900])


def test_em_labels(voxplan_data: Path) -> None:
    with open_volume(VolumeSource(paths=(voxplan_data / "em_vnc/labels.tif",))) as volume:
        assert volume.header.shape == (20, 1024, 1024)
        labels = volume.read(everything(volume.header.shape), 0)
    shares = np.bincount(labels.ravel(), minlength=3) / labels.size
    assert shares == pytest.approx([0.742, 0.204, 0.054], abs=5e-4)
