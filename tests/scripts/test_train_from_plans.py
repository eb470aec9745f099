"""``train-from-plans`` from the outside: what it prints, writes and returns."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from voxplan.plans.architectures import get_architecture
from voxplan.plans.checkpoint import load_checkpoint, load_network
from voxplan.plans.schema import PlansDocument
from voxplan.scripts.phantom import write_phantom
from voxplan.scripts.train_from_plans import main

PATCH = (8, 32, 32)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small networks gain nothing from threads, and lose much on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_phantom(tmp_path, cases=2)
    return tmp_path / "hdf5"


@pytest.fixture
def plans(tmp_path: Path) -> Path:
    """Two small plans for the phantom in HDF5; fold 1 holds the first case back, fold 0 the second."""
    topology = get_architecture("unet").topology(PATCH, None)
    topology["features"] = [8 * 2**stage for stage in range(len(topology["strides"]))]
    experiment: dict[str, Any] = {
        "architecture": {"name": "unet", "arguments": topology},
        "dimensions": 3,
        "spacing": (40.0, 8.0, 8.0),
        "median_shape": (25, 96, 96),
        "patch_size": PATCH,
        "batch_size": 2,
        "global_batch_size": 2,
        "precision": "fp16",
        "deep_supervision": False,
        "loss": {"name": "dice_ce"},
        "optimizer": {"name": "adamw", "lr": 5e-3},
        "schedule": {"name": "constant", "epochs": 1, "steps_per_epoch": 10},
        "loader": {"workers": 0, "cache": "none", "pin_memory": True},
        "inference": {"window": PATCH, "overlap": 0.25, "batch_size": 4},
        "memory": {
            **dict.fromkeys(("allocated", "reserved", "context", "total"), 1),
            "parts": {},
            "budget": 2**30,
            "fits": True,
            "device": "cpu",
        },
        "decisions": {},
    }
    dataset: dict[str, Any] = {
        "name": "phantom",
        "task": "semantic",
        "channel_names": ("EM",),
        "classes": {"background": (0,), "cell": (1,), "nucleus": (2,)},
        "ignore": None,
        "out_channels": 3,
        "target_spacing": (40.0, 8.0, 8.0),
        "spacing_unit": "nm",
        "median_shape": (25, 96, 96),
        "normalization": ({"channel": "EM", "scheme": "scale", "low": 0.0, "high": 255.0},),
        "case_numbers": {},
        "splits": (
            {"train": ("cell_00",), "validation": ("cell_01",)},
            {"train": ("cell_01",), "validation": ("cell_00",)},
        ),
        "decisions": {},
    }
    document = PlansDocument.model_validate(
        {
            "provenance": {
                **dict.fromkeys(("program", "version", "created", "torch_version", "fingerprint"), "test"),
                "options": {},
            },
            "dataset": dataset,
            "hardware": {
                "gpus": (),
                "ram": 2**34,
                "ram_available": 2**34,
                "cores": 2,
                "shared_memory": None,
                "stated": True,
            },
            "plans": {"unet/small": experiment, "unet/smaller": {**experiment, "batch_size": 1}},
            "recommended": "unet/small",
        }
    )
    path = tmp_path / "plans.json"
    path.write_text(document.model_dump_json())
    return path


def test_trains_validates_and_saves(
    data: Path, plans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "trained"
    common = [str(plans), "--data", str(data), "--image-key", "raw", "--label-key", "labels"]
    common += ["--device", "cpu", "-o", str(output), "--fold", "1"]
    assert main([*common, "--steps", "12", "--validate-every", "6"]) == 0
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    assert (
        lines[0] == "unet/small: patch 8x32x32, batch 2, fp16 (fp32 on this device), 1 training case, on cpu"
    )
    assert sum(line.startswith("step 12  loss ") for line in lines) == 1
    assert sum(" validation Dice " in line for line in lines) == 2
    assert [line for line in lines if "validating" in line] == [
        "step 6  validating 1 held-out case",
        "step 12  validating 1 held-out case",
    ]
    smoothed = next(line for line in lines if line.startswith("loss "))
    first, last = float(smoothed.split()[1]), float(smoothed.split()[3])
    assert last < first
    assert lines[-1] == f"checkpoint: {output / 'checkpoint.pt'}"
    network, plan = load_network(output / "checkpoint.pt")
    assert plan.name == "unet/small"
    assert sum(parameter.numel() for parameter in network.parameters()) > 10_000

    resumed = ["--resume", str(output / "checkpoint.pt"), "--steps", "2", "--no-validation"]
    assert main([*common, *resumed, "--workers", "1"]) == 0
    printed = capsys.readouterr().out
    assert "after step 12" in printed
    assert "step 14  loss" in printed
    assert "Dice" not in printed
    assert load_checkpoint(output / "checkpoint.pt").step == 14


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["PLANS", "--steps", "2"], "give --data, or --images and --labels"),
        (["nowhere.json", "--data", "DATA", "--steps", "2"], "nowhere.json: no such file; plan-experiment"),
        (["PLANS", "--data", "nowhere", "--steps", "2"], "--data nowhere: no such file or folder"),
        (["PLANS", "--data", "DATA", "--steps", "0"], "'0' is not a whole number above 0"),
        (["PLANS", "--data", "DATA", "--steps", "2", "--fold", "2"], "the plan has 2 folds"),
        (["PLANS", "--data", "DATA", "--steps", "2", "--plan", "x"], "known: unet/small, unet/smaller"),
        (["PLANS", "--data", "DATA", "--steps", "2", "--device", "gpu"], "--device gpu: "),
        (["PLANS", "--data", "DATA", "--steps", "2", "--resume", "no.pt"], "--resume no.pt: no such file"),
        (["PLANS", "--data", "DATA", "--steps", "2", "-o", "PLANS"], "plans.json is a file; name a folder"),
    ],
)
def test_wrong_usage(
    arguments: list[str], said: str, data: Path, plans: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = {"PLANS": str(plans), "DATA": str(data)}
    with pytest.raises(SystemExit) as ended:
        main([known.get(argument, argument) for argument in arguments])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_what_cannot_be_trained_is_one_line(
    data: Path, plans: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = plans.with_name("damaged.json")
    damaged.write_text(json.dumps({**json.loads(plans.read_text()), "format_version": 99}))
    assert main([str(damaged), "--data", str(data), "--steps", "2"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("train-from-plans: ")
    assert "99" in error
    assert "Traceback" not in error
    command = [str(plans), "--images", str(data.parent / "tiff" / "images"), "--steps", "1"]
    assert main([*command, "--device", "cpu"]) == 1
    assert "no case has a label map; give --labels, or --label-key" in capsys.readouterr().err


def test_help_needs_no_torch() -> None:
    program = (
        "import sys; sys.modules['torch'] = None; sys.modules['monai'] = None\n"
        "from voxplan.scripts.train_from_plans import main\nmain(['--help'])"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "--fold K" in ran.stdout


def test_an_earlier_checkpoint_is_kept(data: Path, plans: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = plans.with_name("trained")
    words = [str(plans), "--plan", "unet/smaller", "--data", str(data), "--image-key", "raw", "--label-key"]
    words += ["labels", "--device", "cpu", "--workers", "0", "--no-validation", "-o", str(output)]
    assert main([*words, "--steps", "1"]) == 0
    first = (output / "checkpoint.pt").read_bytes()
    assert main([*words, "--steps", "1", "--seed", "1"]) == 0
    assert "of an earlier training is now" in capsys.readouterr().err
    assert (output / "checkpoint.1.pt").read_bytes() == first
    assert (output / "checkpoint.pt").read_bytes() != first
    assert main([*words, "--steps", "1", "--resume", str(output / "checkpoint.pt")]) == 0
    assert sorted(path.name for path in output.iterdir()) == ["checkpoint.1.pt", "checkpoint.pt"]
    assert load_checkpoint(output / "checkpoint.pt").step == 2


def test_a_file_that_is_no_checkpoint_is_called_so(
    data: Path, plans: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """PyTorch's own words advise weights_only=False, which runs what the file holds."""
    words = [str(plans), "--data", str(data), "--image-key", "raw", "--label-key", "labels", "--steps", "1"]
    assert main([*words, "--device", "cpu", "-o", str(plans.with_name("t")), "--resume", str(plans)]) == 1
    (line,) = [text for text in capsys.readouterr().err.splitlines() if "checkpoint" in text]
    assert "is no checkpoint that can be read safely" in line
    assert "weights_only" not in line
    assert "weights_only" not in line
