"""What the planner needs to know of the data, from a spacing and a shape or from a fingerprint; ZYX."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from voxplan.plans.schema import DatasetPlan, Decision, Task
from voxplan.profiling.fingerprint import Fingerprint
from voxplan.profiling.formats.base import UNITS_IN_MM, Unit

from ..dataset_plan import DataFacts, Triple, plan_dataset
from ..overrides import DatasetOverrides
from ..rules.task import TaskChoice
from .axes import three_numbers

DEFAULT_SHAPE = (128, 128, 128)
"""Median shape where none is stated: the documented default patch, which is also MedNeXt's own."""


def stated_facts(
    *,
    in_channels: int,
    out_channels: int,
    target_spacing: Sequence[float] | None,
    median_shape: Sequence[int] | None,
) -> DataFacts:
    """Facts from two numbers an axis. The number of cases is unknown: it limits no batch.

    Raises:
        ValueError: naming the argument that does not work.
    """
    _check_channels(in_channels, out_channels)
    choice = _task(out_channels)
    why = "stated" if median_shape is not None else "not stated: the documented default"
    plan = DatasetPlan(
        name="stated",
        task=choice.task,
        channel_names=tuple(f"channel_{index}" for index in range(in_channels)),
        classes=choice.classes,
        ignore=None,
        out_channels=out_channels,
        target_spacing=None if target_spacing is None else checked_spacing(target_spacing),
        spacing_unit="unknown",
        median_shape=DEFAULT_SHAPE if median_shape is None else checked_shape(median_shape),
        normalization=(),
        case_numbers={},
        splits=(),
        decisions={
            "median_shape": Decision(by="rule" if median_shape is None else "user", why=why),
            "task": choice.decision,
        },
    )
    return DataFacts(
        plan=plan,
        task=choice,
        voxels=sys.maxsize,
        uncompressed_bytes=0,
        compressed_streams=False,
        flat=False,
    )


def profiled_facts(
    fingerprint: Fingerprint,
    *,
    in_channels: int | None,
    out_channels: int | None,
    target_spacing: Sequence[float] | None,
    unit: Unit | None,
    median_shape: Sequence[int] | None,
) -> DataFacts:
    """Facts from a profile; what is stated wins.

    Args:
        fingerprint: of the data set.
        in_channels: None takes the data's.
        out_channels: None takes what the labels' kind asks for.
        target_spacing: to resample to; where no file knows its spacing, the spacing of all files.
        unit: of ``target_spacing``; None means the data set's own.
        median_shape: at that spacing.

    Raises:
        ValueError: naming the argument that does not work.
    """
    spacing = None if target_spacing is None else checked_spacing(target_spacing)
    if fingerprint.summary.spacing is None and spacing is not None:
        facts = plan_dataset(fingerprint, spacing=spacing, unit=unit)
    else:
        own = fingerprint.summary.spacing_unit
        if spacing is not None:
            spacing = _converted(spacing, unit, own)
        facts = plan_dataset(fingerprint, overrides=DatasetOverrides(target_spacing=spacing))
    plan = facts.plan
    changes: dict[str, object] = {}
    if median_shape is not None:
        changes["median_shape"] = checked_shape(median_shape)
    wanted_in = plan.in_channels if in_channels is None else in_channels
    wanted_out = plan.out_channels if out_channels is None else out_channels
    _check_channels(wanted_in, wanted_out)
    if wanted_in != plan.in_channels:
        changes["channel_names"] = tuple(f"channel_{index}" for index in range(wanted_in))
    if wanted_out != plan.out_channels:
        choice = _task(wanted_out)
        facts = replace(facts, task=choice)
        changes |= {
            "task": choice.task,
            "classes": choice.classes,
            "object_ids": choice.object_ids,
            "offsets": (),
            "out_channels": wanted_out,
        }
    return replace(facts, plan=plan.model_copy(update=changes))


def checked_spacing(values: Sequence[float]) -> Triple:
    """Three positive numbers.

    Raises:
        ValueError: anything else.
    """
    numbers = three_numbers(values)
    if numbers is None or not all(0 < value < float("inf") for value in numbers):
        msg = f"target_spacing must be three positive numbers (ZYX), got {_shown(values)}"
        raise ValueError(msg)
    return numbers


def checked_shape(values: Sequence[int]) -> tuple[int, int, int]:
    """Three positive whole numbers.

    Raises:
        ValueError: anything else.
    """
    numbers = three_numbers(values)
    if numbers is None or not all(value > 0 and value.is_integer() for value in numbers):
        msg = f"median_shape must be three positive whole numbers (ZYX), got {_shown(values)}"
        raise ValueError(msg)
    z, y, x = (int(value) for value in numbers)
    return z, y, x


def _shown(values: Any) -> str:
    return str(list(values)) if isinstance(values, list | tuple) else repr(values)


def _converted(spacing: Triple, unit: Unit | None, own: Unit) -> Triple:
    if unit is None or unit == own:
        return spacing
    if unit not in UNITS_IN_MM or own not in UNITS_IN_MM:
        msg = f"target_spacing is in {unit}, but the unit of the data set's spacing is {own}: cannot compare"
        raise ValueError(msg)
    scale = UNITS_IN_MM[unit] / UNITS_IN_MM[own]
    z, y, x = (value * scale for value in spacing)
    return z, y, x


def _check_channels(in_channels: int, out_channels: int) -> None:
    for name, value in (("in_channels", in_channels), ("out_channels", out_channels)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            msg = f"{name} must be a positive whole number, got {value!r}"
            raise ValueError(msg)


def _task(out_channels: int) -> TaskChoice:
    """Classes, background included; one channel alone is a binary map."""
    task: Task = "semantic" if out_channels > 1 else "boundary"
    names = ("background", *(f"class_{index}" for index in range(1, out_channels)))
    classes: dict[str, tuple[int, ...]] = {}
    if out_channels > 1:
        classes = {name: (value,) for value, name in enumerate(names)}
    return TaskChoice(
        task=task,
        out_channels=out_channels,
        classes=classes,
        regions=False,
        offsets=(),
        decision=Decision(by="user", why=f"{out_channels} output channels, as stated"),
    )
