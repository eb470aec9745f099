from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxplan.profiling.case import CaseError, CaseResult, ProfileOptions, content_key, profile_case, summarize
from voxplan.profiling.fingerprint import IntensityStatistics
from voxplan.profiling.formats.base import CaseSource, Region, Spacing, Volume, VolumeHeader, VolumeSource
from voxplan.profiling.scan import CaseScan

Array = np.ndarray[Any, Any]
SHAPE = (6, 7, 9)


class ArrayVolume(Volume):
    """Voxels ``(channels, z, y, x)`` in memory; a sequential one refuses to go backwards within a channel."""

    def __init__(self, name: str, voxels: Array, **header: Any) -> None:
        self.voxels = voxels
        self.source = VolumeSource(paths=(Path(name),))
        z, y, x = voxels.shape[1:]
        self.header = VolumeHeader(
            shape=(z, y, x), channels=len(voxels), dtype=voxels.dtype, spacing=Spacing.missing(), **header
        )
        self.read_regions: list[Region] = []

    def read(self, region: Region, channel: int | None = None) -> Array:
        if self.header.sequential:
            assert channel is not None
            assert (region[1], region[2]) == (slice(0, self.header.shape[1]), slice(0, self.header.shape[2]))
        self.read_regions.append(region)
        return self.voxels[(slice(None), *region)] if channel is None else self.voxels[(channel, *region)]


def brute_force(
    channels: list[tuple[Array, float, float]], label: Array | None, ignore: int | None
) -> dict[str, Any]:
    """The three regions on whole arrays, as the fingerprint defines them."""
    intensities = [stored.astype(np.float64) * slope + intercept for stored, slope, intercept in channels]
    nonzero = [np.isfinite(i) & (i != 0) for i in intensities]
    anywhere = np.logical_or.reduce(nonzero)
    box = [(0, n) for n in anywhere.shape]
    if anywhere.any():
        box = [(int(i.min()), int(i.max()) + 1) for i in np.nonzero(anywhere)]
    inside = np.zeros(anywhere.shape, bool)
    inside[tuple(slice(a, b) for a, b in box)] = True
    foreground = np.zeros_like(inside)
    if label is not None:
        foreground = inside & (label > 0)
        if ignore is not None:
            foreground &= label != ignore
    regions = []
    for values, not_zero in zip(intensities, nonzero, strict=True):
        finite = np.isfinite(values)
        regions.append((values[foreground & finite], values[inside & finite], values[not_zero]))
    return {"box": tuple(box), "regions": regions, "foreground": int(foreground.sum())}


def agrees(result: IntensityStatistics | None, values: Array) -> bool:
    if not values.size or result is None:
        return result is None and not values.size
    expected = [float(np.quantile(values, q, method="inverted_cdf")) for q in (0.005, 0.1, 0.5, 0.9, 0.995)]
    return (
        result.count == values.size
        and (result.min, result.max) == (values.min(), values.max())
        and [result.percentile_00_5, result.percentile_10, result.median] == expected[:3]
        and [result.percentile_90, result.percentile_99_5] == expected[3:]
        and bool(np.isclose(result.mean, values.mean(), rtol=1e-12, atol=1e-9))
        and bool(np.isclose(result.std, values.std(), rtol=1e-9, atol=1e-6))
    )


def h5(
    path: Path, name: str, voxels: Array, chunks: tuple[int, ...] | None = (2, 4, 4), **attributes: Any
) -> None:
    with h5py.File(path, "a") as file:
        data = file.create_dataset(name, data=voxels, chunks=chunks)
        for key, value in attributes.items():
            data.attrs[key] = value


def source(path: Path, key: str) -> VolumeSource:
    return VolumeSource(paths=(path,), key=key)


