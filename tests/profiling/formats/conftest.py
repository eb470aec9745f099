"""Writers, one a format, each with the format's own library: the readers are tested against those."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import imagecodecs
import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from numpy.typing import NDArray

from voxplan.profiling.formats.base import VolumeSource


class Written(NamedTuple):
    """A volume on disk and what it must be read as."""

    source: VolumeSource
    array: NDArray[Any]
    """Channels, Z, Y, X."""
    spacing: tuple[float, float, float] | None
    unit: str
    truncate: Path
    """The file to cut short for the damage test."""


Writer = Callable[[Path, NDArray[Any]], Written]
SPACING = (2.5, 0.75, 0.5)


def _nibabel(folder: Path, array: NDArray[Any], name: str, kind: Any) -> Written:
    path = folder / name
    xyz = array[0].T if len(array) == 1 else array.transpose(3, 2, 1, 0)
    image = kind(xyz, np.diag([0.5, 0.75, 2.5, 1.0]), dtype=array.dtype)
    image.header.set_xyzt_units("mm")
    image.to_filename(path)
    return Written(VolumeSource(paths=(path,)), array, SPACING, "mm", path)


def write_nii(folder: Path, array: NDArray[Any]) -> Written:
    return _nibabel(folder, array, "a.nii", nibabel.Nifti1Image)


def write_nii_gz(folder: Path, array: NDArray[Any]) -> Written:
    return _nibabel(folder, array, "a.nii.gz", nibabel.Nifti1Image)


def write_nii2_gz(folder: Path, array: NDArray[Any]) -> Written:
    return _nibabel(folder, array, "a2.nii.gz", nibabel.Nifti2Image)


def write_nii_big_endian(folder: Path, array: NDArray[Any]) -> Written:
    path = folder / "big.nii"
    header = nibabel.Nifti1Header(endianness=">")
    header.set_data_dtype(array.dtype.newbyteorder(">"))
    xyz = array[0].T if len(array) == 1 else array.transpose(3, 2, 1, 0)
    image = nibabel.Nifti1Image(xyz, np.diag([0.5, 0.75, 2.5, 1.0]), header)
    image.header.set_xyzt_units("mm")
    image.to_filename(path)
    return Written(VolumeSource(paths=(path,)), array, SPACING, "mm", path)


def _sitk(folder: Path, array: NDArray[Any], name: str, *, compress: bool) -> Written:
    path = folder / name
    if len(array) == 1:
        image = sitk.GetImageFromArray(array[0])
    else:
        image = sitk.GetImageFromArray(np.moveaxis(array, 0, -1), isVector=True)
    image.SetSpacing(SPACING[::-1])
    sitk.WriteImage(image, str(path), compress)
    data = next(
        (path.with_suffix(s) for s in (".raw", ".raw.gz", ".zraw") if path.with_suffix(s).exists()), path
    )
    return Written(VolumeSource(paths=(path,)), array, SPACING, "unknown", data)


def write_nrrd(folder: Path, array: NDArray[Any]) -> Written:
    return _sitk(folder, array, "a.nrrd", compress=False)


def write_nrrd_gz(folder: Path, array: NDArray[Any]) -> Written:
    return _sitk(folder, array, "gz.nrrd", compress=True)


def write_nhdr(folder: Path, array: NDArray[Any]) -> Written:
    return _sitk(folder, array, "a.nhdr", compress=False)


def write_mha(folder: Path, array: NDArray[Any]) -> Written:
    return _sitk(folder, array, "a.mha", compress=False)


def write_mha_zlib(folder: Path, array: NDArray[Any]) -> Written:
    return _sitk(folder, array, "z.mha", compress=True)


def write_mhd(folder: Path, array: NDArray[Any]) -> Written:
    return _sitk(folder, array, "a.mhd", compress=False)


def write_mhd_zlib(folder: Path, array: NDArray[Any]) -> Written:
    return _sitk(folder, array, "z.mhd", compress=True)


def _hdf5(folder: Path, array: NDArray[Any], name: str, **options: Any) -> Written:
    path = folder / name
    with h5py.File(path, "w") as file:
        stored = array[0] if len(array) == 1 else array
        dataset = file.create_dataset("volumes/raw", data=stored, **options)
        dataset.attrs["resolution"] = SPACING
        file["volumes"].attrs["unit"] = "um"
    return Written(VolumeSource(paths=(path,)), array, SPACING, "um", path)


def write_hdf5(folder: Path, array: NDArray[Any]) -> Written:
    return _hdf5(folder, array, "a.h5")


def write_hdf5_gzip(folder: Path, array: NDArray[Any]) -> Written:
    chunks = ((1,) if len(array) > 1 else ()) + (3, 4, 5)
    return _hdf5(folder, array, "a.hdf5", chunks=chunks, compression="gzip", shuffle=True)


def write_hdf5_big_endian(folder: Path, array: NDArray[Any]) -> Written:
    return _hdf5(folder, array.astype(array.dtype.newbyteorder(">")), "big.hdf")


def _tiff(folder: Path, array: NDArray[Any], name: str, **options: Any) -> Written:
    path = folder / name
    stored, axes = (array[0], "ZYX") if len(array) == 1 else (array, "CZYX")
    tifffile.imwrite(path, stored, photometric="minisblack", metadata={"axes": axes}, **options)
    return Written(VolumeSource(paths=(path,)), array, None, "unknown", path)


def write_tiff(folder: Path, array: NDArray[Any]) -> Written:
    return _tiff(folder, array, "a.tif")


def write_tiff_big_endian(folder: Path, array: NDArray[Any]) -> Written:
    return _tiff(folder, array, "big.tif", byteorder=">")


def write_bigtiff_zlib(folder: Path, array: NDArray[Any]) -> Written:
    return _tiff(folder, array, "a.tiff", bigtiff=True, compression="zlib", predictor=True, rowsperstrip=3)


def write_tiff_tiled(folder: Path, array: NDArray[Any]) -> Written:
    return _tiff(folder, array, "tiled.tif", compression="lzw", tile=(16, 16))


def write_tiff_tiled_raw(folder: Path, array: NDArray[Any]) -> Written:
    return _tiff(folder, array, "rawtiles.tif", tile=(16, 16), byteorder=">")


def write_tiff_volumetric(folder: Path, array: NDArray[Any]) -> Written:
    return _tiff(folder, array, "vol.tif", compression="zlib", tile=(16, 16, 16), volumetric=True)


def write_tiff_pages(folder: Path, array: NDArray[Any]) -> Written:
    """One page after the other, without any description."""
    path = folder / "pages.tif"
    with tifffile.TiffWriter(path) as writer:
        for plane in array[0]:
            writer.write(plane, photometric="minisblack", metadata=None, compression="zlib")
    return Written(VolumeSource(paths=(path,)), array[:1], None, "unknown", path)


def write_ome_tiff(folder: Path, array: NDArray[Any]) -> Written:
    path = folder / "a.ome.tif"
    stored, axes = (array[0], "ZYX") if len(array) == 1 else (array.transpose(1, 0, 2, 3), "ZCYX")
    metadata: dict[str, Any] = {"axes": axes}
    for axis, value in zip("ZYX", SPACING, strict=True):
        metadata |= {f"PhysicalSize{axis}": value, f"PhysicalSize{axis}Unit": "nm"}
    tifffile.imwrite(path, stored, photometric="minisblack", metadata=metadata, compression="zlib")
    return Written(VolumeSource(paths=(path,)), array, SPACING, "nm", path)


def write_imagej(folder: Path, array: NDArray[Any]) -> Written:
    path = folder / "ij.tif"
    stored, axes = (array[0], "ZYX") if len(array) == 1 else (array.transpose(1, 0, 2, 3), "ZCYX")
    tifffile.imwrite(
        path,
        stored,
        imagej=True,
        resolution=(2.0, 4 / 3),
        metadata={"axes": axes, "spacing": 2.5, "unit": "\\u00B5m"},
    )
    return Written(VolumeSource(paths=(path,)), array, SPACING, "um", path)


def write_tiff_slices(folder: Path, array: NDArray[Any]) -> Written:
    paths = []
    for number, plane in enumerate(array[0]):
        paths.append(folder / f"slice_{number:03d}.tif")
        tifffile.imwrite(paths[-1], plane)
    return Written(VolumeSource(paths=tuple(paths)), array[:1], None, "unknown", paths[-1])


def write_png_slices(folder: Path, array: NDArray[Any]) -> Written:
    paths = []
    for number, plane in enumerate(array[0]):
        paths.append(folder / f"slice_{number:03d}.png")
        paths[-1].write_bytes(imagecodecs.png_encode(plane))
    return Written(VolumeSource(paths=tuple(paths)), array[:1], None, "unknown", paths[-1])


def _zarr(folder: Path, array: NDArray[Any], version: int) -> Written:
    zarr = pytest.importorskip("zarr")
    path = folder / f"a{version}.zarr"
    stored = array[0] if len(array) == 1 else array
    chunks = ((1,) if len(array) > 1 else ()) + (3, 4, 5)
    root = zarr.create_array(
        str(path), shape=stored.shape, chunks=chunks, dtype=stored.dtype, zarr_format=version
    )
    root[...] = stored
    root.attrs["resolution"] = list(SPACING)
    root.attrs["unit"] = "nm"
    chunk = max((p for p in path.rglob("*") if p.is_file()), key=lambda p: (p.stat().st_size, str(p)))
    return Written(VolumeSource(paths=(path,)), array, SPACING, "nm", chunk)


def write_zarr2(folder: Path, array: NDArray[Any]) -> Written:
    return _zarr(folder, array, 2)


def write_zarr3(folder: Path, array: NDArray[Any]) -> Written:
    return _zarr(folder, array, 3)


def write_ome_zarr(folder: Path, array: NDArray[Any]) -> Written:
    """Two levels, metadata by hand as NGFF 0.4 says."""
    zarr = pytest.importorskip("zarr")
    path = folder / "a.ome.zarr"
    group = zarr.open_group(str(path), mode="w", zarr_format=2)
    level = group.create_array("0", shape=array.shape, chunks=(1, 3, 4, 5), dtype=array.dtype)
    level[...] = array
    small = group.create_array("1", shape=array[:, ::2].shape, chunks=(1, 3, 4, 5), dtype=array.dtype)
    small[...] = array[:, ::2]
    axes = [{"name": "c", "type": "channel"}]
    axes += [{"name": a, "type": "space", "unit": "micrometer"} for a in "zyx"]
    scales = [[1.0, *SPACING], [1.0, 5.0, 0.75, 0.5]]
    datasets = [
        {"path": str(i), "coordinateTransformations": [{"type": "scale", "scale": scale}]}
        for i, scale in enumerate(scales)
    ]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": datasets}]
    chunk = max((p for p in (path / "0").rglob("*") if p.is_file()), key=lambda p: (p.stat().st_size, str(p)))
    return Written(VolumeSource(paths=(path,)), array, SPACING, "um", chunk)


def write_dicom(folder: Path, array: NDArray[Any]) -> Written:
    """A CT series; file names run against the positions, which alone may decide the order."""
    image = sitk.GetImageFromArray(array[0])
    paths = []
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for z in range(array.shape[1]):
        plane = image[:, :, z]
        plane.SetSpacing(SPACING[:0:-1])
        tags = {
            "0008|0060": "CT",
            "0020|000e": "1.2.826.0.1.3680043.2.1125.1",
            "0020|000d": "1.2.826.0.1.3680043.2.1125.2",
            "0020|0032": f"0\\0\\{z * SPACING[0]}",
            "0020|0037": "1\\0\\0\\0\\1\\0",
            "0020|0013": str(z),
            "0008|0018": f"1.2.826.0.1.3680043.2.1125.3.{z}",
        }
        for tag, value in tags.items():
            plane.SetMetaData(tag, value)
        paths.append(folder / f"{99 - z:02d}.dcm")
        writer.SetFileName(str(paths[-1]))
        writer.Execute(plane)
    return Written(VolumeSource(paths=tuple(sorted(paths))), array[:1], SPACING, "mm", paths[0])


WRITERS: dict[str, tuple[str, bool, Writer]] = {
    "nii": ("nifti", True, write_nii),
    "nii-gz": ("nifti", True, write_nii_gz),
    "nifti2-gz": ("nifti", True, write_nii2_gz),
    "nii-big-endian": ("nifti", True, write_nii_big_endian),
    "nrrd": ("itk", True, write_nrrd),
    "nrrd-gz": ("itk", True, write_nrrd_gz),
    "nhdr": ("itk", True, write_nhdr),
    "mha": ("itk", True, write_mha),
    "mha-zlib": ("itk", True, write_mha_zlib),
    "mhd": ("itk", True, write_mhd),
    "mhd-zlib": ("itk", True, write_mhd_zlib),
    "hdf5": ("hdf5", True, write_hdf5),
    "hdf5-gzip": ("hdf5", True, write_hdf5_gzip),
    "hdf5-big-endian": ("hdf5", True, write_hdf5_big_endian),
    "tiff": ("tiff", True, write_tiff),
    "tiff-big-endian": ("tiff", True, write_tiff_big_endian),
    "bigtiff-zlib": ("tiff", True, write_bigtiff_zlib),
    "tiff-tiled": ("tiff", True, write_tiff_tiled),
    "tiff-tiled-raw": ("tiff", True, write_tiff_tiled_raw),
    "tiff-volumetric": ("tiff", True, write_tiff_volumetric),
    "tiff-pages": ("tiff", False, write_tiff_pages),
    "ome-tiff": ("tiff", True, write_ome_tiff),
    "imagej": ("tiff", True, write_imagej),
    "tiff-slices": ("tiff", False, write_tiff_slices),
    "png-slices": ("png", False, write_png_slices),
    "zarr2": ("zarr", True, write_zarr2),
    "zarr3": ("zarr", True, write_zarr3),
    "ome-zarr": ("zarr", True, write_ome_zarr),
    "dicom": ("dicom", False, write_dicom),
}
"""Name: the reader's name, whether it holds several channels, and the writer."""


@pytest.fixture(params=WRITERS)
def write(request: pytest.FixtureRequest) -> Writer:
    """Every format's writer in turn."""
    return WRITERS[request.param][2]


@pytest.fixture(params=[name for name, (_, several, _) in WRITERS.items() if several])
def write_channels(request: pytest.FixtureRequest) -> Writer:
    """The writers of formats that hold several channels."""
    return WRITERS[request.param][2]


@pytest.fixture
def written_formats() -> set[str]:
    """Names of the readers that the writers serve."""
    return {name for name, _, _ in WRITERS.values()}
