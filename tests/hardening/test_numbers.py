"""Overflow and precision: nothing wraps, nothing is silently zero; NaN and infinity are counted, left out."""

from __future__ import annotations

import math
import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from voxplan.profiling.blocks import BlockGrid, plan_blocks
from voxplan.profiling.boxes import voxels_in, whole
from voxplan.profiling.case import ProfileOptions, profile_case
from voxplan.profiling.extract import profile_dataset
from voxplan.profiling.fingerprint import Fingerprint, SpacingRecord
from voxplan.profiling.formats.axes import AxisOrder
from voxplan.profiling.formats.base import CaseSource, Spacing, VolumeHeader, VolumeSource
from voxplan.profiling.formats.spacing import LONGEST, SHORTEST
from voxplan.profiling.histogram import ValueHistogram
from voxplan.profiling.layouts import discover
from voxplan.profiling.statistics import Distribution, case_weighted
from voxplan.profiling.summary import axis_summary, in_unit
from voxplan.scripts.profile_dataset import main

EDGES = st.integers(1, 2**40)


def header(shape: tuple[int, int, int], dtype: str = "u1", channels: int = 1) -> VolumeHeader:
    return VolumeHeader(
        shape=shape, channels=channels, dtype=np.dtype(dtype), spacing=Spacing.missing(), block=(1, 1, 1)
    )


@given(z=EDGES, y=EDGES, x=EDGES, channels=st.integers(1, 10**6))
def test_products_of_shapes_are_those_of_unbounded_integers(z: int, y: int, x: int, channels: int) -> None:
    shape = (z, y, x)
    assert header(shape).voxels == math.prod(shape)
    assert voxels_in(whole(shape)) == math.prod(shape)
    axes = AxisOrder("czyx", (channels, z, y, x))
    assert (axes.channels, axes.shape) == (channels, shape)


