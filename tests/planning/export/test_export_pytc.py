"""The YAML against PyTC's recorded schema: where each key must stand, and which values it would misread."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from voxplan.planning.export.pytc import export_pytc
from voxplan.plans.schema import ChannelNormalization, PlansDocument
from voxplan.profiling.fingerprint import Fingerprint

Make = Callable[..., PlansDocument]

KNOWN: dict[str, Any] = {
    "default": {
        "model": {
            "arch": {"type"},
            "mednext": {
                "size",
                "kernel_size",
                "base_channels",
                "exp_r",
                "block_counts",
                "checkpoint_style",
                "norm",
            },
            "monai": {"filters", "num_res_units", "norm"},
            "loss": {"deep_supervision"},
            "in_channels": None,
            "out_channels": None,
            "input_size": None,
            "output_size": None,
        },
        "data": {
            "dataloader": {"patch_size", "batch_size", "use_lazy_h5", "use_lazy_zarr"},
            "image_transform": {"normalize", "clip_percentile_low", "clip_percentile_high"},
            "label_transform": {"targets"},
        },
        "inference": {"window": {"window_size", "sw_batch_size", "overlap"}},
        "system": {"num_gpus", "num_workers"},
    },
    "train": {
        "data": {"train": {"image", "label", "resolution"}},
        "optimization": {
            "optimizer": {"name", "lr", "weight_decay", "eps", "momentum"},
            "scheduler": {"name"},
            "precision": None,
            "accumulate_grad_batches": None,
            "max_epochs": None,
            "n_steps_per_epoch": None,
            "gradient_clip_val": None,
        },
    },
}
"""Keys of PyTC's strict loader that an export may set (others exist)."""


def unknown(content: Any, known: Any, where: str = "") -> list[str]:
    """Keys that the loader would refuse."""
    if not isinstance(content, dict):
        return []
    if known is None:
        return [where]
    names = known if isinstance(known, set) else known.keys()
    wrong = [f"{where}.{key}" for key in content if key not in names]
    if isinstance(known, dict):
        for key in content.keys() & known.keys():
            wrong += unknown(content[key], known[key], f"{where}.{key}")
    return wrong


def profiled(fingerprint: Fingerprint, image: str = "im.h5:raw", label: str | None = "lb.h5") -> Fingerprint:
    cases = tuple(
        case.model_copy(update={"images": (image,), "label": label}) for case in fingerprint.cases[:2]
    )
    dataset = fingerprint.dataset.model_copy(update={"root": "/data"})
    return fingerprint.model_copy(update={"cases": cases, "dataset": dataset})


def exported(document: PlansDocument, fingerprint: Fingerprint, folder: Path) -> dict[str, Any]:
    (path,) = export_pytc(document, folder / "plan.yaml", fingerprint=fingerprint)
    content: dict[str, Any] = yaml.safe_load(path.read_text())
    assert not unknown(content, KNOWN)
    return content


def test_a_mednext_plan_sets_what_pytc_trains(
    tmp_path: Path, small_fingerprint: Fingerprint, make_document: Make
) -> None:
    document = make_document("mednext_m_k5", patch=(32, 64, 48), checkpointing=True, accumulation=2)
    content = exported(document, profiled(small_fingerprint), tmp_path)
    model = content["default"]["model"]
    assert model["arch"] == {"type": "mednext"}
    assert model["mednext"] == {
        "size": "M",
        "kernel_size": 5,
        "base_channels": 32,
        "checkpoint_style": "outside_block",
    }
    assert model["input_size"] == content["default"]["data"]["dataloader"]["patch_size"] == [32, 64, 48]
    assert model["out_channels"] == 3
    assert content["default"]["data"]["dataloader"]["use_lazy_h5"] is True
    optimization = content["train"]["optimization"]
    assert optimization["optimizer"]["eps"] == 1e-4
    assert optimization["precision"] == "bf16-mixed"
    assert optimization["accumulate_grad_batches"] == 2
    assert content["train"]["data"]["train"]["image"] == ["/data/im.h5:raw"] * 2