@st.composite
def scans(draw: st.DrawFn) -> dict[str, Any]:
    """A few channels with zero margins, holes, NaN; a label map that may reach beyond them."""
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    channels = []
    for _ in range(draw(st.integers(1, 3))):
        dtype = np.dtype(draw(st.sampled_from(["u1", "i2", "u2", "i4", "f2", "f4", "f8"])))
        slope, intercept = draw(
            st.sampled_from([(1.0, 0.0), (2.5, 0.0), (-1.0, 7.0), (1.0, -3.0), (0.1, 0.05)])
        )
        zero = 0 if intercept == 0 else {7.0: 7, -3.0: 3}.get(intercept, 0)
        voxels = np.full(SHAPE, zero, dtype)
        low = [int(rng.integers(0, n)) for n in SHAPE]
        high = [int(rng.integers(a, n + 1)) for a, n in zip(low, SHAPE, strict=True)]
        part = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        voxels[part] = rng.integers(0, 12, voxels[part].shape).astype(dtype)
        if dtype.kind == "f" and draw(st.booleans()):
            voxels[tuple(rng.integers(0, n) for n in SHAPE)] = np.nan
            voxels[tuple(rng.integers(0, n) for n in SHAPE)] = -np.inf
        channels.append((voxels, slope, intercept))
    label = None
    if draw(st.booleans()):
        label = rng.choice([0, 0, 0, 1, 2, 255], SHAPE).astype(
            draw(st.sampled_from(["u1", "i2", "u8", "f4"]))
        )
    return {
        "channels": channels,
        "label": label,
        "ignore": draw(st.sampled_from([None, 255, 2])),
        "block": draw(st.sampled_from([(1, 1, 1), (2, 3, 4), (1, 7, 9), (6, 7, 9)])),
        "sequential": draw(st.booleans()),
        "memory": draw(st.sampled_from([1 << 12, 1 << 14, 1 << 17, 512 << 20])),
    }


@settings(deadline=None, max_examples=80)
@given(scans())
def test_regions_equal_numpy_on_whole_arrays(case: dict[str, Any]) -> None:
    layout = {"sequential": case["sequential"], "block": (1, 7, 9) if case["sequential"] else case["block"]}
    images: list[Volume] = [
        ArrayVolume(f"image{i}", voxels[None], slope=slope, intercept=intercept, **layout)
        for i, (voxels, slope, intercept) in enumerate(case["channels"])
    ]
    label = None if case["label"] is None else ArrayVolume("label", case["label"][None], **layout)
    truth = brute_force(case["channels"], case["label"], case["ignore"])
    try:
        scan = CaseScan(images, label, case["ignore"], case["memory"])
    except CaseError as error:
        assert error.kind == "too-large"  # noqa: PT017 - only the smallest bounds refuse
        assert case["memory"] < 1 << 17
        assert layout["block"] != (1, 1, 1)
        return
    scan.run()
    result = summed_up(images, label, scan)
    fingerprint = result.fingerprint
    assert fingerprint.crop_box == truth["box"]
    assert fingerprint.foreground_voxels == (None if label is None else truth["foreground"])
    for channel, (stored, _, _), regions in zip(
        fingerprint.channels, case["channels"], truth["regions"], strict=True
    ):
        assert agrees(channel.foreground, regions[0])
        assert agrees(channel.crop, regions[1])
        assert agrees(channel.nonzero, regions[2])
        assert channel.non_finite == np.count_nonzero(~np.isfinite(stored))


def summed_up(images: list[Volume], label: Volume | None, scan: CaseScan | None) -> CaseResult:
    sources = tuple(image.source for image in images)
    case = CaseSource(id="a", images=sources, label=None if label is None else label.source)
    return summarize(case, Path(), "key", images, label, scan)


@settings(deadline=None, max_examples=40)
@given(scans(), st.integers(0, 5))
def test_parts_of_a_volume_merge_to_the_whole(case: dict[str, Any], cut: int) -> None:
    images: list[Volume] = [
        ArrayVolume(f"image{i}", v[None], slope=s, intercept=b)
        for i, (v, s, b) in enumerate(case["channels"])
    ]
    label = None if case["label"] is None else ArrayVolume("label", case["label"][None])
    whole = CaseScan(images, label, case["ignore"], 1 << 30)
    whole.run()
    halves = []
    for low, high in ((cut, 6), (0, cut)):
        half = CaseScan(images, label, case["ignore"], 1 << 30)
        half.run([(slice(z, z + 1), slice(0, 7), slice(0, 9)) for z in range(low, high)])
        halves.append(half)
    halves[0].merge(halves[1])
    assert summed_up(images, label, halves[0]).fingerprint == summed_up(images, label, whole).fingerprint


