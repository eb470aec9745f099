"""The command that plan-experiment proposes finds the data that were profiled."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile

from voxplan.profiling.fingerprint import Fingerprint, load_fingerprint
from voxplan.profiling.layouts import discover
from voxplan.scripts.data_options import data_options
from voxplan.scripts.profile_dataset import main
from voxplan.scripts.train_from_plans import build_parser

VOLUME = np.random.default_rng(0).integers(0, 255, (4, 6, 8)).astype(np.uint8)


@pytest.fixture
def profiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Fingerprint]:
    for folder, volume in (("my scans", VOLUME), ("labels", (VOLUME > 99).astype(np.uint8))):
        (tmp_path / folder).mkdir()
        for name in ("a", "b"):
            tifffile.imwrite(tmp_path / folder / f"{name}.tif", volume, photometric="minisblack")
    (tmp_path / "hdf5").mkdir()
    with h5py.File(tmp_path / "hdf5" / "v.h5", "w") as file:
        file["first"], file["second"] = VOLUME, (VOLUME > 99).astype(np.uint8)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Fingerprint:
        assert main([*arguments, "-o", "f.json", "--jobs", "1", "-q"]) == 0
        return load_fingerprint(Path("f.json"))

    return run


@pytest.mark.parametrize(
    "arguments",
    [
        ("hdf5", "--image-key", "first", "--label-key", "second"),
        ("hdf5/v.h5", "--image-key", "first", "--label-key", "second", "--spacing", "4", "1", "1"),
        ("--images", "my scans/*.tif", "--labels", "labels", "--exclude", "b*", "--unit", "um"),
        (".", "--images", "my scans", "--labels", "labels", "--label-kind", "semantic"),
        ("my scans", "--labels", "none"),
    ],
)
def test_the_options_find_the_same_cases(
    profiled: Callable[..., Fingerprint], arguments: tuple[str, ...]
) -> None:
    fingerprint = profiled(*arguments)
    words = shlex.split(data_options(fingerprint))
    read = build_parser().parse_args(["plans.json", "--steps", "1", *words])
    found = discover(
        read.data,
        images=read.images,
        labels=read.labels,
        image_key=read.image_key,
        label_key=read.label_key,
        exclude=read.exclude,
    )
    assert [case.id for case in found.cases] == [case.id for case in fingerprint.cases]
    if "none" not in arguments:
        assert all(case.label is not None for case in found.cases)
    if "--spacing" in arguments:
        assert read.spacing == [4.0, 1.0, 1.0]
    assert "DATA" not in words


def test_from_another_folder_the_absolute_one_is_named(
    profiled: Callable[..., Fingerprint], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fingerprint = profiled("my scans")
    monkeypatch.chdir("/")
    assert data_options(fingerprint) == f"--data '{tmp_path}/my scans'"
    (tmp_path / "my scans").rename(tmp_path / "moved")
    assert data_options(fingerprint) == "--data DATA"
