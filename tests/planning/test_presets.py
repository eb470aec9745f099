"""nnU-Net 2.8.1's own plans against ours, whole documents, field by field."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from voxplan.planning.nnunet_conversion import from_fingerprint, to_fingerprint
from voxplan.planning.nnunet_fingerprint import NnunetDataset, NnunetFingerprint, load_nnunet
from voxplan.planning.presets import PRESETS, get_preset, nnunet_plans

PUBLIC = (
    "brain_t1x4",
    "cardiac_mr",
    "ct_105cls",
    "ct_thorax",
    "em_iso",
    "em_nm",
    "em_snemi",
    "hippocampus",
    "micro_ct",
    "natural_2d",
    "prostate",
    "thick_ct",
)
REAL = ("Dataset501_Heads", "Dataset502_HeadsAniso")
GOLDEN_KEYS = {"nnunet": "plain", "resenc-m": "resenc_m", "resenc-l": "resenc_l", "resenc-xl": "resenc_xl"}


def differences(ours: Any, theirs: Any, where: str = "plans") -> Iterator[str]:
    """Every leaf that differs, by value or by JSON type."""
    if type(ours) is not type(theirs):
        yield f"{where}: {ours!r} against nnU-Net's {theirs!r}"
    elif isinstance(ours, dict):
        for key in sorted(ours.keys() | theirs.keys()):
            yield from differences(ours.get(key, "absent"), theirs.get(key, "absent"), f"{where}.{key}")
    elif isinstance(ours, list) and len(ours) == len(theirs):
        for index, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
            yield from differences(mine, other, f"{where}[{index}]")
    elif ours != theirs:
        yield f"{where}: {ours!r} against nnU-Net's {theirs!r}"


def as_json(plans: dict[str, Any]) -> Any:
    return json.loads(json.dumps(plans))


def public(golden: Path, name: str) -> tuple[NnunetFingerprint, NnunetDataset, dict[str, Any]]:
    content = json.loads((golden / "nnunet_plans" / f"{name}.json").read_text())
    return (
        NnunetFingerprint.model_validate(content["fingerprint"]),
        NnunetDataset.model_validate(content["dataset_json"]),
        content["plans"],
    )


def real(golden: Path, name: str) -> tuple[NnunetFingerprint, NnunetDataset]:
    folder = golden / "nnunet_fingerprints" / name
    return load_nnunet(folder / "dataset_fingerprint.json", folder / "dataset.json")


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("name", PUBLIC)
def test_public_data_sets_get_nnunets_own_plan(voxplan_golden: Path, name: str, preset: str) -> None:
    fingerprint, dataset, golden = public(voxplan_golden, name)
    theirs = golden[GOLDEN_KEYS[preset]]
    ours = nnunet_plans(preset, fingerprint, dataset, dataset_name=theirs["dataset_name"])
    assert not list(differences(as_json(ours), theirs))


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("name", REAL)
def test_real_data_sets_get_nnunets_own_file(voxplan_golden: Path, name: str, preset: str) -> None:
    fingerprint, dataset = real(voxplan_golden, name)
    file = voxplan_golden / "nnunet_fingerprints" / name / f"{get_preset(preset).plans_name}.json"
    ours = nnunet_plans(preset, fingerprint, dataset, dataset_name=name)
    assert not list(differences(as_json(ours), json.loads(file.read_text())))
    assert list(ours) == list(json.loads(file.read_text()))


def test_the_golden_folder_is_covered(voxplan_golden: Path) -> None:
    assert sorted(file.stem for file in (voxplan_golden / "nnunet_plans").glob("*.json")) == sorted(PUBLIC)
    folders = (voxplan_golden / "nnunet_fingerprints").iterdir()
    assert sorted(folder.name for folder in folders) == sorted(REAL)


@pytest.mark.parametrize("name", REAL)
def test_a_voxplan_fingerprint_of_the_same_numbers_gets_the_same_plan(
    voxplan_golden: Path, name: str
) -> None:
    numbers, dataset = real(voxplan_golden, name)
    again, described = from_fingerprint(to_fingerprint(numbers, dataset, name))
    assert again.model_dump() == numbers.model_dump()
    assert described.model_dump() == dataset.model_dump()


def cube(edge: int = 300, cases: int = 40, labels: int = 3) -> tuple[NnunetFingerprint, NnunetDataset]:
    intensities = dict.fromkeys(
        ("max", "mean", "median", "min", "percentile_00_5", "percentile_99_5", "std"), 1.0
    )
    fingerprint = NnunetFingerprint.model_validate(
        {
            "spacings": [[1.0, 1.0, 1.0]] * cases,
            "shapes_after_crop": [[edge] * 3] * cases,
            "median_relative_size_after_cropping": 1.0,
            "foreground_intensity_properties_per_channel": {"0": intensities},
        }
    )
    dataset = NnunetDataset(
        channel_names={"0": "CT"},
        labels={f"class{index}": index for index in range(labels)},
        numTraining=cases,
        file_ending=".nii.gz",
    )
    return fingerprint, dataset


def test_a_larger_target_gives_the_plain_preset_the_proportional_patch() -> None:
    """Plain at 128 cubed writes 452,796,416 elements; 560e6 at 8 GB holds it, and no axis step more."""
    plans = {
        gigabytes: nnunet_plans("nnunet", *cube(), dataset_name="D", target_gb=gigabytes)["configurations"]
        for gigabytes in (4, 8, 16)
    }
    volumes = {g: plan["3d_fullres"]["patch_size"] for g, plan in plans.items()}
    assert volumes[8] == [128, 128, 128]
    assert (
        volumes[4][0] * volumes[4][1] * volumes[4][2]
        < 128**3
        < volumes[16][0] * volumes[16][1] * volumes[16][2]
    )
    explicit = nnunet_plans("nnunet", *cube(), dataset_name="D", target_gb=8)
    assert explicit == nnunet_plans("nnunet", *cube(), dataset_name="D")


@pytest.mark.parametrize("target", [0.0, -8.0, float("nan"), float("inf")])
def test_a_senseless_target_is_refused(target: float) -> None:
    with pytest.raises(ValueError, match="--target-gb must be a positive number"):
        nnunet_plans("nnunet", *cube(), dataset_name="D", target_gb=target)


def test_an_unknown_preset_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="nnunet, resenc-m, resenc-l, resenc-xl"):
        nnunet_plans("resenc-s", *cube(), dataset_name="D")


@pytest.mark.parametrize("ending", [".h5", ".zarr", ".ome.zarr", ""])
def test_data_that_nnunet_cannot_read_is_refused_with_the_conversion(ending: str) -> None:
    fingerprint, dataset = cube()
    other = dataset.model_copy(update={"file_ending": ending})
    with pytest.raises(ValueError, match=r"convert the volumes to \.nii\.gz"):
        nnunet_plans("nnunet", fingerprint, other, dataset_name="D")


def test_files_that_miss_a_key_are_refused_by_name(tmp_path: Path) -> None:
    fingerprint, dataset = cube()
    (tmp_path / "dataset.json").write_text(dataset.model_dump_json(exclude={"numTraining"}))
    (tmp_path / "dataset_fingerprint.json").write_text(fingerprint.model_dump_json())
    with pytest.raises(ValueError, match=r"dataset\.json: numTraining: Field required"):
        load_nnunet(tmp_path / "dataset_fingerprint.json", tmp_path / "dataset.json")
