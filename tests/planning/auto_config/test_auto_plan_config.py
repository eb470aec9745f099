"""``auto_plan_config`` on dicts, YAML files and OmegaConf: what is kept, what is planned, what is refused."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from voxplan.planning import auto_plan_config
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


@pytest.fixture
def card(make_hardware: Callable[..., Hardware]) -> Hardware:
    return make_hardware(6, cores=16)


@dataclass
class System:
    auto_plan: bool = True
    print_auto_plan: bool = False
    num_gpus: int = 1
    num_cpus: int = 4


@dataclass
class Data:
    target_spacing: list[float] | None = None
    median_shape: list[int] | None = field(default_factory=lambda: [64, 64, 64])
    patch_size: list[int] = field(default_factory=lambda: [96, 96, 96])
    batch_size: int = 3
    num_workers: int = 2


@dataclass
class Model:
    architecture: str = "monai_unet"
    in_channels: int = 1
    out_channels: int = 2
    deep_supervision: bool = False


@dataclass
class Optimizer:
    lr: float = 0.5


@dataclass
class Training:
    precision: str = "32"
    accumulate_grad_batches: int = 7


@dataclass
class Config:
    system: System = field(default_factory=System)
    data: Data = field(default_factory=Data)
    model: Model = field(default_factory=Model)
    optimizer: Optimizer = field(default_factory=Optimizer)
    training: Training = field(default_factory=Training)


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


def test_structured_defaults_are_not_overrides(card: Hardware) -> None:
    """The fault that made the replaced system change nothing."""
    given = OmegaConf.structured(Config)
    config = auto_plan_config(given, hardware=card)
    assert isinstance(config, DictConfig)
    assert OmegaConf.get_type(config) is Config
    assert config.data.patch_size == [64, 64, 64]
    assert config.data.batch_size > 3
    assert config.data.num_workers == 4
    assert config.optimizer.lr == 1e-4
    assert (config.training.precision, config.training.accumulate_grad_batches) == ("bf16-mixed", 1)
    assert given == OmegaConf.structured(Config)


def test_values_that_differ_from_the_dataclass_are_overrides(card: Hardware) -> None:
    given = OmegaConf.merge(
        OmegaConf.structured(Config), {"data": {"batch_size": 5}, "optimizer": {"lr": 0.02}}
    )
    config = auto_plan_config(given, hardware=card)
    assert (config.data.batch_size, config.optimizer.lr) == (5, 0.02)
    assert config.data.patch_size == [64, 64, 64]


def test_a_value_equal_to_the_default_is_an_override_where_explicit_says_so(card: Hardware) -> None:
    config = auto_plan_config(
        OmegaConf.structured(Config), explicit={"data.batch_size", "optimizer"}, hardware=card
    )
    assert (config.data.batch_size, config.optimizer.lr) == (3, 0.5)
    assert config.data.patch_size == [64, 64, 64]


def test_our_loader_sees_a_value_that_equals_the_default(tmp_path: Path, card: Hardware) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("data: {batch_size: 3}\n")
    loaded = load_config(path, ["optimizer.lr=0.5"], base=OmegaConf.structured(Config))
    assert loaded.explicit == {"data.batch_size", "optimizer.lr"}
    config = auto_plan_config(loaded, hardware=card)
    assert (config.data.batch_size, config.optimizer.lr) == (3, 0.5)
    assert config.data.patch_size == [64, 64, 64]
    assert config.training.accumulate_grad_batches == 1


def test_dataclasses_inside_a_plain_tree_count_as_well(card: Hardware) -> None:
    given = OmegaConf.create({"system": {"auto_plan": True}, "model": Model(), "data": Data(batch_size=4)})
    config = auto_plan_config(given, False, hardware=card)
    assert config.data.batch_size == 4
    assert config.data.patch_size == [64, 64, 64]


def test_a_plain_dictconfig_with_interpolations_and_read_only(card: Hardware) -> None:
    given = OmegaConf.create({**SMALL, "mine": 5})
    given.data.batch_size = "${mine}"
    OmegaConf.set_readonly(given, True)
    config = auto_plan_config(given, hardware=card)
    assert (config.data.batch_size, config.data.patch_size) == (5, [64, 64, 64])
    assert OmegaConf.is_readonly(config)


def test_a_structured_config_without_a_field_says_so(
    card: Hardware, capsys: pytest.CaptureFixture[str]
) -> None:
    @dataclass
    class Narrow:
        system: System = field(default_factory=lambda: System(print_auto_plan=True))
        data: Data = field(default_factory=Data)
        model: Model = field(default_factory=Model)

    config = auto_plan_config(OmegaConf.structured(Narrow), hardware=card)
    assert config.data.patch_size == [64, 64, 64]
    assert "optimizer" not in config
    assert "no field for optimizer.lr, training.precision, training.accumulate_grad_batches" in (
        capsys.readouterr().out.replace("\n", " ")
    )


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
        ("data", "median_shape", "64", "data.median_shape must be a list of three numbers"),
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
        auto_plan_config(Config())


def test_settings_go_over_the_file_and_slips_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("data: {batch_size: 2, mine: 1}\n")
    settings = ["data.batch_size=null", "data.patch_size=32,64,64", "data.mine=4", "optimizer.lr=1e-3"]
    loaded = load_config(path, settings)
    assert loaded.config == {
        "data": {"batch_size": None, "mine": 4, "patch_size": [32, 64, 64]},
        "optimizer": {"lr": 0.001},
    }
    assert loaded.explicit == {"data.mine", "data.patch_size", "optimizer.lr"}
    with pytest.raises(OverrideError, match=r"'data.batchsize=2': data.batchsize is not in .*, nor known"):
        load_config(path, ["data.batchsize=2"])


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


def test_end_to_end_on_this_machine() -> None:
    """Whatever it has: detected, planned, filled in."""
    config: dict[str, Any] = auto_plan_config({**copy.deepcopy(SMALL), "optimizer": None}, False)
    assert config["data"]["patch_size"] in ([64, 64, 64], [48, 48, 48])
    assert config["data"]["batch_size"] >= 1
    assert config["optimizer"]["lr"] == 1e-4
