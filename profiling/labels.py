"""What a label map holds: voxels per value while values are few, sizes of objects where they are many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from .codec import dtype_of
from .counting import count_distinct, count_runs, decode, encode, merge_counts, places_in_use
from .dense import count_dense
from .fingerprint import LabelKind, ObjectStatistics

MAX_CLASS_VALUES = 4096
"""Values up to which a case keeps its table of voxels per value.

The finest atlases in use have fewer (Allen CCF 2017 about 1,300; FreeSurfer's table about 1,300), and 10,000
cases with full tables still fit into memory.
"""
MAX_SEMANTIC_VALUES = 256
"""Values of a whole data set up to which labels are taken for classes: what nnU-Net's users train on."""
MIN_COUNTED_OBJECTS = 20
"""Ids from 1 to at least this, in every case to another end, are taken for a count of objects."""

_PENDING = 1 << 19
"""Distinct ids that wait until they are merged into the table, at least."""


@dataclass(frozen=True)
class LabelTable:
    """Label values of one case; small whatever the number of ids."""

    dtype: str
    """As stored."""
    voxels: int
    """Of the whole volume."""
    background: int
    """Voxels of value 0."""
    distinct: int
    """Different values other than 0 and the ignore label."""
    smallest: int
    largest: int
    """Extent of all values; 0 and 0 without voxels."""
    counts: dict[int, int] | None
    """Voxels per value, 0 and the ignore label included; None beyond :data:`MAX_CLASS_VALUES` values."""
    objects: ObjectStatistics | None
    """Sizes of the values other than 0 and the ignore label, taken as objects; None where there is none."""
    foreground: int
    """Voxels of positive value, ignore label excluded."""


class LabelCounter:
    """Counts label values block by block; memory is 16 bytes a distinct id, and half as much while merging.

    Args:
        dtype: integer (or bool) type of the label values.
    """

    def __init__(self, dtype: np.dtype[Any] | type) -> None:
        self.dtype = np.dtype(dtype)
        self._dense = self.dtype.itemsize <= 2
        self._values: NDArray[Any] = np.empty(0, self.dtype)
        self._counts = np.zeros(1 << 8 * self.dtype.itemsize if self._dense else 0, np.int64)
        self._pending: list[tuple[NDArray[Any], NDArray[np.int64]]] = []
        self._waiting = 0

    def add(self, labels: NDArray[Any]) -> None:
        """Count an array of any shape."""
        flat = np.ascontiguousarray(labels).reshape(-1)
        if self._dense:
            count_dense(flat, self._counts)
            return
        for start in range(0, flat.size, _PENDING):
            part = flat[start : start + _PENDING]
            near = bool(part.size) and int(part.max()) - int(part.min()) < MAX_CLASS_VALUES
            self._append(*(count_distinct(part) if near else count_runs(part)))

    def add_background(self, voxels: int) -> None:
        """Count so many voxels of value 0."""
        zero = np.zeros(1, self.dtype)
        if self._dense:
            self._counts[encode(zero)] += voxels
        else:
            self._append(zero, np.array([voxels], np.int64))

    def _append(self, values: NDArray[Any], counts: NDArray[np.int64]) -> None:
        self._pending.append((values, counts))
        self._waiting += values.size
        if self._waiting > max(_PENDING, self._values.size // 8):
            self._merge_pending()

    def _merge_pending(self) -> None:
        """Add what waits: known ids in place, new ones inserted, one array after the other to save memory."""
        if not self._pending:
            return
        values, counts = merge_counts(self._pending)
        self._pending, self._waiting = [], 0
        places = np.searchsorted(self._values, values)
        known = np.zeros(values.size, bool)
        inside = places < self._values.size
        known[inside] = self._values[places[inside]] == values[inside]
        self._counts[places[known]] += counts[known]
        if not known.all():
            at = places[~known]
            self._values = np.insert(self._values, at, values[~known])
            self._counts = np.insert(self._counts, at, counts[~known])

    def merge(self, other: LabelCounter) -> None:
        """Add the counts of another part of the same volume; ``other`` stays as it is."""
        if self.dtype != other.dtype:
            msg = f"label counts of {self.dtype} and {other.dtype} do not merge"
            raise ValueError(msg)
        if self._dense:
            self._counts += other._counts
            return
        values, counts = other.counts()
        self._append(values, counts)

    def counts(self) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Distinct values, ascending, and the voxels of each."""
        if self._dense:
            used = places_in_use(self._counts)
            return decode(used, self.dtype).astype(np.int64), self._counts[used]
        self._merge_pending()
        return self._values, self._counts

    def state(self) -> dict[str, Any]:
        """Everything, as arrays, for a journal."""
        values, counts = self.counts()
        return {"dtype": self.dtype.str, "values": values, "counts": counts}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """The counter whose :meth:`state` this is."""
        counter = cls(dtype_of(state["dtype"]))
        values, counts = state["values"].astype(counter.dtype), state["counts"].astype(np.int64)
        if counter._dense:
            counter._counts[encode(values)] = counts
        else:
            counter._values, counter._counts = values, counts
        return counter

    def table(self, ignore: int | None = None, stored_dtype: np.dtype[Any] | None = None) -> LabelTable:
        """What is handed on: small, without the table of ids where there are many."""
        values, counts = self.counts()
        few = values.size <= MAX_CLASS_VALUES
        objects = values != 0
        positive = values > 0
        if ignore is not None:
            objects &= values != ignore
            positive &= values != ignore
        return LabelTable(
            dtype=str(self.dtype if stored_dtype is None else stored_dtype),
            voxels=int(counts.sum()),
            background=int(counts[values == 0].sum()),
            distinct=int(np.count_nonzero(objects)),
            smallest=int(values[0]) if values.size else 0,
            largest=int(values[-1]) if values.size else 0,
            counts=dict(zip(values.tolist(), counts.tolist(), strict=True)) if few else None,
            objects=_object_statistics(values[objects], counts[objects]),
            foreground=int(counts[positive].sum()),
        )


def _object_statistics(ids: NDArray[Any], sizes: NDArray[np.int64]) -> ObjectStatistics | None:
    if not ids.size:
        return None
    ordered = np.sort(sizes)

    def quantile(tenths: int) -> int:
        return int(ordered[max(1, -(-tenths * ordered.size // 10)) - 1])

    return ObjectStatistics(
        count=int(ids.size),
        size_min=int(ordered[0]),
        size_median=quantile(5),
        size_max=int(ordered[-1]),
        size_percentile_10=quantile(1),
        size_percentile_90=quantile(9),
        largest_id=int(ids[-1]),
    )


def object_statistics(table: LabelTable) -> ObjectStatistics | None:
    """Numbers of the objects of an instance label map; None where there is none."""
    return table.objects


def propose_label_kind(
    tables: Sequence[LabelTable | None], dtypes: Sequence[str | None] | None = None
) -> tuple[LabelKind, str]:
    """What the labels of a data set are, and in words why.

    Args:
        tables: one a case; None where a case has no labels.
        dtypes: stored types where they differ from those of the tables.
    """
    known = [table for table in tables if table is not None]
    if not known:
        return "none", "no case has a label map"
    most = max(table.distinct for table in known)
    if any(table.counts is None for table in known):
        return "instance", f"a case has {most:,} different values, more than any set of classes"
    ids = [_ids(table) for table in known]
    union = set().union(*ids)
    if not union:
        return "semantic", "every label map holds only background"
    shared = _shared(ids)
    if len(union) > MAX_SEMANTIC_VALUES:
        if shared is not None and shared >= 0.5:
            return (
                "semantic",
                f"{len(union):,} values, and {shared:.0%} of a case's occur in most other cases",
            )
        why = "one case" if shared is None else f"only {shared:.0%} of a case's occur in most other cases"
        return "instance", f"{len(union):,} different values in all ({why})"
    names = [name for name in (dtypes or [table.dtype for table in known]) if name]
    wide = sorted({name for name in names if name in ("uint32", "uint64")})
    sparse = max(union) > 16 * MAX_SEMANTIC_VALUES and max(union) > 16 * len(union)
    if wide and sparse and (shared is None or shared < 0.5):
        return "instance", f"scattered ids up to {max(union):,} stored as {wide[0]}"
    if _counted_objects(ids):
        low, high = min(map(len, ids)), max(map(len, ids))
        return (
            "instance",
            f"ids run from 1 to another end in each case ({low} to {high}), as objects are counted",
        )
    values = "1 value" if len(union) == 1 else f"{len(union)} different values"
    maps = "1 label map" if len(known) == 1 else f"{len(known)} label maps"
    return "semantic", f"{values} besides background in {maps}"


def _ids(table: LabelTable) -> set[int]:
    return {value for value in table.counts or {} if value > 0}


def _shared(ids: Sequence[set[int]]) -> float | None:
    """Mean share of a case's values that at least half of the cases have; None for less than two cases."""
    filled = [case for case in ids if case]
    if len(filled) < 2:
        return None
    occurrences: dict[int, int] = {}
    for case in filled:
        for value in case:
            occurrences[value] = occurrences.get(value, 0) + 1
    common = {value for value, cases in occurrences.items() if 2 * cases >= len(filled) and cases > 1}
    return sum(len(case & common) / len(case) for case in filled) / len(filled)


def _counted_objects(ids: Sequence[set[int]]) -> bool:
    """Whether every case numbers from 1 without a gap, to ends that differ by a factor of two or more."""
    filled = [case for case in ids if case]
    ends = [max(case) for case in filled]
    gapless = all(len(case) == end for case, end in zip(filled, ends, strict=True))
    return gapless and len(set(ends)) > 1 and max(ends) >= MIN_COUNTED_OBJECTS and max(ends) >= 2 * min(ends)
