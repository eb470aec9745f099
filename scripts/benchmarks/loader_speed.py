"""Patches a second of a plan's loader, MONAI's and TorchIO's: same files, same cache, in turn.

    pip install -c constraints.txt -e '.[bench]'
    python -m voxplan.scripts.benchmarks.loader_speed -o loader_speed.json [--update docs/training.md]

All give the same work: batches of two patches, each of a case drawn anew, one of two centred on foreground,
intensities scaled to 0 to 1, three axes mirrored at random, and where resampling is asked for, to a spacing
1.25 times finer in the plane. MONAI finds foreground voxels beforehand (``FgBgToIndicesd``), as voxplan does.
MONAI and TorchIO read HDF5 by a function of ours, since neither does, and interpolate linearly where voxplan
takes the cubic splines of nnU-Net. Without a cache every patch is read from its file: voxplan would hold the
inflated streams of these few volumes (:data:`~voxplan.plans.case_reader.HELD_STREAM_BYTES`), which is turned
off. The others can draw several patches from a volume once it is loaded, which amortizes loading and makes
the samples of a batch dependent; where nothing is cached, that is measured beside (``4 a volume``). Caches
are filled, and workers started, before the clock starts.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

CASES = 3
SHAPE = (48, 256, 256)
"""ZYX; uint8."""
PATCH = (32, 96, 96)
BATCH = 2
SPACING = (4.0, 1.0, 1.0)
"""ZYX in mm."""
FINER = (4.0, 0.8, 0.8)
FORMATS = ("hdf5", "nii.gz")
CACHES = ("none", "ram", "disk")
BEGIN, END = "<!-- loader-speed: begin -->", "<!-- loader-speed: end -->"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One row of the table."""

    format: str
    cache: str
    workers: int
    resampled: bool


def write_cases(folder: Path, kind: str) -> list[tuple[Path, Path]]:
    """Smooth textures with balls as foreground: pairs of image and label file, as such data compress."""
    import h5py
    import SimpleITK as sitk
    from scipy import ndimage

    pairs = []
    for number in range(CASES):
        rng = np.random.default_rng(number)
        texture = ndimage.gaussian_filter(rng.normal(size=SHAPE).astype(np.float32), (0.5, 1.5, 1.5))
        labels = (ndimage.gaussian_filter(texture, (4, 8, 8)) > 0.012).astype(np.uint8)
        image = np.clip(texture * 250 + 110 + 40 * labels, 0, 255).astype(np.uint8)
        paths = []
        for name, array in (("image", image), ("label", labels)):
            path = folder / f"{name}_{number}.{'h5' if kind == 'hdf5' else kind}"
            paths.append(path)
            if path.exists():
                continue
            if kind == "hdf5":
                with h5py.File(path, "w") as file:
                    data = file.create_dataset("data", data=array, chunks=(16, 64, 64), compression="gzip")
                    data.attrs["resolution"], data.attrs["unit"] = SPACING, "mm"
            else:
                volume = sitk.GetImageFromArray(array)
                volume.SetSpacing(SPACING[::-1])
                sitk.WriteImage(volume, str(path), useCompression=True)
        pairs.append((paths[0], paths[1]))
    return pairs


def read_hdf5(path: Path | str) -> NDArray[Any]:
    """A whole data set, as users of libraries without HDF5 read it."""
    import h5py

    with h5py.File(path, "r") as file:
        data = file["data"]
        assert isinstance(data, h5py.Dataset)
        values: NDArray[Any] = data[()]
    return values


def read_for_torchio(path: Any) -> tuple[Any, NDArray[np.float64]]:
    """A whole data set with its affine; workers must be able to import it."""
    import torch

    return torch.from_numpy(read_hdf5(path))[None], np.diag((*SPACING, 1.0))


