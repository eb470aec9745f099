"""Regions of cases: intensities with their slope, whole labels, several files, files that do not fit."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from voxplan.plans import case_reader
from voxplan.plans.case_reader import CaseReader
from voxplan.plans.targets import LabelError
from voxplan.profiling.formats.base import CaseSource, FormatError, VolumeSource

REGION = (slice(1, 5), slice(0, 6), slice(2, 7))
VALUES = np.random.default_rng(5).integers(0, 200, (6, 7, 8)).astype(np.int16)


def write(path: Path, zyx: NDArray[Any], slope: float = 1.0, intercept: float = 0.0) -> VolumeSource:
    """Stored values as they are; nibabel would choose a slope of its own."""
    plain = path.parent / f"plain_{path.name}.nii"
    nibabel.Nifti1Image(zyx.T, np.diag([0.5, 0.75, 2.5, 1.0])).to_filename(plain)
    content = bytearray(plain.read_bytes())
    plain.unlink()
    struct.pack_into("<2f", content, 112, slope, intercept)  # scl_slope and scl_inter of NIfTI-1
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return VolumeSource(paths=(path,))


def by_nibabel(source: VolumeSource) -> NDArray[np.float64]:
    array: NDArray[np.float64] = nibabel.load(source.paths[0]).get_fdata().T[REGION]  # type: ignore[attr-defined]
    return array


@pytest.fixture
def reader() -> Iterator[CaseReader]:
    with_files = CaseReader()
    yield with_files
    with_files.close()


@pytest.mark.parametrize("cache", ["none", "ram", "disk"])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_slope_and_intercept_are_applied(tmp_path: Path, cache: Any, name: str) -> None:
    image = write(tmp_path / name, VALUES, 0.5, -1024.0)
    label = write(tmp_path / f"label_{name}", VALUES % 3, 2.0, 1.0)
    case = CaseSource(id="a", images=(image,), label=label)
    reader = CaseReader(cache=cache, folder=tmp_path / "cache")
    for _ in range(2):
        assert np.array_equal(reader.image(case, REGION)[0], by_nibabel(image).astype(np.float32))
        assert np.array_equal(reader.label(case, REGION), by_nibabel(label).astype(np.int64))
    assert set(np.unique(reader.label(case, REGION))) == {1, 3, 5}
    reader.close()


def test_labels_that_a_slope_makes_fractions_are_none(tmp_path: Path, reader: CaseReader) -> None:
    image = write(tmp_path / "a.nii", VALUES)
    case = CaseSource(id="case_7", images=(image,), label=write(tmp_path / "l.nii", VALUES % 3, 0.25))
    with pytest.raises(LabelError, match="case_7"):
        reader.label(case, REGION)


def test_channels_of_several_files_stand_in_their_order(tmp_path: Path, reader: CaseReader) -> None:
    sources = tuple(
        write(tmp_path / f"{n}.nii", VALUES + 1000 * n, slope) for n, slope in enumerate((1.0, 0.5))
    )
    case = CaseSource(id="a", images=sources)
    assert reader.header(case).channels == 2
    expected = np.stack([by_nibabel(source) for source in sources]).astype(np.float32)
    assert np.array_equal(reader.image(case, REGION), expected)


def test_files_that_do_not_fit_are_both_named(tmp_path: Path, reader: CaseReader) -> None:
    image, label = write(tmp_path / "image.nii", VALUES), write(tmp_path / "label.nii", VALUES[1:])
    with pytest.raises(
        FormatError, match=r"image\.nii has shape \(6, 7, 8\).*label\.nii has \(5, 7, 8\)"
    ) as caught:
        reader.header(CaseSource(id="a", images=(image,), label=label))
    assert caught.value.kind == "shape-mismatch"


@pytest.mark.parametrize("images", [(), None])
def test_what_is_not_there_is_said(
    tmp_path: Path, reader: CaseReader, images: Sequence[VolumeSource] | None
) -> None:
    if images is None:
        case = CaseSource(id="case_7", images=(write(tmp_path / "a.nii", VALUES),))
        with pytest.raises(FormatError, match="case case_7: has no label map"):
            reader.label(case, REGION)
    else:
        with pytest.raises(FormatError, match="case case_7: has no image"):
            reader.header(CaseSource(id="case_7", images=()))


def test_few_files_are_open_at_a_time(
    tmp_path: Path, reader: CaseReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten thousand cases must not meet the limit of open files; each is right when it comes back."""
    monkeypatch.setattr(case_reader, "MAX_OPEN", 3)
    cases = [CaseSource(id=f"{n}", images=(write(tmp_path / f"{n}.nii", VALUES + n),)) for n in range(8)]
    for _ in range(2):
        for number, case in enumerate(cases):
            assert np.array_equal(reader.image(case, REGION)[0], VALUES[REGION] + number)
            links = [path.resolve().name for path in Path("/proc/self/fd").iterdir()]
            assert sum(name.endswith(".nii") for name in links) <= 3
