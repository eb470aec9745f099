"""Good volumes, one a way of storing them, as bytes: what mutations start from."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxplan.profiling.formats.base import VolumeSource

SHAPE = (6, 7, 8)
"""ZYX; small, so that a mutant costs a few milliseconds."""


@dataclass(frozen=True)
class Specimen:
    """A volume on disk, taken into memory."""

    name: str
    files: Mapping[str, bytes]
    """Relative path to content."""
    opened: tuple[str, ...]
    """What the volume's source names: files or one folder, relative."""

    def write(self, folder: Path, files: Mapping[str, bytes]) -> VolumeSource:
        """Put (changed) files into a folder; the source that reads them."""
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return VolumeSource(paths=tuple(folder / name for name in self.opened))


def _array() -> NDArray[np.int16]:
    rng = np.random.default_rng(7)
    array = rng.integers(-50, 200, SHAPE).astype(np.int16)
    array[:, 0] = 0
    return array


def _write_nifti(folder: Path, name: str) -> None:
    import nibabel

    image: Any = nibabel.Nifti1Image(_array().T, np.diag([0.5, 0.75, 2.5, 1.0]))
    image.header.set_xyzt_units("mm")
    image.header.set_slope_inter(2.0, 1.0)
    image.to_filename(folder / name)


def _write_nifti2(folder: Path, name: str) -> None:
    import nibabel

    image: Any = nibabel.Nifti2Image(_array().T, np.diag([0.5, 0.75, 2.5, 1.0]))
    image.to_filename(folder / name)


def _write_itk(folder: Path, name: str, *, compress: bool = False) -> None:
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(_array())
    image.SetSpacing((0.5, 0.75, 2.5))
    sitk.WriteImage(image, str(folder / name), compress)


def _write_hdf5(folder: Path, name: str, **options: Any) -> None:
    import h5py

    with h5py.File(folder / name, "w") as file:
        dataset = file.create_dataset("volumes/raw", data=_array(), **options)
        dataset.attrs["resolution"] = (2.5, 0.75, 0.5)
        dataset.attrs["unit"] = "um"


def _write_tiff(folder: Path, name: str, **options: Any) -> None:
    import tifffile

    options.setdefault("metadata", {"axes": "ZYX"})
    tifffile.imwrite(folder / name, _array(), photometric="minisblack", **options)


def _write_ome(folder: Path, name: str) -> None:
    sizes = {"PhysicalSizeZ": 2.5, "PhysicalSizeY": 0.75, "PhysicalSizeX": 0.5}
    _write_tiff(folder, name, metadata={"axes": "ZYX", **sizes}, compression="zlib")


def _write_tiff_slices(folder: Path) -> None:
    import tifffile

    for number, plane in enumerate(_array()):
        tifffile.imwrite(folder / f"s_{number:03d}.tif", plane, photometric="minisblack", compression="lzw")


def _write_png_slices(folder: Path) -> None:
    import imagecodecs

    for number, plane in enumerate(_array().astype(np.uint16)):
        (folder / f"s_{number:03d}.png").write_bytes(imagecodecs.png_encode(plane))


def _write_zarr(folder: Path, name: str, version: Any, codec: str) -> None:
    import zarr
    from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec

    compressors: Any = {
        2: "auto",
        3: {"zstd": ZstdCodec(), "gzip": GzipCodec(), "blosc": BloscCodec()}.get(codec, "auto"),
    }[version]
    root = zarr.create_array(
        str(folder / name),
        shape=SHAPE,
        chunks=(3, 4, 5),
        dtype="int16",
        zarr_format=version,
        compressors=compressors,
    )
    root[...] = _array()
    root.attrs["resolution"] = [2.5, 0.75, 0.5]


def _write_sharded_zarr(folder: Path, name: str) -> None:
    import zarr

    root = zarr.create_array(
        str(folder / name), shape=SHAPE, chunks=(3, 4, 4), shards=(6, 8, 8), dtype="int16"
    )
    root[...] = _array()


def _write_ome_zarr(folder: Path, name: str) -> None:
    import zarr

    group = zarr.open_group(str(folder / name), mode="w", zarr_format=2)
    full = group.create_array("0", shape=SHAPE, chunks=(3, 4, 5), dtype="int16")
    full[...] = _array()
    half = group.create_array("1", shape=(3, 4, 4), chunks=(3, 4, 4), dtype="int16")
    half[...] = _array()[::2, ::2, ::2]
    axes: Any = [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "zyx"]
    levels: Any = [
        {"path": str(n), "coordinateTransformations": [{"type": "scale", "scale": [2.5 * 2**n, 0.75, 0.5]}]}
        for n in range(2)
    ]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": levels}]


