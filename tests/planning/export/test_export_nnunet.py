from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from voxplan.planning.export.nnunet import export_nnunet
from voxplan.planning.export.nnunet_check import NnunetPlansError, check_nnunet_plans
from voxplan.planning.nnunet_conversion import from_fingerprint, to_fingerprint
from voxplan.planning.nnunet_fingerprint import NnunetDataset, load_nnunet
from voxplan.planning.presets import PRESETS, get_preset, nnunet_plans
from voxplan.plans.schema import ChannelNormalization, PlansDocument
from voxplan.profiling.fingerprint import Fingerprint

Make = Callable[..., PlansDocument]
FULLRES = "3d_fullres"


def preset_plans(fingerprint: Fingerprint, preset: str = "nnunet") -> dict[str, Any]:
    numbers, dataset = from_fingerprint(fingerprint)
    return nnunet_plans(preset, numbers, dataset, dataset_name="Dataset004_Small")


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_written_under_nnunets_own_name(
    voxplan_golden: Path, tmp_path: Path, preset: str
) -> None:
    golden = voxplan_golden / "nnunet_fingerprints" / "Dataset501_Heads"
    numbers, dataset = load_nnunet(golden / "dataset_fingerprint.json", golden / "dataset.json")
    folder = tmp_path / "Dataset501_Heads"
    written = export_nnunet(
        None, folder, fingerprint=to_fingerprint(numbers, dataset, "Dataset501_Heads"), preset=preset
    )
    name = f"{get_preset(preset).plans_name}.json"
    assert sorted(path.name for path in written) == sorted([name, "dataset.json", "dataset_fingerprint.json"])
    for file in (name, "dataset_fingerprint.json"):
        assert (folder / file).read_bytes() == (golden / file).read_bytes()
    theirs = json.loads((golden / "dataset.json").read_text())  # indented as its author liked
    assert json.loads((folder / "dataset.json").read_text()) == theirs
    assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for path in written)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("conv_op", "torch.nn.modules.conv.Conv3D", "conv_op"),
        ("norm_op", "torch.nn.modules.instancenorm.InstanceNorm2d", "norm_op"),
        ("nonlin", "torch.nn.LeakyRelu", "nonlin"),
        ("dropout_op", "torch.nn.Dropuot3d", "dropout_op"),
        ("n_stages", 9, "n_stages"),
        ("kernel_sizes", [[2, 2, 2]] * 4, "must be odd"),
        ("features_per_stage", [32, 64], "features_per_stage: must have 4 entries"),
        ("n_convs_per_stage", [2, 2, 2, 2], "n_convs_per_stage is missing or unknown"),
    ],
)
def test_network_arguments_that_nnunet_would_misread_are_refused(
    small_fingerprint: Fingerprint, field: str, value: object, message: str
) -> None:
    plans = preset_plans(small_fingerprint)
    check_nnunet_plans(plans)
    plans["configurations"][FULLRES]["architecture"]["arch_kwargs"][field] = value
    with pytest.raises(NnunetPlansError, match=message):
        check_nnunet_plans(plans)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("patch_size", [40, 56, 42], "42 on axis 2 is not a multiple of 8"),
        ("patch_size", [8, 8, 8], "one voxel at the bottleneck"),
        ("patch_size", [40, 56], "same two or three axes"),
        ("batch_size", 0, "batch_size"),
        ("spacing", [0.0, 1.0, 1.0], "spacing: must be positive"),
        ("normalization_schemes", ["CTNormalisation"], "CTNormalisation"),
        ("use_mask_for_norm", [], "one entry a channel"),
        ("preprocessor_name", "DefaultPreprocesor", "preprocessor_name"),
        ("resampling_fn_seg", "resample", "resampling_fn_seg"),
    ],
)
def test_configurations_that_nnunet_would_misread_are_refused(
    small_fingerprint: Fingerprint, field: str, value: object, message: str
) -> None:
    plans = preset_plans(small_fingerprint)
    plans["configurations"][FULLRES][field] = value
    with pytest.raises(NnunetPlansError, match=message):
        check_nnunet_plans(plans)


def test_two_stages_are_refused(small_fingerprint: Fingerprint) -> None:
    plans = preset_plans(small_fingerprint)
    arguments = plans["configurations"][FULLRES]["architecture"]["arch_kwargs"]
    for key in ("strides", "kernel_sizes", "features_per_stage", "n_conv_per_stage"):
        arguments[key] = arguments[key][:2]
    arguments["n_conv_per_stage_decoder"] = arguments["n_conv_per_stage_decoder"][:1]
    arguments["n_stages"] = 2
    with pytest.raises(NnunetPlansError, match="at least 3 stages, got 2"):
        check_nnunet_plans(plans)


