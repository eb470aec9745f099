"""OME-TIFF whose planes lie in other files: none is opened, no voxel is made up, and the case says so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from voxplan.profiling.case import ProfileOptions, profile_case
from voxplan.profiling.fingerprint import CaseFingerprint
from voxplan.profiling.formats.base import CaseSource, FormatError, VolumeSource

OWN, OTHER = "urn:uuid:11111111-1111-1111-1111-111111111111", "urn:uuid:22222222-2222-2222-2222-222222222222"
OME = """<?xml version="1.0"?>
<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="{uuid}"><Image ID="Image:0">
<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="9" SizeY="8" SizeZ="3" SizeC="1" SizeT="1">
<Channel ID="Channel:0:0" SamplesPerPixel="1"/>{planes}</Pixels></Image></OME>"""


def ome(path: Path, voxels: np.ndarray, planes: str, uuid: str = OWN) -> None:
    text = OME.format(uuid=uuid, planes=planes)
    options = {"photometric": "minisblack", "description": text, "metadata": None}
    tifffile.imwrite(path, voxels.astype(np.uint8), **options)


def plane(z: int, uuid: str, name: str, count: int = 1) -> str:
    at = f'IFD="0" FirstZ="{z}" PlaneCount="{count}"'
    return f'<TiffData {at}><UUID FileName="{name}">{uuid}</UUID></TiffData>'


def profiled(*paths: Path) -> CaseFingerprint:
    case = CaseSource(id="a", images=(VolumeSource(paths=paths),))
    return profile_case(case, paths[0].parent, ProfileOptions()).fingerprint


@pytest.mark.parametrize("how", ["../secret.tif", "absolute", "link.tif", "not-there.tif", "beside.tif"])
def test_planes_in_other_files_are_not_read(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    name = str(tmp_path / "secret.tif") if how == "absolute" else how
    for other in (tmp_path / "secret.tif", folder / "beside.tif"):
        tifffile.imwrite(other, np.full((2, 8, 9), 77, np.uint8), photometric="minisblack")
    (folder / "link.tif").symlink_to("../secret.tif")
    path = folder / "a.ome.tif"
    ome(path, np.full((8, 9), 5), plane(0, OWN, "a.ome.tif") + plane(1, OTHER, name, 2))
    opened: list[str] = []
    real = tifffile.FileHandle.open

    def noted(self: tifffile.FileHandle) -> None:
        opened.append(str(self._file))
        real(self)

    monkeypatch.setattr(tifffile.FileHandle, "open", noted)
    found = profiled(path)
    assert set(opened) == {str(path)}
    assert found.shape == (1, 8, 9)
    crop = found.channels[0].crop
    assert crop is not None
    assert (crop.min, crop.mean, crop.max, crop.count) == (5, 5, 5, 72)
    assert any("other files" in warning and Path(name).name in warning for warning in found.warnings)


def test_slices_that_know_of_each_other_are_a_stack(tmp_path: Path) -> None:
    """Bio-Formats writes one plane a file, and the whole list of files into each."""
    uuids = [f"urn:uuid:{n}{OWN[10:]}" for n in (3, 4, 5)]
    names = [f"z{n}.ome.tif" for n in range(3)]
    planes = "".join(plane(z, uuid, name) for z, (uuid, name) in enumerate(zip(uuids, names, strict=True)))
    for z, (uuid, name) in enumerate(zip(uuids, names, strict=True)):
        ome(tmp_path / name, np.full((8, 9), z + 1), planes, uuid)
    found = profiled(*(tmp_path / name for name in names))
    assert found.shape == (3, 8, 9)
    crop = found.channels[0].crop
    assert crop is not None
    assert (crop.min, crop.mean, crop.max) == (1, 2, 3)
    assert not any("other files" in warning for warning in found.warnings)


def test_planes_that_are_declared_and_not_there_are_no_zeros(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    ome(path, np.full((2, 8, 9), 5), '<TiffData IFD="0" PlaneCount="3"/>')
    with pytest.raises(FormatError, match=r"a\.ome\.tif: .*plane 2"):
        profiled(path)


@pytest.mark.parametrize("declared", ["images=9\nslices=9\n", "slices=9\n", "channels=3\nslices=3\n"])
def test_an_imagej_stack_in_one_piece_that_is_cut_short(declared: str, tmp_path: Path) -> None:
    """ImageJ's form of stacks beyond 4 GB: one page, and the voxels of all images behind it."""
    voxels = np.arange(9 * 40).reshape(9, 5, 8).astype(np.uint8)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, voxels[0], description=f"ImageJ=1.54\n{declared}", metadata=None)
    with tifffile.TiffFile(path) as file:
        assert file.pages.first.dataoffsets[0] + voxels[0].nbytes == path.stat().st_size
    with path.open("ab") as more:
        more.write(voxels[1:].tobytes())
    found = profiled(path)
    channels = [channel.crop for channel in found.channels]
    assert (found.shape[0] * len(channels), found.shape[1:]) == (9, (5, 8))
    assert max(crop.max for crop in channels if crop is not None) == voxels.max()
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(FormatError, match="declares 9 images in one piece"):
        profiled(path)


def test_an_imagej_description_of_more_images_than_pages(tmp_path: Path) -> None:
    """As of a part that was saved with the description of the whole: it is read, and the case says so."""
    path = tmp_path / "a.tif"
    voxels, options = np.ones((3, 5, 8), np.uint8), {"photometric": "minisblack", "metadata": None}
    tifffile.imwrite(path, voxels, description="ImageJ=1.54\nimages=7\n", **options)
    found = profiled(path)
    assert found.shape == (3, 5, 8)
    assert any("declares 7 images, and 3 are read" in warning for warning in found.warnings)
