"""What nnU-Net would silently misread in a plans file, found before it is written.

nnU-Net turns a misspelt operator into None, merges ``inherits_from`` shallowly, and fails late, on the first
batch, over a patch that the strides do not divide.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..rules.normalization import NNUNET_SCHEMES

MEDNEXT = "voxplan.planning.export.nnunet_networks.MedNeXt"
UNETS = "dynamic_network_architectures.architectures.unet."
MINIMUM_STAGES = 3
"""nnU-Net's trainer takes targets for at least two decoder resolutions."""

_COMMON = frozenset(
    {
        "n_stages",
        "features_per_stage",
        "conv_op",
        "kernel_sizes",
        "strides",
        "n_conv_per_stage_decoder",
        "conv_bias",
        "norm_op",
        "norm_op_kwargs",
        "dropout_op",
        "dropout_op_kwargs",
        "nonlin",
        "nonlin_kwargs",
    }
)
ARGUMENTS = {
    f"{UNETS}PlainConvUNet": _COMMON | {"n_conv_per_stage"},
    f"{UNETS}ResidualEncoderUNet": _COMMON | {"n_blocks_per_stage"},
    MEDNEXT: frozenset({"variant", "strides", "checkpointing"}),
}
"""Exact ``arch_kwargs`` of each network: a missing or an unknown one raises inside nnU-Net."""
OPERATORS = ("conv_op", "norm_op", "dropout_op", "nonlin")
NONLINEARITIES = frozenset(
    f"torch.nn.{name}" for name in ("LeakyReLU", "ReLU", "GELU", "SiLU", "ELU", "PReLU")
)
PREPROCESSORS = frozenset({"DefaultPreprocessor"})
RESAMPLERS = frozenset({"resample_data_or_seg_to_shape", "resample_torch_fornnunet", "no_resampling_hack"})
REQUIRED = (
    "data_identifier",
    "preprocessor_name",
    "batch_size",
    "patch_size",
    "median_image_size_in_voxels",
    "spacing",
    "normalization_schemes",
    "use_mask_for_norm",
    "resampling_fn_data",
    "resampling_fn_seg",
    "resampling_fn_probabilities",
    "architecture",
    "batch_dice",
)