def test_every_fault_is_reported_with_its_configuration(small_fingerprint: Fingerprint) -> None:
    plans = preset_plans(small_fingerprint)
    plans["configurations"]["2d"]["batch_size"] = 0
    plans["configurations"][FULLRES]["patch_size"][0] += 1
    plans["transpose_backward"] = [2, 1, 0]
    plans["configurations"]["lost"] = {"inherits_from": "3d_fulres"}
    with pytest.raises(NnunetPlansError) as caught:
        check_nnunet_plans(plans)
    text = "\n".join(caught.value.problems)
    assert "2d.batch_size" in text
    assert "3d_fullres.patch_size: 41 on axis 0" in text
    assert "transpose_backward [2, 1, 0]" in text
    assert "lost.inherits_from: there is no configuration '3d_fulres'" in text


def test_a_cascade_is_checked_through_what_it_inherits(small_fingerprint: Fingerprint) -> None:
    plans = preset_plans(small_fingerprint)
    plans["configurations"]["child"] = {"inherits_from": FULLRES, "batch_size": 3}
    check_nnunet_plans(plans)
    broken = copy.deepcopy(plans)
    broken["configurations"]["child"]["patch_size"] = [40, 56, 41]
    with pytest.raises(NnunetPlansError, match=r"child\.patch_size"):
        check_nnunet_plans(broken)


@pytest.mark.parametrize(
    ("architecture", "network", "blocks"),
    [("unet", "PlainConvUNet", None), ("resenc_unet", "ResidualEncoderUNet", [1, 3, 4])],
)
def test_own_plans_become_nnunets_networks(
    tmp_path: Path,
    small_fingerprint: Fingerprint,
    make_document: Make,
    architecture: str,
    network: str,
    blocks: list[int] | None,
) -> None:
    document = make_document(architecture, patch=(32, 32, 32), arguments=None)
    export_nnunet(document, tmp_path, fingerprint=small_fingerprint)
    plans = json.loads((tmp_path / f"voxplan_{architecture}.json").read_text())
    configuration = plans["configurations"][FULLRES]
    assert configuration["architecture"]["network_class_name"].endswith(f".{network}")
    arguments = configuration["architecture"]["arch_kwargs"]
    given = document.plans[f"{architecture}/{FULLRES}"].architecture.arguments
    assert arguments["strides"] == given["strides"]
    assert arguments["kernel_sizes"] == given["kernels"]
    assert arguments["features_per_stage"] == given["features"]
    if blocks is not None:
        assert arguments["n_blocks_per_stage"][:3] == blocks
    assert configuration["batch_size"] == 8  # over both GPUs, as nnU-Net counts
    assert configuration["normalization_schemes"] == ["CTNormalization"]
    assert plans["transpose_forward"] == [0, 1, 2]


def test_mednext_goes_through_the_adapter(
    tmp_path: Path, small_fingerprint: Fingerprint, make_document: Make
) -> None:
    document = make_document("mednext_s", patch=(32, 64, 48), checkpointing=True)
    export_nnunet(document, tmp_path, fingerprint=small_fingerprint)
    plans = json.loads((tmp_path / "voxplan_mednext_s.json").read_text())
    architecture = plans["configurations"][FULLRES]["architecture"]
    assert architecture["arch_kwargs"] == {
        "variant": "mednext_s",
        "strides": [[1, 1, 1], [2, 2, 2], [2, 2, 2], [2, 2, 2], [2, 2, 2]],
        "checkpointing": True,
    }


