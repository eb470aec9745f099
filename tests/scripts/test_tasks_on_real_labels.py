"""Every task from a real serial-section volume: profiled, planned and trained a step by the commands."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import SimpleITK as sitk
import torch

from voxplan.plans.checkpoint import load_network
from voxplan.plans.document import read_document
from voxplan.scripts.plan_experiment import main as plan
from voxplan.scripts.profile_dataset import main as profile
from voxplan.scripts.train_from_plans import main as train

PATCH = (8, 64, 64)
SIZE = 256
"""Voxels in the plane that are cut out: enough for a dozen mitochondria."""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def mitochondria(voxplan_data: Path, tmp_path: Path) -> tuple[Path, int]:
    """Image, classes and objects (connected mitochondria, uint32 ids) of a real volume; number of objects."""
    with h5py.File(voxplan_data / "em_vnc" / "vnc.h5") as file:
        raw = file["volumes/raw"][:, :SIZE, :SIZE]
        classes = file["volumes/labels/mitochondria"][:, :SIZE, :SIZE]
    components = sitk.GetArrayFromImage(sitk.ConnectedComponent(sitk.GetImageFromArray(classes)))
    # Ids far apart, as segmentations of whole brains have them.
    objects = np.where(components > 0, components.astype(np.uint32) * 100_003, 0).astype(np.uint32)
    path = tmp_path / "vnc.h5"
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("raw", data=raw, chunks=True)
        dataset.attrs["resolution"] = [45.0, 4.6, 4.6]
        dataset.attrs["unit"] = "nm"
        file.create_dataset("classes", data=classes, chunks=True)
        file.create_dataset("objects", data=objects, chunks=True)
    return path, int(components.max())


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("labels", "settings", "task", "channels"),
    [
        ("classes", (), "semantic", 2),
        ("objects", (), "affinity", 3),
        ("objects", ("--set", "affinity_offsets=12"), "affinity", 12),
        ("objects", ("--task", "boundary"), "boundary", 1),
        ("objects", ("--task", "semantic"), "semantic", 2),
    ],
)
def test_a_step_of_every_task(
    mitochondria: tuple[Path, int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    labels: str,
    settings: tuple[str, ...],
    task: str,
    channels: int,
) -> None:
    path, objects = mitochondria
    fingerprint, plans, output = (tmp_path / name for name in ("f.json", "p.json", "out"))
    keys = ["--image-key", "raw", "--label-key", labels]
    assert profile([str(path), *keys, "-o", str(fingerprint), "-q"]) == 0
    size = [
        "--set",
        f"patch_size={','.join(map(str, PATCH))}",
        "--set",
        "batch_size=2",
        "--set",
        "base_features=8",
    ]
    common = ["--cpu", "--ram", "8", "--architecture", "unet", "--configuration", "3d_fullres"]
    assert plan([str(fingerprint), *common, *size, *settings, "-o", str(plans), "-q"]) == 0
    document = read_document(plans)
    assert (document.dataset.task, document.dataset.out_channels) == (task, channels)
    assert objects > 2, "many objects, which never become classes"
    assert document.plans["unet/3d_fullres"].patch_size == PATCH
    command = [str(plans), "--data", str(path), *keys, "--device", "cpu", "-o", str(output)]
    assert train([*command, "--steps", "1", "--no-validation", "--workers", "0"]) == 0
    loss = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("step 1 "))
    assert math.isfinite(float(loss.split()[3]))
    network, _ = load_network(output / "checkpoint.pt")
    with torch.no_grad():
        assert network.eval()(torch.zeros(1, 1, *PATCH)).shape == (1, channels, *PATCH)
