"""Overrides are checked before anything is planned, and the narrower scope wins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from voxplan.planning.overrides import OverrideError, collect_overrides, parse_setting, read_overrides

NAMES = ("unet", "mednext_s")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("patch_size=96,96,96", ("patch_size", [96, 96, 96])),
        ("patch_size=[96, 96]", ("patch_size", [96, 96])),
        ("lr=1e-3", ("lr", 0.001)),
        ("mednext_s.lr=5e-4", ("mednext_s.lr", 0.0005)),
        ("checkpointing=true", ("checkpointing", True)),
        ("precision=bf16", ("precision", "bf16")),
        ("target_spacing=1.5,1,1", ("target_spacing", [1.5, 1, 1])),
    ],
)
def test_settings(text: str, expected: tuple[str, Any]) -> None:
    assert parse_setting(text) == expected


@pytest.mark.parametrize("text", ["batch_size", "batch_size=", "=4", "patch_size=[1,"])
def test_malformed_settings(text: str) -> None:
    with pytest.raises(OverrideError, match="--set"):
        parse_setting(text)


def test_unknown_key_lists_the_known_ones() -> None:
    with pytest.raises(OverrideError, match=r"unknown override 'batchsize'.*batch_size.*target_spacing"):
        collect_overrides({"batchsize": 4}, NAMES)
    with pytest.raises(OverrideError, match="unknown override 'task' for unet"):
        collect_overrides({"unet.task": "semantic"}, NAMES)


def test_unknown_scope_lists_the_known_ones() -> None:
    with pytest.raises(OverrideError, match=r"'resnet'.*unet, mednext_s.*3d_fullres, 2d"):
        collect_overrides({"resnet.lr": 1e-3}, NAMES)
    with pytest.raises(OverrideError, match="'unet/4d'"):
        collect_overrides({"unet/4d": {"lr": 1e-3}}, NAMES)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("batch_size", 0),
        ("batch_size", 2.5),
        ("patch_size", [64]),
        ("patch_size", [64, -1, 64]),
        ("precision", "fp8"),
        ("lr", -1.0),
        ("inference_overlap", 1.0),
        ("affinity_offsets", 7),
    ],
)
def test_impossible_values_name_the_key(key: str, value: Any) -> None:
    with pytest.raises(OverrideError, match=f"override {key}="):
        collect_overrides({key: value}, NAMES)


def test_narrower_scope_wins() -> None:
    overrides = collect_overrides(
        {
            "lr": 1.0,
            "2d.lr": 2.0,
            "mednext_s": {"lr": 3.0, "batch_size": 7},
            "mednext_s/3d_fullres.lr": 4.0,
            "task": "boundary",
        },
        NAMES,
    )
    assert overrides.dataset.task == "boundary"
    assert overrides.for_plan("unet", "3d_fullres").lr == 1.0
    assert overrides.for_plan("unet", "2d").lr == 2.0
    assert overrides.for_plan("mednext_s", "2d").lr == 3.0
    narrow = overrides.for_plan("mednext_s", "3d_fullres")
    assert (narrow.lr, narrow.batch_size, narrow.epochs) == (4.0, 7, None)


def test_patch_for_all_counts_where_the_axes_agree() -> None:
    overrides = collect_overrides({"patch_size": [64, 64, 64], "2d.patch_size": [128, 96]}, NAMES)
    assert overrides.for_plan("unet", "3d_fullres").patch_size == (64, 64, 64)
    assert overrides.for_plan("unet", "2d").patch_size == (128, 96)


def test_yaml_file(tmp_path: Path) -> None:
    path = tmp_path / "overrides.yaml"
    path.write_text("batch_size: 4\nlr: 1e-3\nunet/3d_fullres:\n  patch_size: [64, 64, 64]\n")
    values = read_overrides(path)
    assert values == {"batch_size": 4, "lr": 0.001, "unet/3d_fullres": {"patch_size": [64, 64, 64]}}
    assert collect_overrides(values, NAMES).for_plan("unet", "3d_fullres").patch_size == (64, 64, 64)


@pytest.mark.parametrize("text", ["- 1\n- 2\n", "a: [1,\n", "\x00"])
def test_yaml_that_is_no_mapping(tmp_path: Path, text: str) -> None:
    path = tmp_path / "overrides.yaml"
    path.write_text(text)
    with pytest.raises(OverrideError, match=r"overrides\.yaml"):
        read_overrides(path)
    with pytest.raises(OverrideError, match=r"absent\.yaml"):
        read_overrides(tmp_path / "absent.yaml")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("target_spacing", [0, 1, 1]),
        ("target_spacing", [1, 1, -1]),
        ("target_spacing", [1, 1, 1e308]),
        ("workers", 10**9),
        ("batch_size", 10**9),
        ("inference_batch_size", 10**9),
        ("patch_size", [10**9, 64, 64]),
        ("inference_window", [0, 64, 64]),
    ],
)
def test_what_no_plan_can_be_loaded_with_cannot_be_set(key: str, value: Any) -> None:
    """A spacing of 0 once was an overflow; a plan with 10^9 workers would be written, and refused later."""
    with pytest.raises(OverrideError, match=key):
        collect_overrides({key: value}, NAMES)


@pytest.mark.parametrize(
    "text", ["batch_size: 2\nbatch_size: 3\n", "unet: {lr: 1}\nunet: {lr: 2}\n", "unet: {lr: 1, lr: 2}\n"]
)
def test_yaml_that_states_a_key_twice(tmp_path: Path, text: str) -> None:
    path = tmp_path / "overrides.yaml"
    path.write_text(text)
    with pytest.raises(OverrideError, match="twice"):
        read_overrides(path)


def test_numbers_of_too_many_digits_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "overrides.yaml"
    path.write_text("batch_size: " + "9" * 5000)
    with pytest.raises(OverrideError, match=str(path)):
        read_overrides(path)
    with pytest.raises(OverrideError, match="--set"):
        parse_setting("batch_size=" + "9" * 5000)
