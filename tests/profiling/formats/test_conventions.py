"""One volume in every convention for units and axes, from the format's own library to the fingerprint.

Its three edges, three spacings and a bright box off its centre tell every swap of axes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile

from voxplan.profiling.case import CaseSource, ProfileOptions, profile_case
from voxplan.profiling.formats.base import ReadOptions, VolumeSource

SHAPE = (5, 7, 9)
BOX = ((1, 3), (2, 6), (3, 8))
VOLUME = np.zeros(SHAPE, np.uint8)
VOLUME[1:3, 2:6, 3:8] = 100
PLAIN = {"photometric": "minisblack"}
Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Convention:
    """How a file says its spacing, and what a profile must make of it."""

    write: Callable[[Path], Path]
    spacing: Triple | None
    unit: str
    source: str
    options: dict[str, Any] = field(default_factory=dict)


def nifti(unit: str | None, zooms: Triple, kind: Any = nibabel.Nifti1Image) -> Callable[[Path], Path]:
    """XYZ zooms."""

    def write(folder: Path) -> Path:
        image = kind(VOLUME.T, np.diag([*zooms, 1.0]))
        if unit is not None:
            image.header.set_xyzt_units(unit)
        nibabel.save(image, folder / "a.nii.gz")
        return folder / "a.nii.gz"

    return write


def imagej(unit: str, resolution: Any, distance: float) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        metadata = {"axes": "ZYX", "unit": unit, "spacing": distance}
        tifffile.imwrite(folder / "a.tif", VOLUME, imagej=True, resolution=resolution, metadata=metadata)
        return folder / "a.tif"

    return write


def ome(unit: str | None, sizes: Triple) -> Callable[[Path], Path]:
    """ZYX sizes."""

    def write(folder: Path) -> Path:
        metadata: dict[str, Any] = {"axes": "ZYX"}
        for axis, size in zip("ZYX", sizes, strict=True):
            metadata |= {f"PhysicalSize{axis}": size}
            metadata |= {f"PhysicalSize{axis}Unit": unit} if unit else {}
        tifffile.imwrite(folder / "a.ome.tif", VOLUME, metadata=metadata, **PLAIN)
        return folder / "a.ome.tif"

    return write


def slices(resolution: Any, unit: str) -> Callable[[Path], Path]:
    """A TIFF of one plane: pixels per inch or centimetre."""

    def write(folder: Path) -> Path:
        tifffile.imwrite(folder / "a.tif", VOLUME[1], resolution=resolution, resolutionunit=unit, **PLAIN)
        return folder / "a.tif"

    return write


def sidecar(spacing: list[float]) -> Callable[[Path], Path]:
    """nnU-Net's: ``case.json`` beside ``case_0000.tif``."""

    def write(folder: Path) -> Path:
        tifffile.imwrite(folder / "case_0000.tif", VOLUME, **PLAIN)
        (folder / "case.json").write_text(json.dumps({"spacing": spacing}))
        return folder / "case_0000.tif"

    return write


def hdf5(array: np.ndarray[Any, Any] = VOLUME, **attributes: Any) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        with h5py.File(folder / "a.h5", "w") as file:
            file.create_dataset("raw", data=array).attrs.update(attributes)
        return folder / "a.h5"

    return write


def zarr_array(**attributes: Any) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        import zarr

        array = zarr.create_array(folder / "a.zarr", shape=SHAPE, chunks=SHAPE, dtype="u1")
        array[...] = VOLUME
        array.attrs.update(attributes)
        return folder / "a.zarr"

    return write