def test_channels_of_one_file_equal_channels_in_several() -> None:
    voxels = np.random.default_rng(1).integers(0, 200, (3, *SHAPE)).astype("i2")
    voxels[:, :2] = 0
    label = ArrayVolume("label", np.random.default_rng(2).integers(0, 2, (1, *SHAPE)).astype("u1"))
    results = []
    for images in (
        [ArrayVolume("all", voxels)],
        [ArrayVolume("all", voxels, sequential=True)],
        [ArrayVolume(f"c{i}", voxels[i : i + 1]) for i in range(3)],
    ):
        scan = CaseScan(images, label, None, 1 << 20)
        scan.run()
        results.append(summed_up(list(images), label, scan).fingerprint)
    assert results[0].channels == results[1].channels == results[2].channels
    assert len(results[0].channels) == 3
    assert results[0].crop_box == results[1].crop_box == results[2].crop_box


def test_a_sequential_image_is_read_once_forward() -> None:
    image = ArrayVolume("a", np.ones((1, *SHAPE), "u1"), sequential=True)
    scan = CaseScan([image], None, None, 2 * 3 * 2 * 2 * 63)
    scan.run()
    starts = [region[0].start for region in image.read_regions]
    assert starts == sorted(set(starts))
    assert len(starts) > 1
    assert sum(region[0].stop - region[0].start for region in image.read_regions) == SHAPE[0]


def test_foreground_outside_is_looked_for_only_where_it_can_be() -> None:
    voxels = np.zeros((1, *SHAPE), "u1")
    voxels[0, 1:5, 1:6, 1:8] = 7
    voxels[0, 2, 2, 2] = 0
    label = np.zeros((1, *SHAPE), "u1")
    label[0, 2:4, 2:4, 2:4] = 1
    for reach, reads in (((3, 3, 3), 1), ((0, 0, 0), 2)):
        label[(0, *reach)] = 1
        image, labels = ArrayVolume("a", voxels), ArrayVolume("b", label)
        scan = CaseScan([image], labels, None, 512 << 20)
        scan.run()
        outside = scan.outside(scan.crop_box() or ((0, 0), (0, 0), (0, 0)))
        assert (len(image.read_regions), len(labels.read_regions)) == (1, reads)
        assert outside.foreground == reads - 1


def test_a_plane_beyond_the_memory_is_refused_with_the_number() -> None:
    image = ArrayVolume("big.nii.gz", np.zeros((1, 2, 300, 300), "f4"), sequential=True, block=(1, 300, 300))
    with pytest.raises(CaseError, match=r"big\.nii\.gz.*1 x 300 x 300.*MiB.*--memory-per-worker") as caught:
        CaseScan([image], None, None, 1 << 20)
    assert caught.value.kind == "too-large"


def test_profile_of_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    voxels = rng.integers(1, 200, (5, 12, 14)).astype("u1")
    voxels[:1] = 0
    label = rng.integers(0, 3, voxels.shape).astype("u2")
    path = tmp_path / "a.h5"
    h5(path, "raw", voxels, resolution=[45.0, 4.6, 4.6], unit="nm")
    h5(path, "labels", label, chunks=(5, 3, 14))
    case = CaseSource(id="a", images=(source(path, "raw"),), label=source(path, "labels"))
    result = profile_case(case, tmp_path, ProfileOptions())
    truth = brute_force([(voxels, 1.0, 0.0)], label, None)
    fingerprint = result.fingerprint
    assert fingerprint.images == ("a.h5:raw",)
    assert fingerprint.label == "a.h5:labels"
    assert fingerprint.spacing.values == (45.0, 4.6, 4.6)
    assert (fingerprint.crop_box, fingerprint.shape_after_crop) == (truth["box"], (4, 12, 14))
    assert agrees(fingerprint.channels[0].foreground, truth["regions"][0][0])
    assert agrees(fingerprint.channels[0].crop, truth["regions"][0][1])
    assert result.labels is not None
    assert result.labels.counts == {v: int((label == v).sum()) for v in range(3)}
    assert (fingerprint.dtype, fingerprint.label_dtype) == ("uint8", "uint16")
    assert result.foreground[0] is not None
    assert result.foreground[0].statistics() == fingerprint.channels[0].foreground


