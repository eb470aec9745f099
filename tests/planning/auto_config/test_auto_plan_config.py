"""``auto_plan_config`` on dicts and YAML files: what is kept, what is planned, what is refused."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from voxplan.planning import auto_plan_config, nvidia_smi
from voxplan.planning.auto_config import LoadedConfig, load_config
from voxplan.planning.auto_config.training import document_from_config
from voxplan.planning.overrides import OverrideError
from voxplan.plans.build import Plans
from voxplan.plans.document import validate_plans
from voxplan.plans.schema import Hardware
from voxplan.profiling.fingerprint import Fingerprint, save_fingerprint

EXAMPLE = Path(__file__).resolve().parents[3] / "plans" / "examples" / "auto_config.yaml"
SMALL = {
    "system": {"auto_plan": True, "print_auto_plan": False, "num_gpus": -1, "num_cpus": -1},
    "data": {"median_shape": [64, 64, 64], "train_image": "im.h5"},
    "model": {"architecture": "monai_unet"},
}


@dataclass
class Declared:
    """A dataclass by itself does not say which of its values are defaults."""


@pytest.fixture
def card(make_hardware: Callable[..., Hardware]) -> Hardware:
    return make_hardware(6, cores=16)


def test_a_dict_is_filled_in_and_the_given_one_stays(card: Hardware) -> None:
    given = copy.deepcopy(SMALL)
    config = auto_plan_config(given, hardware=card)
    assert given == SMALL
    assert config["data"]["patch_size"] == [64, 64, 64]
    assert config["data"]["num_workers"] == 4
    assert config["data"]["train_image"] == "im.h5"
    assert config["optimizer"] == {"lr": 1e-4}
    assert config["training"] == {"precision": "bf16-mixed", "accumulate_grad_batches": 1}
    assert config["system"] == {"auto_plan": True, "print_auto_plan": False, "num_gpus": 1, "num_cpus": 16}
    assert config["model"] == {"architecture": "monai_unet"}
    assert "scheduler" not in str(config)


@pytest.mark.parametrize("system", [{"auto_plan": False}, {}, None])
def test_off_means_unchanged(card: Hardware, system: dict[str, bool] | None) -> None:
    given = {"system": system, "data": {"batch_size": 2}}
    assert auto_plan_config(given, hardware=card) == given


def test_what_a_dict_holds_is_kept_and_the_rest_planned_around_it(card: Hardware) -> None:
    given = copy.deepcopy(SMALL)
    given["data"] |= {"batch_size": 5, "patch_size": None}
    given["optimizer"] = {"lr": 0.02}
    config = auto_plan_config(given, hardware=card)
    assert (config["data"]["batch_size"], config["optimizer"]["lr"]) == (5, 0.02)
    assert config["data"]["patch_size"] == [64, 64, 64]


def test_explicit_names_what_a_dict_with_defaults_was_given(card: Hardware) -> None:
    given = copy.deepcopy(SMALL)
    given["data"] |= {"batch_size": 5, "patch_size": [32, 64, 64]}
    config = auto_plan_config(given, explicit={"data.patch_size"}, hardware=card)
    assert config["data"]["patch_size"] == [32, 64, 64]
    assert config["data"]["batch_size"] > 5


def test_a_yaml_file(tmp_path: Path, card: Hardware) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(
        "system: {auto_plan: true}\nmodel: {architecture: monai_basic_unet3d}\n"
        "data: {median_shape: [64, 64, 64], batch_size: 2}\noptimizer: {lr: 1e-2}\n"
    )
    for given in (path, str(path)):
        config = auto_plan_config(given, False, hardware=card)
        assert config["data"]["batch_size"] == 2
        assert config["data"]["patch_size"] == [64, 64, 64]
        assert config["optimizer"]["lr"] == 0.01


@pytest.mark.parametrize(
    ("asked", "flag", "printed"), [(True, True, True), (True, False, False), (False, True, False)]
)
def test_printing(
    card: Hardware, capsys: pytest.CaptureFixture[str], asked: bool, flag: bool, printed: bool
) -> None:
    given = copy.deepcopy(SMALL)
    given["system"]["print_auto_plan"] = flag
    given["data"]["batch_size"] = 2
    auto_plan_config(given, asked, hardware=card)
    assert capsys.readouterr().out.startswith("Automatic plan for monai_unet") is printed


@pytest.mark.parametrize(("asked", "gpus"), [(-1, 2), (1, 1), (2, 2), (4, 2), (0, 0)])
def test_num_gpus(make_hardware: Callable[..., Hardware], asked: int, gpus: int) -> None:
    given = copy.deepcopy(SMALL)
    given["system"]["num_gpus"] = asked
    given["data"]["batch_size"] = 1
    config = auto_plan_config(given, hardware=make_hardware(6, 6, cores=5))
    assert config["system"]["num_gpus"] == (gpus if asked == -1 else asked)
    assert config["data"]["num_workers"] == {0: 4, 1: 4, 2: 2}[gpus]
    assert config["training"]["precision"] == ("bf16-mixed" if gpus else "32-true")


def test_more_cores_than_there_are(card: Hardware, capsys: pytest.CaptureFixture[str]) -> None:
    given = copy.deepcopy(SMALL)
    given["system"] |= {"num_cpus": 64, "print_auto_plan": True}
    given["data"]["batch_size"] = 1
    config = auto_plan_config(given, hardware=card)
    assert config["data"]["num_workers"] == 4
    assert "system.num_cpus is 64, but there are 16: planned for those" in capsys.readouterr().out


def test_another_mednext_is_warned_of(card: Hardware, capsys: pytest.CaptureFixture[str]) -> None:
    """The replaced system's keys for it change the memory."""
    given = copy.deepcopy(SMALL)
    given["system"]["print_auto_plan"] = True
    given["model"] = {"architecture": "mednext", "mednext_size": "B", "mednext_kernel_size": 3}
    given["data"] |= {"batch_size": 2, "patch_size": [32, 32, 32]}
    auto_plan_config(given, hardware=card)
    printed = capsys.readouterr().out
    assert "model.mednext_size=B is not read: planned is MedNeXt with S" in printed
    assert "mednext_kernel_size" not in printed