def ome_zarr(units: list[str | None], scale: list[float]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        import zarr

        group = zarr.create_group(folder / "a.zarr", zarr_format=2)
        array = group.create_array("0", shape=SHAPE, chunks=SHAPE, dtype="u1")
        array[...] = VOLUME
        axes = [
            {"name": n, "type": "space"} | ({"unit": u} if u else {})
            for n, u in zip("zyx", units, strict=True)
        ]
        levels = [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": scale}]}]
        group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": levels}]
        return folder / "a.zarr"

    return write


def itk(suffix: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        image = sitk.GetImageFromArray(VOLUME)
        image.SetSpacing((0.5, 0.75, 2.0))
        sitk.WriteImage(image, str(folder / f"a{suffix}"))
        return folder / f"a{suffix}"

    return write


CONVENTIONS = {
    "NIfTI mm": Convention(nifti("mm", (0.5, 0.75, 2.0)), (2.0, 0.75, 0.5), "mm", "header"),
    "NIfTI micron": Convention(nifti("micron", (0.5, 0.75, 2.0)), (2.0, 0.75, 0.5), "um", "header"),
    "NIfTI metre": Convention(nifti("meter", (0.5, 0.75, 2.0)), (2000.0, 750.0, 500.0), "mm", "header"),
    "NIfTI no unit": Convention(nifti(None, (0.5, 0.75, 2.0)), (2.0, 0.75, 0.5), "unknown", "header"),
    "NIfTI-2 mm": Convention(
        nifti("mm", (0.5, 0.75, 2.0), nibabel.Nifti2Image), (2.0, 0.75, 0.5), "mm", "header"
    ),
    "ImageJ escaped micro": Convention(imagej("\\u00B5m", (4, 2), 3.0), (3.0, 0.5, 0.25), "um", "imagej"),
    "ImageJ nm": Convention(imagej("nm", (0.25, 0.125), 40.0), (40.0, 8.0, 4.0), "nm", "imagej"),
    "ImageJ mm": Convention(imagej("mm", (4, 2), 3.0), (3.0, 0.5, 0.25), "mm", "imagej"),
    "ImageJ cm": Convention(imagej("cm", (4, 2), 3.0), (30.0, 5.0, 2.5), "mm", "imagej"),
    "ImageJ pixel": Convention(imagej("pixel", (4, 2), 3.0), None, "unknown", "missing"),
    "OME nm": Convention(ome("nm", (40.0, 8.0, 4.0)), (40.0, 8.0, 4.0), "nm", "ome-xml"),
    "OME micro": Convention(ome("\u00b5m", (0.04, 0.008, 0.004)), (0.04, 0.008, 0.004), "um", "ome-xml"),
    "OME mm": Convention(ome("mm", (2.0, 0.75, 0.5)), (2.0, 0.75, 0.5), "mm", "ome-xml"),
    "OME default unit": Convention(ome(None, (0.04, 0.008, 0.004)), (0.04, 0.008, 0.004), "um", "ome-xml"),
    "TIFF centimetre": Convention(
        slices((100, 200), "CENTIMETER"), (0.1, 0.05, 0.1), "mm", "tiff-resolution"
    ),
    "TIFF inch": Convention(slices((254, 508), "INCH"), (0.1, 0.05, 0.1), "mm", "tiff-resolution"),
    "TIFF screen resolution": Convention(slices((72, 72), "INCH"), None, "unknown", "missing"),
    "nnU-Net sidecar": Convention(sidecar([40, 8, 4]), (40.0, 8.0, 4.0), "unknown", "sidecar"),
    "nnU-Net sidecar, --unit": Convention(
        sidecar([40, 8, 4]), (40.0, 8.0, 4.0), "nm", "sidecar", {"unit": "nm"}
    ),
    "sidecar, --spacing-order xyz": Convention(
        sidecar([4, 8, 40]), (40.0, 8.0, 4.0), "unknown", "sidecar", {"spacing_order": "xyz"}
    ),
    "HDF5 resolution, unit": Convention(
        hdf5(resolution=[40, 8, 4], unit="nm"), (40.0, 8.0, 4.0), "nm", "attribute:resolution"
    ),
    "HDF5 voxel_size, no unit": Convention(
        hdf5(voxel_size=[40, 8, 4]), (40.0, 8.0, 4.0), "unknown", "attribute:voxel_size"
    ),
    "HDF5 element_size_um": Convention(
        hdf5(element_size_um=[0.04, 0.008, 0.004]), (0.04, 0.008, 0.004), "um", "attribute:element_size_um"
    ),
    "HDF5, --spacing-order xyz": Convention(
        hdf5(spacing=[4, 8, 40], unit="nm"),
        (40.0, 8.0, 4.0),
        "nm",
        "attribute:spacing",
        {"spacing_order": "xyz"},
    ),
    "HDF5, --axes xyz": Convention(
        hdf5(np.ascontiguousarray(VOLUME.T), resolution=[40, 8, 4], unit="nm"),
        (40.0, 8.0, 4.0),
        "nm",
        "attribute:resolution",
        {"axes": "xyz"},
    ),
    "HDF5, --axes zyxc": Convention(
        hdf5(np.stack([VOLUME, VOLUME], axis=-1)), None, "unknown", "missing", {"axes": "zyxc"}
    ),
    "HDF5 says nothing": Convention(hdf5(), None, "unknown", "missing"),
    "HDF5, --spacing": Convention(
        hdf5(resolution=[1, 1, 1], unit="um"),
        (40.0, 8.0, 4.0),
        "nm",
        "user",
        {"spacing": (40.0, 8.0, 4.0), "unit": "nm"},
    ),
    "Zarr attribute": Convention(
        zarr_array(resolution=[40, 8, 4], unit="nm"), (40.0, 8.0, 4.0), "nm", "attribute:resolution"
    ),
    "OME-Zarr nanometer": Convention(
        ome_zarr(["nanometer"] * 3, [40.0, 8.0, 4.0]), (40.0, 8.0, 4.0), "nm", "header"
    ),
    "OME-Zarr units that differ": Convention(
        ome_zarr(["micrometer", "nanometer", "nanometer"], [0.04, 8.0, 4.0]),
        (40.0, 8.0, 4.0),
        "nm",
        "header",
    ),
    "OME-Zarr no unit": Convention(
        ome_zarr([None] * 3, [40.0, 8.0, 4.0]), (40.0, 8.0, 4.0), "unknown", "header"
    ),
    "NRRD": Convention(itk(".nrrd"), (2.0, 0.75, 0.5), "unknown", "header"),
    "MetaImage": Convention(itk(".mha"), (2.0, 0.75, 0.5), "unknown", "header"),
}


@pytest.mark.parametrize("name", CONVENTIONS)
def test_convention(tmp_path: Path, name: str) -> None:
    convention = CONVENTIONS[name]
    path = convention.write(tmp_path)
    options = ProfileOptions(read=ReadOptions(**convention.options))
    case = CaseSource(id="a", images=(VolumeSource(paths=(path,)),))
    found = profile_case(case, tmp_path, options).fingerprint
    assert found.shape == (SHAPE if not name.startswith("TIFF") else (1, *SHAPE[1:]))
    assert found.crop_box == (BOX if not name.startswith("TIFF") else ((0, 1), *BOX[1:]))
    if convention.spacing is None:
        assert found.spacing.values is None
    else:
        assert found.spacing.values == pytest.approx(convention.spacing, rel=1e-6)
    assert (found.spacing.unit, found.spacing.source) == (convention.unit, convention.source)