def test_the_adapter_behaves_as_nnunets_own_networks() -> None:
    """Four outputs in training and validation, one in inference, switched through ``decoder``."""
    import torch

    from voxplan.planning.export.nnunet_networks import MedNeXt

    strides = [[1, 1, 1], *([2, 2, 2] for _ in range(4))]
    with torch.device("meta"):
        network = MedNeXt(2, 3, variant="mednext_s", strides=strides, deep_supervision=True)
        image = torch.empty(1, 2, 32, 64, 48)
    shapes = [(1, 3, 32 // f, 64 // f, 48 // f) for f in (1, 2, 4, 8)]
    for mode in (network.train(), network.eval()):
        outputs = mode(image)
        assert isinstance(outputs, list)
        assert [tuple(output.shape) for output in outputs] == shapes
    network.decoder.deep_supervision = False
    single = network(image)
    assert isinstance(single, torch.Tensor)
    assert tuple(single.shape) == shapes[0]
    with pytest.raises(ValueError, match="strides must be"):
        MedNeXt(2, 3, variant="mednext_s", strides=strides[:3])


def test_splits_are_written_for_known_cases(
    tmp_path: Path, small_fingerprint: Fingerprint, make_document: Make
) -> None:
    profiled = small_fingerprint.model_copy(
        update={"dataset": small_fingerprint.dataset.model_copy(update={"layout": "nnunet"})}
    )
    export_nnunet(make_document(patch=(32, 32, 32)), tmp_path, fingerprint=profiled)
    assert json.loads((tmp_path / "splits_final.json").read_text()) == [{"train": ["b"], "val": ["a"]}]


def refused(document: PlansDocument | None, fingerprint: Fingerprint, folder: Path, **options: Any) -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the message is what each test looks at
        export_nnunet(document, folder, fingerprint=fingerprint, **options)
    assert not folder.exists() or not any(folder.iterdir())
    return str(caught.value)


def with_labels(fingerprint: Fingerprint, **changes: Any) -> Fingerprint:
    labels = fingerprint.dataset.labels.model_copy(update=changes)
    return fingerprint.model_copy(
        update={"dataset": fingerprint.dataset.model_copy(update={"labels": labels})}
    )


def test_data_and_labels_that_nnunet_cannot_read_are_refused(
    tmp_path: Path, small_fingerprint: Fingerprint, make_document: Make
) -> None:
    document, folder = make_document(patch=(32, 32, 32)), tmp_path / "out"
    hdf5 = small_fingerprint.model_copy(
        update={"dataset": small_fingerprint.dataset.model_copy(update={"file_format": "h5"})}
    )
    assert "convert the volumes to .nii.gz" in refused(document, hdf5, folder)
    assert "convert the volumes to .nii.gz" in refused(None, hdf5, folder, preset="nnunet")
    instance = with_labels(small_fingerprint, kind="instance", classes={})
    assert "object ids as classes" in refused(document, instance, folder)
    assert "has none" in refused(document, with_labels(small_fingerprint, kind="none", classes={}), folder)
    regions = with_labels(small_fingerprint, classes={"background": (0,), "whole": (1, 2), "core": (2,)})
    assert "regions_class_order" in refused(document, regions, folder)


def test_plans_that_nnunet_cannot_train_are_refused(
    tmp_path: Path, small_fingerprint: Fingerprint, make_document: Make
) -> None:
    folder = tmp_path / "out"
    patch = (32, 32, 32)
    assert "gradient checkpointing" in refused(
        make_document(patch=patch, checkpointing=True), small_fingerprint, folder
    )
    assert "not a multiple of" in refused(
        make_document(patch=patch, patch_size=(32, 32, 33)), small_fingerprint, folder
    )
    assert "needs a spacing" in refused(make_document(patch=patch, spacing=None), small_fingerprint, folder)
    scaled = ChannelNormalization(channel="EM", scheme="scale", low=10.0, high=99.0)
    assert "scaled from 10.0 to 99.0" in refused(
        make_document(patch=patch, normalization=scaled), small_fingerprint, folder
    )
    assert "no counterpart of basic_unet" in refused(
        make_document("basic_unet", patch=patch), small_fingerprint, folder
    )
    affinity = make_document(patch=patch)
    affinity = affinity.model_copy(
        update={"dataset": affinity.dataset.model_copy(update={"task": "affinity"})}
    )
    assert "not affinity" in refused(affinity, small_fingerprint, folder)
    assert "nothing to export" in refused(None, small_fingerprint, folder)
    two = NnunetDataset(
        channel_names={"0": "CT", "1": "PET"}, labels={"background": 0}, numTraining=1, file_ending=".nii.gz"
    )
    assert "names 2 channels" in refused(None, small_fingerprint, folder, preset="nnunet", dataset=two)


def test_uint8_scaling_is_nnunets_rgb_scheme(
    tmp_path: Path, small_fingerprint: Fingerprint, make_document: Make
) -> None:
    scaled = ChannelNormalization(channel="EM", scheme="scale", low=0.0, high=255.0)
    export_nnunet(
        make_document(patch=(32, 32, 32), normalization=scaled), tmp_path, fingerprint=small_fingerprint
    )
    plans = json.loads((tmp_path / "voxplan_unet.json").read_text())
    assert plans["configurations"][FULLRES]["normalization_schemes"] == ["RGBTo01Normalization"]