def test_a_section_that_is_none_is_refused(card: Hardware) -> None:
    for section in ("system", "data"):
        with pytest.raises(ValueError, match=f"config {section}: expected a section of keys, got 3"):
            auto_plan_config({**SMALL, section: 3}, hardware=card)


def test_num_cpus_caps_the_workers(card: Hardware) -> None:
    given = copy.deepcopy(SMALL)
    given["system"]["num_cpus"] = 3
    given["data"]["batch_size"] = 1
    assert auto_plan_config(given, hardware=card)["data"]["num_workers"] == 3


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("system", "num_gpus", -2, "system.num_gpus must be -1"),
        ("data", "target_spacing", [1, 1], "target_spacing must be three positive numbers"),
        ("data", "target_spacing", [1, 0, 1], "target_spacing must be three positive numbers"),
        ("data", "median_shape", "64", "median_shape must be three positive whole numbers"),
        ("data", "median_shape", [64, 64, 64.5], "median_shape must be three positive whole numbers"),
        ("data", "spacing_unit", "cm", "data.spacing_unit must be one of mm, um, nm, unknown, got 'cm'"),
        ("data", "fingerprint", 3, "data.fingerprint must be the path of a profile, got 3"),
        ("data", "batch_size", True, "override batch_size=True"),
        ("system", "auto_plan", "false", "system.auto_plan must be true or false, got 'false'"),
        ("system", "print_auto_plan", 0, "system.print_auto_plan must be true or false, got 0"),
        ("model", "deep_supervision", "no", "model.deep_supervision must be true or false, got 'no'"),
        ("model", "deep_supervision", True, "monai_unet has no outputs for it"),
        ("data", "batch_size", 0, "override batch_size=0"),
        ("model", "architecture", "vnet", "'vnet' is unknown"),
        ("model", "in_channels", 0, "in_channels must be a positive whole number"),
    ],
)
def test_what_cannot_be_is_refused_by_name(
    card: Hardware, section: str, key: str, value: object, message: str
) -> None:
    given = copy.deepcopy(SMALL)
    given[section][key] = value
    with pytest.raises(ValueError, match=message):
        auto_plan_config(given, hardware=card)


def test_what_is_no_configuration_is_refused() -> None:
    with pytest.raises(TypeError, match="must be a dict, the path of a YAML file or a DictConfig, got list"):
        auto_plan_config([1])
    with pytest.raises(TypeError, match=r"give OmegaConf.structured\(config\)"):
        auto_plan_config(Declared())


@pytest.fixture
def profile(tmp_path: Path, make_fingerprint: Callable[..., Fingerprint]) -> Path:
    path = tmp_path / "fingerprint.json"
    fingerprint = make_fingerprint(
        shapes=((30, 200, 200),) * 6,
        spacing=(40.0, 8.0, 8.0),
        unit="nm",
        dtype="uint8",
        channels=("EM", "ER"),
    )
    save_fingerprint(fingerprint, path)
    return path


