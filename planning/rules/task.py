"""What the network predicts, from what the labels are. Pure numbers.

Sources of the offsets: Lee, Zung, Li, Jain, Seung 2017, "Superhuman accuracy on the SNEMI3D connectomics
challenge" (three nearest neighbours; long range 2, 3, 4 sections and 3, 9, 27 in the plane).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

from voxplan.plans.schema import Decision, Task
from voxplan.profiling.fingerprint import LabelKind

Offset = tuple[int, int, int]

NEAREST: tuple[Offset, ...] = ((-1, 0, 0), (0, -1, 0), (0, 0, -1))
"""Affinity of a voxel to its neighbour before it on each axis, ZYX."""
LONG_RANGE_PLANE = (3, 9, 27)
"""Voxels, within a section; on all axes of isotropic data."""
LONG_RANGE_SECTIONS = (2, 3, 4)
"""Sections, across thick ones."""
ANISOTROPIC = 2.0
"""Z spacing over in-plane spacing from which sections count as thick (nnU-Net's factor for pooling)."""
OFFSET_COUNTS = (3, 12)
TASKS: tuple[str, ...] = get_args(Task)
UNLABELLED_CLASSES: dict[str, tuple[int, ...]] = {"background": (0,), "foreground": (1,)}
"""Assumed without labels, so that a plan can be made before the annotation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskChoice:
    """Task and what follows from it."""

    task: Task
    out_channels: int
    classes: dict[str, tuple[int, ...]]
    """Empty for affinity and boundary."""
    regions: bool
    """Whether classes overlap, and are trained one by one as nnU-Net's regions."""
    offsets: tuple[Offset, ...]
    decision: Decision
    warnings: tuple[str, ...] = ()
    object_ids: bool = False
    """Whether every id above 0 is the class of value 1."""


def affinity_offsets(
    count: int, *, flat: bool = False, anisotropy: float | None = None
) -> tuple[Offset, ...]:
    """Affinity offsets, ZYX, nearest first.

    Args:
        count: 3 or 12; on flat data, the in-plane ones of them.
        flat: volumes with one section.
        anisotropy: z spacing over in-plane spacing; None counts as thick sections, as EM without metadata is.

    Raises:
        ValueError: another count.
    """
    if count not in OFFSET_COUNTS:
        msg = f"affinity_offsets must be one of {OFFSET_COUNTS}, got {count}"
        raise ValueError(msg)
    thick = anisotropy is None or anisotropy >= ANISOTROPIC
    offsets = list(NEAREST)
    if count == 12:
        sections = LONG_RANGE_SECTIONS if thick else LONG_RANGE_PLANE
        for far, plane in zip(sections, LONG_RANGE_PLANE, strict=True):
            offsets += [(-far, 0, 0), (0, -plane, 0), (0, 0, -plane)]
    return tuple(offset for offset in offsets if not (flat and offset[0]))


def choose_task(
    kind: LabelKind,
    classes: Mapping[str, tuple[int, ...]],
    *,
    stated: Task | None = None,
    offset_count: int | None = None,
    flat: bool = False,
    anisotropy: float | None = None,
) -> TaskChoice:
    """The task, and what follows from it.

    Instance labels mean affinities: ids are names of objects, never classes. Classes of several label values
    are nnU-Net's regions: they overlap, and each is a channel of its own, background none.

    Raises:
        ValueError: a task that the labels cannot serve.
    """
    if stated is not None and stated not in TASKS:
        msg = f"--task must be one of {', '.join(TASKS)}, got {stated!r}"
        raise ValueError(msg)
    task: Task = stated or ("affinity" if kind == "instance" else "semantic")
    why = {
        "instance": "the labels are object ids",
        "semantic": "the labels are classes",
        "none": "there are no labels",
    }[kind]
    decision = Decision(
        by="user" if stated else "data",
        why=f"set by the user; {why}" if stated else f"{why}: {task} segmentation",
    )
    warnings = ("no case has labels: planned as if for background and one class",) if kind == "none" else ()
    if task == "affinity":
        offsets = affinity_offsets(offset_count or 3, flat=flat, anisotropy=anisotropy)
        return TaskChoice(
            task=task,
            out_channels=len(offsets),
            classes={},
            regions=False,
            offsets=offsets,
            decision=decision,
            warnings=warnings,
        )
    if task == "boundary":
        return TaskChoice(
            task=task,
            out_channels=1,
            classes={},
            regions=False,
            offsets=(),
            decision=decision,
            warnings=warnings,
        )
    return _semantic(kind, dict(classes), decision, warnings)


def _semantic(
    kind: LabelKind, classes: dict[str, tuple[int, ...]], decision: Decision, warnings: tuple[str, ...]
) -> TaskChoice:
    if kind == "instance":
        classes = dict(UNLABELLED_CLASSES)
        warnings = (
            *warnings,
            "object ids cannot be classes: trained as one class, id > 0 against background",
        )
    elif not classes:
        classes = dict(UNLABELLED_CLASSES)
    regions = any(len(values) > 1 for values in classes.values())
    background = [name for name, values in classes.items() if 0 in values]
    channels = len(classes) - (len(background) if regions else 0)
    if not regions and not background:
        channels += 1
        classes = {"background": (0,), **classes}
    return TaskChoice(
        task="semantic",
        object_ids=kind == "instance",
        out_channels=channels,
        classes=classes,
        regions=regions,
        offsets=(),
        decision=decision,
        warnings=warnings,
    )
