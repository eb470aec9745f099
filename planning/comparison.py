"""What differs between two plans files, and why, by the decisions that each holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from voxplan.plans.schema import Decision, ExperimentPlan, Model, PlansDocument

NOT_COMPARED = frozenset({"decisions", "alternatives", "warnings", "case_numbers", "splits"})
"""Explanations, and what is only ever a consequence of the data."""
ABSENT = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One value that differs."""

    where: str
    """Plan name, ``dataset`` or ``hardware``."""
    field: str
    before: str
    after: str
    why_before: str
    why_after: str


def differences(before: PlansDocument, after: PlansDocument) -> tuple[Difference, ...]:
    """All differences, the data set first, then the hardware, then plan by plan."""
    found = [
        *_compare("dataset", before.dataset, after.dataset),
        *_compare("hardware", before.hardware, after.hardware),
    ]
    for name in dict.fromkeys((*before.plans, *after.plans)):
        found += _compare(name, before.plans.get(name), after.plans.get(name))
    if before.recommended != after.recommended:
        found.append(_difference("plans", "recommended", before.recommended, after.recommended, {}, {}))
    return tuple(found)


def _compare(where: str, before: Model | None, after: Model | None) -> Iterator[Difference]:
    if before is None or after is None:
        if before is not after:
            yield _difference(where, "plan", _size(before), _size(after), {}, {})
        return
    one, other = dict(_flat(before)), dict(_flat(after))
    reasons = getattr(before, "decisions", {}), getattr(after, "decisions", {})
    for field in dict.fromkeys((*one, *other)):
        if one.get(field) != other.get(field):
            yield _difference(where, field, one.get(field), other.get(field), *reasons)


def _size(plan: Model | None) -> str | None:
    if not isinstance(plan, ExperimentPlan):
        return None
    return f"patch {_shown(plan.patch_size)}, batch {plan.batch_size}"


def _flat(model: Model, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for field in type(model).model_fields:
        if field in NOT_COMPARED:
            continue
        value = getattr(model, field)
        if isinstance(value, Model):
            yield from _flat(value, f"{prefix}{field}.")
        else:
            yield f"{prefix}{field}", value


def _difference(
    where: str, field: str, one: Any, other: Any, why_one: dict[str, Decision], why_other: dict[str, Decision]
) -> Difference:
    return Difference(
        where=where,
        field=field,
        before=_shown(one),
        after=_shown(other),
        why_before=_why(field, why_one),
        why_after=_why(field, why_other),
    )


def _why(field: str, decisions: dict[str, Decision]) -> str:
    """The decision of the field, or of the choice that it belongs to: ``optimizer.lr`` has one as ``lr``."""
    group, _, name = field.rpartition(".")
    decision = decisions.get(name) or decisions.get(group.split(".")[0]) or decisions.get(field)
    return "" if decision is None else f"[{decision.by}] {decision.why}"


def _shown(value: Any) -> str:
    if value is None:
        return ABSENT
    if isinstance(value, bool) or not isinstance(value, tuple | list | int | float):
        return str(value)
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, int):
        return f"{value / 1024**3:.2f} GiB" if value >= 1024**2 else str(value)
    return " x ".join(_shown(item) for item in value)
