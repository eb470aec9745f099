"""What differs between two plans files, and why, by the decisions that each holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from voxplan.plans.schema import Decision, ExperimentPlan, Gpu, Model, PlansDocument

NOT_COMPARED = frozenset({"decisions", "alternatives", "warnings", "case_numbers", "splits"})
"""Explanations, and what is only ever a consequence of the data."""
ABSENT = "-"
MIB, GIB = 1024**2, 1024**3
BYTE_FIELDS = frozenset({"memory", "ram", "ram_available", "shared_memory", "total_memory", "free_memory"})
"""Last parts of the names of fields that count bytes; so does all of a plan's ``memory``."""


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


def _flat(value: Model | Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of a model or mapping, by its dotted name."""
    named = (
        value.items()
        if isinstance(value, Mapping)
        else ((name, getattr(value, name)) for name in _fields(value))
    )
    for name, item in named:
        if name in NOT_COMPARED:
            continue
        if isinstance(item, Model | Mapping):
            yield from _flat(item, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", item


def _fields(model: Model) -> tuple[str, ...]:
    return tuple(type(model).model_fields)


def _difference(
    where: str, field: str, one: Any, other: Any, why_one: dict[str, Decision], why_other: dict[str, Decision]
) -> Difference:
    before, after = _shown(one, field), _shown(other, field)
    if before == after and _is_bytes(field):  # rounded to the same
        before, after = (ABSENT if count is None else f"{count:,} bytes" for count in (one, other))
    return Difference(
        where=where,
        field=field,
        before=before,
        after=after,
        why_before=_why(field, why_one),
        why_after=_why(field, why_other),
    )


def _why(field: str, decisions: Mapping[str, Decision]) -> str:
    """The decision of the field, or of the choice that it belongs to.

    ``inference.overlap`` has one as ``inference_overlap`` or as ``inference``, ``optimizer.lr`` as ``lr``;
    but ``inference.batch_size`` is not the training batch, nor ``limits.batch_size``.
    """
    group, _, name = field.rpartition(".")
    own = () if group and name in ExperimentPlan.model_fields else (name,)
    for key in (field.replace(".", "_"), *own, group.partition(".")[0]):
        decision = decisions.get(key)
        if decision is not None:
            return f"[{decision.by}] {decision.why}"
    return ""


def _is_bytes(field: str) -> bool:
    """Whether the number of a field, by its dotted name, counts bytes."""
    return field.rpartition(".")[2] in BYTE_FIELDS or (
        field.startswith("memory.") and not field.endswith(("batch_size", "steps"))
    )


def _shown(value: Any, field: str = "") -> str:
    """A value for people: sizes as ``48 x 176 x 176``, bytes in GiB or MiB, a card by name and memory."""
    if value is None:
        return ABSENT
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Gpu):
        return f"{value.name} ({value.total_memory / GIB:.1f} GiB)"
    if isinstance(value, Model):
        return f"({', '.join(f'{name}={_shown(item)}' for name, item in _flat(value) if item is not None)})"
    if isinstance(value, int) and _is_bytes(field):
        return _bytes(value)
    if isinstance(value, int | float):
        return f"{value:g}" if isinstance(value, float) else f"{value:,}"
    if isinstance(value, tuple | list):
        return _listed(value, field)
    return str(value)


def _bytes(count: int) -> str:
    if count >= GIB / 10:
        return f"{count / GIB:.2f} GiB"
    return f"{count / MIB:.1f} MiB" if count >= MIB / 10 else f"{count:,} bytes"


def _listed(values: Sequence[Any], field: str) -> str:
    """Sizes and spacings with ``x``; other numbers, such as weights and channels, with commas."""
    if not values:
        return "none"
    if all(isinstance(item, int | float) for item in values):
        commas = field.endswith(("weights", "features", "betas"))
        return (", " if commas else " x ").join(map(_shown, values))
    return ", ".join(
        f"({_shown(item)})" if isinstance(item, tuple | list) else _shown(item) for item in values
    )
