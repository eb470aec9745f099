"""A small data set as nnU-Net's files describe it, and plans for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from voxplan.planning.nnunet_conversion import to_fingerprint
from voxplan.planning.nnunet_fingerprint import NnunetDataset, NnunetFingerprint
from voxplan.plans.architectures import get_architecture
from voxplan.plans.schema import (
    ArchitectureChoice,
    ChannelNormalization,
    DatasetPlan,
    ExperimentPlan,
    Hardware,
    InferenceChoice,
    LoaderChoice,
    LossChoice,
    MemoryPrediction,
    PlansDocument,
    Provenance,
    ScheduleChoice,
    Split,
)
from voxplan.profiling.fingerprint import Fingerprint

PatchSize = tuple[int, ...]


@pytest.fixture
def small_fingerprint() -> Fingerprint:
    """Twenty cases of 35 x 50 x 36 voxels at 1 mm, two classes."""
    numbers = {
        "max": 100.0,
        "mean": 40.0,
        "median": 38.0,
        "min": 1.0,
        "percentile_00_5": 2.0,
        "percentile_99_5": 90.0,
        "std": 15.0,
    }
    measured = NnunetFingerprint.model_validate(
        {
            "spacings": [[1.0, 1.0, 1.0]] * 20,
            "shapes_after_crop": [[35, 50, 36]] * 20,
            "median_relative_size_after_cropping": 1.0,
            "foreground_intensity_properties_per_channel": {"0": numbers},
        }
    )
    described = NnunetDataset(
        channel_names={"0": "CT"},
        labels={"background": 0, "anterior": 1, "posterior": 2},
        numTraining=20,
        file_ending=".nii.gz",
    )
    return to_fingerprint(measured, described, "Dataset004_Small")


@pytest.fixture
def make_document() -> Callable[..., PlansDocument]:
    """A document with one 3D plan; every part that a test is about can be set."""

    def make(
        architecture: str = "unet",
        patch: PatchSize = (32, 64, 48),
        arguments: dict[str, Any] | None = None,
        normalization: ChannelNormalization | None = None,
        **changes: Any,
    ) -> PlansDocument:
        model = get_architecture(architecture)
        recipe = model.recipe(3)
        plan = ExperimentPlan(
            architecture=ArchitectureChoice(
                name=architecture,
                arguments=model.topology(patch, (1.0, 1.0, 1.0)) if arguments is None else arguments,
            ),
            dimensions=3,
            spacing=(1.0, 1.0, 1.0),
            median_shape=(35, 50, 36),
            patch_size=patch,
            batch_size=4,
            global_batch_size=8,
            precision="bf16",
            deep_supervision=model.deep_supervision,
            loss=LossChoice(name="dice_ce"),
            optimizer=recipe.optimizer,
            schedule=ScheduleChoice(name=recipe.schedule, epochs=100, steps_per_epoch=250),
            loader=LoaderChoice(workers=4, cache="none", pin_memory=True),
            inference=InferenceChoice(window=patch),
            memory=MemoryPrediction(
                allocated=1,
                reserved=1,
                context=1,
                total=2 * 1024**3,
                parts={},
                budget=1,
                fits=False,
                device="x",
            ),
            decisions={},
        ).model_copy(update=changes)
        channel = normalization or ChannelNormalization(
            channel="CT", scheme="ct", mean=40.0, std=15.0, low=2.0, high=90.0
        )
        return PlansDocument(
            provenance=Provenance(
                program="plan-experiment",
                version="1",
                created="",
                options={},
                torch_version="",
                fingerprint="",
            ),
            dataset=DatasetPlan(
                name="Dataset004_Small",
                task="semantic",
                channel_names=("CT",),
                classes={"background": (0,), "anterior": (1,), "posterior": (2,)},
                ignore=None,
                out_channels=3,
                target_spacing=(1.0, 1.0, 1.0),
                spacing_unit="mm",
                median_shape=(35, 50, 36),
                normalization=(channel,),
                case_numbers={},
                splits=(Split(train=("b",), validation=("a",)),),
                decisions={},
            ),
            hardware=Hardware(gpus=(), ram=1, ram_available=1, cores=1, shared_memory=None, stated=True),
            plans={f"{architecture}/3d_fullres": plan},
            recommended=f"{architecture}/3d_fullres",
        )

    return make
