"""The plain UNet's memory and the batch that fits, against MONAI's own network traced as a callable."""

from __future__ import annotations

import warnings

import pytest
from monai.networks.nets.dynunet import DynUNet
from torch import nn

from voxplan.planning import estimate_gpu_memory_required, suggest_batch_size
from voxplan.planning.auto_config.memory import binary_search
from voxplan.planning.memory import estimate_training_memory

GIB = 1024**3
PATCH = (32, 32, 32)


def monai_unet(features: list[int], *, in_channels: int = 1, out_channels: int = 2) -> nn.Module:
    """Written out anew: two convolutions a stage, strides of 2, instance norm."""
    poolings = len(features) - 1
    return DynUNet(
        3,
        in_channels,
        out_channels,
        kernel_size=[3] * len(features),
        strides=[1] + [2] * poolings,
        upsample_kernel_size=[2] * poolings,
        filters=features,
        norm_name=("INSTANCE", {"affine": True, "eps": 1e-5}),
        act_name=("leakyrelu", {"inplace": True, "negative_slope": 0.01}),
        trans_bias=True,
    )


def test_estimate_is_the_trace_of_a_unet_of_32_to_512_features() -> None:
    traced = estimate_training_memory(
        lambda: monai_unet([32, 64, 128, 256, 512]), patch_size=PATCH, batch_size=2, precision="fp16"
    )
    assert estimate_gpu_memory_required(PATCH, 2) == traced.total / GIB


def test_features_double_at_each_of_the_pool_stages_without_a_cap() -> None:
    traced = estimate_training_memory(
        lambda: monai_unet([48, 96, 192, 384], in_channels=2, out_channels=3),
        patch_size=PATCH,
        batch_size=1,
        in_channels=2,
        out_channels=3,
        precision="fp32",
    )
    found = estimate_gpu_memory_required(
        PATCH, 1, 2, 3, base_features=48, num_pool_stages=3, mixed_precision=False
    )
    assert found == traced.total / GIB


def tensors(patch: tuple[int, int, int], batch: int, **options: bool) -> float:
    """Without the CUDA context, which neither patch nor batch changes."""
    context = estimate_training_memory(
        "unet", patch_size=(32, 32, 32), batch_size=1, precision="fp16", deep_supervision=False
    ).context
    return estimate_gpu_memory_required(patch, batch, base_features=8, **options) - context / GIB


def test_memory_grows_by_the_same_amount_with_every_sample() -> None:
    """Activations are proportional to the batch; the allocator's 20 MiB segments are the tolerance."""
    one, two, four, eight = (tensors((64, 64, 64), batch) for batch in (4, 8, 16, 32))
    segments = 4 * 20 / 1024
    assert two - one == pytest.approx((four - two) / 2, abs=segments)
    assert four - two == pytest.approx((eight - four) / 2, abs=segments)
    assert two - one > 0.2


def test_a_sample_of_twice_the_edge_is_eight_samples() -> None:
    assert tensors((128, 128, 128), 2) == pytest.approx(tensors((64, 64, 64), 16), rel=0.02)


def test_mixed_precision_saves_less_than_half() -> None:
    """Activations halve; the loss, normalization statistics and weights stay in fp32."""
    mixed = tensors((96, 96, 96), 4, mixed_precision=True)
    full = tensors((96, 96, 96), 4, mixed_precision=False)
    assert 1.5 < full / mixed < 2


@pytest.mark.parametrize("edge", [96, 128])
def test_deep_supervision_costs_far_less_than_the_15_percent_once_documented(edge: int) -> None:
    """Heads at the coarser resolutions have an eighth, a 64th and so on of the voxels, and two channels.

    Their logits in fp32 with a gradient, and what the loss makes of them, are some 20 fp32 values a voxel
    at most, on 1/8 + 1/64 + ... < 1/7 of the voxels; two 20 MiB segments for rounding.
    """
    patch = (edge, edge, edge)
    plain = estimate_gpu_memory_required(patch, 2)
    heads = estimate_gpu_memory_required(patch, 2, deep_supervision=True)
    assert 0 <= heads - plain <= 2 * edge**3 * 20 * 4 / 7 / GIB + 2 * 20 / 1024
    assert heads / plain < 1.0125


