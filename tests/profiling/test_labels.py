from __future__ import annotations

import pickle
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from voxplan.profiling.labels import (
    MAX_CLASS_VALUES,
    LabelCounter,
    LabelTable,
    object_statistics,
    propose_label_kind,
)

Array = np.ndarray[Any, Any]


def table(values: Array, ignore: int | None = None) -> LabelTable:
    counter = LabelCounter(values.dtype)
    counter.add(values)
    return counter.table(ignore)


def of_ids(*ids: int, dtype: str = "u2") -> LabelTable:
    return table(np.array([0, *ids], dtype))


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(["b1", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8"]).flatmap(
        lambda name: hnp.arrays(np.dtype(name), st.integers(1, 200))
    ),
    st.data(),
)
def test_counts_equal_numpy_whatever_the_cuts(values: Array, data: st.DataObject) -> None:
    expected, counts = np.unique(values, return_counts=True)
    cuts = sorted(data.draw(st.lists(st.integers(0, values.size), max_size=4)))
    merged = LabelCounter(values.dtype)
    for part in np.split(values, cuts):
        one = LabelCounter(values.dtype)
        one.add(part)
        merged.merge(one)
    result = merged.table()
    assert result == table(values)
    assert result.counts == dict(zip(expected.tolist(), counts.tolist(), strict=True))
    assert result.voxels == values.size
    assert result.background == np.count_nonzero(values == 0)
    assert result.foreground == np.count_nonzero(values > 0)
    assert (result.smallest, result.largest) == (expected[0], expected[-1])


def test_background_that_is_only_announced_counts() -> None:
    for dtype in ("u1", "u8"):
        counter = LabelCounter(dtype)
        counter.add_background(10)
        counter.add(np.array([0, 3], dtype))
        assert counter.table().counts == {0: 11, 3: 1}


def test_the_ignore_label_is_no_object_and_no_foreground() -> None:
    result = table(np.array([0, 1, 1, 2, 255, 255], "u1"), ignore=255)
    assert (result.foreground, result.distinct) == (3, 2)
    assert result.counts == {0: 1, 1: 2, 2: 1, 255: 2}
    objects = object_statistics(result)
    assert objects is not None
    assert (objects.count, objects.size_min, objects.size_max, objects.largest_id) == (2, 1, 2, 2)


def test_object_sizes_are_inverted_cdf_quantiles() -> None:
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 300, 57)
    ids = rng.permutation(10**12 + np.arange(57, dtype=np.uint64) * 977)
    objects = object_statistics(table(rng.permutation(np.repeat(ids, sizes))))
    assert objects is not None
    expected = [int(np.quantile(sizes, q, method="inverted_cdf")) for q in (0.1, 0.5, 0.9)]
    assert [objects.size_percentile_10, objects.size_median, objects.size_percentile_90] == expected
    assert (objects.size_min, objects.size_max, objects.count) == (sizes.min(), sizes.max(), 57)
    assert objects.largest_id == ids.max()


def test_eight_million_ids_fit_into_memory_and_give_a_small_table() -> None:
    """Blocks of scattered ids above 2^40, each id in two blocks; numpy reports its arrays to tracemalloc."""
    ids, block = 8_000_000, 1_000_000
    counter = LabelCounter(np.uint64)
    step = np.uint64(2_654_435_761)
    tracemalloc.start()
    for turn in (0, 1):
        for start in range(0, ids, block):
            part = np.arange(start, start + block, dtype=np.uint64) * step % np.uint64(ids) + np.uint64(2**40)
            counter.add(part if turn else np.concatenate([part, np.zeros(5, np.uint64)]))
    result = counter.table()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 350 << 20
    assert result.counts is None
    assert result.objects is not None
    assert (result.objects.count, result.objects.size_min, result.objects.size_max) == (ids, 2, 2)
    assert (result.background, result.largest) == (40, 2**40 + ids - 1)
    assert len(pickle.dumps(result)) < 2000


def test_the_table_of_values_ends_where_it_says() -> None:
    few = np.arange(MAX_CLASS_VALUES, dtype="u2")
    assert table(few).counts is not None
    assert table(np.append(few, few[-1] + 1).astype("u4")).counts is None


@pytest.mark.parametrize(
    ("tables", "kind", "words"),
    [
        ([], "none", "no case"),
        ([None, None], "none", "no case"),
        ([of_ids(1, 2), of_ids(1), of_ids(2)], "semantic", "2 different values"),
        ([of_ids(), of_ids()], "semantic", "only background"),
        ([of_ids(*range(1, 106)), of_ids(*range(1, 106, 2))], "semantic", "105 different"),
        ([of_ids(*range(1, 5001))], "instance", "5,000"),
        ([of_ids(*range(1, 401))], "instance", "400"),
        ([of_ids(*range(k * 300, k * 300 + 290)) for k in range(1, 5)], "instance", "only 0%"),
        ([of_ids(*range(2, 2000, 6))] * 3, "semantic", "100%"),
        (
            [of_ids(*range(1, 8)), of_ids(*range(1, 61)), of_ids(*range(1, 33))],
            "instance",
            "objects are counted",
        ),
        ([of_ids(17, 900_001, 123_456_789, dtype="u4")], "instance", "scattered"),
        ([of_ids(2, 17, 1035, 2035, dtype="i4")] * 4, "semantic", "4 different"),
    ],
)
def test_the_kind_of_labels_is_proposed_with_a_reason(
    tables: list[LabelTable | None], kind: str, words: str
) -> None:
    proposed, reason = propose_label_kind(tables)
    assert proposed == kind
    assert words in reason
