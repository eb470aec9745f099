"""The contract of ``base.py``, over the registry: a new architecture is tested the day it is added."""

from __future__ import annotations

import functools
import itertools
import json
import math
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from voxplan.plans.architectures import ARCHITECTURES, Architecture, get_architecture

IN_CHANNELS, OUT_CHANNELS = 2, 3
SLOW_VARIANTS = {name for name in ARCHITECTURES if name.startswith("mednext_")} - {"mednext_s"}
"""Same code as ``mednext_s`` and, like all, stepped in 2D: in 3D only their shapes are checked, on meta."""

SPACINGS = {2: (None, (1.0, 2.5)), 3: (None, (45.0, 4.6, 4.6))}
CASES = [
    pytest.param(
        name, dimensions, spacing, id=f"{name}-{dimensions}d-{'unknown' if spacing is None else 'aniso'}"
    )
    for name, architecture in ARCHITECTURES.items()
    for dimensions in architecture.dimensions
    for spacing in SPACINGS[dimensions]
    if spacing is None
    or architecture.topology((20, 64, 64)[-dimensions:], spacing)
    != architecture.topology((20, 64, 64)[-dimensions:], None)
]
every_case = pytest.mark.parametrize(("name", "dimensions", "spacing"), CASES)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def arguments_for(
    architecture: Architecture, dimensions: int, spacing: tuple[float, ...] | None
) -> dict[str, object]:
    return architecture.topology((20, 64, 64)[-dimensions:], spacing)


def build(
    architecture: Architecture, arguments: dict[str, object], dimensions: int, device: str
) -> nn.Module:
    with torch.device(device):
        return architecture.build(
            arguments,
            dimensions=dimensions,
            in_channels=IN_CHANNELS,
            out_channels=OUT_CHANNELS,
            deep_supervision=architecture.deep_supervision,
        )


@functools.cache
def meta_network(name: str, dimensions: int, spacing: tuple[float, ...] | None) -> nn.Module:
    architecture = get_architecture(name)
    return build(architecture, arguments_for(architecture, dimensions, spacing), dimensions, "meta")


def step(network: nn.Module, batch: int, patch: tuple[int, ...], device: str) -> list[torch.Tensor]:
    """Training forward and, but for meta tensors, backward of all outputs."""
    outputs = network.train()(torch.randn(batch, IN_CHANNELS, *patch, device=device))
    outputs = outputs if isinstance(outputs, list) else [outputs]
    if device != "meta":
        torch.stack([output.square().mean() for output in outputs]).sum().backward()
    return outputs