def test_a_millimetre_is_a_million_nanometres(
    tmp_path: Path, small_fingerprint: Fingerprint, make_document: Make
) -> None:
    content = exported(make_document("mednext_s", patch=(32, 32, 32)), profiled(small_fingerprint), tmp_path)
    assert content["train"]["data"]["train"]["resolution"] == pytest.approx([1e6, 1e6, 1e6])


def test_a_schedule_that_pytc_would_misread_is_named(
    tmp_path: Path, small_fingerprint: Fingerprint, make_document: Make
) -> None:
    """PyTC takes any unknown name for cosine: poly is written as cosine, and the file says so."""
    document = make_document("mednext_s", patch=(32, 32, 32))
    content = exported(document, profiled(small_fingerprint), tmp_path)
    assert content["train"]["optimization"]["scheduler"]["name"] == "CosineAnnealingLR"
    text = (tmp_path / "plan.yaml").read_text()
    assert "polynomial schedule is not in PyTC" in text
    assert "DOES NOT FIT" in text


def test_basic_unet_gets_six_filters_that_end_in_32(
    tmp_path: Path, small_fingerprint: Fingerprint, make_document: Make
) -> None:
    document = make_document("basic_unet", patch=(32, 32, 32))
    content = exported(document, profiled(small_fingerprint), tmp_path)
    filters = content["default"]["model"]["monai"]["filters"]
    assert len(filters) == 6
    assert filters[-1] == 32
    assert content["default"]["model"]["loss"] == {"deep_supervision": False}


@pytest.mark.parametrize(
    ("channel", "expected"),
    [
        (ChannelNormalization(channel="EM", scheme="scale", low=0.0, high=255.0), ("0-1", 0.0, 1.0)),
        (ChannelNormalization(channel="EM", scheme="zscore"), ("normal", 0.0, 1.0)),
        (
            ChannelNormalization(channel="CT", scheme="ct", mean=1, std=1, low=0, high=2),
            ("normal", 0.005, 0.995),
        ),
        (ChannelNormalization(channel="EM", scheme="none"), ("none", 0.0, 1.0)),
    ],
)
def test_normalization_in_pytcs_words(
    tmp_path: Path,
    small_fingerprint: Fingerprint,
    make_document: Make,
    channel: ChannelNormalization,
    expected: tuple[str, float, float],
) -> None:
    document = make_document("mednext_s", patch=(32, 32, 32), normalization=channel)
    transform = exported(document, profiled(small_fingerprint), tmp_path)["default"]["data"][
        "image_transform"
    ]
    assert tuple(transform.values()) == expected


def test_affinities_become_pytcs_offsets(
    tmp_path: Path, small_fingerprint: Fingerprint, make_document: Make
) -> None:
    document = make_document("mednext_s", patch=(32, 32, 32))
    dataset = document.dataset.model_copy(
        update={"task": "affinity", "offsets": ((-1, 0, 0), (0, -1, 0), (0, 0, -9)), "out_channels": 3}
    )
    content = exported(
        document.model_copy(update={"dataset": dataset}), profiled(small_fingerprint), tmp_path
    )
    (target,) = content["default"]["data"]["label_transform"]["targets"]
    assert target == {"name": "affinity", "kwargs": {"offsets": ["1-0-0", "0-1-0", "0-0-9"]}}


def test_what_pytc_cannot_do_is_refused(
    tmp_path: Path, small_fingerprint: Fingerprint, make_document: Make
) -> None:
    mednext = make_document("mednext_s", patch=(32, 32, 32))
    with pytest.raises(ValueError, match=r"does not read im\.mha: convert"):
        exported(mednext, profiled(small_fingerprint, image="im.mha"), tmp_path)
    with pytest.raises(ValueError, match="PyTC has no network for unet/3d_fullres"):
        exported(make_document("unet", patch=(32, 32, 32)), profiled(small_fingerprint), tmp_path)
    supervised = make_document("basic_unet", patch=(32, 32, 32), deep_supervision=True)
    with pytest.raises(ValueError, match="deep supervision for MONAI"):
        exported(supervised, profiled(small_fingerprint), tmp_path)
    assert not list(tmp_path.iterdir())