class NnunetPlansError(ValueError):
    """A plans file that nnU-Net would misread; ``problems`` lists every fault found."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("nnU-Net would misread these plans: " + "; ".join(problems))


def check_nnunet_plans(plans: Mapping[str, Any]) -> None:
    """Check a whole plans document.

    Raises:
        NnunetPlansError: with all faults, each with its configuration, field and value.
    """
    problems = list(_check_axes(plans))
    configurations = plans.get("configurations", {})
    if not configurations:
        problems.append("configurations: there is none")
    for name, configuration in configurations.items():
        try:
            resolved = _inherit(name, configurations)
        except KeyError as error:
            problems.append(f"{name}.inherits_from: there is no configuration {error}")
            continue
        stage = configuration.get("previous_stage")
        if stage is not None and stage not in configurations:
            problems.append(f"{name}.previous_stage: there is no configuration {stage!r}")
        problems += [f"{name}.{problem}" for problem in _check_configuration(resolved)]
    if problems:
        raise NnunetPlansError(problems)


def _inherit(name: str, configurations: Mapping[str, Any], seen: tuple[str, ...] = ()) -> dict[str, Any]:
    """A configuration with what it inherits, merged shallowly as nnU-Net does."""
    if name not in configurations or name in seen:
        raise KeyError(name)
    own = dict(configurations[name])
    parent = own.get("inherits_from")
    return own if parent is None else {**_inherit(parent, configurations, (*seen, name)), **own}


def _check_axes(plans: Mapping[str, Any]) -> list[str]:
    forward, backward = list(plans.get("transpose_forward", ())), list(plans.get("transpose_backward", ()))
    if sorted(forward) != [0, 1, 2] or [forward.index(axis) for axis in range(3)] != backward:
        return [f"transpose_forward {forward} and transpose_backward {backward} must undo each other"]
    return []


def _check_configuration(configuration: Mapping[str, Any]) -> list[str]:
    missing = [key for key in REQUIRED if key not in configuration]
    if missing:
        return [f"{key}: is missing" for key in missing]
    problems = []
    patch, spacing = configuration["patch_size"], configuration["spacing"]
    if len(patch) != len(spacing) or len(patch) not in (2, 3):
        problems.append(f"patch_size {patch} and spacing {spacing} must have the same two or three axes")
    if not all(math.isfinite(value) and value > 0 for value in spacing):
        problems.append(f"spacing: must be positive, got {spacing}")
    batch = configuration["batch_size"]
    if not isinstance(batch, int) or batch < 1:
        problems.append(f"batch_size: must be a whole number of at least 1, got {batch!r}")
    if configuration["preprocessor_name"] not in PREPROCESSORS:
        problems.append(f"preprocessor_name: {configuration['preprocessor_name']!r} is not nnU-Net's")
    for key in ("resampling_fn_data", "resampling_fn_seg", "resampling_fn_probabilities"):
        if configuration[key] not in RESAMPLERS:
            problems.append(f"{key}: {configuration[key]!r} is not one of {', '.join(sorted(RESAMPLERS))}")
    known = sorted(set(NNUNET_SCHEMES.values()))
    problems += [
        f"normalization_schemes: {scheme!r} is not one of {', '.join(known)}"
        for scheme in configuration["normalization_schemes"]
        if scheme not in known
    ]
    if len(configuration["normalization_schemes"]) != len(configuration["use_mask_for_norm"]):
        problems.append("use_mask_for_norm: must have one entry a channel, as normalization_schemes")
    return problems + _check_network(configuration["architecture"], patch)


def _check_network(architecture: Mapping[str, Any], patch: Sequence[int]) -> list[str]:
    network = architecture.get("network_class_name")
    if network not in ARGUMENTS:
        return [f"architecture.network_class_name: {network!r} is not one of {', '.join(ARGUMENTS)}"]
    arguments = architecture.get("arch_kwargs", {})
    odd = sorted(ARGUMENTS[network] ^ arguments.keys())
    if odd:
        return [f"architecture.arch_kwargs: {key} is missing or unknown to {network}" for key in odd]
    problems = _check_stages(arguments, patch)
    if network != MEDNEXT:
        problems += _check_operators(arguments, len(patch))
        problems += _check_lengths(arguments)
        absent = [key for key in OPERATORS if key not in architecture.get("_kw_requires_import", ())]
        problems += [f"architecture._kw_requires_import: {key} is missing" for key in absent]
    return problems


def _check_stages(arguments: Mapping[str, Any], patch: Sequence[int]) -> list[str]:
    strides = arguments["strides"]
    if len(strides) < MINIMUM_STAGES:
        return [f"strides: nnU-Net's trainer needs at least {MINIMUM_STAGES} stages, got {len(strides)}"]
    if any(len(stride) != len(patch) for stride in strides):
        return [f"strides: every stage must have {len(patch)} axes, got {strides}"]
    divisors = [math.prod(steps) for steps in zip(*strides, strict=True)]
    problems = [
        f"patch_size: {size} on axis {axis} is not a multiple of {divisor}, the product of its strides"
        for axis, (size, divisor) in enumerate(zip(patch, divisors, strict=True))
        if size < 1 or size % divisor
    ]
    if all(size == divisor for size, divisor in zip(patch, divisors, strict=True)):
        problems.append(
            f"patch_size: {list(patch)} leaves one voxel at the bottleneck, too few for instance norm"
        )
    return problems


def _check_operators(arguments: Mapping[str, Any], dimensions: int) -> list[str]:
    allowed: dict[str, set[str | None]] = {
        "conv_op": {f"torch.nn.modules.conv.Conv{dimensions}d"},
        "norm_op": {f"torch.nn.modules.instancenorm.InstanceNorm{dimensions}d"},
        "dropout_op": {None, f"torch.nn.modules.dropout.Dropout{dimensions}d"},
        "nonlin": set(NONLINEARITIES),
    }
    return [
        f"architecture.arch_kwargs.{key}: {arguments[key]!r} is not {_either(values)}, and nnU-Net takes "
        "an operator that it cannot find for None"
        for key, values in allowed.items()
        if arguments[key] not in values
    ]


def _either(values: set[str | None]) -> str:
    return " or ".join(sorted(str(value) for value in values))


def _check_lengths(arguments: Mapping[str, Any]) -> list[str]:
    stages = len(arguments["strides"])
    problems = []
    if arguments["n_stages"] != stages:
        problems.append(f"n_stages: is {arguments['n_stages']}, but there are {stages} strides")
    for key in ("features_per_stage", "kernel_sizes", "n_conv_per_stage", "n_blocks_per_stage"):
        if key in arguments and len(arguments[key]) != stages:
            problems.append(f"{key}: must have {stages} entries, one a stage, got {len(arguments[key])}")
    if len(arguments["n_conv_per_stage_decoder"]) != stages - 1:
        problems.append(f"n_conv_per_stage_decoder: must have {stages - 1} entries, one a decoder stage")
    if any(edge % 2 == 0 for kernel in arguments["kernel_sizes"] for edge in kernel):
        problems.append(f"kernel_sizes: must be odd, got {arguments['kernel_sizes']}")
    return problems
