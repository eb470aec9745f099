"""What a user may set instead of the planner, in the documented words, as overrides of the one planner."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from voxplan.plans.schema import Precision

from ..overrides import OverrideError, PlanOverrides

FIELDS = {
    "patch_size": "patch_size",
    "batch_size": "batch_size",
    "num_workers": "workers",
    "precision": "precision",
    "accumulate_grad_batches": "accumulation",
    "lr": "lr",
}
"""Documented name to that of :class:`~voxplan.planning.overrides.PlanOverrides`."""

PRECISIONS: dict[str, Precision] = {
    "16-mixed": "fp16",
    "16": "fp16",
    "fp16": "fp16",
    "bf16-mixed": "bf16",
    "bf16": "bf16",
    "32-true": "fp32",
    "32": "fp32",
    "fp32": "fp32",
    "tf32": "tf32",
}
"""Lightning's names, and ours."""


def check_override_names(overrides: Mapping[str, Any]) -> None:
    """Refuse what is not known.

    Raises:
        OverrideError: with the known ones.
    """
    unknown = [str(key) for key in overrides if key not in FIELDS]
    if unknown:
        msg = f"unknown override {', '.join(map(repr, unknown))}; known ones: {', '.join(FIELDS)}"
        raise OverrideError(msg)


def plan_overrides(overrides: Mapping[str, Any], **further: Any) -> PlanOverrides:
    """The documented overrides, and ``further`` ones by the planner's own names; None means unset.

    Raises:
        OverrideError: an unknown name, or a value that cannot be.
    """
    check_override_names(overrides)
    values: dict[str, Any] = {key: value for key, value in further.items() if value is not None}
    for name, value in overrides.items():
        if value is None:
            continue
        if isinstance(value, bool):
            msg = f"override {name}={value!r}: expected a value, not yes or no"
            raise OverrideError(msg)
        if name == "patch_size":
            value = _patch(value)
        values[FIELDS[name]] = _precision(value) if name == "precision" else value
    try:
        return PlanOverrides(**values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = str(first["loc"][0])
        name = next((known for known, own in FIELDS.items() if own == field), field)
        msg = f"override {name}={values[field]!r}: {first['msg']}"
        raise OverrideError(msg) from None


def _patch(value: Any) -> tuple[Any, ...]:
    if isinstance(value, str) or not hasattr(value, "__len__") or len(value) != 3:
        msg = f"override patch_size={value!r}: expected three whole numbers (ZYX)"
        raise OverrideError(msg)
    return tuple(value)


def _precision(value: Any) -> Precision:
    known = PRECISIONS.get(str(value))
    if known is None:
        msg = f"override precision={value!r}: expected one of {', '.join(PRECISIONS)}"
        raise OverrideError(msg)
    return known
