"""PNG slices, DICOM series and Zarr stores: profiled, planned for and drawn from, beside whole arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import imagecodecs
import numpy as np
import pytest
import SimpleITK as sitk
import torch
import zarr
from scipy import ndimage

from voxplan.plans import load_plans
from voxplan.plans.build import Plan
from voxplan.plans.data import PatchDataset, make_loader
from voxplan.profiling.formats.base import ReadOptions
from voxplan.profiling.layouts import discover
from voxplan.scripts import plan_experiment, profile_dataset

Array = np.ndarray[Any, Any]
Triple = tuple[float, float, float]
PATCH = (8, 16, 16)
SHAPES = ((14, 40, 36), (18, 36, 44))


@dataclass(frozen=True)
class Written:
    """A data set on disk, and what stands in it."""

    folder: Path
    images: Mapping[str, Array]
    """By case, ZYX intensities."""
    labels: Mapping[str, Array]
    spacings: Mapping[str, Triple]
    target: Triple | None = None
    """None: the plan's own, the median."""
    read: ReadOptions = field(default_factory=ReadOptions)
    keys: Mapping[str, str] = field(default_factory=dict)


def volumes(dtype: str, low: int, high: int) -> tuple[dict[str, Array], dict[str, Array]]:
    """Two cases of hard edges and noise, with labels 0 to 2."""
    images, labels = {}, {}
    for seed, (name, shape) in enumerate(zip(("a", "b"), SHAPES, strict=True)):
        rng = np.random.default_rng(seed)
        coarse = rng.integers(0, 3, [-(-size // 5) for size in shape])
        ids = np.kron(coarse, np.ones((5, 5, 5), np.int64))[tuple(slice(size) for size in shape)]
        noise = rng.integers(low, (low + high) // 2, shape)
        images[name] = (noise + ids * ((high - low) // 5)).astype(dtype)
        labels[name] = ids.astype(np.uint8)
    return images, labels


def png_slices(folder: Path) -> Written:
    """``images/a/000.png``, ``labels/a/000.png``; 16 bits; no PNG states the distance of slices."""
    images, labels = volumes("uint16", 0, 4000)
    for part, arrays in (("images", images), ("labels", labels)):
        for name, array in arrays.items():
            (folder / part / name).mkdir(parents=True)
            for number, plane in enumerate(array):
                path = folder / part / name / f"{number:03d}.png"
                path.write_bytes(imagecodecs.png_encode(np.ascontiguousarray(plane)))
    spacing = (30.0, 10.0, 10.0)
    return Written(
        folder,
        images,
        labels,
        dict.fromkeys(images, spacing),
        target=(25.0, 11.0, 12.0),
        read=ReadOptions(spacing=spacing, unit="nm"),
    )


def zarr_stores(folder: Path, version: Literal[2, 3] = 3) -> Written:
    """One store a case, with ``raw`` and ``labels``; the cases differ in spacing."""
    images, labels = volumes("uint8", 0, 255)
    spacings = {"a": (40.0, 8.0, 8.0), "b": (40.0, 10.0, 10.0)}
    for name in images:
        root = zarr.create_group(folder / f"{name}.zarr", zarr_format=version)
        for key, array in (("raw", images[name]), ("labels", labels[name])):
            stored = root.create_array(key, shape=array.shape, chunks=(4, 16, 16), dtype=array.dtype)
            stored[...] = array
            stored.attrs["resolution"] = list(spacings[name])
            stored.attrs["unit"] = "nm"
    return Written(folder, images, labels, spacings, keys={"image_key": "raw", "label_key": "labels"})


def ome_zarr(folder: Path) -> Written:
    """``images/a.ome.zarr`` and ``labels/a.ome.zarr``, two levels each, spacing in micrometres."""
    images, labels = volumes("uint8", 0, 255)
    spacings = {"a": (0.5, 0.25, 0.25), "b": (0.5, 0.3, 0.3)}
    for part, arrays in (("images", images), ("labels", labels)):
        for name, array in arrays.items():
            root = zarr.create_group(folder / part / f"{name}.ome.zarr", zarr_format=2)
            levels = []
            for level in range(2):
                step = 2**level
                values = array[:, ::step, ::step]
                stored = root.create_array(
                    str(level), shape=values.shape, chunks=(4, 16, 16), dtype=values.dtype
                )
                stored[...] = values
                z, y, x = spacings[name]
                scale = [z, y * step, x * step]
                levels.append(
                    {
                        "path": str(level),
                        "coordinateTransformations": [{"type": "scale", "scale": scale}],
                    }
                )
            axes = [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "zyx"]
            root.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": levels}]
    return Written(folder, images, labels, spacings)


def dicom_series(folder: Path) -> Written:
    """``images/a/*.dcm``: CT with a rescale intercept, written slice by slice, names against positions."""
    images, labels = volumes("int16", -1000, 1000)
    spacings = {"a": (2.5, 1.0, 1.0), "b": (2.5, 1.25, 1.25)}
    for part, arrays in (("images", images), ("labels", labels)):
        for number, (name, array) in enumerate(arrays.items()):
            (folder / part / name).mkdir(parents=True)
            uid = f"1.2.826.0.1.3680043.2.1125.{part == 'images':d}.{number}"
            writer = sitk.ImageFileWriter()
            writer.KeepOriginalImageUIDOn()
            image = sitk.GetImageFromArray(array)
            for z in range(len(array)):
                plane = image[:, :, z]
                plane.SetSpacing(spacings[name][:0:-1])
                tags = {
                    "0008|0060": "CT",
                    "0020|000e": f"{uid}.1",
                    "0020|000d": f"{uid}.2",
                    "0020|0032": f"0\\0\\{z * spacings[name][0]}",
                    "0020|0037": "1\\0\\0\\0\\1\\0",
                    "0020|0013": str(z),
                    "0008|0018": f"{uid}.3.{z}",
                }
                if part == "images":
                    tags |= {"0028|1052": "-1024", "0028|1053": "1"}
                for tag, value in tags.items():
                    plane.SetMetaData(tag, value)
                writer.SetFileName(str(folder / part / name / f"{99 - z:02d}.dcm"))
                writer.Execute(plane)
    return Written(folder, images, labels, spacings)


WRITERS: dict[str, Callable[[Path], Written]] = {
    "png slices": png_slices,
    "zarr 2": lambda folder: zarr_stores(folder, 2),
    "zarr 3": zarr_stores,
    "ome-zarr": ome_zarr,
    "dicom": dicom_series,
}


def planned(written: Written, tmp_path: Path, cache: str) -> Plan:
    """By the two commands, as a user types them."""
    words = [str(written.folder), "-o", str(tmp_path / "fingerprint.json"), "--jobs", "1"]
    for name, value in written.keys.items():
        words += [f"--{name.replace('_', '-')}", value]
    if written.read.spacing is not None:
        words += ["--spacing", *map(str, written.read.spacing), "--unit", str(written.read.unit)]
    assert profile_dataset.main(words) == 0
    settings = [f"patch_size={','.join(map(str, PATCH))}", "base_features=4", f"cache={cache}", "workers=2"]
    settings.append("normalization=zscore")
    if written.target is not None:
        settings.append(f"target_spacing={','.join(map(str, written.target))}")
    words = [str(tmp_path / "fingerprint.json"), "--cpu", "--ram", "4", "--cores", "3"]
    words += ["--architecture", "unet", "--configuration", "3d_fullres", "-o", str(tmp_path / "plans.json")]
    for setting in settings:
        words += ["--set", setting]
    assert plan_experiment.main(words) == 0
    plan = load_plans(tmp_path / "plans.json").recommended
    assert plan is not None
    return plan


def whole(written: Written, name: str, target: Sequence[float] | None) -> tuple[Array, Array]:
    """A case as nnU-Net would preprocess it: z-scored, then resampled (no axis is thick by its rule but in
    zarr stores, where Z keeps its planes).
    """
    image = written.images[name].astype(np.float64)
    image = (image - image.mean()) / image.std()
    labels = written.labels[name]
    spacing = written.spacings[name]
    if target is None:
        return image, labels
    shape = [round(n * old / new) for n, old, new in zip(image.shape, spacing, target, strict=True)]
    if shape == list(image.shape):
        return image, labels
    if max(spacing) / min(spacing) > 3:
        assert shape[0] == image.shape[0]
        pairs = [_resized(plane, ids, shape[1:]) for plane, ids in zip(image, labels, strict=True)]
        return np.stack([pair[0] for pair in pairs]), np.stack([pair[1] for pair in pairs])
    return _resized(image, labels, shape)


def _resized(image: Array, labels: Array, shape: Sequence[int]) -> tuple[Array, Array]:
    factors = [new / old for new, old in zip(shape, image.shape, strict=True)]
    options: dict[str, Any] = {"mode": "nearest", "grid_mode": True}
    values: Any = ndimage.zoom(image, factors, order=3, **options)
    by_label: list[Any] = [
        ndimage.zoom((labels == value).astype(np.float64), factors, order=1, **options) for value in range(3)
    ]
    shares = np.stack(by_label)
    shares[:, np.sort(shares, 0)[-1] - np.sort(shares, 0)[-2] < 1e-4] = np.nan
    decided = np.where(np.isnan(shares[0]), -1, np.nan_to_num(shares).argmax(0))
    return np.clip(values, image.min(), image.max()), decided


def compare(
    dataset: PatchDataset, batches: Sequence[dict[str, torch.Tensor]], wholes: Mapping[str, Any]
) -> None:
    """Each sample with its place in the whole array; labels but for ties."""
    images = torch.cat([batch["image"] for batch in batches]).numpy()
    targets = torch.cat([batch["target"] for batch in batches]).numpy()
    seen = set()
    for index, (image, target) in enumerate(zip(images, targets, strict=True)):
        spot = dataset.locate(index)
        name = dataset.cases[spot.case].source.id
        where = tuple(slice(start, start + size) for start, size in zip(spot.origin, PATCH, strict=True))
        values, labels = wholes[name]
        axes = tuple(axis for axis in range(3) if spot.mirrored[axis])
        np.testing.assert_allclose(image[0], np.flip(values[where], axes), atol=2e-4)
        expected = np.flip(labels[where], axes)
        assert np.array_equal(target[0][expected >= 0], expected[expected >= 0])
        seen.add(name)
    assert seen == set(wholes)


@pytest.mark.parametrize("cache", ["none", "ram", "disk"])
@pytest.mark.parametrize("kind", WRITERS)
def test_patches_are_those_of_the_whole_arrays(kind: str, cache: str, tmp_path: Path) -> None:
    """With two workers, forked and (from the cache on disk) spawned."""
    written = WRITERS[kind](tmp_path / "data")
    plan = planned(written, tmp_path, cache)
    assert plan.loader.cache == cache
    cases = discover(written.folder, **written.keys).cases  # type: ignore[arg-type]
    assert [case.id for case in cases] == ["a", "b"]
    options: dict[str, Any] = {"fold": "all", "read": written.read, "cache_folder": tmp_path / "cache"}
    dataset = plan.make_dataset(cases, **options)
    assert all(not grid.identity for grid in dataset.cases if grid.source.id == "a")
    wholes = {name: whole(written, name, plan.spacing) for name in written.images}
    assert any(axis for index in range(12) for axis in dataset.locate(index).mirrored)
    compare(dataset, list(make_loader(plan, dataset, steps=6, workers=2)), wholes)
    if cache != "disk":
        return
    again = plan.make_dataset(cases, seed=1, **options)
    compare(again, list(make_loader(plan, again, steps=3, workers=2, context="spawn")), wholes)