def voxplan_batches(
    pairs: Sequence[tuple[Path, Path]], setting: Setting, folder: Path, batches: int
) -> Iterator[Any]:
    """Batches of a plan's loader."""
    from voxplan.plans.data import make_dataset, make_loader
    from voxplan.profiling.formats.base import CaseSource, VolumeSource

    key = "data" if setting.format == "hdf5" else None
    cases = [
        CaseSource(
            id=image.stem,
            images=(VolumeSource(paths=(image,), key=key),),
            label=VolumeSource(paths=(label,), key=key),
        )
        for image, label in pairs
    ]
    plan = make_plan(setting)
    dataset = make_dataset(plan, cases, cache_folder=folder)
    return iter(make_loader(plan, dataset, steps=batches, workers=setting.workers))


def make_plan(setting: Setting) -> Any:
    """Only what the loader looks at is meant; the rest is what a plan must have."""
    from voxplan.plans.build import Plan
    from voxplan.plans.schema import DatasetPlan, ExperimentPlan

    spacing = FINER if setting.resampled else SPACING
    experiment = {
        "architecture": {"name": "unet", "arguments": {}},
        "dimensions": 3,
        "spacing": spacing,
        "median_shape": SHAPE,
        "patch_size": PATCH,
        "batch_size": BATCH,
        "global_batch_size": BATCH,
        "precision": "fp32",
        "deep_supervision": False,
        "loss": {"name": "dice_ce"},
        "optimizer": {"name": "sgd", "lr": 0.01},
        "schedule": {"name": "poly", "epochs": 1, "steps_per_epoch": 1000},
        "loader": {"workers": setting.workers, "cache": setting.cache, "pin_memory": False},
        "inference": {"window": PATCH},
        "memory": {
            **dict.fromkeys(("allocated", "reserved", "context", "total", "budget"), 0),
            "parts": {},
            "fits": True,
            "device": "cpu",
        },
        "decisions": {},
    }
    dataset = {
        "name": "bench",
        "task": "semantic",
        "channel_names": ("image",),
        "classes": {"background": (0,), "ball": (1,)},
        "ignore": None,
        "out_channels": 2,
        "target_spacing": spacing,
        "spacing_unit": "mm",
        "median_shape": SHAPE,
        "normalization": ({"channel": "image", "scheme": "scale", "low": 0.0, "high": 255.0},),
        "case_numbers": {},
        "splits": (),
        "decisions": {},
    }
    return Plan("bench", ExperimentPlan.model_validate(experiment), DatasetPlan.model_validate(dataset))


