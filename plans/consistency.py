"""What the fields of a plans file must say about each other, beyond their types. No torch here."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from voxplan.profiling.formats.base import printable

from .architectures import get_architecture
from .domains import domain_problems
from .schema import DatasetPlan, ExperimentPlan, PlansDocument

WEIGHTS_TOLERANCE = 1e-6
"""Deep-supervision weights sum to 1 within this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong with a plans file."""

    location: str
    """Dotted path of the field, empty for the file as a whole."""
    message: str
    kind: str
    """Short word for programs: ``version``, ``patch-size``, or pydantic's error type."""

    def __str__(self) -> str:
        return printable(f"{self.location}: {self.message}" if self.location else self.message)


def consistency_problems(document: PlansDocument) -> list[Problem]:
    """All contradictions in a document whose types are right."""
    problems = [
        Problem(location=location, message=message, kind="value")
        for location, message in domain_problems(document)
    ]
    problems.extend(_dataset_problems(document.dataset))
    for name, plan in document.plans.items():
        problems.extend(_plan_problems(plan, document.dataset, f"plans.{name}"))
    if document.recommended is not None and document.recommended not in document.plans:
        problems.append(
            Problem(
                location="recommended",
                message=f"{document.recommended!r} is not among the plans: {', '.join(document.plans)}",
                kind="recommended",
            )
        )
    return problems


def _dataset_problems(dataset: DatasetPlan) -> Iterator[Problem]:
    """Normalization, classes, offsets and splits."""
    where = "dataset"
    if len(dataset.normalization) != dataset.in_channels:
        message = f"must have one entry a channel ({dataset.in_channels}), got {len(dataset.normalization)}"
        yield Problem(location=f"{where}.normalization", message=message, kind="channels")
    for index, channel in enumerate(dataset.normalization):
        if channel.scheme == "scale" and (
            channel.low is None or channel.high is None or channel.low >= channel.high
        ):
            message = f"scheme 'scale' needs low < high, got {channel.low} and {channel.high}"
            yield Problem(location=f"{where}.normalization.{index}", message=message, kind="normalization")
        if channel.scheme == "ct" and None in (channel.mean, channel.std, channel.low, channel.high):
            message = "scheme 'ct' needs mean, std, low and high"
            yield Problem(location=f"{where}.normalization.{index}", message=message, kind="normalization")
    if dataset.task == "affinity" and len(dataset.offsets) != dataset.out_channels:
        message = f"must have one offset a channel ({dataset.out_channels}), got {len(dataset.offsets)}"
        yield Problem(location=f"{where}.offsets", message=message, kind="offsets")
    if sorted(dataset.transpose) != [0, 1, 2]:
        message = f"must be a permutation of 0, 1, 2, got {dataset.transpose}"
        yield Problem(location=f"{where}.transpose", message=message, kind="transpose")


def _plan_problems(plan: ExperimentPlan, dataset: DatasetPlan, where: str) -> Iterator[Problem]:
    """One plan against its architecture and the data set."""
    try:
        architecture = get_architecture(plan.architecture.name)
    except ValueError as error:
        yield Problem(location=f"{where}.architecture.name", message=str(error), kind="architecture")
        return
    arguments = plan.architecture.arguments
    try:
        architecture.validate_arguments(arguments, dimensions=plan.dimensions)
    except ValueError as error:
        yield Problem(location=f"{where}.architecture.arguments", message=str(error), kind="arguments")
        return
    try:
        architecture.validate(arguments, dimensions=plan.dimensions, patch_size=plan.patch_size)
    except ValueError as error:
        yield Problem(location=f"{where}.patch_size", message=str(error), kind="patch-size")
    yield from _supervision_problems(plan, where)
    for field in ("spacing", "median_shape"):
        value = getattr(plan, field)
        if value is not None and len(value) != plan.dimensions:
            message = f"must have {plan.dimensions} axes, got {value}"
            yield Problem(location=f"{where}.{field}", message=message, kind="axes")
    if len(plan.inference.window) != plan.dimensions:
        message = f"must have {plan.dimensions} axes, got {plan.inference.window}"
        yield Problem(location=f"{where}.inference.window", message=message, kind="axes")
    if plan.global_batch_size % plan.batch_size:
        message = f"must be a multiple of batch_size {plan.batch_size}, got {plan.global_batch_size}"
        yield Problem(location=f"{where}.global_batch_size", message=message, kind="batch-size")
    if (plan.loss.name == "bce") == (dataset.task == "semantic"):
        message = f"{plan.loss.name!r} does not fit the task {dataset.task!r}"
        yield Problem(location=f"{where}.loss.name", message=message, kind="loss")
    channels = _semantic_channels(plan, dataset)
    if channels not in (None, dataset.out_channels):
        message = f"must be {channels} for the {len(dataset.classes)} classes, got {dataset.out_channels}"
        yield Problem(location="dataset.out_channels", message=message, kind="channels")
    if plan.checkpointing and not architecture.checkpointing:
        message = f"{architecture.name} has no gradient checkpointing"
        yield Problem(location=f"{where}.checkpointing", message=message, kind="checkpointing")


def _semantic_channels(plan: ExperimentPlan, dataset: DatasetPlan) -> int | None:
    """Channels that the classes need: one each, of overlapping regions none for the background."""
    if plan.loss.name == "dice_ce":
        return len(dataset.classes)
    if plan.loss.name == "dice_bce":
        return sum(0 not in values for values in dataset.classes.values())
    return None


def _supervision_problems(plan: ExperimentPlan, where: str) -> Iterator[Problem]:
    """One loss weight an output, together 1."""
    architecture = get_architecture(plan.architecture.name)
    outputs = 1
    if plan.deep_supervision and not architecture.deep_supervision:
        message = f"{architecture.name} has no deep-supervision outputs"
        yield Problem(location=f"{where}.deep_supervision", message=message, kind="deep-supervision")
    elif plan.deep_supervision:
        outputs = len(architecture.deep_supervision_scales(plan.architecture.arguments, plan.dimensions))
    weights = plan.loss.deep_supervision_weights
    if len(weights) != outputs:
        message = f"must have one weight an output ({outputs}), got {len(weights)}"
    elif min(weights) < 0 or not math.isclose(sum(weights), 1, abs_tol=WEIGHTS_TOLERANCE):
        message = f"must not be negative and sum to 1, got {weights}"
    else:
        return
    location = f"{where}.loss.deep_supervision_weights"
    yield Problem(location=location, message=message, kind="deep-supervision")
