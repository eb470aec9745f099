"""Real nnU-Net 2.8.1 on what voxplan exports. Run by scripts/test-interop, in its own environment.

1. random fingerprints: nnU-Net's own planners and voxplan make the same file, also for unusual targets;
2. every exported preset plan: PlansManager, and the network builder with outputs of the right shapes;
3. one training step of nnU-Net's own trainer on the CPU, for every preset and for MedNeXt;
4. nnU-Net's resampling and the patch loader's: the same images, and the same labels where one has half;
5. with VOXPLAN_DATA: nnU-Net preprocesses real volumes by an exported plan, loads a batch and trains on it.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

WORK = Path(tempfile.mkdtemp(prefix="voxplan-interop-"))
for _name in ("raw", "preprocessed", "results"):
    os.environ[f"nnUNet_{_name}"] = str(WORK / _name)
    (WORK / _name).mkdir()
os.environ["nnUNet_compile"] = "f"  # noqa: SIM112 - nnU-Net's names

import numpy as np  # noqa: E402
import torch  # noqa: E402
from nnunetv2.experiment_planning.plan_and_preprocess_api import plan_experiment_dataset  # noqa: E402
from nnunetv2.run.run_training import get_trainer_from_args  # noqa: E402
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer  # noqa: E402
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans  # noqa: E402
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager  # noqa: E402

from voxplan.planning.export.nnunet import export_nnunet  # noqa: E402
from voxplan.planning.export.nnunet_check import MEDNEXT  # noqa: E402
from voxplan.planning.nnunet_conversion import to_fingerprint  # noqa: E402
from voxplan.planning.nnunet_fingerprint import NnunetDataset, NnunetFingerprint, load_nnunet  # noqa: E402
from voxplan.planning.presets import PRESETS, get_preset, nnunet_plans  # noqa: E402
from voxplan.plans.schema import Hardware  # noqa: E402

DEVICE = torch.device("cpu")
CPU_BATCH = 2
"""Batch of the CPU steps; the plan's own can be in the hundreds."""
failed: list[str] = []


def check(what: str, action: Callable[[], str]) -> None:
    """Run one check, print one line, remember a failure."""
    start = time.perf_counter()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            result = action()
        print(f"ok      {what}: {result} ({time.perf_counter() - start:.1f} s)", flush=True)
    except Exception as error:  # noqa: BLE001 - every check is reported
        failed.append(what)
        print(f"FAILED  {what}: {type(error).__name__}: {error}", flush=True)