def test_memory_does_not_change_the_result(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    path = tmp_path / "a.h5"
    h5(path, "raw", rng.normal(0, 1, (20, 40, 40)).astype("f4"), chunks=(4, 16, 16))
    h5(path, "labels", rng.integers(0, 4, (20, 40, 40)), chunks=None)
    case = CaseSource(id="a", images=(source(path, "raw"),), label=source(path, "labels"))
    results = {
        profile_case(case, tmp_path, ProfileOptions(memory_per_worker=m)).fingerprint.model_dump_json()
        for m in (1 << 17, 1 << 18, 1 << 20, 1 << 29)
    }
    assert len(results) == 1


def test_headers_only_reads_no_voxels(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    h5(path, "raw", np.ones((3, 4, 5), "u1"), chunks=None)
    case = CaseSource(id="a", images=(source(path, "raw"),))
    result = profile_case(case, tmp_path, ProfileOptions(headers_only=True))
    assert result.fingerprint.channels == ()
    assert result.fingerprint.crop_box == ((0, 3), (0, 4), (0, 5))
    assert result.fingerprint.foreground_voxels is None


def test_shapes_that_differ_name_both_files(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    h5(path, "raw", np.ones((3, 4, 5), "u1"), chunks=None)
    h5(path, "labels", np.ones((3, 4, 6), "u1"), chunks=None)
    case = CaseSource(id="a", images=(source(path, "raw"),), label=source(path, "labels"))
    with pytest.raises(CaseError, match=r"a\.h5:raw.*3 x 4 x 5.*a\.h5:labels.*3 x 4 x 6") as caught:
        profile_case(case, tmp_path, ProfileOptions())
    assert caught.value.kind == "shape-mismatch"


@pytest.mark.parametrize(
    ("values", "ignore", "kind"),
    [
        (np.array([0.0, 1.0, 0.5], "f4"), None, "label-not-integer"),
        (np.array([0.0, 1.0, np.nan], "f4"), None, "label-not-integer"),
        (np.array([0, 1, -1], "i2"), None, "label-negative"),
        (np.array([0, 1, -1], "i2"), -1, None),
        (np.array([0.0, 1.0, 2.0], "f8"), None, None),
    ],
)
def test_labels_that_are_none(values: Array, ignore: int | None, kind: str | None) -> None:
    image = ArrayVolume("image", np.ones((1, 1, 1, 3), "u1"))
    label = ArrayVolume("label", values.reshape(1, 1, 1, 3))
    scan = CaseScan([image], label, ignore, 1 << 20)
    if kind is None:
        scan.run()
        assert summed_up([image], label, scan).fingerprint.foreground_voxels == np.count_nonzero(values > 0)
        return
    with pytest.raises(CaseError, match="label") as caught:  # noqa: PT012 - either step may find it
        scan.run()
        summed_up([image], label, scan)
    assert caught.value.kind == kind


def test_scaled_labels_are_read_as_what_they_mean() -> None:
    image = ArrayVolume("image", np.ones((1, 1, 1, 3), "u1"))
    label = ArrayVolume("label", np.array([0, 2, 4], "u1").reshape(1, 1, 1, 3), slope=0.5)
    scan = CaseScan([image], label, None, 1 << 20)
    scan.run()
    result = summed_up([image], label, scan)
    assert result.labels is not None
    assert result.labels.counts == {0: 1, 1: 1, 2: 1}


def test_what_stands_out_is_said(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    h5(path, "zero", np.zeros((3, 4, 5), "f4"), chunks=None, resolution=[2.0, 1.0, 1.0])
    h5(path, "flat", np.full((3, 4, 5), 6, "f4"), chunks=None)
    h5(path, "nan", np.full((3, 4, 5), np.nan, "f4"), chunks=None, resolution=[2.0, 1.0, 1.1])
    h5(path, "background", np.zeros((3, 4, 5), "u1"), chunks=None, resolution=[2.0, 1.0, 1.000001])

    def warnings(*images: str) -> str:
        case = CaseSource(
            id="a", images=tuple(source(path, i) for i in images), label=source(path, "background")
        )
        return "\n".join(profile_case(case, tmp_path, ProfileOptions()).fingerprint.warnings)

    zero, flat, nan = warnings("zero"), warnings("flat"), warnings("zero", "nan")
    assert "every voxel is zero" in zero
    assert "only background" in zero
    assert "spacing" not in zero
    assert "constant, every voxel is 6" in flat
    assert "has no spacing, but its label map" in flat
    assert "channel 1: 60 voxels are NaN" in nan
    assert "spacing 2 x 1 x 1 (ZYX)" in nan


def test_the_content_key_changes_with_the_content(tmp_path: Path) -> None:
    path = tmp_path / "a.raw"
    case = CaseSource(id="a", images=(VolumeSource(paths=(path,)),))
    keys = [content_key(case)]
    for content in (b"one", b"two", b"three"):
        path.write_bytes(content)
        keys.append(content_key(case))
    assert all(a != b for a, b in itertools.combinations(keys, 2))
    assert content_key(case) == keys[-1]