def test_a_fingerprint_gives_spacing_shape_and_channels(profile: Path, card: Hardware) -> None:
    given = {"system": {"auto_plan": True}, "data": {"fingerprint": str(profile), "batch_size": 2}}
    given["model"] = {"architecture": "monai_unet"}
    config = auto_plan_config(given, False, hardware=card)
    assert config["data"]["target_spacing"] == [40.0, 8.0, 8.0]
    assert config["data"]["spacing_unit"] == "nm"
    assert config["data"]["median_shape"] == [30, 200, 200]
    assert (config["model"]["in_channels"], config["model"]["out_channels"]) == (2, 2)
    assert config["data"]["patch_size"][0] == 32


def test_a_target_spacing_in_another_unit_is_converted(profile: Path, card: Hardware) -> None:
    """0.04 x 0.016 x 0.016 um are 40 x 16 x 16 nm: half as many voxels in the plane."""
    given = {
        "system": {"auto_plan": True},
        "data": {
            "fingerprint": str(profile),
            "batch_size": 2,
            "target_spacing": [0.04, 0.016, 0.016],
            "spacing_unit": "um",
        },
        "model": {"architecture": "monai_unet"},
    }
    config = auto_plan_config(given, False, hardware=card)
    assert config["data"]["median_shape"] == [30, 100, 100]
    assert config["data"]["target_spacing"] == [0.04, 0.016, 0.016]


def test_the_worked_configuration_becomes_a_valid_plans_document(profile: Path, card: Hardware) -> None:
    loaded = load_config(EXAMPLE, [f"data.fingerprint={profile}", "data.batch_size=2"])
    config, document = document_from_config(loaded, print_results=False, hardware=card)
    assert document.recommended == "mednext_s/3d_fullres"
    assert validate_plans(document.model_dump(mode="json")) == []
    plan = Plans(document).recommended
    assert plan is not None
    assert (plan.batch_size, plan.deep_supervision) == (2, True)
    assert list(plan.patch_size) == config["data"]["patch_size"]
    assert plan.optimizer.lr == config["optimizer"]["lr"] == 1e-3


def test_the_worked_configuration_plans_without_a_profile(card: Hardware) -> None:
    config = auto_plan_config(EXAMPLE, False, hardware=card)
    assert set(config) == {"system", "data", "model", "optimizer", "training"}
    assert all(edge % 16 == 0 for edge in config["data"]["patch_size"])
    assert config["training"]["precision"] == "bf16-mixed"


def test_training_refuses_channels_that_are_not_the_datas(profile: Path, card: Hardware) -> None:
    settings = [f"data.fingerprint={profile}", "data.batch_size=2", "model.out_channels=7"]
    with pytest.raises(ValueError, match=r"model.out_channels is 7, but the data and their task have 2"):
        document_from_config(load_config(EXAMPLE, settings), print_results=False, hardware=card)


def test_training_refuses_keys_that_nothing_reads(card: Hardware) -> None:
    loaded = LoadedConfig(config={"data": {"batchsize": 2}}, explicit=frozenset({"data.batchsize"}))
    with pytest.raises(OverrideError, match=r"unknown key data.batchsize; known keys: system.auto_plan, "):
        document_from_config(loaded, hardware=card)


def test_training_needs_planning_switched_on(card: Hardware) -> None:
    loaded = LoadedConfig(config={"data": {"batch_size": 2}}, explicit=frozenset({"data.batch_size"}))
    with pytest.raises(ValueError, match=r"system\.auto_plan must be true"):
        document_from_config(loaded, hardware=card)


def test_end_to_end_without_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Detected, planned, filled in: two samples of 48 cubed are what a CPU step may hold."""
    monkeypatch.setattr(nvidia_smi, "query", lambda: ())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("voxplan.planning.machine.detect_cores", lambda: 3)
    path = tmp_path / "c.yaml"
    path.write_text(
        "system: {auto_plan: true, num_gpus: -1, num_cpus: -1}\nmodel: {architecture: monai_unet}\n"
        "data: {median_shape: [64, 64, 64]}\n"
    )
    assert auto_plan_config(path, False) == {
        "system": {"auto_plan": True, "num_gpus": 0, "num_cpus": 3},
        "model": {"architecture": "monai_unet"},
        "data": {
            "median_shape": [64, 64, 64],
            "patch_size": [48, 48, 48],
            "batch_size": 2,
            "num_workers": 3,
        },
        "optimizer": {"lr": 1e-4},
        "training": {"precision": "32-true", "accumulate_grad_batches": 1},
    }


def test_what_was_planned_plans_the_same_again(profile: Path, card: Hardware) -> None:
    given = {"system": {"auto_plan": True}, "data": {"fingerprint": str(profile)}}
    given["model"] = {"architecture": "monai_unet"}
    once = auto_plan_config(given, False, hardware=card)
    assert auto_plan_config(once, False, hardware=card) == once
