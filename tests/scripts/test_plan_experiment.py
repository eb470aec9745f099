"""The command, in-process: what it writes, prints and returns."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from voxplan.plans.document import read_document
from voxplan.scripts.plan_experiment import main
from voxplan.scripts.profile_dataset import main as profile

SETTINGS = (
    "--set",
    "3d_fullres.patch_size=16,32,32",
    "--set",
    "2d.patch_size=32,32",
    "--set",
    "batch_size=2",
)
"""Small and fixed: most tests here are not about the search."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one HDF5 volume and its classes."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    with h5py.File(folder / "stack.h5", "w") as file:
        raw = file.create_dataset("raw", data=rng.integers(0, 255, (24, 96, 80), dtype=np.uint8), chunks=True)
        raw.attrs["resolution"] = [30.0, 6.0, 6.0]
        raw.attrs["unit"] = "nm"
        file.create_dataset("labels", data=rng.integers(0, 2, (24, 96, 80), dtype=np.uint8), chunks=True)
    return folder


@pytest.fixture(scope="module")
def fingerprint(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fingerprint") / "fingerprint.json"
    arguments = [str(data), "--image-key", "raw", "--label-key", "labels", "-q", "-o", str(path)]
    assert profile(arguments) == 0
    return path


def plan(source: Path, output: Path, *options: str) -> int:
    return main([str(source), "-o", str(output), *options])


def test_named_card(fingerprint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "plans.json"
    status = plan(fingerprint, output, "--gpu", "RTX 3090", "--architecture", "unet", "--explain", *SETTINGS)
    printed = capsys.readouterr().out
    assert status == 0
    document = read_document(output)
    assert set(document.plans) == {"unet/3d_fullres", "unet/2d"}
    assert document.hardware.gpus[0].name == "GeForce RTX 3090"
    assert document.provenance.options["gpu"] == "RTX 3090"
    assert document.dataset.target_spacing == (30.0, 6.0, 6.0)
    for expected in (
        "GeForce RTX 3090",
        "16 x 32 x 32",
        "fp16",
        "written:",
        "train-from-plans",
        "alternatives",
    ):
        assert expected in printed
    assert "set to 16,32,32 by the user" in printed
    table = printed.split("written:")[0]
    assert max(len(line) for line in table.splitlines() if not line.startswith(("!", "- ", "no plan"))) <= 80


def test_configuration_alone_and_what_stays_unused(
    fingerprint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "plans.json"
    options = ("--cpu", "--ram", "8", "--architecture", "monai_unet", "--configuration", "3d_fullres")
    assert plan(fingerprint, output, *options) == 0
    printed = capsys.readouterr().out
    assert set(read_document(output).plans) == {"monai_unet/3d_fullres"}
    assert "\n* recommended; batch per step (x accumulation)" in printed
    assert "monai_unet/3d_fullres: limited by " in printed
    assert "GiB stay unused" in printed


def test_unlabelled_data_is_to_be_annotated_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "data"
    data.mkdir()
    with h5py.File(data / "stack.h5", "w") as file:
        file["raw"] = np.zeros((24, 96, 80), dtype=np.uint8)
    options = ("--image-key", "raw", "--gpu-memory", "8", "--architecture", "monai_unet", *SETTINGS)
    assert plan(data, tmp_path / "plans.json", *options) == 0
    printed = capsys.readouterr().out
    assert "next: annotate" in printed
    assert "next: train" not in printed


def test_json(fingerprint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "plans.json"
    options = ("--gpu-memory", "16", "--architecture", "monai_unet", "--json", *SETTINGS)
    assert plan(fingerprint, output, *options) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(output.read_text())


def test_data_folder_is_profiled_first(data: Path, tmp_path: Path) -> None:
    output = tmp_path / "my.plans.json"
    keys = ("--image-key", "raw", "--label-key", "labels")
    spacing = ("--spacing", "8", "4", "4", "--unit", "um")
    options = ("--cpu", "--ram", "8", "--architecture", "monai_unet", "-q", *SETTINGS)
    assert plan(data, output, *keys, *spacing, *options) == 0
    assert (tmp_path / "my.fingerprint.json").is_file()
    document = read_document(output)
    assert document.dataset.target_spacing == (8.0, 4.0, 4.0)
    assert document.dataset.spacing_unit == "um"
    assert document.hardware.gpus == ()


def test_diff_names_a_gpu_as_people_do(
    fingerprint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = tmp_path / "one.json", tmp_path / "other.json"
    network = [
        "--architecture",
        "unet",
        "--configuration",
        "3d_fullres",
        "--set",
        "patch_size=16,32,32",
        "-q",
    ]
    assert main([str(fingerprint), "--gpu", "RTX 3090", *network, "-o", str(one)]) == 0
    assert main([str(fingerprint), "--cpu", *network, "-o", str(other)]) == 0
    capsys.readouterr()
    assert main(["diff", str(one), str(other)]) == 0
    printed = capsys.readouterr().out
    assert "gpus: GeForce RTX 3090 (24.0 GiB) -> none\n" in printed
    assert "loader.pin_memory: yes -> no\n" in printed
    assert "total_memory=" not in printed


def test_diff(fingerprint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = tmp_path / "a.json", tmp_path / "b.json"
    common = ("--gpu-memory", "16", "--architecture", "monai_unet", "-q", *SETTINGS)
    assert plan(fingerprint, one, *common) == 0
    assert plan(fingerprint, other, *common, "--set", "lr=0.25") == 0
    capsys.readouterr()
    assert main(["diff", str(one), str(other)]) == 0
    printed = capsys.readouterr().out
    assert "optimizer.lr: 0.0001 -> 0.25" in printed
    assert "> [user] set to 0.25 by the user" in printed
    assert "patch_size" not in printed
    assert main(["diff", str(one), str(one)]) == 0
    assert "no differences" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--gpu", "A100"), "A100 80GB, A100 40GB"),
        (("--gpu", "RTX 9999"), "not in the catalogue"),
        (("--set", "patchsize=4"), "unknown override 'patchsize'"),
        (("--set", "batch_size=0"), "override batch_size=0"),
        (("--architecture", "resnet"), "resnet"),
        (("--unit", "nm"), "--spacing"),
        (("--memory-fraction", "2"), "--memory-fraction"),
        (("--cpu", "--gpu", "T4"), "--cpu"),
        (("--preset", "nnunet", "--set", "lr=1"), "--preset"),
        (("--target-gb", "9"), "--preset"),
        (("--fit",), "--verify"),
        (("--preset", "nnunet", "--verify", "--fit"), "--preset"),
        (("--export", "onnx", "x"), "unknown format"),
        (("--spacing", "0", "1", "1"), "--spacing"),
        (("--overrides", "/absent.yaml"), "absent.yaml"),
    ],
)
def test_wrong_usage_is_one_line_and_two(
    fingerprint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    expected: str,
) -> None:
    output = tmp_path / "plans.json"
    assert plan(fingerprint, output, *options) == 2
    captured = capsys.readouterr()
    assert expected in captured.err
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("plan-experiment: ")
    assert not output.exists()


def test_input_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert plan(tmp_path / "absent.json", tmp_path / "plans.json") == 2
    assert "no such file" in capsys.readouterr().err
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    assert plan(broken, tmp_path / "plans.json", "--cpu") == 2
    captured = capsys.readouterr().err
    assert "broken.json" in captured
    assert "Traceback" not in captured


def test_no_plan_at_all_is_one(fingerprint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "plans.json"
    options = ("--gpu-memory", "8", "--architecture", "mednext_s", "--set", "3d_fullres.patch_size=16,16,16")
    assert plan(fingerprint, output, *options, "--set", "2d.patch_size=16,16") == 1
    captured = capsys.readouterr().err
    assert "the next one that works is (32, 32, 32)" in captured
    assert "nothing is written" in captured
    assert not output.exists()


def test_verify_without_a_gpu_says_so(
    fingerprint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    options = ("--gpu-memory", "8", "--architecture", "monai_unet", "--verify", *SETTINGS)
    assert plan(fingerprint, tmp_path / "plans.json", *options) == 1
    assert "torch sees none on this machine" in capsys.readouterr().err


def test_help_needs_no_torch() -> None:
    import subprocess
    import sys

    program = (
        "import sys; sys.modules['torch'] = None; "
        "from voxplan.scripts.plan_experiment import main; main(['--help'])"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "--gpu-memory" in ran.stdout
