"""Label maps to training targets: class indices, overlapping regions, affinities, boundaries. numpy only.

Label maps are ZYX; targets are ``(C, Z, Y, X)``. Ignored voxels are :data:`IGNORE_INDEX` in class indices and
:data:`IGNORE_BINARY` in targets of zeros and ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .schema import IGNORE_BINARY, IGNORE_INDEX, DatasetPlan

Offset = tuple[int, int, int]
Classes = Mapping[str, tuple[int, ...]]

FOREGROUND = 1
"""What object ids become where all objects are one class."""
UNKNOWN = -2
"""Marks label values that no class has, in lookup tables."""
DENSE_TABLE = 2**16
"""Span of label values from which on a lookup table is searched instead of indexed."""
LISTED_VALUES = 8
"""Unknown values that an error message lists."""


class LabelError(ValueError):
    """Label values that the plan does not know; the message names case and values."""


def class_order(classes: Classes) -> tuple[str, ...]:
    """Names in the order of the output channels: the class that holds value 0 first, then as given."""
    return tuple(sorted(classes, key=lambda name: 0 not in classes[name]))


def region_order(classes: Classes) -> tuple[str, ...]:
    """Names of the output channels for overlapping regions: all but the background, which has no channel."""
    return tuple(name for name in classes if 0 not in classes[name])


def semantic_target(
    labels: NDArray[Any], classes: Classes, *, ignore: int | None = None, case: str = "?"
) -> NDArray[np.int16]:
    """Class indices ``(1, Z, Y, X)``, in :func:`class_order`; ignored voxels :data:`IGNORE_INDEX`.

    Raises:
        LabelError: a value belongs to no class, or to two.
    """
    table: dict[int, int] = {}
    for index, name in enumerate(class_order(classes)):
        for value in classes[name]:
            if value in table:
                msg = f"label value {value} stands in two classes: overlapping regions need loss 'dice_bce'"
                raise LabelError(msg)
            table[value] = index
    if ignore is not None:
        table[ignore] = IGNORE_INDEX
    labels = integral(labels, case)
    target = _look_up(labels, table)
    _refuse_unknown(labels, target == UNKNOWN, table, case)
    return target[np.newaxis]


def region_target(
    labels: NDArray[Any], classes: Classes, *, ignore: int | None = None, case: str = "?"
) -> NDArray[np.uint8]:
    """Zeros and ones ``(regions, Z, Y, X)``, in :func:`region_order`; ignored voxels :data:`IGNORE_BINARY`.

    Raises:
        LabelError: a value belongs to no region and is not background.
    """
    labels = integral(labels, case)
    known = {0} | {value for values in classes.values() for value in values}
    if ignore is not None:
        known.add(ignore)
    _refuse_unknown(labels, ~np.isin(labels, list(known)), known, case)
    target = np.stack([np.isin(labels, classes[name]) for name in region_order(classes)]).astype(np.uint8)
    if ignore is not None:
        target[:, labels == ignore] = IGNORE_BINARY
    return target


def affinity_target(
    labels: NDArray[Any],
    offsets: Sequence[Offset],
    *,
    ignore: int | None = None,
    valid: NDArray[np.bool_] | None = None,
) -> NDArray[np.uint8]:
    """Affinities ``(len(offsets), Z, Y, X)`` of an instance label map.

    Channel ``k`` at voxel ``p`` is 1 where ``p`` and ``p + offsets[k]`` (ZYX) belong to the same object (id >
    0), else 0, and :data:`IGNORE_BINARY` where the partner lies outside the array, or either voxel is ignored
    or not ``valid``.
    """
    target = np.full((len(offsets), *labels.shape), IGNORE_BINARY, np.uint8)
    usable = _usable(labels, ignore, valid)
    for channel, offset in enumerate(offsets):
        pairs = list(zip(labels.shape, offset, strict=True))
        here: tuple[slice, ...] = tuple(slice(max(0, -o), max(0, n - max(0, o))) for n, o in pairs)
        partner: tuple[slice, ...] = tuple(slice(max(0, o), max(0, n + min(0, o))) for n, o in pairs)
        first, second = labels[here], labels[partner]
        joined = ((first == second) & (first > 0)).astype(np.uint8)
        if usable is not None:
            joined[~(usable[here] & usable[partner])] = IGNORE_BINARY
        target[channel][here] = joined
    return target


def boundary_target(
    labels: NDArray[Any], *, ignore: int | None = None, valid: NDArray[np.bool_] | None = None
) -> NDArray[np.uint8]:
    """Boundaries ``(1, Z, Y, X)`` of an instance label map.

    1 where one of the four neighbours in the plane (Y, X) has another id, so that boundaries are two voxels
    wide. Neighbours along Z do not count: in serial sections a membrane moves by many voxels from one to the
    next, and labs trace it section by section. Ignored and invalid voxels are :data:`IGNORE_BINARY`, and
    their neighbours are not compared with them.
    """
    usable = _usable(labels, ignore, valid)
    target = np.zeros(labels.shape, np.uint8)
    for axis in (1, 2):
        low: list[slice] = [slice(None)] * 3
        high = list(low)
        low[axis], high[axis] = slice(None, -1), slice(1, None)
        before, after = tuple(low), tuple(high)
        differs = labels[before] != labels[after]
        if usable is not None:
            differs &= usable[before] & usable[after]
        target[before] |= differs
        target[after] |= differs
    if usable is not None:
        target[~usable] = IGNORE_BINARY
    return target[np.newaxis]


def make_target(
    labels: NDArray[Any],
    dataset: DatasetPlan,
    *,
    regions: bool = False,
    case: str = "?",
    valid: NDArray[np.bool_] | None = None,
) -> NDArray[np.int16] | NDArray[np.uint8]:
    """The target that the dataset's task asks for.

    Args:
        labels: label map ZYX, as stored.
        dataset: task, classes, offsets and ignore label.
        regions: classes overlap (loss ``dice_bce``): zeros and ones per region instead of class indices.
        case: for error messages.
        valid: False where a patch reaches beyond its volume. Such voxels are background in semantic targets,
            as in nnU-Net's loader, and ignored in affinities and boundaries: there is no object to compare
            with.
    """
    if dataset.task == "affinity":
        return affinity_target(labels, dataset.offsets, ignore=dataset.ignore, valid=valid)
    if dataset.task == "boundary":
        return boundary_target(labels, ignore=dataset.ignore, valid=valid)
    if dataset.object_ids:
        labels = one_class(labels, dataset.ignore)
    if valid is not None:
        labels = np.where(valid, labels, labels.dtype.type(0))
    if regions:
        return region_target(labels, dataset.classes, ignore=dataset.ignore, case=case)
    return semantic_target(labels, dataset.classes, ignore=dataset.ignore, case=case)


def one_class(labels: NDArray[Any], ignore: int | None) -> NDArray[Any]:
    """Object ids as :data:`FOREGROUND` and 0; ignored voxels keep their value."""
    objects = (labels > 0).astype(np.uint8)
    if ignore is None:
        return objects
    kept = np.min_scalar_type(ignore)
    return np.where(labels == ignore, kept.type(ignore), objects.astype(np.promote_types(kept, np.uint8)))


def integral(labels: NDArray[Any], case: str) -> NDArray[Any]:
    """Labels as integers: float maps (NIfTI often has them) are converted, fractions refused."""
    if labels.dtype.kind in "iub":
        return labels
    rounded: NDArray[Any] = np.rint(labels)
    if not np.array_equal(rounded, labels):
        msg = f"case {case}: the label map holds {labels.dtype} values that are not whole numbers"
        raise LabelError(msg)
    return rounded.astype(np.int64)


def _look_up(labels: NDArray[Any], table: Mapping[int, int]) -> NDArray[np.int16]:
    """The table's entry for every voxel, :data:`UNKNOWN` where it has none."""
    values = np.array(sorted(table))
    indices = np.array([table[value] for value in values.tolist()] + [UNKNOWN], np.int16)
    low, high = int(values[0]), int(values[-1])
    inside = (labels >= low) & (labels <= high)
    if high - low >= DENSE_TABLE:
        positions = np.searchsorted(values, np.where(inside, labels, 0).astype(np.int64))
        positions = np.minimum(positions, len(values) - 1)
        return indices[np.where(inside & (values[positions] == labels), positions, len(values))]
    dense = np.full(high - low + 2, UNKNOWN, np.int16)
    dense[values - low] = indices[:-1]
    return dense[np.where(inside, labels.astype(np.int64) - low, len(dense) - 1)]


def _usable(
    labels: NDArray[Any], ignore: int | None, valid: NDArray[np.bool_] | None
) -> NDArray[np.bool_] | None:
    """Voxels that are neither ignored nor invalid; None where all are."""
    if ignore is None:
        return valid
    kept: NDArray[np.bool_] = labels != ignore
    return kept if valid is None else kept & valid


def _refuse_unknown(
    labels: NDArray[Any], unknown: NDArray[np.bool_], known: Mapping[int, int] | set[int], case: str
) -> None:
    if not unknown.any():
        return
    values = np.unique(labels[unknown])
    shown = ", ".join(str(value) for value in values[:LISTED_VALUES])
    more = f" and {len(values) - LISTED_VALUES} more" if len(values) > LISTED_VALUES else ""
    msg = (
        f"case {case}: the label map holds values that the plan does not know: {shown}{more} (known: "
        f"{', '.join(str(value) for value in sorted(known))}). Profile and plan again with this case, or "
        "correct it"
    )
    raise LabelError(msg)
