"""Inputs large enough to time, made from the real volumes that VOXPLAN_DATA names.

python -m voxplan.scripts.benchmarks.make_data nifti OUT [--cases 64]     CT and MR, nnU-Net raw layout
python -m voxplan.scripts.benchmarks.make_data em OUT [--slices 160]      one 1.5 GB volume, three containers
python -m voxplan.scripts.benchmarks.make_data small OUT [--cases 10000]  many tiny NIfTI files
python -m voxplan.scripts.benchmarks.make_data virtual OUT                20 GB volumes, a tenth filled
"""

from __future__ import annotations

import argparse
import json
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np
import SimpleITK as sitk
import tifffile
from numpy.typing import NDArray

SCANS = ("CT_AVM.nii.gz", "MR_Gd.nii.gz", "PD25-fusion-template-1mm.nii.gz")
EM_SPACING = (45.0, 4.6, 4.6)
"""nm, ZYX; ssTEM of figshare 856713."""


def data_folder() -> Path:
    """Where the real volumes lie."""
    try:
        return Path(os.environ["VOXPLAN_DATA"])
    except KeyError:
        msg = "set VOXPLAN_DATA to the folder with the real volumes (nifti_misc, em_vnc)"
        raise SystemExit(msg) from None


def make_nifti(out: Path, cases: int) -> None:
    """About 18 million voxels a case: resampled scans, int16, gzip; labels by intensity: 0, 1, 2."""
    folder = out / "Dataset901_Bench"
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(7)
    scans = [sitk.ReadImage(str(data_folder() / "nifti_misc" / name), sitk.sitkFloat32) for name in SCANS]
    for number in range(cases):
        scan = scans[number % len(scans)]
        size = [int(n * zoom) for n, zoom in zip(scan.GetSize(), rng.uniform(1.2, 1.6, 3), strict=True)]
        spacing = [step * n / m for step, n, m in zip(scan.GetSpacing(), scan.GetSize(), size, strict=True)]
        grid = (scan.GetOrigin(), spacing, scan.GetDirection())
        finer = sitk.Resample(scan, size, sitk.Transform(), sitk.sitkLinear, *grid, 0.0)
        voxels = sitk.GetArrayFromImage(finer)
        noisy = np.where(voxels > 0, voxels + rng.normal(0, 3, voxels.shape), 0).astype(np.int16)
        low, high = np.quantile(noisy[noisy > 0], [0.5, 0.8])
        labels = (noisy > low).astype(np.uint8) + (noisy > high)
        _write_like(finer, noisy, folder / "imagesTr" / f"case_{number:03d}_0000.nii.gz")
        _write_like(finer, labels.astype(np.uint8), folder / "labelsTr" / f"case_{number:03d}.nii.gz")
    description = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "a": 1, "b": 2},
        "numTraining": cases,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(description))


def _write_like(reference: sitk.Image, voxels: NDArray[np.generic], path: Path) -> None:
    image = sitk.GetImageFromArray(voxels)
    image.CopyInformation(reference)
    sitk.WriteImage(image, str(path), useCompression=True)


def em_planes(count: int) -> Iterator[NDArray[np.uint8]]:
    """Real ssTEM slices, mirrored in Z and tiled in mirror images to 3072 x 3072."""
    slices = sorted((data_folder() / "em_vnc" / "slices").glob("*.tif"))
    stack = [tifffile.imread(path) for path in slices]
    there_and_back = stack + stack[::-1]
    for number in range(count):
        plane = there_and_back[number % len(there_and_back)]
        row = np.concatenate([plane, plane[:, ::-1], plane], axis=1)
        yield np.concatenate([row, row[::-1], row])