@given(
    shape=st.tuples(*[st.integers(1, 2**21)] * 3),
    extent=st.tuples(*[st.integers(1, 2**12)] * 3),
    data=st.data(),
)
def test_blocks_of_a_huge_volume_are_made_one_by_one(
    shape: tuple[int, int, int], extent: tuple[int, int, int], data: st.DataObject
) -> None:
    """Any block is known without the others; neighbours touch, and the last ends where the volume does."""
    grid = BlockGrid(shape, extent)
    assert len(grid) == math.prod(-(-n // e) for n, e in zip(shape, extent, strict=True))
    number = data.draw(st.integers(0, len(grid) - 1))
    region = grid[number]
    assert all(0 <= p.start < p.stop <= n for p, n in zip(region, shape, strict=True))
    assert all(p.stop - p.start == e or p.stop == n for p, e, n in zip(region, extent, shape, strict=True))
    assert [part.stop for part in grid[len(grid) - 1]] == list(shape)
    assert [part.start for part in grid[0]] == [0, 0, 0]
    if number:
        assert grid[number - 1 : number + 1][0] == grid[number - 1]
        assert grid[number] > grid[number - 1] or region[2].start == 0
    with pytest.raises(IndexError):
        grid[len(grid)]


@given(shape=st.tuples(*[st.integers(1, 60)] * 3), extent=st.tuples(*[st.integers(1, 70)] * 3))
@settings(max_examples=40, deadline=None)
def test_blocks_cover_every_voxel_once(shape: tuple[int, int, int], extent: tuple[int, int, int]) -> None:
    seen = np.zeros(shape, np.uint8)
    for region in BlockGrid(shape, extent):
        seen[region] += 1
    assert (seen == 1).all()


@given(shape=st.tuples(*[st.integers(1, 10**5)] * 3), memory=st.integers(2**20, 2**34))
def test_blocks_fit_whatever_the_volume(shape: tuple[int, int, int], memory: int) -> None:
    extent = plan_blocks([header(shape, "f8")], 9, memory)
    assert math.prod(extent) * 9 * 3 <= memory


@given(
    values=st.lists(st.integers(0, 255), min_size=1, max_size=6, unique=True),
    weights=st.data(),
)
def test_ten_to_the_thirteen_voxels(values: list[int], weights: st.DataObject) -> None:
    """A histogram merged with itself 40 times holds more voxels than 40 bits count; numbers stay exact."""
    counts = [weights.draw(st.integers(1, 20)) for _ in values]
    block = np.repeat(np.array(values, np.uint8), counts)
    histogram = ValueHistogram(np.dtype(np.uint8), (0, 0))
    histogram.add(block)
    doublings = 40
    for _ in range(doublings):
        other = ValueHistogram.from_state(histogram.state())
        histogram.merge(other)
    total = Distribution.of(histogram, 1.0, 0.0, histogram.zeros)
    assert total is not None
    numbers = total.statistics()
    assert numbers.count == len(block) << doublings
    assert numbers.count > 10**12
    exact = Fraction(sum(v * c for v, c in zip(values, counts, strict=True)), len(block))
    assert numbers.mean == float(exact)
    variance = sum(c * (v - exact) ** 2 for v, c in zip(values, counts, strict=True)) / len(block)
    assert numbers.std == pytest.approx(math.sqrt(variance), rel=1e-15, abs=0)
    assert numbers.median == float(np.quantile(block, 0.5, method="inverted_cdf"))


FLOATS = {
    "f2": hnp.from_dtype(np.dtype("f2"), allow_nan=True, allow_infinity=True, allow_subnormal=True),
    "f4": hnp.from_dtype(np.dtype("f4"), allow_nan=True, allow_infinity=True, allow_subnormal=True),
    "f8": hnp.from_dtype(np.dtype("f8"), allow_nan=True, allow_infinity=True, allow_subnormal=True),
}


@pytest.mark.parametrize("dtype", FLOATS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_floats_of_every_kind(dtype: str, data: st.DataObject) -> None:
    """Denormals are values, not zeros; what is not finite is counted, and is in no other number."""
    block = data.draw(hnp.arrays(dtype, st.integers(1, 60), elements=FLOATS[dtype]))
    histogram = ValueHistogram(np.dtype(dtype), (0.0, 0.0))
    histogram.add(block)
    histogram.table()
    finite = block[np.isfinite(block)].astype(np.float64)
    assert histogram.non_finite == block.size - finite.size
    assert histogram.zeros == int((finite == 0).sum())
    everything = Distribution.of(histogram, 1.0, 0.0, histogram.zeros)
    if not finite.size:
        assert everything is None
        return
    assert everything is not None
    numbers = everything.statistics()
    assert numbers.count == finite.size
    assert (numbers.min, numbers.max) == (finite.min(), finite.max())
    exact = sum(map(Fraction, finite.tolist())) / finite.size
    assert numbers.mean == float(exact)
    assert numbers.median == np.quantile(finite, 0.5, method="inverted_cdf")
    assert math.isfinite(numbers.std)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_a_file_of_denormals_nans_and_infinities(dtype: str, tmp_path: Path) -> None:
    info = np.finfo(dtype)
    voxels = np.zeros((4, 5, 6), dtype)
    voxels[1, 1, 1:4] = info.smallest_subnormal
    voxels[2, 2, 2] = info.max
    voxels[3, 3, 3], voxels[3, 3, 4], voxels[3, 3, 5] = np.nan, np.inf, -np.inf
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["raw"] = voxels
    case = CaseSource(id="a", images=(VolumeSource(paths=(path,)),))
    found = profile_case(case, tmp_path, ProfileOptions()).fingerprint
    channel = found.channels[0]
    assert channel.non_finite == 3
    assert channel.nonzero is not None
    assert channel.nonzero.count == 4
    assert channel.nonzero.min == float(info.smallest_subnormal)
    assert channel.nonzero.max == float(info.max)
    assert found.crop_box == ((1, 3), (1, 3), (1, 4))
    assert any("3 voxels are NaN or infinite" in warning for warning in found.warnings)


@pytest.mark.parametrize(
    ("finite", "said"),
    [
        ({}, "image: no voxel is finite"),
        ({(1, 1, 1): 0}, "image: every finite voxel is zero"),
        ({(1, 1, 1): 3}, "image: constant, every finite voxel is 3"),
    ],
)
def test_voxels_that_are_not_finite_are_not_called_zero(
    finite: dict[tuple[int, int, int], float], said: str, tmp_path: Path
) -> None:
    voxels = np.full((4, 5, 6), np.nan, "f4")
    for place, value in finite.items():
        voxels[place] = value
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["raw"] = voxels
    case = CaseSource(id="a", images=(VolumeSource(paths=(path,)),))
    found = profile_case(case, tmp_path, ProfileOptions()).fingerprint
    assert found.warnings == (
        f"image: {120 - len(finite)} voxels are NaN or infinite and are left out",
        said,
    )


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [("u8", 0, 2**64 - 1), ("i8", -(2**63), 2**63 - 1), ("u4", 0, 2**32 - 1), ("i4", -(2**31), 2**31 - 1)],
)
def test_the_ends_of_integers(dtype: str, low: int, high: int, tmp_path: Path) -> None:
    """Sums of the largest values do not wrap."""
    voxels = np.full((4, 5, 6), high, dtype)
    voxels[0] = low
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["raw"] = voxels
    case = CaseSource(id="a", images=(VolumeSource(paths=(path,)),))
    crop = profile_case(case, tmp_path, ProfileOptions()).fingerprint.channels[0].crop
    assert crop is not None
    zeros = 0 if low else 30
    count = 120 - zeros  # the crop box leaves out the plane of zeros
    exact = Fraction((0 if zeros else 30 * low) + 90 * high, count)
    assert crop.count == count
    assert crop.mean == pytest.approx(float(exact), rel=1e-15)
    assert crop.max == pytest.approx(float(high), rel=1e-15)


def test_shapes_that_overflow_64_bits_stay_numbers(tmp_path: Path) -> None:
    """The product of this shape is 0 in 64 bits."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("raw", (2**32, 2**32, 2**32), "f8", chunks=(64, 64, 64))
    case = CaseSource(id="a", images=(VolumeSource(paths=(path,)),))
    found = profile_case(case, tmp_path, ProfileOptions(headers_only=True)).fingerprint
    assert math.prod(found.shape) == 2**96
    with pytest.raises(ValueError, match="headers-only"):
        profile_case(case, tmp_path, ProfileOptions())


@given(
    slope=st.floats(-1.7e308, 1.7e308).filter(bool), intercept=st.floats(-1.7e308, 1.7e308), data=st.data()
)
@settings(max_examples=40, deadline=None)
def test_scaling_never_yields_what_json_cannot_hold(slope: float, intercept: float, data: Any) -> None:
    block = data.draw(hnp.arrays("i2", st.integers(1, 20)))
    histogram = ValueHistogram(np.dtype("i2"), None)
    histogram.add(block)
    histogram.table()
    whole_range = Distribution.of(histogram, slope, intercept, histogram.zeros)
    assert whole_range is not None
    numbers = whole_range.statistics()
    for name, value in numbers:
        assert math.isfinite(value), name


@pytest.mark.parametrize("slope", [3.353905102355067e305, -1.7e308, 1.7e308])
@pytest.mark.parametrize("values", [[536], [-32768, 32767], [0, 1], [1, 2, 2]])
def test_moments_beyond_float64_are_its_largest_number(slope: float, values: list[int]) -> None:
    """As minimum and maximum are; a NIfTI-2 header can state such a slope."""
    histogram = ValueHistogram(np.dtype("i2"), None)
    histogram.add(np.array(values, "i2"))
    distribution = Distribution.of(histogram, slope, 0.0)
    assert distribution is not None
    largest = np.finfo(np.float64).max
    exact = sum(Fraction(slope) * value for value in values) / len(values)
    result = distribution.statistics()
    assert result.mean == float(max(-Fraction(largest), min(exact, Fraction(largest))))
    assert 0 <= result.std <= largest
    weighted = case_weighted([distribution, distribution])
    assert weighted is not None
    assert weighted.mean == result.mean


@pytest.mark.filterwarnings("error")
def test_intensities_beyond_float64_print_nothing_of_numpy(tmp_path: Path) -> None:
    """A worker's warnings would stand on the terminal as lines of source."""
    image = nibabel.Nifti1Image(np.full((4, 5, 6), 1e300), np.eye(4))
    raw = bytearray(image.to_bytes())
    struct.pack_into("<f", raw, 112, 3e38)
    path = tmp_path / "a.nii"
    path.write_bytes(raw)
    case = CaseSource(id="a", images=(VolumeSource(paths=(path,)),))
    crop = profile_case(case, tmp_path, ProfileOptions()).fingerprint.channels[0].crop
    assert crop is not None
    assert crop.max == np.finfo(np.float64).max


@pytest.mark.parametrize(
    ("spacings", "units"),
    [
        ([(1e308, 1.0, 1e-308)], ["mm"]),
        ([(1.7e308, 1.0, 1.0)] * 2, ["mm", "mm"]),
        ([(1.0, 1.0, 1.0), (1e307, 1.0, 1.0)], ["nm", "mm"]),
        ([(1.0, 1.0, 1.0), (5e-324, 1.0, 1.0)], ["mm", "nm"]),
    ],
    ids=["anisotropy", "median", "other-unit", "other-unit-of-zero"],
)
def test_spacings_at_the_ends_of_float64_cost_no_run(
    spacings: list[tuple[float, float, float]], units: list[str], tmp_path: Path
) -> None:
    """Ratio, mean or conversion of these is infinite or zero: one such file once ended the run."""
    for number, (spacing, unit) in enumerate(zip(spacings, units, strict=True)):
        with h5py.File(tmp_path / f"{number}.h5", "w") as file:
            file["raw"] = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
            file["raw"].attrs["resolution"] = spacing
            file["raw"].attrs["unit"] = unit
    found = profile_dataset(discover(tmp_path), ProfileOptions(), jobs=1)
    for spacing, case in zip(spacings, found.cases, strict=True):
        usable = min(spacing) > 1e-30 and max(spacing) < 1e30
        assert (case.spacing.values is not None) == usable
        assert usable or any("is not usable: taken as missing" in warning for warning in case.warnings)
    Fingerprint.model_validate_json(found.model_dump_json())


@given(ends=st.lists(st.sampled_from([SHORTEST, LONGEST, 1.0]), min_size=6, max_size=6), data=st.data())
def test_summaries_of_the_longest_and_shortest_lengths_are_numbers(ends: list[float], data: Any) -> None:
    units = [data.draw(st.sampled_from(["mm", "um", "nm"])) for _ in range(2)]
    records = [
        SpacingRecord(values=(z, y, x), unit=unit, source="header")
        for (z, y, x), unit in zip((ends[:3], ends[3:]), units, strict=True)
    ]
    known = [in_unit(record, records[0].unit) for record in records]
    rows = np.array(known, np.float64)
    summary = axis_summary(rows)
    assert min(summary.min) > 0
    assert math.isfinite(max(summary.median) / min(summary.median))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("end", [1.7e308, 1e301, 1e299])
def test_reports_of_intensities_at_the_ends_of_float64(end: float, tmp_path: Path) -> None:
    """What can still be drawn is; the range of the others is infinite, which once ended the report."""
    voxels = np.array([end, -end, 1.0, 2.0] * 15).reshape(3, 4, 5)
    for number in range(3):
        with h5py.File(tmp_path / f"{number}.h5", "w") as file:
            file["raw"] = voxels
    report = tmp_path / "r.html"
    options = ["-o", str(tmp_path / "f.json"), "--report", str(report), "-j", "1", "-q"]
    assert main([str(tmp_path), *options]) == 0
    assert ("histogram-0" in report.read_text(encoding="utf-8")) == (end < 1e300)
