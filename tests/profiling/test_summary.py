"""Summary and outliers, from numbers made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from voxplan.profiling.fingerprint import CaseFingerprint, SpacingRecord
from voxplan.profiling.formats.base import Unit
from voxplan.profiling.outliers import find_outliers
from voxplan.profiling.summary import class_frequencies, in_unit, spacing_clusters, summarize


def case(
    name: str,
    spacing: tuple[float, float, float] | None = (1.0, 1.0, 1.0),
    unit: Unit = "mm",
    shape: tuple[int, int, int] = (10, 20, 30),
    classes: dict[str, int] | None = None,
) -> CaseFingerprint:
    z, y, x = shape
    return CaseFingerprint(
        id=name,
        images=(f"{name}.nii",),
        label=None,
        shape=shape,
        spacing=SpacingRecord(
            values=spacing, unit=unit if spacing else "unknown", source="header" if spacing else "missing"
        ),
        orientation=None,
        dtype="uint8",
        label_dtype=None,
        channels=(),
        crop_box=((0, z), (0, y), (0, x)),
        shape_after_crop=shape,
        foreground_voxels=None,
        class_voxels=classes,
        objects=None,
        stored_bytes=10,
        compressed_stream=False,
        content_key="",
        warnings=(),
    )


NO_CHANNELS: dict[str, list[list[None]]] = {"foreground": [], "nonzero": []}


@pytest.mark.parametrize(
    ("values", "unit", "wanted", "expected"),
    [
        ((45.0, 4.6, 4.6), "nm", "um", (0.045, 0.0046, 0.0046)),
        ((0.045, 0.0046, 0.0046), "um", "nm", (45.0, 4.6, 4.6)),
        ((1.0, 2.0, 3.0), "mm", "nm", (1e6, 2e6, 3e6)),
        ((1.0, 2.0, 3.0), "unknown", "nm", (1.0, 2.0, 3.0)),
        ((1.0, 2.0, 3.0), "mm", "unknown", (1.0, 2.0, 3.0)),
    ],
)
def test_units(
    values: tuple[float, float, float], unit: Unit, wanted: Unit, expected: tuple[float, float, float]
) -> None:
    record = SpacingRecord(values=values, unit=unit, source="header")
    assert in_unit(record, wanted) == pytest.approx(expected, rel=1e-15)


def test_mixed_units_go_to_the_first_with_a_warning() -> None:
    cases = [case("a", (2.0, 1.0, 1.0), "um"), case("b", (0.004, 0.001, 0.001)), case("c", None)]
    summary = summarize(cases, NO_CHANNELS, failures=0, class_frequencies=None)
    assert summary.spacing_unit == "um"
    assert summary.spacing is not None
    assert summary.spacing.median == (3.0, 1.0, 1.0)
    assert summary.anisotropy == 3.0
    assert summary.spacing_missing == 1
    assert any("b" in warning and "um" in warning for warning in summary.warnings)
    assert any("missing" in warning and "(c)" in warning for warning in summary.warnings)


def test_no_spacing_anywhere() -> None:
    summary = summarize([case("a", None)], NO_CHANNELS, failures=2, class_frequencies=None)
    assert (summary.spacing, summary.anisotropy, summary.spacing_clusters) == (None, None, ())
    assert (summary.spacing_missing, summary.failures, summary.voxels) == (1, 2, 6000)


def test_percentiles_are_of_the_cases() -> None:
    cases = [case(f"c{i:02}", shape=(10 + i, 20, 30)) for i in range(10)]
    shape = summarize(cases, NO_CHANNELS, failures=0, class_frequencies=None).shape
    assert shape.median[0] == 14.5
    assert (shape.percentile_10[0], shape.percentile_90[0]) == (10.0, 18.0)


def test_clusters_do_not_depend_on_order() -> None:
    spacings = np.array([[1, 1, 1], [1.04, 1, 1], [5, 1, 1], [1, 1, 0.96], [5.1, 1, 1], [9, 1, 1]], float)
    rng = np.random.default_rng(0)
    expected = spacing_clusters(spacings)
    assert [cluster.cases for cluster in expected] == [3, 2, 1]
    assert expected[1].spacing == (5.05, 1.0, 1.0)
    for _ in range(5):
        assert spacing_clusters(rng.permutation(spacings)) == expected


def test_outliers_are_named_with_the_reason() -> None:
    cases = [case(f"c{i}") for i in range(9)]
    cases += [case("odd", (5.0, 1.0, 1.0)), case("wide", shape=(10, 20, 200)), case("near", (1.06, 1.0, 1.0))]
    found = {(outlier.case_id, outlier.kind): outlier.reason for outlier in find_outliers(cases)}
    assert set(found) == {("odd", "spacing"), ("wide", "shape")}
    assert "5 x 1 x 1 mm" in found["odd", "spacing"]
    assert "10 x 20 x 200" in found["wide", "shape"]
    assert find_outliers(cases[8:]) == ()


def test_class_frequencies_count_regions_and_absent_classes() -> None:
    cases = [case("a", classes={"0": 5000, "1": 900, "2": 100}), case("b", classes={"0": 6000}), case("c")]
    frequencies = class_frequencies(cases, {"background": (0,), "whole": (1, 2), "core": (2,), "none": (7,)})
    assert frequencies == {"background": 11 / 12, "whole": 1 / 12, "core": 100 / 12000, "none": 0.0}
    assert class_frequencies([case("c")], {"background": (0,)}) is None
