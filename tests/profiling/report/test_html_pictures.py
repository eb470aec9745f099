"""Pictures hold the right voxels the right way up; bad files cost their picture only."""

from __future__ import annotations

import base64
from itertools import pairwise
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from voxplan.profiling.case import ProfileOptions, profile_case
from voxplan.profiling.fingerprint import CaseFingerprint
from voxplan.profiling.formats.base import CaseSource, ReadOptions, VolumeSource
from voxplan.profiling.layouts import discover
from voxplan.profiling.report.html.colours import LabelColours
from voxplan.profiling.report.html.pictures import Picture, picture_case
from voxplan.profiling.report.html.selection import choose_pictured

COLOURS = LabelColours({"background": (0,), "cell": (1,)}, None)


def write(array: NDArray[np.generic], path: Path, direction: tuple[float, ...] | None = None) -> VolumeSource:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((1.0, 2.0, 5.0))
    if direction is not None:
        image.SetDirection(direction)
    sitk.WriteImage(image, str(path))
    return VolumeSource(paths=(path,))


def pictured(source: CaseSource, root: Path, longest: int = 64) -> Picture:
    case = profile_case(source, root, ProfileOptions()).fingerprint
    return picture_case(
        case,
        source,
        ReadOptions(),
        colours=COLOURS,
        channel_names=("CT",),
        longest=longest,
        memory=64 << 20,
    )


def decoded(uri: str) -> NDArray[np.uint8]:
    head, _, content = uri.partition(",")
    data = base64.b64decode(content)
    image = imagecodecs.jpeg8_decode(data) if "jpeg" in head else imagecodecs.png_decode(data)
    return np.asarray(image)


