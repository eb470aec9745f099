"""``auto_plan_config`` on OmegaConf: a structured configuration's default is no wish of the user."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from voxplan.planning import auto_plan_config
from voxplan.planning.auto_config import load_config
from voxplan.plans.schema import Hardware
from voxplan.profiling.fingerprint import Fingerprint, save_fingerprint

SMALL: dict[str, Any] = {
    "system": {"auto_plan": True, "print_auto_plan": False},
    "data": {"median_shape": [64, 64, 64]},
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
    fingerprint: str | None = None
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


@dataclass
class Supervised(Model):
    deep_supervision: bool = True


@dataclass
class Supervising(Config):
    system: System = field(default_factory=lambda: System(print_auto_plan=True))
    model: Supervised = field(default_factory=Supervised)


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


def test_a_closed_dictconfig_is_filled_in_and_stays_closed(card: Hardware) -> None:
    """As Hydra composes them; the sections that are missing as well."""
    given = OmegaConf.create(SMALL)
    OmegaConf.set_struct(given, True)
    config = auto_plan_config(given, hardware=card)
    assert config.data.patch_size == [64, 64, 64]
    assert config.optimizer.lr == 1e-4
    assert config.training.accumulate_grad_batches == 1
    assert OmegaConf.is_struct(config)
    assert given == OmegaConf.create(SMALL)


def test_a_class_of_attrs_counts_as_well(card: Hardware) -> None:
    attr = pytest.importorskip("attr", reason="SKIPPED: needs attrs")
    section = attr.make_class("Section", {"batch_size": attr.ib(default=3, type=int)})
    given = OmegaConf.create({**SMALL, "data": OmegaConf.structured(section)})
    OmegaConf.set_struct(given, False)
    assert auto_plan_config(given, hardware=card).data.batch_size != 3
    assert auto_plan_config(given, explicit={"data"}, hardware=card).data.batch_size == 3


def test_a_fingerprint_wins_over_structured_defaults(
    tmp_path: Path, card: Hardware, make_fingerprint: Callable[..., Fingerprint]
) -> None:
    """One channel in and two out are the dataclass's; the data have two channels and four classes."""
    path = tmp_path / "fingerprint.json"
    classes = {"background": (0,), "a": (1,), "b": (2,), "c": (3,)}
    save_fingerprint(
        make_fingerprint(shapes=((30, 100, 100),) * 6, channels=("EM", "ER"), classes=classes), path
    )
    given = OmegaConf.structured(Config)
    given.data.fingerprint = str(path)
    config = auto_plan_config(given, hardware=card)
    assert (config.model.in_channels, config.model.out_channels) == (2, 4)
    assert config.data.median_shape == [30, 100, 100]
    given.model.out_channels = 5
    assert auto_plan_config(given, hardware=card).model.out_channels == 5


def test_deep_supervision_by_default_is_dropped_where_there_is_none(
    card: Hardware, capsys: pytest.CaptureFixture[str]
) -> None:
    config = auto_plan_config(OmegaConf.structured(Supervising), hardware=card)
    assert config.model.deep_supervision is False
    printed = capsys.readouterr().out.replace("\n", " ")
    assert "model.deep_supervision is off: monai_unet has no outputs for it" in printed
    with pytest.raises(ValueError, match="deep_supervision: monai_unet has no outputs for it"):
        auto_plan_config(
            OmegaConf.structured(Supervising), explicit={"model.deep_supervision"}, hardware=card
        )


@pytest.mark.parametrize("name", ["data.batchsize", "dat", "patch_size"])
def test_slips_in_explicit_are_refused(card: Hardware, name: str) -> None:
    with pytest.raises(ValueError, match=f"explicit names '{name}', which has no value and is not known"):
        auto_plan_config(OmegaConf.structured(Config), explicit={name}, hardware=card)


def test_explicit_is_no_string(card: Hardware) -> None:
    with pytest.raises(TypeError, match="explicit must be a collection of dotted keys"):
        auto_plan_config(OmegaConf.structured(Config), explicit="data.batch_size", hardware=card)


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