def monai_batches(
    pairs: Sequence[tuple[Path, Path]], setting: Setting, folder: Path, batches: int, *, per_volume: int = 1
) -> Iterator[Any]:
    """As MONAI's tutorials load patches; ZYX files are read as they lie."""
    import torch
    from monai.data.dataloader import DataLoader
    from monai.data.dataset import CacheDataset, Dataset, PersistentDataset
    from monai.data.meta_tensor import MetaTensor
    from monai.transforms.compose import Compose
    from monai.transforms.croppad.dictionary import RandCropByPosNegLabeld
    from monai.transforms.intensity.dictionary import ScaleIntensityRanged
    from monai.transforms.io.dictionary import LoadImaged
    from monai.transforms.spatial.dictionary import RandFlipd, Spacingd
    from monai.transforms.transform import MapTransform
    from monai.transforms.utility.dictionary import FgBgToIndicesd, SelectItemsd
    from torch.utils.data import RandomSampler

    class LoadHdf5(MapTransform):
        """A whole data set with its affine."""

        def __call__(self, data: Any) -> dict[Any, Any]:
            loaded = dict(data)
            for key in self.keys:
                values = read_hdf5(loaded[key])[None]
                loaded[key] = MetaTensor(values, affine=torch.diag(torch.tensor((*SPACING, 1.0))))
            return loaded

    keys = ("image", "label")
    hdf5 = setting.format == "hdf5"
    # NIfTI axes come as XYZ.
    patch, finer = (PATCH, FINER) if hdf5 else (PATCH[::-1], FINER[::-1])
    steps: list[Any] = [LoadHdf5(keys) if hdf5 else LoadImaged(keys, ensure_channel_first=True)]
    if setting.resampled:
        steps.append(Spacingd(keys, pixdim=finer, mode=("bilinear", "nearest")))
    steps.append(ScaleIntensityRanged("image", 0, 255, 0, 1))
    steps.append(FgBgToIndicesd("label", fg_postfix="_fg", bg_postfix="_bg"))
    steps.append(
        RandCropByPosNegLabeld(
            keys,
            "label",
            patch,
            num_samples=per_volume,
            fg_indices_key="label_fg",
            bg_indices_key="label_bg",
        )
    )
    # Indices of all voxels are not for the batch.
    steps.append(SelectItemsd(keys))
    steps += [RandFlipd(keys, prob=0.5, spatial_axis=axis) for axis in range(3)]
    files = [{"image": str(image), "label": str(label)} for image, label in pairs]
    transform = Compose(steps)
    dataset: Any
    if setting.cache == "ram":
        dataset = CacheDataset(files, transform, progress=False)
    elif setting.cache == "disk":
        dataset = PersistentDataset(files, transform, cache_dir=folder / "monai")
        for number in range(len(files)):
            dataset[number]
    else:
        dataset = Dataset(files, transform)
    volumes = max(1, BATCH // per_volume)
    draws = RandomSampler(dataset, replacement=True, num_samples=batches * volumes)
    return iter(DataLoader(dataset, batch_size=volumes, sampler=draws, num_workers=setting.workers))


def torchio_batches(
    pairs: Sequence[tuple[Path, Path]], setting: Setting, folder: Path, batches: int, *, per_volume: int = 1
) -> Iterator[Any] | None:
    """TorchIO's queue; it has no cache on disk."""
    if setting.cache == "disk":
        return None
    from torch.utils.data import DataLoader, RandomSampler

    # By name: type checkers see it only where the extra bench is installed.
    torchio: Any = import_module("torchio")
    hdf5 = setting.format == "hdf5"
    patch, finer = (PATCH, FINER) if hdf5 else (PATCH[::-1], FINER[::-1])
    how = {"reader": read_for_torchio} if hdf5 else {}
    fixed: list[Any] = [torchio.Resample(finer)] if setting.resampled else []
    fixed.append(torchio.RescaleIntensity((0, 1), in_min_max=(0, 255)))
    random = torchio.RandomFlip(axes=(0, 1, 2))
    subjects = [
        torchio.Subject(image=torchio.ScalarImage(image, **how), label=torchio.LabelMap(label, **how))
        for image, label in pairs
    ]
    if setting.cache == "ram":
        subjects = [torchio.Compose(fixed)(subject) for subject in subjects]
        fixed = []
    dataset = torchio.SubjectsDataset(subjects, transform=torchio.Compose([*fixed, random]))
    draws = batches * BATCH // per_volume + 2
    queue = torchio.Queue(
        dataset,
        max_length=max(BATCH, per_volume),
        samples_per_volume=per_volume,
        sampler=torchio.LabelSampler(patch, "label", {0: 1, 1: 1}),
        subject_sampler=RandomSampler(dataset, replacement=True, num_samples=draws),
        num_workers=setting.workers,
        shuffle_subjects=False,
    )
    return iter(DataLoader(queue, batch_size=BATCH, num_workers=0))


def several(source: Callable[..., Any]) -> Callable[..., Any]:
    """Four patches from each volume that was loaded."""
    return lambda *arguments: source(*arguments, per_volume=4)


LOADERS: dict[str, Callable[..., Iterator[Any] | None]] = {
    "voxplan": voxplan_batches,
    "MONAI": monai_batches,
    "TorchIO": torchio_batches,
    "MONAI, 4 a volume": several(monai_batches),
    "TorchIO, 4 a volume": several(torchio_batches),
}


def measure(source: Iterator[Any], seconds: float, most: int) -> float:
    """Patches a second, after the first batch and as long as the clock runs."""
    next(source)
    patches, started = 0, time.perf_counter()
    for batch in source:
        image = batch["image"]["data"] if isinstance(batch["image"], dict) else batch["image"]
        patches += len(image)
        elapsed = time.perf_counter() - started
        if elapsed > seconds or patches >= most:
            break
    return patches / (time.perf_counter() - started)


def compare(folder: Path, setting: Setting, *, rounds: int, seconds: float) -> dict[str, list[float]]:
    """Every loader in turn, ``rounds`` times."""
    inner = folder / setting.format
    inner.mkdir(parents=True, exist_ok=True)
    pairs = write_cases(inner, setting.format)
    found: dict[str, list[float]] = {name: [] for name in LOADERS}
    for _ in range(rounds):
        for name, make in LOADERS.items():
            if setting.cache != "none" and "," in name:
                continue
            most = 400
            cache = folder / "cache" / f"{setting.format}-{setting.resampled}"
            source = make(pairs, setting, cache, most)
            if source is not None:
                found[name].append(measure(source, seconds, most))
            del source
            gc.collect()
    return found


def table(results: Sequence[tuple[Setting, dict[str, list[float]]]]) -> str:
    """Medians in Markdown; the fastest of those that draw every patch from a case of its own is bold."""
    lines = [
        f"| files | cache | workers | resampled | {' | '.join(LOADERS)} |",
        "|---|---|---|---|" + "---|" * len(LOADERS),
    ]
    for setting, found in results:
        medians = {name: statistics.median(rates) for name, rates in found.items() if rates}
        best = max((name for name in medians if "," not in name), key=lambda name: medians[name])
        cells = [
            "–"
            if name not in medians
            else f"{'**' * (name == best)}{medians[name]:.1f}{'**' * (name == best)}"
            for name in LOADERS
        ]
        resampled = "yes" if setting.resampled else "no"
        lines.append(
            f"| {setting.format} | {setting.cache} | {setting.workers} | {resampled} | {' | '.join(cells)} |"
        )
    return "\n".join(lines)


def update(path: Path, text: str) -> None:
    """Put the table between the marks of a page."""
    page = path.read_text(encoding="utf-8")
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        msg = f"{path}: has no marks {BEGIN} and {END}"
        raise ValueError(msg)
    path.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


def read_results(path: Path) -> list[tuple[Setting, dict[str, list[float]]]]:
    """What an earlier run wrote."""
    found = []
    for row in json.loads(path.read_text(encoding="utf-8"))["results"]:
        rates = row.pop("patches_per_second")
        found.append((Setting(**row), rates))
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--output", type=Path, help="JSON with every measurement")
    parser.add_argument("--update", type=Path, metavar="PAGE", help="write the table into this page")
    parser.add_argument("--folder", type=Path, help="for the files (default: a temporary one)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="a measurement")
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=FORMATS)
    parser.add_argument("--caches", nargs="+", choices=CACHES, default=CACHES)
    parser.add_argument("--workers", nargs="+", type=int, default=(0, 2))
    parser.add_argument("--resampled", nargs="+", choices=("no", "yes"), default=("no", "yes"))
    parser.add_argument(
        "--from-json", nargs="+", type=Path, metavar="FILE", help="measure nothing; join what -o wrote before"
    )
    parser.add_argument("--only", nargs="+", choices=tuple(LOADERS), help="only these loaders")
    arguments = parser.parse_args(argv)
    import torch

    from voxplan.plans import case_reader

    torch.set_num_threads(1)
    case_reader.HELD_STREAM_BYTES = 0
    for name in set(LOADERS) - set(arguments.only or LOADERS):
        del LOADERS[name]
    results = [found for path in arguments.from_json or () for found in read_results(path)]
    if arguments.from_json:
        arguments.formats = ()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        for kind, cache, resampled, workers in product(
            arguments.formats, arguments.caches, arguments.resampled, arguments.workers
        ):
            setting = Setting(format=kind, cache=cache, workers=workers, resampled=resampled == "yes")
            found = compare(folder, setting, rounds=arguments.rounds, seconds=arguments.seconds)
            results.append((setting, found))
            print(
                setting,
                {name: [round(rate, 1) for rate in rates] for name, rates in found.items()},
                flush=True,
            )
    text = table(results)
    print(text)
    if arguments.output is not None:
        document = {
            "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
            "python": sys.version.split()[0],
            "results": [{**asdict(setting), "patches_per_second": found} for setting, found in results],
        }
        arguments.output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    if arguments.update is not None:
        update(arguments.update, text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