def make_em(out: Path, slices: int) -> None:
    """The same voxels as gzip HDF5, raw HDF5 and BigTIFF."""
    out.mkdir(parents=True, exist_ok=True)
    shape, chunks = (slices, 3072, 3072), (16, 256, 256)
    with (
        h5py.File(out / "em_gzip.h5", "w") as gz,
        h5py.File(out / "em_raw.h5", "w") as raw,
        tifffile.TiffWriter(out / "em.tif", bigtiff=True) as tif,
    ):
        compressed = gz.create_dataset(
            "main", shape, "u1", chunks=chunks, compression="gzip", compression_opts=4
        )
        targets = [compressed, raw.create_dataset("main", shape, "u1", chunks=chunks)]
        for dataset in targets:
            dataset.attrs["resolution"] = EM_SPACING
        layer: list[NDArray[np.uint8]] = []
        for number, plane in enumerate(em_planes(slices)):
            tif.write(plane, contiguous=True)
            layer.append(plane)
            if len(layer) == chunks[0] or number == slices - 1:
                for dataset in targets:
                    dataset[number + 1 - len(layer) : number + 1] = np.stack(layer)
                layer.clear()


def make_small(out: Path, cases: int) -> None:
    """Many tiny compressed volumes, as in a folder of patches."""
    out.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(7)
    for number in range(cases):
        voxels = rng.integers(0, 255, (8, 16, 16 + number % 5), np.uint8)
        image = sitk.GetImageFromArray(voxels)
        image.SetSpacing((0.5, 0.5, 2.0))
        sitk.WriteImage(image, str(out / f"tiny_{number:05d}.nii.gz"), useCompression=True)


def make_virtual(out: Path, gigabytes: int = 20, seed: int = 7) -> None:
    """A volume of 20 GB in HDF5, Zarr and (sparse) BigTIFF, a tenth of whose chunks hold noise."""
    import zarr

    out.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    chunk = (64, 256, 256)
    shape = (gigabytes * 10**9 // (4096 * 4096) // chunk[0] * chunk[0], 4096, 4096)
    corners = [
        (z, y, x)
        for z in range(0, shape[0], chunk[0])
        for y in range(0, shape[1], chunk[1])
        for x in range(0, shape[2], chunk[2])
    ]
    chosen = [corners[i] for i in rng.choice(len(corners), len(corners) // 10, replace=False)]
    noise = rng.integers(0, 16, chunk, np.uint8) << 4  # sixteen levels, so that 2 GB of it take 1 GB
    store = zarr.create_array(str(out / "virtual.zarr"), shape=shape, chunks=chunk, dtype="u1", fill_value=0)
    with h5py.File(out / "virtual.h5", "w") as file:
        gzip = {"compression": "gzip", "compression_opts": 1}
        dataset = file.create_dataset("main", shape, "u1", chunks=chunk, **gzip)
        for z, y, x in chosen:
            box = (slice(z, z + chunk[0]), slice(y, y + chunk[1]), slice(x, x + chunk[2]))
            dataset[box] = noise
            store[box] = noise
    tile = [zlib.compress(plane.tobytes(), 1) for plane in noise]

    def tiles() -> Iterator[bytes]:
        filled = {(z // chunk[0], y, x) for z, y, x in chosen}
        for z in range(shape[0]):
            for y in range(0, shape[1], 256):
                for x in range(0, shape[2], 256):
                    yield (
                        tile[z % chunk[0]] if (z // chunk[0], y, x) in filled else b""
                    )  # no bytes: an absent tile

    with tifffile.TiffWriter(out / "virtual.tif", bigtiff=True) as tif:
        tif.write(
            tiles(),
            shape=shape,
            dtype=np.uint8,
            tile=(256, 256),
            compression="zlib",
            photometric="minisblack",
        )


MAKERS: dict[str, tuple[Callable[..., None], str, int]] = {
    "nifti": (make_nifti, "cases", 64),
    "em": (make_em, "slices", 160),
    "small": (make_small, "cases", 10_000),
    "virtual": (make_virtual, "gigabytes", 20),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description="Make inputs large enough to time.")
    kinds = parser.add_subparsers(dest="kind", required=True)
    for kind, (_, size, default) in MAKERS.items():
        one = kinds.add_parser(kind)
        one.add_argument("out", type=Path)
        one.add_argument(f"--{size}", dest="size", type=int, default=default)
    options = parser.parse_args(argv)
    MAKERS[options.kind][0](options.out, options.size)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