@every_case
def test_a_step_on_the_minimum_patch(name: str, dimensions: int, spacing: tuple[float, ...] | None) -> None:
    architecture = get_architecture(name)
    arguments = arguments_for(architecture, dimensions, spacing)
    patch = architecture.minimum_patch(arguments, dimensions)
    architecture.validate(arguments, dimensions=dimensions, patch_size=patch)
    device = "meta" if dimensions == 3 and name in SLOW_VARIANTS else "cpu"
    network = (
        build(architecture, arguments, dimensions, device)
        if device == "cpu"
        else meta_network(name, dimensions, spacing)
    )
    outputs = step(network, 1, patch, device)
    expected = [
        (1, OUT_CHANNELS, *(size // factor for size, factor in zip(patch, scale, strict=True)))
        for scale in architecture.deep_supervision_scales(arguments, dimensions)
    ]
    assert [tuple(output.shape) for output in outputs] == expected
    if device == "cpu":
        assert [key for key, parameter in network.named_parameters() if parameter.grad is None] == []
        assert all(torch.isfinite(parameter.grad).all() for parameter in network.parameters())


@every_case
def test_one_more_divisor_on_any_axis_works(
    name: str, dimensions: int, spacing: tuple[float, ...] | None
) -> None:
    architecture = get_architecture(name)
    arguments = arguments_for(architecture, dimensions, spacing)
    divisors = architecture.divisors(arguments, dimensions)
    minimum = architecture.minimum_patch(arguments, dimensions)
    network = meta_network(name, dimensions, spacing).eval()
    together = [set(range(dimensions))] if name in SLOW_VARIANTS else [{axis} for axis in range(dimensions)]
    for axes in together:
        patch = tuple(size + divisors[axis] * (axis in axes) for axis, size in enumerate(minimum))
        architecture.validate(arguments, dimensions=dimensions, patch_size=patch)
        output = network(torch.empty(3, IN_CHANNELS, *patch, device="meta"))
        assert tuple(output.shape) == (3, OUT_CHANNELS, *patch)


@every_case
def test_the_divisor_is_needed(name: str, dimensions: int, spacing: tuple[float, ...] | None) -> None:
    architecture = get_architecture(name)
    arguments = arguments_for(architecture, dimensions, spacing)
    divisors = architecture.divisors(arguments, dimensions)
    minimum = architecture.minimum_patch(arguments, dimensions)
    network = meta_network(name, dimensions, spacing).eval()
    for axis, divisor in enumerate(divisors):
        if divisor == 1:
            continue
        patch = tuple(size + divisor // 2 * (i == axis) for i, size in enumerate(minimum))
        with pytest.raises(ValueError, match=f"axis {axis}.*multiple of {divisor}"):
            architecture.validate(arguments, dimensions=dimensions, patch_size=patch)
        if name != "basic_unet":  # which pads; MONAI recommends the divisor
            with pytest.raises(RuntimeError):
                network(torch.empty(1, IN_CHANNELS, *patch, device="meta"))


@every_case
def test_less_than_the_minimum_is_refused(
    name: str, dimensions: int, spacing: tuple[float, ...] | None
) -> None:
    architecture = get_architecture(name)
    arguments = arguments_for(architecture, dimensions, spacing)
    divisors = architecture.divisors(arguments, dimensions)
    minimum = architecture.minimum_patch(arguments, dimensions)
    patch = (*minimum[:-1], minimum[-1] - divisors[-1])
    with pytest.raises(ValueError, match=f"at least {minimum[-1]}"):
        architecture.validate(arguments, dimensions=dimensions, patch_size=patch)
    with pytest.raises(ValueError, match=f"must have {dimensions} axes"):
        architecture.validate(arguments, dimensions=dimensions, patch_size=(*minimum, 32))
    with pytest.raises(ValueError, match="dimensions must be one of"):
        architecture.validate(arguments, dimensions=4, patch_size=minimum)


@every_case
def test_voxels_are_left_at_the_bottleneck(
    name: str, dimensions: int, spacing: tuple[float, ...] | None
) -> None:
    architecture = get_architecture(name)
    arguments = arguments_for(architecture, dimensions, spacing)
    ratio = [
        size / divisor
        for size, divisor in zip(
            architecture.minimum_patch(arguments, dimensions),
            architecture.divisors(arguments, dimensions),
            strict=True,
        )
    ]
    assert math.prod(ratio) > 1


@every_case
def test_arguments_survive_json(name: str, dimensions: int, spacing: tuple[float, ...] | None) -> None:
    architecture = get_architecture(name)
    arguments = arguments_for(architecture, dimensions, spacing)
    again = json.loads(json.dumps(arguments))
    assert again == arguments
    assert architecture.validate_arguments(again, dimensions=dimensions) == architecture.validate_arguments(
        arguments, dimensions=dimensions
    )


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_unknown_arguments_are_refused_and_the_known_listed(name: str) -> None:
    architecture = get_architecture(name)
    arguments = {**architecture.topology((64, 64, 64), None), "_target_": "os.system"}
    with pytest.raises(ValueError, match=rf"{name}.*_target_.*known arguments: (none|\w+)"):
        architecture.build(arguments, dimensions=3, in_channels=1, out_channels=2)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_evaluation_gives_one_tensor(name: str) -> None:
    architecture = get_architecture(name)
    patch = architecture.minimum_patch(arguments_for(architecture, 2, None), 2)
    output = meta_network(name, 2, None).eval()(torch.empty(1, IN_CHANNELS, *patch, device="meta"))
    assert isinstance(output, torch.Tensor)
    assert output.shape == (1, OUT_CHANNELS, *patch)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_weights_are_one_an_output_and_halve(name: str) -> None:
    architecture = get_architecture(name)
    arguments = architecture.topology((64, 64, 64), None)
    weights = architecture.deep_supervision_weights(arguments, 3)
    assert len(weights) == len(architecture.deep_supervision_scales(arguments, 3))
    assert math.isclose(sum(weights), 1)
    for finer, coarser in itertools.pairwise(weights):
        assert coarser in (0, finer / 2)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_identity_and_recipe(name: str) -> None:
    architecture = get_architecture(name)
    assert architecture.name == name
    assert architecture.title
    for dimensions in architecture.dimensions:
        recipe = architecture.recipe(dimensions)
        assert len(recipe.source) > 40
        assert recipe.precisions[-1] == "fp32"  # the one that all hardware has
        assert len(set(recipe.precisions)) == len(recipe.precisions)
        assert recipe.epochs * recipe.steps_per_epoch > 0


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if ARCHITECTURES[name].smaller])
def test_the_smaller_variant_is_registered_and_smaller(name: str) -> None:
    architecture = get_architecture(name)
    assert architecture.smaller is not None
    sizes = []
    for variant in (name, architecture.smaller):
        network = meta_network(variant, 3, None)
        sizes.append(sum(parameter.numel() for parameter in network.parameters()))
    assert sizes[1] < sizes[0]


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if not ARCHITECTURES[name].deep_supervision])
def test_no_deep_supervision_is_one_output_of_weight_one(name: str) -> None:
    architecture = get_architecture(name)
    assert architecture.deep_supervision_scales(architecture.topology((64, 64), None), 2) == ((1, 1),)
    assert architecture.deep_supervision_weights(architecture.topology((64, 64), None), 2) == (1.0,)


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(ValueError, match=r"unknown architecture 'os.system'; known: unet, resenc_unet"):
        get_architecture("os.system")