def random_data(seed: int) -> tuple[NnunetFingerprint, NnunetDataset]:
    """A fingerprint of random size, anisotropy, orientation and number of classes."""
    random = np.random.default_rng(seed)
    cases = int(random.integers(1, 30))
    shape = random.integers(30, 700, 3)
    spacing = random.choice([0.004, 0.5, 1.0, 8.0, 45.0]) * np.array([1.0, 1.0, 1.0])
    thick = int(random.integers(0, 3))
    if random.random() < 0.6:
        spacing[thick] *= random.uniform(1.5, 8)
        shape[thick] = max(8, shape[thick] // random.integers(2, 10))
    jitter = random.uniform(0.7, 1.4, (cases, 3))
    numbers = {
        key: float(random.normal())
        for key in ("max", "mean", "median", "min", "percentile_00_5", "percentile_99_5", "std")
    }
    channels = [
        str(name) for name in random.choice(["CT", "T1", "noNorm", "rgb_to_0_1"], random.integers(1, 4))
    ]
    fingerprint = NnunetFingerprint.model_validate(
        {
            "spacings": (spacing * jitter).tolist(),
            "shapes_after_crop": np.maximum(4, shape * random.uniform(0.8, 1.2, (cases, 3)))
            .astype(int)
            .tolist(),
            "median_relative_size_after_cropping": float(random.uniform(0.4, 1)),
            "foreground_intensity_properties_per_channel": {str(i): numbers for i in range(len(channels))},
        }
    )
    dataset = NnunetDataset(
        channel_names={str(index): name for index, name in enumerate(channels)},
        labels={f"class{value}": value for value in range(int(random.integers(2, 12)))},
        numTraining=cases,
        file_ending=".nii.gz",
    )
    return fingerprint, dataset


def planner_agrees(seed: int, preset: str, target_gb: float | None) -> str:
    """nnU-Net's own planner on the same two files, compared as JSON."""
    import SimpleITK as sitk
    from nnunetv2.utilities.find_class_by_name import recursive_find_python_class

    fingerprint, dataset = random_data(seed)
    name = f"Dataset{100 + seed:03d}_Random"
    raw, preprocessed = WORK / "raw" / name, WORK / "preprocessed" / name
    (raw / "imagesTr").mkdir(parents=True, exist_ok=True)
    (raw / "labelsTr").mkdir(exist_ok=True)
    preprocessed.mkdir(exist_ok=True)
    tiny = sitk.GetImageFromArray(np.zeros((3, 3, 3), np.uint8))
    for channel in range(len(dataset.channel_names)):
        sitk.WriteImage(tiny, str(raw / "imagesTr" / f"a_{channel:04d}.nii.gz"))
    sitk.WriteImage(tiny, str(raw / "labelsTr" / "a.nii.gz"))
    (raw / "dataset.json").write_text(dataset.model_dump_json())
    (preprocessed / "dataset_fingerprint.json").write_text(fingerprint.model_dump_json())
    import nnunetv2

    planner = recursive_find_python_class(
        str(Path(nnunetv2.__path__[0], "experiment_planning")),
        get_preset(preset).planner,
        "nnunetv2.experiment_planning",
    )
    # On the meta device its networks cost nothing; the count of elements does not look at values.
    with torch.device("meta"):
        plan_experiment_dataset(int(name[7:10]), planner, target_gb)
    theirs = json.loads((preprocessed / f"{get_preset(preset).plans_name}.json").read_text())
    ours = nnunet_plans(preset, fingerprint, dataset, dataset_name=name, target_gb=target_gb)
    if json.dumps(ours) != json.dumps(theirs):
        fields = [key for key in theirs if json.dumps(theirs[key]) != json.dumps(ours.get(key))]
        msg = f"differs in {', '.join(fields)}"
        raise AssertionError(msg)
    return f"{', '.join(theirs['configurations'])} equal"


def exported(
    preset: str, name: str, fingerprint: NnunetFingerprint, dataset: NnunetDataset
) -> tuple[Path, PlansManager, dict[str, Any]]:
    """Export one preset plan, and let nnU-Net load what was written."""
    folder = WORK / "preprocessed" / name
    export_nnunet(None, folder, fingerprint=to_fingerprint(fingerprint, dataset, name), preset=preset)
    file = folder / f"{get_preset(preset).plans_name}.json"
    return file, PlansManager(str(file)), json.loads((folder / "dataset.json").read_text())


def networks_build(preset: str, name: str, fingerprint: NnunetFingerprint, dataset: NnunetDataset) -> str:
    """Every configuration's network from nnU-Net's builder, and the shape of its output."""
    _, manager, dataset_json = exported(preset, name, fingerprint, dataset)
    heads = manager.get_label_manager(dataset_json).num_segmentation_heads
    shapes = []
    for configuration in manager.available_configurations:
        chosen = manager.get_configuration(configuration)
        with torch.device("meta"):
            network = get_network_from_plans(
                chosen.network_arch_class_name,
                chosen.network_arch_init_kwargs,
                chosen.network_arch_init_kwargs_req_import,
                len(dataset.channel_names),
                heads,
                allow_init=False,
                deep_supervision=True,
            )
            outputs = network(torch.empty(1, len(dataset.channel_names), *chosen.patch_size))
        if tuple(outputs[0].shape) != (1, heads, *chosen.patch_size):
            msg = f"{configuration}: output {tuple(outputs[0].shape)} for patch {chosen.patch_size}"
            raise AssertionError(msg)
        shapes.append(f"{configuration} {'x'.join(map(str, chosen.patch_size))}")
    return ", ".join(shapes)


def small_data() -> tuple[NnunetFingerprint, NnunetDataset]:
    """Small volumes, whose planned patches a CPU can train on in seconds."""
    numbers = dict.fromkeys(
        ("max", "mean", "median", "min", "percentile_00_5", "percentile_99_5", "std"), 1.0
    )
    fingerprint = NnunetFingerprint.model_validate(
        {
            "spacings": [[1.0, 1.0, 1.0]] * 20,
            "shapes_after_crop": [[35, 50, 36]] * 20,
            "median_relative_size_after_cropping": 1.0,
            "foreground_intensity_properties_per_channel": {"0": numbers},
        }
    )
    dataset = NnunetDataset(
        channel_names={"0": "MRI"},
        labels={"background": 0, "anterior": 1, "posterior": 2},
        numTraining=20,
        file_ending=".nii.gz",
    )
    return fingerprint, dataset


def trainer_of(plans: Path, configuration: str) -> nnUNetTrainer:
    """nnU-Net's trainer as ``nnUNetv2_train`` makes it from the preprocessed folder."""
    return get_trainer_from_args(
        plans.parent.name, configuration, 0, plans_identifier=plans.stem, device=DEVICE
    )


def step_on(plans: Path, configuration: str) -> str:
    """nnU-Net's trainer, initialised from the plans file, makes one training step on random voxels."""
    content = json.loads(plans.read_text())
    folder = plans.parent / content["configurations"][configuration]["data_identifier"]
    folder.mkdir(exist_ok=True)
    (folder / "placeholder.b2nd").touch()
    torch.manual_seed(0)
    trainer = trainer_of(plans, configuration)
    trainer.initialize()
    patch = trainer.configuration_manager.patch_size
    batch = min(CPU_BATCH, trainer.configuration_manager.batch_size)
    labels = torch.randint(0, trainer.label_manager.num_segmentation_heads, (batch, 1, *patch))
    scales = trainer._get_deep_supervision_scales()
    targets = [torch.nn.functional.interpolate(labels.float(), scale_factor=tuple(s)) for s in scales]
    before = [parameter.detach().clone() for parameter in trainer.network.parameters()]
    trainer.network.train()
    data = torch.randn(batch, trainer.num_input_channels, *patch)
    loss = float(trainer.train_step({"data": data, "target": targets})["loss"])
    changed = sum(
        not torch.equal(old, new) for old, new in zip(before, trainer.network.parameters(), strict=True)
    )
    trainer.network.eval()
    with torch.no_grad():
        validation = trainer.network(data)
        trainer.set_deep_supervision_enabled(False)
        inference = trainer.network(data)
    if not np.isfinite(loss) or not changed:
        msg = f"loss {loss}, {changed} of {len(before)} parameters changed"
        raise AssertionError(msg)
    if not isinstance(validation, list) or tuple(inference.shape[2:]) != tuple(patch):
        msg = "outputs are no list in validation, or no patch in inference"
        raise AssertionError(msg)
    return (
        f"loss {loss:.3f} on {batch} x {'x'.join(map(str, patch))}, {changed}/{len(before)} parameters moved"
    )


def preset_step(preset: str, configuration: str) -> str:
    """A step on an exported preset."""
    file, _, _ = exported(preset, "Dataset900_Small", *small_data())
    return step_on(file, configuration)


def own_plans() -> Path:
    """voxplan's own plans of a UNet and MedNeXt-S, exported."""
    from voxplan.planning.hardware import state_hardware
    from voxplan.planning.planner import make_plans

    name = "Dataset901_Own"
    fingerprint = to_fingerprint(*small_data(), name)
    machine = Hardware(gpus=(), ram=2**36, ram_available=2**36, cores=8, shared_memory=2**34, stated=True)
    hardware = state_hardware(
        gpu=None, gpu_memory_gb=24, num_gpus=1, cores=8, ram_gb=64, cpu=False, base=machine
    )
    document = make_plans(fingerprint, hardware, architectures=("unet", "mednext_s"))
    folder = WORK / "preprocessed" / name
    export_nnunet(document, folder, fingerprint=fingerprint)
    return folder


def own_step(architecture: str) -> str:
    """A step on an exported plan of voxplan's own."""
    return step_on(own_plans() / f"voxplan_{architecture}.json", "3d_fullres")


def real_step(data: Path, preset: str) -> str:
    """nnU-Net preprocesses the real volumes by the exported plan, loads a batch and trains on it."""
    from nnunetv2.experiment_planning.plan_and_preprocess_api import preprocess_dataset

    name = "Dataset501_Heads"
    raw = data / "nnunet_raw" / name
    golden = data.resolve().parent / "golden" / "nnunet_fingerprints" / name
    (WORK / "raw" / name).symlink_to(raw.resolve(), target_is_directory=True)
    file, _, _ = exported(
        preset, name, *load_nnunet(golden / "dataset_fingerprint.json", raw / "dataset.json")
    )
    (file.parent / "gt_segmentations").mkdir(exist_ok=True)
    preprocess_dataset(501, file.stem, ("3d_fullres",), [2], show_progress_bar=False)
    os.environ["nnUNet_n_proc_DA"] = "0"  # noqa: SIM112
    trainer = trainer_of(file, "3d_fullres")
    trainer.on_train_start()
    trainer.network.train()
    batch = next(trainer.dataloader_train)
    loss = float(trainer.train_step(batch)["loss"])
    if not np.isfinite(loss):
        msg = f"loss {loss}"
        raise AssertionError(msg)
    return f"loss {loss:.3f} on {tuple(batch['data'].shape)} of real voxels"


def resampling_agrees(seed: int) -> str:
    """Whole volumes of hard edges, isotropic or with a thick axis, resized by nnU-Net and by the loader."""
    from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg_to_shape

    from voxplan.plans.resampling import (
        AxisGrid,
        nearest,
        resample,
        resample_labels,
        target_shape,
        thick_axis,
    )
    from voxplan.plans.value_range import ValueRange

    random = np.random.default_rng(seed)
    shape = tuple(int(size) for size in random.integers(8, 30, 3))
    old, new = random.uniform(1, 2, (2, 3))
    if seed % 2:
        thick = int(random.integers(3))
        old[thick] *= 5
        new[thick] *= 5
    image = (random.integers(0, 2, (2, *shape)) * random.uniform(1, 200, (2, *shape))).astype(np.float32)
    labels = random.integers(0, 2 + seed % 3, shape).astype(np.uint8)
    goal = target_shape(shape, old, new)
    kwargs = {"order_z": 0, "force_separate_z": None}
    theirs = resample_data_or_seg_to_shape(image, goal, old, new, is_seg=False, order=3, **kwargs)
    their_labels = resample_data_or_seg_to_shape(
        labels[None], goal, old, new, is_seg=True, order=1, **kwargs
    )[0]

    across = thick_axis(old, new)
    grids = [AxisGrid(before, after) for before, after in zip(shape, goal, strict=True)]
    whole = [(0, size) for size in goal]
    ours = resample(image, grids, (0, 0, 0), whole, [0 if axis == across else 3 for axis in range(3)])
    bounds = ValueRange(2, (0, 0, 0), shape, across)
    bounds.add(image, (0, 0, 0))
    planes = None if across is None else nearest(grids[across], 0, 0, goal[across], shape[across])
    bounds.clip(ours, planes)
    error = float(np.abs(ours - theirs).max())
    orders = [0 if axis == across else 1 for axis in range(3)]
    our_labels = resample_labels(labels, grids, (0, 0, 0), whole, orders)
    weights = [
        resample((labels == value).astype(np.float32), grids, (0, 0, 0), whole, orders)
        for value in np.unique(labels)
    ]
    decided = np.max(weights, axis=0) > 0.5 + 1e-5
    if error > 2e-4 or not np.array_equal(our_labels[decided], their_labels[decided]):
        msg = f"images differ by {error}, labels in {int((our_labels != their_labels)[decided].sum())} voxels"
        raise AssertionError(msg)
    other = int((our_labels != their_labels).sum())
    return f"thick axis {across}, images differ by {error:.1e}; {other} labels without a majority differ"


def main(argv: Sequence[str] | None = None) -> int:
    """Run every check; 1 if any failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--random", type=int, default=6, help="random fingerprints to plan (default 6)")
    options = parser.parse_args(argv)
    torch.set_num_threads(max(1, (os.cpu_count() or 2) // 2))
    for seed in range(options.random):
        preset = PRESETS[seed % len(PRESETS)]
        target = (None, 6.0, 11.0)[seed % 3]
        check(
            f"nnU-Net's planner, random data {seed}, {preset}, target {target or 'default'}",
            lambda seed=seed, preset=preset, target=target: planner_agrees(seed, preset, target),
        )
    for seed in range(2 * options.random):
        check(f"resampling, random volume {seed}", lambda seed=seed: resampling_agrees(seed))
    data = os.environ.get("VOXPLAN_DATA")
    sources = {"Dataset900_Small": small_data(), "Dataset902_Random": random_data(3)}
    for name, source in sources.items():
        for preset in PRESETS:
            check(
                f"networks of {preset} for {name}",
                lambda preset=preset, name=name, source=source: networks_build(preset, name, *source),
            )
    for preset in PRESETS:
        for configuration in ("2d", "3d_fullres"):
            check(
                f"training step of {preset} {configuration}",
                lambda preset=preset, configuration=configuration: preset_step(preset, configuration),
            )
    for architecture in ("unet", "mednext_s"):
        check(
            f"training step of voxplan's own {architecture}",
            lambda architecture=architecture: own_step(architecture),
        )
    if data:
        check("real volumes, preset nnunet", lambda: real_step(Path(data), "nnunet"))
    else:
        print("NOT RUN real volumes: VOXPLAN_DATA is not set")
    print(f"{len(failed)} failed" if failed else f"all passed (network adapter {MEDNEXT})")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
