"""The phantom holds the same voxels in its three formats."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import SimpleITK as sitk
import tifffile

from voxplan.scripts.phantom import write_phantom


def test_same_voxels_in_three_formats(tmp_path: Path) -> None:
    write_phantom(tmp_path, cases=2)
    raw = tmp_path / "nifti" / "Dataset900_Phantom"
    for number in range(2):
        name = f"cell_{number:02d}"
        with h5py.File(tmp_path / "hdf5" / f"{name}.h5") as file:
            image, labels = file["raw"][()], file["labels"][()]
        np.testing.assert_array_equal(tifffile.imread(tmp_path / "tiff/images" / f"{name}.tif"), image)
        np.testing.assert_array_equal(tifffile.imread(tmp_path / "tiff/labels" / f"{name}.tif"), labels)
        nifti = sitk.GetArrayFromImage(sitk.ReadImage(str(raw / "imagesTr" / f"{name}_0000.nii.gz")))
        np.testing.assert_array_equal(nifti, image)
        assert set(np.unique(labels)) == {0, 1, 2}
