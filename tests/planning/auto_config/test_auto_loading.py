"""Reading a configuration: what the file says arrives as it stands, and what was written is known."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from voxplan.planning import auto_plan_config
from voxplan.planning.auto_config import load_config
from voxplan.planning.overrides import OverrideError


@dataclass
class Data:
    batch_size: int = 3
    patch_size: list[int] | None = None


@dataclass
class Config:
    data: Data = field(default_factory=Data)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "c.yaml"


def test_settings_go_over_the_file_and_slips_are_refused(path: Path) -> None:
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


def test_text_stays_text_and_names_stay_whole(path: Path) -> None:
    """Quotes mean text, as PyTorch Lightning's ``precision: "32"``; a file name's dot is no section."""
    path.write_text('training: {precision: "32"}\nrun: "007"\nfiles: {a.h5: "1e-3", 0: b}\n')
    assert load_config(path).config == {
        "training": {"precision": "32"},
        "run": "007",
        "files": {"a.h5": "1e-3", 0: "b"},
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-3", 0.001), ("-2.5E+2", -250.0), ("1.e4", 10000.0), ("'1e-3'", "1e-3"), ("e3", "e3"), ("1e", "1e")],
)
def test_numbers_as_people_write_them(path: Path, text: str, value: object) -> None:
    path.write_text(f"optimizer: {{lr: {text}}}\n")
    assert load_config(path).config == {"optimizer": {"lr": value}}


def test_a_known_key_may_be_written_with_its_section(path: Path) -> None:
    path.write_text("data: {median_shape: [64, 64, 64]}\ndata.batch_size: 2\n")
    loaded = load_config(path)
    assert loaded.config == {"data": {"median_shape": [64, 64, 64], "batch_size": 2}}
    assert loaded.explicit == {"data.median_shape", "data.batch_size"}


def test_a_section_over_a_section_keeps_the_other_keys(path: Path) -> None:
    path.write_text("data: {batch_size: 2, mine: {a: 1, b: 2}}\n")
    loaded = load_config(path, ["data={batch_size: 4, mine: {b: 3}}"], base={"data": {"mine": {"c": 5}}})
    assert loaded.config == {"data": {"mine": {"c": 5, "a": 1, "b": 3}, "batch_size": 4}}
    assert loaded.explicit == {"data.batch_size", "data.mine.a", "data.mine.b"}


def test_a_section_without_keys_leaves_the_defaults(path: Path) -> None:
    path.write_text("data:\n")
    assert load_config(path, base={"data": {"batch_size": 3}}).config == {"data": {"batch_size": 3}}
    assert load_config(path, base=OmegaConf.structured(Config)).config == OmegaConf.structured(Config)


def test_null_over_a_field_that_takes_none_is_not_written(path: Path) -> None:
    """``batch_size: int`` cannot be null; to leave it to the planner is what null means."""
    path.write_text("data: {batch_size: null, patch_size: [32, 32, 32]}\n")
    loaded = load_config(path, ["data.patch_size=null"], base=OmegaConf.structured(Config))
    assert loaded.config == OmegaConf.structured(Config)
    assert loaded.explicit == frozenset()


def test_what_the_dataclass_has_no_field_for_is_refused(path: Path) -> None:
    path.write_text("data: {batchsize: 2}\n")
    with pytest.raises(ValueError, match=r"c.yaml: data.batchsize: no field of the configuration"):
        load_config(path, base=OmegaConf.structured(Config))


def test_what_the_field_cannot_hold_is_refused(path: Path) -> None:
    path.write_text("data: {batch_size: many}\n")
    with pytest.raises(ValueError, match=r"config data.batch_size: its type does not take 'many'"):
        load_config(path, base=OmegaConf.structured(Config))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", r"configuration .*c.yaml: expected a mapping of keys to values, got list"),
        ("", r"configuration .*c.yaml: expected a mapping of keys to values, got NoneType"),
        ("a: [1", r"configuration .*c.yaml: cannot be read as YAML"),
        ("a: !!python/name:os.system x", r"configuration .*c.yaml: cannot be read as YAML"),
        ("a: &a [*a]", r"configuration .*c.yaml: cannot be read as YAML .maximum recursion"),
        ("a: " + "x" * 2**20, r"configuration .*c.yaml: cannot be read as YAML .larger than 1048576 bytes"),
        (
            "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 20) if i else 1}]\n" for i in range(6)),
            r"configuration .*c.yaml: cannot be read as YAML .more than 100000 values",
        ),
    ],
)
def test_files_that_hold_no_configuration(path: Path, text: str, message: str) -> None:
    path.write_text(text)
    with pytest.raises(OverrideError, match=message):
        auto_plan_config(path)


def test_a_path_that_is_not_there(path: Path) -> None:
    with pytest.raises(OverrideError, match=r"configuration .*c.yaml: cannot be read .*No such file"):
        auto_plan_config(path)


@pytest.mark.parametrize("text", ["plans.json", "=3", "data.batch_size="])
def test_settings_without_key_or_value(path: Path, text: str) -> None:
    path.write_text("data: {batch_size: 2}\n")
    with pytest.raises(OverrideError, match=f"setting '{text}': expected KEY=VALUE, such as data.patch_size"):
        load_config(path, [text])