@pytest.mark.parametrize(("edge", "available"), [(64, 2.0), (64, 6.0), (64, 12.0), (96, 12.0)])
def test_the_suggested_batch_fits_and_the_next_one_does_not(edge: int, available: float) -> None:
    patch = (edge, edge, edge)
    batch = suggest_batch_size(patch, 1, 2, available)
    limit = available * 0.85
    assert estimate_gpu_memory_required(patch, batch) <= limit
    assert estimate_gpu_memory_required(patch, batch + 1) > limit


def test_a_patch_of_half_the_edge_allows_eight_times_the_batch() -> None:
    """A batch of 8 small patches has the voxels of one large patch, so as many fit, and up to 7 more."""
    large = suggest_batch_size((64, 64, 64), 1, 2, 4.0)
    small = suggest_batch_size((32, 32, 32), 1, 2, 4.0)
    assert small // 8 == pytest.approx(large, abs=1)


def test_a_batch_that_fits_exactly_is_taken() -> None:
    """With all of the memory allowed, the estimate of 3 samples is enough for 3, and a byte less is not."""
    needed = estimate_gpu_memory_required((64, 64, 64), 3)
    assert suggest_batch_size((64, 64, 64), 1, 2, needed, safety_margin=1.0) == 3
    assert suggest_batch_size((64, 64, 64), 1, 2, needed - 1e-9, safety_margin=1.0) == 2


def test_the_margin_counts() -> None:
    needed = estimate_gpu_memory_required((64, 64, 64), 3)
    assert suggest_batch_size((64, 64, 64), 1, 2, needed / 0.5, safety_margin=0.5) == 3


def test_0_and_a_warning_where_not_even_1_fits() -> None:
    needed = estimate_gpu_memory_required((64, 64, 64), 1)
    with pytest.warns(UserWarning, match=rf"batch size 0: .*needs {needed:.1f} GB even at batch 1"):
        assert suggest_batch_size((64, 64, 64), 1, 2, needed, safety_margin=0.9) == 0


def test_no_warning_where_1_fits() -> None:
    needed = estimate_gpu_memory_required((64, 64, 64), 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert suggest_batch_size((64, 64, 64), 1, 2, needed, safety_margin=1.0) == 1


@pytest.mark.parametrize("start", [1, 2, 7, 8, 9, 50, 4096])
@pytest.mark.parametrize("answer", [0, 1, 6, 7, 8, 9, 1000, 4096])
def test_binary_search_finds_the_last_that_fits_from_any_guess(answer: int, start: int) -> None:
    asked: list[int] = []

    def fits(batch: int) -> bool:
        asked.append(batch)
        return batch <= answer

    assert binary_search(fits, start=start) == answer
    assert len(asked) <= 25  # twice log2(4096), where a scan would ask a thousand times
    if start == answer:
        assert len(asked) <= 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch_size": (64, 64)}, "patch_size must have three axes"),
        ({"patch_size": (64.5, 64, 64)}, "patch_size must have three axes .ZYX. of whole numbers"),
        ({"patch_size": "abc"}, "patch_size must have three axes .ZYX. of whole numbers"),
        ({"batch_size": True}, "batch_size must be a whole number of at least 1, got True"),
        ({"patch_size": (60, 64, 64)}, "60 must be a multiple of 16"),
        ({"num_pool_stages": 1}, "num_pool_stages must be at least 2, got 1"),
        ({"base_features": 0}, "base_features must be positive, got 0"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {"patch_size": (64, 64, 64), "batch_size": 1, **options}
    with pytest.raises(ValueError, match=message):
        estimate_gpu_memory_required(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("memory", "margin", "message"), [(-1.0, 0.85, "available_gpu_memory_gb"), (8.0, 1.5, "safety_margin")]
)
def test_memory_that_cannot_be_is_refused(memory: float, margin: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        suggest_batch_size((64, 64, 64), 1, 2, memory, safety_margin=margin)
