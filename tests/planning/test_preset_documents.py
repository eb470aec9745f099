"""A preset in voxplan's terms: nnU-Net's numbers turned to ZYX, memory traced, ``fits`` said truthfully."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from voxplan.planning.nnunet_conversion import to_fingerprint
from voxplan.planning.nnunet_fingerprint import NnunetDataset, NnunetFingerprint
from voxplan.planning.presets import preset_document
from voxplan.plans.schema import Gpu, Hardware, PlansDocument
from voxplan.profiling.fingerprint import Fingerprint

GIB = 1024**3


def fingerprint_of(golden: Path, name: str) -> Fingerprint:
    content = json.loads((golden / "nnunet_plans" / f"{name}.json").read_text())
    return to_fingerprint(
        NnunetFingerprint.model_validate(content["fingerprint"]),
        NnunetDataset.model_validate(content["dataset_json"]),
        name,
    )


def machine(gigabytes: int, gpus: int = 1) -> Hardware:
    gpu = Gpu(
        name=f"card of {gigabytes} GiB",
        total_memory=gigabytes * GIB,
        free_memory=gigabytes * GIB,
        compute_capability=(8, 0),
        present=False,
    )
    return Hardware(
        gpus=(gpu,) * gpus, ram=64 * GIB, ram_available=64 * GIB, cores=16, shared_memory=None, stated=True
    )


@pytest.fixture
def hippocampus(voxplan_golden: Path) -> PlansDocument:
    return preset_document("nnunet", fingerprint_of(voxplan_golden, "hippocampus"), machine(8))


def test_sizes_are_turned_back_to_zyx(hippocampus: PlansDocument) -> None:
    """nnU-Net puts axis 2 first here: its (40, 40, 56) is ZYX (40, 56, 40)."""
    plan = hippocampus.plans["unet/3d_fullres"]
    assert hippocampus.dataset.transpose == (2, 0, 1)
    assert plan.patch_size == (40, 56, 40)
    assert plan.batch_size == 9
    assert plan.spacing == pytest.approx(
        (0.9998626580887192, 0.9991625251864364, 1.000373790531916), rel=1e-12
    )


def test_what_voxplan_cannot_train_is_said(hippocampus: PlansDocument) -> None:
    assert "slices along x" in hippocampus.failures["unet/2d"]


def test_every_value_has_its_reason(hippocampus: PlansDocument) -> None:
    plan = hippocampus.plans["unet/3d_fullres"]
    assert "ExperimentPlanner" in plan.decisions["patch_size"].why
    for field in (
        "batch_size",
        "precision",
        "optimizer",
        "loss",
        "workers",
        "cache",
        "memory",
        "architecture",
    ):
        assert plan.decisions[field].why
    assert all(decision.by != "user" for decision in plan.decisions.values())


def test_the_same_plan_fits_a_large_card_and_not_a_small_one(voxplan_golden: Path) -> None:
    fingerprint = fingerprint_of(voxplan_golden, "hippocampus")
    small = preset_document("resenc-m", fingerprint, machine(2)).plans["resenc_unet/3d_fullres"]
    large = preset_document("resenc-m", fingerprint, machine(80)).plans["resenc_unet/3d_fullres"]
    assert small.patch_size == large.patch_size
    assert small.memory.total == large.memory.total > 2 * GIB
    assert (small.memory.fits, large.memory.fits) == (False, True)
    assert "DOES NOT FIT" in small.warnings[0]
    assert not large.warnings


def test_the_batch_is_shared_among_the_gpus(voxplan_golden: Path) -> None:
    plan = preset_document(
        "nnunet", fingerprint_of(voxplan_golden, "hippocampus"), machine(80, gpus=2)
    ).plans["unet/3d_fullres"]
    assert (plan.batch_size, plan.global_batch_size) == (5, 10)
    assert any("batch of 9 over all GPUs becomes 5" in warning for warning in plan.warnings)


def test_a_cascade_is_left_to_nnunet(voxplan_golden: Path) -> None:
    document = preset_document("nnunet", fingerprint_of(voxplan_golden, "thick_ct"), machine(80))
    assert set(document.plans) == {"unet/2d", "unet/3d_lowres", "unet/3d_fullres"}
    assert "cascade" in document.failures["unet/3d_cascade_fullres"]
    assert document.plans["unet/3d_fullres"].loss.batch_dice
    assert not document.plans["unet/3d_lowres"].loss.batch_dice
    lowres, fullres = (document.plans[f"unet/{name}"].spacing for name in ("3d_lowres", "3d_fullres"))
    assert lowres is not None
    assert fullres is not None
    assert lowres[0] == fullres[0]
    assert lowres[1] > fullres[1]