def test_head_nose_and_right_are_up_and_left(tmp_path: Path) -> None:
    """ITK's identity runs to the left, the back and the head: bright is what is right, front and high."""
    array = np.full((20, 30, 40), 10, np.int16)
    array[10:, :15, :20] = 200  # high Z: head; low Y: front; low X: right
    source = CaseSource(id="a", images=(write(array, tmp_path / "a.nii"),))
    picture = pictured(source, tmp_path)
    assert picture.remarks == ()
    (triptych,) = picture.triptychs
    assert [panel.view.edges for panel in triptych.panels] == [
        ("A", "P", "R", "L"),
        ("S", "I", "R", "L"),
        ("S", "I", "A", "P"),
    ]
    for panel in triptych.panels[:1]:  # z = 10 goes through the bright half
        image = decoded(panel.image)
        half = (image.shape[0] // 2, image.shape[1] // 2)
        assert image[: half[0] - 4, : half[1] - 4].mean() > 240
        assert image[half[0] + 4 :, half[1] + 4 :].mean() < 15


def test_turned_files_look_the_same(tmp_path: Path) -> None:
    array = np.full((20, 30, 40), 10, np.int16)
    array[10:, :15, :20] = 200
    straight = CaseSource(id="a", images=(write(array, tmp_path / "a.nii"),))
    turned = np.ascontiguousarray(array[:, ::-1, ::-1])
    direction = (-1.0, 0, 0, 0, -1.0, 0, 0, 0, 1.0)
    other = CaseSource(id="b", images=(write(turned, tmp_path / "b.nii", direction),))
    first = decoded(pictured(straight, tmp_path).triptychs[0].panels[0].image)
    second = decoded(pictured(other, tmp_path).triptychs[0].panels[0].image)
    np.testing.assert_allclose(first.astype(int), second.astype(int), atol=12)


def test_panels_have_the_extent_of_the_volume(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 99, (20, 30, 40)).astype(np.int16)
    source = CaseSource(id="a", images=(write(array, tmp_path / "a.nii"),))
    panels = pictured(source, tmp_path).triptychs[0].panels
    # 20 x 5, 30 x 2, 40 x 1
    assert [(panel.height, panel.width) for panel in panels] == [(60, 40), (100, 40), (100, 60)]


def test_small_lesions_are_looked_for(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(1, 99, (20, 30, 40)).astype(np.int16)
    labels = np.zeros(array.shape, np.uint8)
    labels[3, 25, 6:9] = 1
    source = CaseSource(
        id="a", images=(write(array, tmp_path / "a.nii.gz"),), label=write(labels, tmp_path / "l.nii.gz")
    )
    picture = pictured(source, tmp_path)
    assert [panel.index for panel in picture.triptychs[0].panels] == [3, 25, 6]
    assert "these are the fullest ones" in picture.remarks[0]
    overlay = decoded(picture.triptychs[0].panels[0].labels or "")
    assert np.count_nonzero(overlay[..., 3]) == 3
    assert picture.triptychs[0].panels[0].labels_alt == "labels: cell 0.2%"


def test_a_file_that_vanished_costs_its_picture_only(tmp_path: Path) -> None:
    array = np.ones((4, 5, 6), np.int16)
    source = CaseSource(id="a", images=(write(array, tmp_path / "a.nii"),))
    case = profile_case(source, tmp_path, ProfileOptions()).fingerprint
    (tmp_path / "a.nii").unlink()
    picture = picture_case(
        case, source, ReadOptions(), colours=COLOURS, channel_names=(), longest=64, memory=1 << 24
    )
    assert picture.triptychs == ()
    assert "no such file" in picture.remarks[0]


def test_one_slice_is_one_panel_and_no_spacing_is_said(tmp_path: Path) -> None:
    import tifffile

    tifffile.imwrite(tmp_path / "a.tif", np.arange(600, dtype=np.uint16).reshape(20, 30))
    picture = pictured(CaseSource(id="a", images=(VolumeSource(paths=(tmp_path / "a.tif",)),)), tmp_path)
    assert len(picture.triptychs[0].panels) == 1
    assert picture.remarks == ("spacing missing: drawn as if voxels were cubes",)


def test_selection_takes_odd_ones_and_spreads_the_rest(tmp_path: Path) -> None:
    source = CaseSource(id="a", images=(write(np.ones((4, 5, 6), np.int16), tmp_path / "a.nii"),))
    one = profile_case(source, tmp_path, ProfileOptions()).fingerprint
    usual = one.model_copy(update={"warnings": ()})
    cases: list[CaseFingerprint] = [
        usual.model_copy(update={"id": f"{n:03d}", "warnings": ("odd",) if n in (7, 901) else ()})
        for n in range(1000)
    ]
    chosen = [case.id for case in choose_pictured(cases, (), most=10)]
    assert len(chosen) == 10
    assert {"007", "901"} <= set(chosen)
    assert chosen == sorted(chosen)
    others = sorted(int(number) for number in chosen if number not in ("007", "901"))
    assert all(100 < b - a < 150 for a, b in pairwise(others))
    assert choose_pictured(cases[:10], (), most=10) == cases[:10]


@pytest.mark.real_data
def test_real_cases_are_pictured(voxplan_data: Path) -> None:
    found = discover(voxplan_data / "nnunet_raw" / "Dataset502_HeadsAniso")
    source = found.cases[0]
    picture = pictured(source, found.root, longest=256)
    assert picture.remarks == ()
    assert len(picture.triptychs[0].panels) == 3
    for panel in picture.triptychs[0].panels:
        image = decoded(panel.image)
        assert image.std() > 5
        assert panel.labels is not None
        assert decoded(panel.labels).shape[:2] == image.shape


@pytest.mark.real_data
def test_real_sections_are_pictured_to_scale(voxplan_data: Path) -> None:
    """20 sections of 1024 x 1024, 45 x 4.6 x 4.6 nm."""
    found = discover(voxplan_data / "em_vnc" / "slices")
    case = profile_case(found.cases[0], found.root, ProfileOptions(headers_only=True)).fingerprint
    spacing = case.spacing.model_copy(update={"values": (45.0, 4.6, 4.6), "unit": "nm", "source": "user"})
    picture = picture_case(
        case.model_copy(update={"spacing": spacing}),
        found.cases[0],
        ReadOptions(),
        colours=COLOURS,
        channel_names=("EM",),
        longest=256,
        memory=64 << 20,
    )
    panels = picture.triptychs[0].panels
    assert panels[1].height / panels[1].width == pytest.approx(20 * 45 / (1024 * 4.6))
    assert decoded(panels[0].image).shape == (256, 256)
