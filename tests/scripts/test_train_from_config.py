"""``train-from-plans --config``: from a YAML file to a checkpoint, plan and configuration beside."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from voxplan.plans import load_plans
from voxplan.plans.checkpoint import load_checkpoint
from voxplan.scripts.phantom import write_phantom
from voxplan.scripts.train_from_plans import main

EXAMPLE = Path(__file__).resolve().parents[2] / "plans" / "examples" / "auto_config.yaml"
SETTINGS = ["model.architecture=monai_unet", "model.deep_supervision=false", "data.patch_size=16,32,32"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_phantom(tmp_path, cases=1)
    return tmp_path / "hdf5"


def test_config_and_settings_become_a_plan_beside_the_checkpoint(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOXPLAN_CACHE", "off")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    output = tmp_path / "trained"
    try:
        status = main(
            f"--config {EXAMPLE} {' '.join(SETTINGS)} --data {data} --image-key raw --label-key labels "
            f"--device cpu --steps 1 --no-validation -o {output} data.num_workers=0 optimizer.lr=2e-3".split()
        )
    finally:
        torch.set_num_threads(before)
    assert status == 0
    plan = load_plans(output / "plans.json").recommended
    assert plan is not None
    config = yaml.safe_load((output / "config.yaml").read_text())
    assert plan.patch_size == (16, 32, 32)
    assert config["data"]["patch_size"] == [16, 32, 32]
    assert config["data"]["batch_size"] == plan.batch_size
    assert config["data"]["target_spacing"] == [40.0, 8.0, 8.0]
    assert (config["model"]["in_channels"], config["model"]["out_channels"]) == (1, 3)
    assert config["optimizer"]["lr"] == plan.optimizer.lr == 2e-3
    assert config["data"]["num_workers"] == plan.loader.workers == 0
    inside = load_checkpoint(output / "checkpoint.pt").plan
    assert (inside.name, inside.experiment) == ("monai_unet/3d_fullres", plan.experiment)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--config", "nowhere.yaml"], 2, "--config nowhere.yaml: no such file"),
        ([], 2, "give one PLANS file, or --config FILE"),
        (["--config", str(EXAMPLE), "data.batchsize=2"], 1, "data.batchsize is not in "),
        (["--config", str(EXAMPLE), "plans.json"], 1, "expected KEY=VALUE"),
    ],
)
def test_slips_are_told_in_one_line(
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    status: int,
    message: str,
) -> None:
    given = [*arguments, "--data", str(data), "--steps", "1", "-o", str(tmp_path / "out")]
    try:
        ended: object = main(given)
    except SystemExit as error:
        ended = error.code
    assert ended == status
    assert message in capsys.readouterr().err
