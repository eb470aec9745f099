"""Files of a few kilobytes that ask for terabytes: each is refused, or read within the memory of a worker."""

from __future__ import annotations

import contextlib
import gzip
import json
import resource
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
import pytest
import tifffile
import zarr
from zarr.codecs import GzipCodec, ZstdCodec

from voxplan.profiling.case import ProfileOptions, profile_case
from voxplan.profiling.formats.base import CaseSource, FormatError, VolumeSource
from voxplan.profiling.scan import CaseError

VOLUME = np.random.default_rng(1).integers(0, 200, (4, 6, 8)).astype(np.uint8)
BUDGET = 256 << 20
"""Memory of the worker in these tests, of which its interpreter takes a good third."""

CHILD = """
import re, sys
from pathlib import Path
from voxplan.profiling.case import ProfileOptions
from voxplan.profiling.fingerprint import Failure
from voxplan.profiling.formats.base import CaseSource, VolumeSource
from voxplan.profiling.tasks import CaseTask, run_case
path = Path(sys.argv[1])
case = CaseSource(id="a", images=(VolumeSource(paths=(path,)),))
options = ProfileOptions(memory_per_worker=int(sys.argv[2]))
result = run_case(CaseTask(case, path.parent, options, "entry", path.parent))
print("profiled" if not isinstance(result, Failure) else f"{result.kind}: {result.reason}")
print(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""


def in_worker(path: Path, budget: int = BUDGET) -> tuple[str, int]:
    """What becomes of a case in a process of its own, and the highest memory of that process, in bytes."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(path), str(budget)], capture_output=True, text=True, check=True
    )
    outcome, peak = done.stdout.splitlines()
    return outcome, int(peak) * 1024


def profile(path: Path, **options: Any) -> Any:
    case = CaseSource(id="a", images=(VolumeSource(paths=(path,)),))
    return profile_case(case, path.parent, ProfileOptions(**options)).fingerprint


def nifti_bytes(dims: tuple[int, int, int], offset: float = 352.0) -> bytes:
    raw = bytearray(nibabel.Nifti1Image(VOLUME.T, np.eye(4)).to_bytes())
    struct.pack_into("<4h", raw, 40, 3, *dims)
    struct.pack_into("<f", raw, 108, offset)
    return bytes(raw)


def test_gzip_that_inflates_to_a_terabyte_of_declared_voxels(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress(nifti_bytes((32767, 32767, 1024))))
    with pytest.raises(FormatError, match="compressed bytes can hold"):
        profile(path)


def test_gzip_that_goes_on_behind_its_voxels_is_not_inflated_to_its_end(tmp_path: Path) -> None:
    """Only what the header declares is inflated: of this stream, 544 bytes of some gigabytes."""
    path = tmp_path / "a.nii.gz"
    squeeze = zlib.compressobj(9, zlib.DEFLATED, 31)
    start = squeeze.compress(nifti_bytes((8, 6, 4))) + squeeze.flush(zlib.Z_FULL_FLUSH)
    path.write_bytes(start + bomb_deflate(4 << 30) + bytes(8))
    outcome, peak = in_worker(path)
    assert outcome == "profiled"
    assert peak < BUDGET


def test_gzip_whose_planes_do_not_fit_is_refused_with_the_number(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress(nifti_bytes((32767, 32767, 1))) + bytes(2 << 20))
    with pytest.raises(CaseError, match=r"needs [\d,]+ MiB, more than the 512 MiB"):
        profile(path)


def test_gzip_whose_voxels_begin_behind_a_terabyte(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress(nifti_bytes((8, 6, 4), offset=float(2**40))))
    with pytest.raises(FormatError, match="compressed bytes can hold"):
        profile(path)


