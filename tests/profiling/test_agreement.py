"""Files of one case that disagree about where the voxels lie, written with the formats' own libraries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from voxplan.profiling.case import CaseSource, ProfileOptions, profile_case
from voxplan.profiling.fingerprint import Mismatch
from voxplan.profiling.formats import open_volume
from voxplan.profiling.formats.base import VolumeSource

VOLUME = np.random.default_rng(5).integers(1, 90, (4, 6, 8)).astype(np.int16)
SUFFIXES = (".nii.gz", ".nrrd", ".mha")


def write(
    path: Path,
    spacing: tuple[float, float, float] = (0.5, 0.75, 2.0),
    origin: tuple[float, float, float] = (-100.0, 20.0, 7.5),
    degrees: float = 30.0,
    flip: bool = False,
) -> Path:
    """XYZ, LPS, as SimpleITK has them; turned about Z."""
    image = sitk.GetImageFromArray(VOLUME)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    image.SetDirection((c, -s, 0, s, c, 0, 0, 0, -1 if flip else 1))
    sitk.WriteImage(image, str(path))
    return path


def mismatches(image: Path, label: Path) -> tuple[Mismatch, ...]:
    case = CaseSource(id="a", images=(VolumeSource(paths=(image,)),), label=VolumeSource(paths=(label,)))
    return profile_case(case, image.parent, ProfileOptions(headers_only=True)).fingerprint.mismatches


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("other", SUFFIXES)
def test_the_same_geometry_agrees_whatever_the_format(tmp_path: Path, suffix: str, other: str) -> None:
    assert mismatches(write(tmp_path / f"a{suffix}"), write(tmp_path / f"b{other}")) == ()


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({"spacing": (0.5, 0.75, 2.1)}, "spacing", "2 x 0.75 x 0.5"),
        # 30 degrees about Z: 1.5 mm along X are 1.5 cos 30 along the first axis, -1.5 sin 30 along the second
        ({"origin": (-98.5, 20.0, 7.5)}, "origin", "0, -1, 2.598 voxels"),
        ({"degrees": 31.0}, "direction", "1 degrees apart"),
        ({"flip": True}, "direction", "orientation"),
    ],
)
def test_what_differs_is_named(tmp_path: Path, suffix: str, changes: Any, kind: str, words: str) -> None:
    found = mismatches(write(tmp_path / f"a{suffix}"), write(tmp_path / f"b{suffix}", **changes))
    assert [mismatch.kind for mismatch in found] == [kind]
    assert found[0].role == "label map"
    assert words in found[0].reason
    assert "b" + suffix in found[0].reason


def test_channels_are_compared_too(tmp_path: Path) -> None:
    one, two = write(tmp_path / "a.nii.gz"), write(tmp_path / "b.nii.gz", origin=(0.0, 20.0, 7.5))
    images = (VolumeSource(paths=(one,)), VolumeSource(paths=(two,)))
    result = profile_case(CaseSource(id="a", images=images), tmp_path, ProfileOptions())
    assert [(m.kind, m.role) for m in result.fingerprint.mismatches] == [("origin", "channel")]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_affine_is_that_of_nibabel_and_simpleitk(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"a{suffix}")
    with open_volume(VolumeSource(paths=(path,))) as volume:
        affine = volume.header.affine
    assert affine is not None
    image = sitk.ReadImage(str(path))
    corner = image.TransformContinuousIndexToPhysicalPoint((1.0, 2.0, 3.0))
    expected = np.array([-corner[0], -corner[1], corner[2]])
    np.testing.assert_allclose(np.array(affine) @ [1, 2, 3, 1], expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("version", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("form", ["qform", "sform"])
def test_affine_of_either_form_and_version(tmp_path: Path, version: Any, form: str) -> None:
    affine = np.array([[0.0, -0.5, 0.0, 11.0], [-0.75, 0.0, 0.0, -7.0], [0.0, 0.0, 2.0, 3.0], [0, 0, 0, 1]])
    image = version(VOLUME.T, None)
    image.header.set_zooms((0.75, 0.5, 2.0))
    (image.set_qform if form == "qform" else image.set_sform)(affine, code=1)
    path = tmp_path / "a.nii"
    image.to_filename(path)
    with open_volume(VolumeSource(paths=(path,))) as volume:
        np.testing.assert_allclose(np.array(volume.header.affine), nibabel.load(path).affine[:3], atol=1e-6)


@pytest.mark.parametrize(("factor", "differs"), [(1 + 1e-7, False), (1 + 3e-6, False), (1.0005, True)])
def test_spacings_differ_where_nnunets_integrity_check_says_so(
    tmp_path: Path, factor: float, differs: bool
) -> None:
    paths = [tmp_path / name for name in ("image.nii.gz", "label.nii.gz")]
    for path, scale in zip(paths, (1.0, factor), strict=True):
        affine = np.diag([0.7 * scale, 0.8 * scale, 2.5 * scale, 1.0])
        nibabel.Nifti1Image(np.ones((4, 5, 6), np.uint8), affine).to_filename(path)
    zooms = [nibabel.load(path).header.get_zooms() for path in paths]
    assert np.allclose(*zooms) != differs, "as nnU-Net 2.8.1 compares them"
    assert [mismatch.kind for mismatch in mismatches(*paths)] == ["spacing"] * differs
