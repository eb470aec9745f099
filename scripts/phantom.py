"""A small phantom data set in NIfTI, TIFF and HDF5: bright cells with a brighter nucleus in noise.

    python -m voxplan.scripts.phantom FOLDER [--cases 5] [--seed 7]

The same voxels stand in all three formats: ``nifti/`` in nnU-Net's raw layout (int16, spacing in the
header), ``tiff/`` as ``images/`` and ``labels/`` (uint8, no spacing: TIFF files often know none) and
``hdf5/`` with the data sets ``raw`` and ``labels`` and a ``resolution`` attribute in nm (uint8).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import SimpleITK as sitk
import tifffile
from numpy.typing import NDArray

SPACING_NM = (40.0, 8.0, 8.0)
"""ZYX; serial sections are thick, like those of the electron-microscopy sets this imitates."""


def draw_case(
    rng: np.random.Generator, shape: tuple[int, int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """One image (intensities 0 to 255) and its labels (0 background, 1 cell, 2 nucleus), both ZYX."""
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)
    physical = grid * np.asarray(SPACING_NM)
    labels = np.zeros(shape, np.uint8)
    for _ in range(6):
        centre = rng.uniform(0.2, 0.8, 3) * np.asarray(shape) * SPACING_NM
        radius = rng.uniform(90, 160)
        distance = np.linalg.norm(physical - centre, axis=-1)
        labels[distance < radius] = 1
        labels[distance < radius / 2] = 2
    clean = np.asarray([60.0, 130.0, 200.0])[labels]
    image = np.clip(clean + rng.normal(0, 18, shape), 1, 255).astype(np.uint8)
    return image, labels


def write_phantom(folder: Path, *, cases: int = 5, seed: int = 7) -> None:
    """Write the data set in all three formats below ``folder``."""
    rng = np.random.default_rng(seed)
    nifti, tiff, hdf5 = folder / "nifti" / "Dataset900_Phantom", folder / "tiff", folder / "hdf5"
    for new in (nifti / "imagesTr", nifti / "labelsTr", tiff / "images", tiff / "labels", hdf5):
        new.mkdir(parents=True, exist_ok=True)
    for number in range(cases):
        shape = (24 + 2 * number, 96, 96 + 8 * (number % 3))
        image, labels = draw_case(rng, shape)
        name = f"cell_{number:02d}"
        _write_nifti(image.astype(np.int16), nifti / "imagesTr" / f"{name}_0000.nii.gz")
        _write_nifti(labels, nifti / "labelsTr" / f"{name}.nii.gz")
        tifffile.imwrite(tiff / "images" / f"{name}.tif", image, photometric="minisblack")
        tifffile.imwrite(
            tiff / "labels" / f"{name}.tif", labels, photometric="minisblack", compression="zlib"
        )
        with h5py.File(hdf5 / f"{name}.h5", "w") as file:
            chunks = (8, 32, 32)
            raw = file.create_dataset("raw", data=image, chunks=chunks, compression="gzip")
            file.create_dataset("labels", data=labels, chunks=chunks, compression="gzip")
            raw.attrs["resolution"] = SPACING_NM
            raw.attrs["unit"] = "nm"
    (nifti / "dataset.json").write_text(
        json.dumps(
            {
                "channel_names": {"0": "EM"},
                "labels": {"background": 0, "cell": 1, "nucleus": 2},
                "numTraining": cases,
                "file_ending": ".nii.gz",
            },
            indent=2,
        )
    )


def _write_nifti(voxels: NDArray[np.generic], path: Path) -> None:
    """One ZYX volume; NIfTI counts in mm."""
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing([nm * 1e-6 for nm in reversed(SPACING_NM)])
    sitk.WriteImage(image, str(path), useCompression=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(
        prog="python -m voxplan.scripts.phantom",
        description="Write a small phantom data set in NIfTI, TIFF and HDF5.",
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="is made if it is not there")
    parser.add_argument("--cases", type=int, default=5, metavar="N", help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=7, metavar="N", help="default: %(default)s")
    options = parser.parse_args(argv)
    write_phantom(options.folder, cases=options.cases, seed=options.seed)
    print(f"{options.cases} cases in NIfTI, TIFF and HDF5 below {options.folder}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