def _write_zarr_zip(folder: Path, name: str) -> None:
    import zarr
    from zarr.storage import ZipStore

    with ZipStore(folder / name, mode="w") as store:
        root = zarr.create_array(store, shape=SHAPE, chunks=(3, 4, 5), dtype="int16")
        root[...] = _array()


def _write_dicom(folder: Path) -> None:
    import SimpleITK as sitk

    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for number, plane in enumerate(_array()):
        image = sitk.GetImageFromArray(plane)
        image.SetSpacing((0.5, 0.75))
        tags = {
            "0008|0060": "CT",
            "0020|000d": "1.2.826.0.1.3680043.2.1125.2",
            "0020|000e": "1.2.826.0.1.3680043.2.1125.1",
            "0008|0018": f"1.2.826.0.1.3680043.2.1125.3.{number}",
            "0020|0032": rf"0\0\{number * 2.5}",
            "0020|0037": r"1\0\0\0\1\0",
        }
        for tag, value in tags.items():
            image.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"s_{number:03d}.dcm"))
        writer.Execute(image)


def _write_dicom_frames(folder: Path, name: str) -> None:
    import SimpleITK as sitk

    sitk.WriteImage(sitk.GetImageFromArray((_array() + 50).astype(np.uint16)), str(folder / name), True)


_TILED: dict[str, Any] = {"compression": "zlib", "tile": (16, 16), "predictor": True}

_WRITERS: Mapping[str, tuple[str | None, Callable[[Path, str], None]]] = {
    "nifti": ("a.nii", _write_nifti),
    "nifti2": ("a.nii", _write_nifti2),
    "nifti-gz": ("a.nii.gz", _write_nifti),
    "nrrd": ("a.nrrd", _write_itk),
    "nrrd-gz": ("a.nrrd", lambda f, n: _write_itk(f, n, compress=True)),
    "nhdr": ("a.nhdr", _write_itk),
    "mha": ("a.mha", _write_itk),
    "mha-zlib": ("a.mha", lambda f, n: _write_itk(f, n, compress=True)),
    "hdf5": ("a.h5", _write_hdf5),
    "hdf5-gzip": ("a.h5", lambda f, n: _write_hdf5(f, n, chunks=(3, 4, 5), compression="gzip", shuffle=True)),
    "hdf5-checked": (
        "a.h5",
        lambda f, n: _write_hdf5(f, n, chunks=(3, 4, 5), compression="gzip", fletcher32=True),
    ),
    "hdf5-lzf": ("a.h5", lambda f, n: _write_hdf5(f, n, chunks=(3, 4, 5), compression="lzf")),
    "tiff": ("a.tif", _write_tiff),
    "tiff-tiled": ("a.tif", lambda f, n: _write_tiff(f, n, **_TILED)),
    "tiff-strips": ("a.tif", lambda f, n: _write_tiff(f, n, compression="lzw", rowsperstrip=3)),
    "bigtiff": ("a.tif", lambda f, n: _write_tiff(f, n, bigtiff=True, byteorder=">", compression="zlib")),
    "ome-tiff": ("a.ome.tif", _write_ome),
    "tiff-slices": (None, lambda f, _: _write_tiff_slices(f)),
    "png-slices": (None, lambda f, _: _write_png_slices(f)),
    "zarr2": ("a.zarr", lambda f, n: _write_zarr(f, n, 2, "auto")),
    "zarr3-zstd": ("a.zarr", lambda f, n: _write_zarr(f, n, 3, "zstd")),
    "zarr3-gzip": ("a.zarr", lambda f, n: _write_zarr(f, n, 3, "gzip")),
    "zarr3-blosc": ("a.zarr", lambda f, n: _write_zarr(f, n, 3, "blosc")),
    "zarr3-sharded": ("a.zarr", _write_sharded_zarr),
    "ome-zarr": ("a.zarr", _write_ome_zarr),
    "zarr-zip": ("a.zarr.zip", _write_zarr_zip),
    "dicom": (None, lambda f, _: _write_dicom(f)),
    "dicom-frames": ("a.dcm", _write_dicom_frames),
}
NAMES: tuple[str, ...] = tuple(_WRITERS)
"""Of the specimens; those of one file, unless the writer's file name is None."""


@cache
def specimen(name: str) -> Specimen:
    """A specimen by name, the same bytes each time within a process."""
    file_name, write = _WRITERS[name]
    with tempfile.TemporaryDirectory(prefix="voxplan-specimen-") as text:
        folder = Path(text)
        write(folder, file_name or "")
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
    return Specimen(name, files, (file_name,) if file_name is not None else tuple(files))