def test_hdf5_that_declares_2_to_the_60_voxels(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("raw", (2**20, 2**20, 2**20), "u1", chunks=(64, 64, 64), compression="gzip")
    with pytest.raises(FormatError, match="headers-only") as caught:
        profile(path)
    assert caught.value.kind == "too-large"
    assert profile(path, headers_only=True).shape == (2**20, 2**20, 2**20)


def test_hdf5_with_a_chunk_larger_than_a_worker(tmp_path: Path) -> None:
    """The volume is small, its only chunk is not, and HDF5 decodes chunks whole."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset(
            "raw", (4, 6, 8), "u1", maxshape=(None, None, None), chunks=(1500, 1500, 1500), compression="gzip"
        )
    with pytest.raises(CaseError, match="decodes to 3,219 MiB"):
        profile(path)


def nested_virtual(path: Path, levels: int, parts: int, shape: tuple[int, int, int] = (2, 3, 4)) -> None:
    """``top`` is made of ``parts`` data sets over each other, each of them of all those a level below."""
    with h5py.File(path, "w") as file:
        for number in range(parts):
            file[f"{levels}_{number}"] = np.full(shape, 7, np.uint8)
        for level in reversed(range(levels)):
            for number in range(parts):
                layout = h5py.VirtualLayout(shape, "u1")
                for part in range(parts):
                    layout[:] = h5py.VirtualSource(".", f"{level + 1}_{part}", shape=shape)
                file.create_virtual_dataset(f"{level}_{number}", layout)
        file["top"] = file["0_0"]


def test_hdf5_of_virtual_data_sets_of_virtual_data_sets(tmp_path: Path) -> None:
    """A megabyte whose check alone, and whose reading by HDF5, would take 10^12 steps."""
    path = tmp_path / "a.h5"
    nested_virtual(path, levels=12, parts=10)
    case = CaseSource(id="a", images=(VolumeSource(paths=(path,), key="top"),))
    with pytest.raises(FormatError, match=r"make [\d,]+ reads of one") as caught:
        profile_case(case, tmp_path, ProfileOptions())
    assert caught.value.kind == "too-large"
    nested_virtual(path, levels=3, parts=3)
    crop = profile_case(case, tmp_path, ProfileOptions()).fingerprint.channels[0].crop
    assert crop is not None
    assert (crop.count, crop.min, crop.max) == (24, 7, 7)


@pytest.mark.parametrize("checked", [False, True], ids=["gzip", "gzip-fletcher32"])
def test_hdf5_chunk_that_inflates_to_gigabytes(tmp_path: Path, checked: bool) -> None:
    """With a checksum HDF5 itself inflates, into a buffer that it doubles as long as there is more."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset(
            "raw", (4, 6, 8), "u1", chunks=(4, 6, 8), compression="gzip", fletcher32=checked
        )
        dataset.id.write_direct_chunk((0, 0, 0), bomb_zlib(2 << 30), filter_mask=0b10 if checked else 0)
    outcome, peak = in_worker(path)
    assert outcome.startswith("unreadable")
    assert str(path) in outcome
    assert peak < BUDGET + (256 << 20)


def bomb_deflate(size: int) -> bytes:
    """Raw deflate: a block of a MiB of zeros, ended at a byte, again and again; then an empty last one."""
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = squeeze.compress(bytes(1 << 20)) + squeeze.flush(zlib.Z_FULL_FLUSH)
    return block * (size >> 20) + squeeze.flush()


def bomb_zlib(size: int) -> bytes:
    """Its checksum is wrong, which shows only at the end."""
    return zlib.compress(b"")[:2] + bomb_deflate(size) + bytes(4)


def bomb_gzip(size: int) -> bytes:
    return gzip.compress(b"")[:10] + bomb_deflate(size) + bytes(8)


def bomb_zstd(size: int) -> bytes:
    """Frames one after the other are one stream."""
    import imagecodecs

    return bytes(imagecodecs.zstd_encode(bytes(1 << 24), 1)) * (size >> 24)


@pytest.mark.parametrize("codec", ["gzip", "zstd"])
def test_zarr_chunk_that_inflates_to_gigabytes(tmp_path: Path, codec: str) -> None:
    path = tmp_path / "a.zarr"
    compressor, bomb = {"gzip": (GzipCodec(), bomb_gzip), "zstd": (ZstdCodec(), bomb_zstd)}[codec]
    array = zarr.create_array(
        str(path), shape=(4, 6, 8), chunks=(4, 6, 8), dtype="u1", compressors=compressor
    )
    array[...] = VOLUME
    (path / "c" / "0" / "0" / "0").write_bytes(bomb(2 << 30))
    outcome, peak = in_worker(path)
    assert not outcome.startswith(("profiled", "error"))
    assert str(path) in outcome
    assert peak < BUDGET + (256 << 20)


