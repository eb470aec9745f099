"""MONAI itself reads what is written: its ConfigParser builds and trains, its DataAnalyzer agrees."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from voxplan.planning.export.monai import datalists, export_monai
from voxplan.planning.export.monai_datastats import datastats
from voxplan.plans.schema import ChannelNormalization, PlansDocument, Split
from voxplan.profiling.fingerprint import Fingerprint

Make = Callable[..., PlansDocument]
NARROW = {"strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]], "kernels": [[3, 3, 3]] * 3, "features": [4, 8, 8]}


def parser(path: Path) -> Any:
    from monai.bundle import ConfigParser

    return ConfigParser(yaml.safe_load(path.read_text()))


@pytest.mark.filterwarnings("ignore")
def test_monai_builds_the_network_and_makes_a_step(
    tmp_path: Path, small_fingerprint: Fingerprint, make_document: Make
) -> None:
    import torch

    document = make_document("unet", patch=(8, 24, 16), arguments=NARROW)
    written = export_monai(document, tmp_path, fingerprint=small_fingerprint)
    assert [path.relative_to(tmp_path).as_posix() for path in written] == [
        "datastats.yaml",
        "unet_3d_fullres/train.yaml",
    ]
    config = parser(written[1])
    network = config.get_parsed_content("network")
    loss = config.get_parsed_content("loss")
    optimizer = config.get_parsed_content("optimizer")
    assert config.get_parsed_content("patch_size") == [16, 24, 8]
    assert isinstance(optimizer, torch.optim.SGD)
    assert optimizer.param_groups[0]["momentum"] == 0.99
    image = torch.randn(1, 1, 16, 24, 8)
    target = torch.randint(0, 3, (1, 1, 16, 24, 8)).float()  # as LoadImaged gives labels
    before = [parameter.detach().clone() for parameter in network.parameters()]
    value = loss(network(image), target)
    value.backward()
    optimizer.step()
    assert torch.isfinite(value)
    assert any(not torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))


@pytest.mark.filterwarnings("ignore")
def test_transforms_cut_patches_that_are_normalized_as_planned(
    tmp_path: Path, small_fingerprint: Fingerprint, make_document: Make
) -> None:
    """CT 90 is the clipped maximum: (90 - 40) / 15."""
    import nibabel

    document = make_document("unet", patch=(16, 32, 24))
    export_monai(document, tmp_path, fingerprint=small_fingerprint)
    voxels = np.full((40, 40, 40), 500, np.float32)
    voxels[:20] = 40.0
    for name, array in (("image", voxels), ("label", (voxels > 100).astype(np.uint8))):
        nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), tmp_path / f"{name}.nii.gz")
    compose = parser(tmp_path / "unet_3d_fullres" / "train.yaml").get_parsed_content("train_transforms")
    (sample,) = compose({"image": tmp_path / "image.nii.gz", "label": tmp_path / "label.nii.gz"})
    assert tuple(sample["image"].shape) == (1, 24, 32, 16)
    values = np.unique(np.asarray(sample["image"]))
    assert np.isclose(values[:, None], (0.0, 50 / 15), atol=1e-5).any(axis=1).all()


def test_strides_are_turned_with_the_axes(
    tmp_path: Path, small_fingerprint: Fingerprint, make_document: Make
) -> None:
    arguments = {
        "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
        "kernels": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
        "features": [32, 64, 128],
    }
    document = make_document("unet", patch=(16, 32, 24), arguments=arguments)
    export_monai(document, tmp_path, fingerprint=small_fingerprint)
    network = yaml.safe_load((tmp_path / "unet_3d_fullres" / "train.yaml").read_text())["network"]
    assert network["arguments"]["strides"] == [[1, 1, 1], [2, 2, 1], [2, 2, 2]]
    assert network["arguments"]["kernels"][0] == [3, 3, 1]


def test_channels_that_monai_cannot_tell_apart_are_refused(
    tmp_path: Path, small_fingerprint: Fingerprint, make_document: Make
) -> None:
    document = make_document("unet", patch=(16, 32, 24))
    other = ChannelNormalization(channel="PET", scheme="zscore")
    dataset = document.dataset.model_copy(
        update={
            "normalization": (*document.dataset.normalization, other),
            "channel_names": ("CT", "PET"),
        }
    )
    with pytest.raises(ValueError, match="CT by ct, PET by zscore"):
        export_monai(
            document.model_copy(update={"dataset": dataset}), tmp_path, fingerprint=small_fingerprint
        )
    ids = document.model_copy(update={"dataset": document.dataset.model_copy(update={"object_ids": True})})
    with pytest.raises(ValueError, match="label maps hold object ids"):
        export_monai(ids, tmp_path, fingerprint=small_fingerprint)
    with pytest.raises(ValueError, match="no plans"):
        export_monai(None, tmp_path, fingerprint=small_fingerprint)


@pytest.fixture
def volumes(tmp_path: Path) -> Fingerprint:
    """Two random volumes with labels, profiled; ``list.json`` lists them for MONAI."""
    import nibabel

    from voxplan.profiling.case import ProfileOptions
    from voxplan.profiling.extract import profile_dataset
    from voxplan.profiling.layouts import discover

    random = np.random.default_rng(0)
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    listed = []
    for name, shape in (("a", (20, 24, 28)), ("b", (22, 26, 30))):
        image = random.integers(1, 200, shape).astype(np.int16)
        label = (random.random(shape) > 0.7).astype(np.uint8)
        for folder, array in (("images", image), ("labels", label)):
            nibabel.save(
                nibabel.Nifti1Image(array, np.diag([1.0, 2.0, 3.0, 1.0])),
                tmp_path / folder / f"{name}.nii.gz",
            )
        listed.append({"image": f"images/{name}.nii.gz", "label": f"labels/{name}.nii.gz"})
    (tmp_path / "list.json").write_text(json.dumps({"training": listed}))
    dataset = discover(
        None,
        images=str(tmp_path / "images" / "*.nii.gz"),
        labels=str(tmp_path / "labels" / "*.nii.gz"),
        image_key=None,
        label_key=None,
        exclude=(),
    )
    return profile_dataset(dataset, ProfileOptions(), jobs=1, label_kind="semantic", on_event=None)


@pytest.mark.filterwarnings("ignore")
def test_datastats_agree_with_monais_own_analyzer(
    volumes: Fingerprint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = datastats(volumes), analyzed(tmp_path, monkeypatch)
    for section in ("shape", "channels", "cropped_shape", "spacing", "sizemm"):
        mine, other = ours["stats_summary"]["image_stats"][section], theirs["image_stats"][section]
        assert mine.keys() == other.keys()
        for number in ("max", "mean", "median", "min", "stdev"):
            assert mine[number] == pytest.approx(other[number])
            # Algorithms take the largest channel count and shape for a network as they are: whole numbers.
            assert kind(mine[number]) is kind(other[number]), (section, number)
    assert ours["stats_summary"]["label_stats"]["labels"] == theirs["label_stats"]["labels"]
    for mine, other in zip(
        ours["stats_summary"]["label_stats"]["label"], theirs["label_stats"]["label"], strict=True
    ):
        assert mine["foreground_percentage"]["mean"] == pytest.approx(other["foreground_percentage"]["mean"])
    mine = ours["stats_summary"]["image_foreground_stats"]["intensity"]
    other = theirs["image_foreground_stats"]["intensity"]
    assert mine.keys() == other.keys()
    assert mine["mean"] == pytest.approx(other["mean"], rel=1e-3)


def kind(value: Any) -> type:
    """Of a number, or of a list of them."""
    return kind(value[0]) if isinstance(value, list) else type(value)


def analyzed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """MONAI's summary of the same files."""
    from monai.apps.auto3dseg import DataAnalyzer

    monkeypatch.chdir(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        DataAnalyzer("list.json", ".", output_path="theirs.yaml", device="cpu", worker=0).get_all_case_stats()
    summary: dict[str, Any] = yaml.safe_load((folder / "theirs.yaml").read_text())["stats_summary"]
    return summary


@pytest.mark.filterwarnings("ignore")
def test_monai_trains_on_what_the_configuration_lists(
    volumes: Fingerprint, tmp_path: Path, make_document: Make
) -> None:
    """By its ConfigParser alone: a loader reads the files, the planned step runs, windows cover a volume."""
    import torch

    document = make_document("unet", patch=(16, 16, 8), arguments=NARROW, spacing=(3.0, 2.0, 1.0))
    loader = document.plans["unet/3d_fullres"].loader.model_copy(update={"workers": 0, "pin_memory": False})
    plan = document.plans["unet/3d_fullres"].model_copy(update={"loader": loader, "batch_size": 1})
    dataset = document.dataset.model_copy(update={"splits": (Split(train=("b",), validation=("a",)),)})
    document = document.model_copy(update={"plans": {"unet/3d_fullres": plan}, "dataset": dataset})
    export_monai(document, tmp_path / "out", fingerprint=volumes)
    config = parser(tmp_path / "out" / "unet_3d_fullres" / "train.yaml")
    assert [Path(item["label"]).name for item in config["train_datalist"]] == ["b.nii.gz"]
    assert [Path(item["label"]).name for item in config["validation_datalist"]] == ["a.nii.gz"]
    names = ("train_loader", "network", "loss", "optimizer", "inferer")
    batches, network, loss, optimizer, inferer = (config.get_parsed_content(name) for name in names)
    (batch,) = batches
    assert tuple(batch["image"].shape) == tuple(batch["label"].shape) == (1, 1, 8, 16, 16)
    value = loss(network(batch["image"]), batch["label"])
    value.backward()
    optimizer.step()
    assert torch.isfinite(value)
    network.eval()
    with torch.no_grad():
        logits = inferer(torch.zeros(1, 1, 20, 24, 28), network)
    assert tuple(logits.shape) == (1, 3, 20, 24, 28)


def test_files_that_monai_does_not_read_are_not_listed(volumes: Fingerprint, make_document: Make) -> None:
    case = volumes.cases[0].model_copy(update={"images": ("a.h5:raw",)})
    fingerprint = volumes.model_copy(update={"cases": (case, *volumes.cases[1:])})
    listed = datalists(make_document().dataset, fingerprint)
    assert [len(listed[part]) for part in ("train", "validation")] == [1, 0]


@pytest.mark.filterwarnings("ignore")
def test_auto3dsegs_algorithms_find_what_they_look_up(
    volumes: Fingerprint, tmp_path: Path, make_document: Make
) -> None:
    """The entries that its SegResNet, SwinUNETR and DiNTS templates read, the way they read and use them."""
    from monai.bundle import ConfigParser
    from monai.networks.nets.segresnet import SegResNet

    export_monai(make_document(), tmp_path / "out", fingerprint=volumes)
    stats = ConfigParser(globals=False)
    stats.read_config(str(tmp_path / "out" / "datastats.yaml"))
    network = SegResNet(
        in_channels=stats["stats_summary#image_stats#channels#max"],
        out_channels=len(stats["stats_summary#label_stats#labels"]),
    )
    assert network.in_channels == 1
    largest = stats["stats_summary#image_stats#shape#max"]
    assert [max(16, edge // 16 * 16) for edge in largest] == [16, 16, 16]
    assert all(isinstance(edge, int) for edge in largest)
    assert stats["stats_summary#image_stats#spacing#median"] == pytest.approx([1.0, 2.0, 3.0])
    low, high = (
        float(stats[f"stats_summary#image_foreground_stats#intensity#percentile_{name}"])
        for name in ("00_5", "99_5")
    )
    assert 1 <= low < high <= 199
    assert stats["stats_summary#n_cases"] == 2