AGAIN = """
import sys
from pathlib import Path
from voxplan.profiling.case import ProfileOptions
from voxplan.profiling.formats.base import CaseSource, VolumeSource
from voxplan.profiling.tasks import CaseTask, run_case

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

def run(path):
    case = CaseSource(id="a", images=(VolumeSource(paths=(path,)),))
    return run_case(CaseTask(case, path.parent, ProfileOptions(), "entry", path.parent))

bomb, good = map(Path, sys.argv[1:])
run(bomb), run(good)
before = resident()
for _ in range(40):
    run(bomb)
run(good)
print((resident() - before) >> 20)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="malloc_trim is glibc's")
def test_what_bombs_leave_behind_is_given_back(tmp_path: Path) -> None:
    """Found by mutation: each thread's heap kept its share, and a worker grew by 1 GiB in forty cases."""
    path = tmp_path / "a.zarr"
    array = zarr.create_array(
        str(path), shape=(4, 6, 8), chunks=(2, 3, 4), dtype="u1", compressors=GzipCodec()
    )
    array[...] = VOLUME
    for chunk in sorted((path / "c").rglob("*"))[::2]:
        if chunk.is_file():
            chunk.write_bytes(bomb_gzip(64 << 20))
    good = tmp_path / "good.nii"
    nibabel.Nifti1Image(VOLUME.T, np.eye(4)).to_filename(good)
    done = subprocess.run(
        [sys.executable, "-c", AGAIN, str(path), str(good)], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 48


def test_zarr_with_a_chunk_larger_than_a_worker(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    zarr.create_array(str(path), shape=(4, 6, 8), chunks=(4, 6, 8), dtype="u1")
    metadata = json.loads((path / "zarr.json").read_text())
    metadata["chunk_grid"]["configuration"]["chunk_shape"] = [2000, 2000, 2000]
    (path / "zarr.json").write_text(json.dumps(metadata))
    with pytest.raises(CaseError, match="decodes to 7,629 MiB"):
        profile(path)


def test_zarr_that_declares_2_to_the_60_voxels(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    array = zarr.create_array(str(path), shape=(2**20,) * 3, chunks=(64, 64, 64), dtype="u1")
    array[:64, :64, :64] = 1
    with pytest.raises(FormatError, match="headers-only") as caught:
        profile(path)
    assert caught.value.kind == "too-large"


def test_tiff_tile_larger_than_a_worker(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((16, 16), np.uint8), tile=(16, 16), compression="zlib")
    raw = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        for name in ("TileWidth", "TileLength"):
            tag = file.pages.first.tags[name]
            struct.pack_into("<HHII", raw, tag.offset, tag.code, 4, 1, 40_000)
    path.write_bytes(raw)
    with pytest.raises(CaseError, match="decodes to 1,526 MiB"):
        profile(path)


def test_tiff_strip_that_inflates_to_gigabytes(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, VOLUME[0], compression="zlib", rowsperstrip=6, metadata=None)
    raw = bytearray(path.read_bytes())
    bomb = bomb_zlib(1 << 30)
    with tifffile.TiffFile(path) as file:
        tags = file.pages.first.tags
        struct.pack_into("<I", raw, tags["StripOffsets"].offset + 8, len(raw))
        struct.pack_into("<HHII", raw, tags["StripByteCounts"].offset, 279, 4, 1, len(bomb))
        struct.pack_into("<HHII", raw, tags["StripOffsets"].offset, 273, 4, 1, len(raw))
    path.write_bytes(bytes(raw) + bomb)
    outcome, peak = in_worker(path)
    assert outcome.startswith("unreadable")
    assert peak < BUDGET + (256 << 20)


BILLION_LAUGHS = (
    '<?xml version="1.0"?><!DOCTYPE OME ['
    + '<!ENTITY a "ha">'
    + "".join(f'<!ENTITY {c} "{f"&{p};" * 10}">' for p, c in zip("abcdefghij", "bcdefghijk", strict=True))
    + ']><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image><Pixels PhysicalSizeX="&k;"/>'
    "</Image></OME>"
)


def test_ome_xml_with_entities(tmp_path: Path) -> None:
    """Ten billion times ``ha`` in half a kilobyte: no entity is expanded, and none is fetched."""
    secret = tmp_path / "secret.txt"
    secret.write_text("0.5")
    outside = (
        f'<?xml version="1.0"?><!DOCTYPE OME [<!ENTITY x SYSTEM "file://{secret}">]>'
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image><Pixels PhysicalSizeX="1">&x;'
        "</Pixels></Image></OME>"
    )
    for number, text in enumerate((BILLION_LAUGHS, outside)):
        path = tmp_path / f"{number}.ome.tif"
        tifffile.imwrite(path, VOLUME, photometric="minisblack", description=text, metadata=None)
        outcome, peak = in_worker(path)
        assert peak < BUDGET
        assert outcome == "profiled" or "OME" in outcome or "damaged" in outcome
        with contextlib.suppress(FormatError):
            assert profile(path).spacing.values is None


def test_many_channels_of_16_bits_are_refused_with_the_number(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("raw", data=np.zeros((2000, 2, 2, 2), np.uint16))
    case = CaseSource(id="a", images=(VolumeSource(paths=(path,)),))
    from voxplan.profiling.formats.base import ReadOptions

    options = ProfileOptions(read=ReadOptions(axes="czyx"))
    with pytest.raises(CaseError, match="2,000 channels of 16 bits need 2,000 MiB"):
        profile_case(case, tmp_path, options)


def test_the_ceiling_is_taken_away_again(tmp_path: Path) -> None:
    path = tmp_path / "a.nii"
    nibabel.Nifti1Image(VOLUME.T, np.eye(4)).to_filename(path)
    before = resource.getrlimit(resource.RLIMIT_DATA)
    profile(path)
    path.write_bytes(b"")
    with pytest.raises(FormatError):
        profile(path)
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


def test_hdf5_chunk_shorter_than_its_checksum(tmp_path: Path) -> None:
    """Found by mutation: HDF5 itself crashes on it (seeds 3793 and 8840)."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("raw", (4, 6, 8), "f4", chunks=(4, 6, 8), fletcher32=True)
        dataset.id.write_direct_chunk((0, 0, 0), b"x")
    outcome, _ = in_worker(path)
    assert "fewer than its checksum" in outcome


@pytest.mark.parametrize("how", ["no filter", "filter left out"])
def test_hdf5_chunk_shorter_than_its_voxels(how: str, tmp_path: Path) -> None:
    """Found by mutation (seed 100039): HDF5 copies a whole chunk out of the nine bytes that it has."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        options = {} if how == "no filter" else {"compression": "lzf"}
        dataset = file.create_dataset("raw", (4, 90, 4000), "u8", chunks=(4, 9, 1000), **options)
        dataset.id.write_direct_chunk((0, 9, 1000), b"x" * 9, filter_mask=0b1)
    outcome, _ = in_worker(path)
    assert "has 9 bytes, its voxels need 288000" in outcome


@pytest.mark.parametrize("kind", ["zarr", "tiff"])
def test_storage_in_pieces_of_nothing(kind: str, tmp_path: Path) -> None:
    if kind == "zarr":
        path = tmp_path / "a.zarr"
        zarr.create_array(str(path), shape=(4, 6, 8), chunks=(4, 6, 8), dtype="u1", zarr_format=2)
        metadata = json.loads((path / ".zarray").read_text())
        metadata["chunks"] = [4, 0, 8]
        (path / ".zarray").write_text(json.dumps(metadata))
    else:
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, np.zeros((16, 16), np.uint8), tile=(16, 16), compression="zlib", metadata=None)
        raw = bytearray(path.read_bytes())
        with tifffile.TiffFile(path) as file:
            tag = file.pages.first.tags["TileLength"]
            struct.pack_into("<HHII", raw, tag.offset, tag.code, 4, 1, 0)
        path.write_bytes(raw)
    with pytest.raises(FormatError, match=str(path)):
        profile(path)


def test_metaimage_that_crashes_simpleitk(tmp_path: Path) -> None:
    """Found by mutation (seed 3692): its parser takes ``NDims`` for granted."""
    path = tmp_path / "a.mha"
    path.write_bytes(
        b"ObjectType = Image\nNDims = 2147483648\nBinaryData = False\nElementSpacing = 1 1 1\n"
        b"DimSize = 8 6 4\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n" + b"1 " * 192
    )
    outcome, _ = in_worker(path)
    assert outcome.startswith(("unreadable", "profiled"))


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
def test_interleaved_channels_in_one_stream(suffix: str, tmp_path: Path) -> None:
    """Vector images, deflated: whole, without SimpleITK, and never more than the file can hold."""
    import SimpleITK as sitk

    path = tmp_path / f"a{suffix}"
    voxels = np.random.default_rng(4).integers(0, 99, (4, 6, 8, 5)).astype(np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(voxels, isVector=True), str(path), True)
    found = profile(path)
    assert len(found.channels) == 5
    assert found.channels[3].crop.mean == pytest.approx(voxels[..., 3].mean(), rel=1e-12)
    text = path.read_bytes()
    for name in (b"sizes: 5 8 6 4", b"DimSize = 8 6 4"):
        text = text.replace(name, name.replace(b"8 6 4", b"80000 600 400"))
    path.write_bytes(text)
    with pytest.raises(FormatError, match="compressed bytes can hold"):
        profile(path)
