"""What a file may not do: allocate, lead out of its folder, hang, or be taken for what it is not."""

from __future__ import annotations

import struct
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import h5py
import imagecodecs
import nibabel
import numpy as np
import pytest
import tifffile

from voxplan.profiling.formats import (
    READERS,
    is_volume_file,
    open_volume,
    reader_for,
    strip_suffix,
)
from voxplan.profiling.formats.base import FormatError, ReadOptions, VolumeSource
from voxplan.profiling.formats.dicom_guard import check_elements

VOLUME = np.random.default_rng(1).integers(0, 200, (4, 6, 8)).astype(np.uint8)
ALL = (slice(0, 4), slice(0, 6), slice(0, 8))


def refused(*paths: Path, key: str | None = None, options: ReadOptions | None = None) -> FormatError:
    with (
        pytest.raises(FormatError) as caught,
        open_volume(VolumeSource(paths=paths, key=key), options or ReadOptions()) as volume,
    ):
        volume.read(tuple(slice(0, n) for n in volume.header.shape))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return caught.value


def test_names() -> None:
    assert strip_suffix(Path("x/case_00.nii.gz")) == "case_00"
    assert strip_suffix(Path("case.OME.TIF")) == "case"
    assert strip_suffix(Path("case.h5")) == "case"
    assert strip_suffix(Path("case.txt")) == "case.txt"
    assert reader_for(Path("A.NII.GZ")).name == "nifti"
    assert is_volume_file(Path("a.mha"))
    assert not is_volume_file(Path("dataset.json"))
    assert not is_volume_file(Path("a.gz"))


def test_every_suffix_belongs_to_one_reader() -> None:
    suffixes = [suffix for reader in READERS for suffix in reader.suffixes]
    assert len(suffixes) == len(set(suffixes))
    for reader in READERS:
        assert [reader_for(Path(f"a{s}")).name for s in reader.suffixes] == [reader.name] * len(
            reader.suffixes
        )


def test_unknown_suffix_names_the_known_ones(tmp_path: Path) -> None:
    (tmp_path / "a.xyz").write_bytes(b"1")
    error = refused(tmp_path / "a.xyz")
    assert error.kind == "unsupported"
    assert ".nii.gz" in str(error)


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii"])
def test_nifti_that_declares_terabytes(tmp_path: Path, name: str) -> None:
    image = nibabel.Nifti1Image(VOLUME.T, np.eye(4))
    image.header.set_xyzt_units("mm")
    raw = bytearray(image.to_bytes())
    raw[40:56] = struct.pack("<8h", 3, 30000, 30000, 30000, 1, 1, 1, 1)
    from isal import igzip

    path = tmp_path / name
    path.write_bytes(igzip.compress(bytes(raw)) if name.endswith("gz") else raw)
    tracemalloc.start()
    error = refused(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "declare" in str(error)
    assert peak < 8 << 20


@pytest.mark.parametrize("field", ["dim", "datatype", "vox_offset", "magic", "size"])
def test_nifti_headers_that_make_no_sense(tmp_path: Path, field: str) -> None:
    raw = bytearray(nibabel.Nifti1Image(VOLUME.T, np.eye(4)).to_bytes())
    at, data = {
        "dim": (40, struct.pack("<4h", 3, 8, -6, 4)),
        "datatype": (70, struct.pack("<h", 77)),
        "vox_offset": (108, struct.pack("<f", 12.0)),
        "magic": (344, b"xyz\0"),
        "size": (0, struct.pack("<i", 347)),
    }[field]
    raw[at : at + len(data)] = data
    (tmp_path / "a.nii").write_bytes(raw)
    assert str(tmp_path / "a.nii") in str(refused(tmp_path / "a.nii"))


@pytest.mark.parametrize("code", [32, 128, 1792, 2304])
def test_nifti_colours_and_complex_numbers(tmp_path: Path, code: int) -> None:
    raw = bytearray(nibabel.Nifti1Image(VOLUME.T, np.eye(4)).to_bytes())
    raw[70:72] = struct.pack("<h", code)
    (tmp_path / "a.nii").write_bytes(raw)
    assert refused(tmp_path / "a.nii").kind == "not-intensities"


def test_gzip_with_a_wrong_checksum(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    nibabel.Nifti1Image(VOLUME.T, np.eye(4)).to_filename(path)
    raw = bytearray(path.read_bytes())
    raw[-8] ^= 0xFF
    path.write_bytes(raw)
    assert "damaged" in str(refused(path))


def test_gzip_is_read_in_bounded_memory(tmp_path: Path) -> None:
    """64 MiB of voxels, plane by plane, in less than 4 MiB."""
    path = tmp_path / "a.nii.gz"
    nibabel.Nifti1Image(np.zeros((512, 512, 256), np.uint8), np.eye(4)).to_filename(path)
    with open_volume(VolumeSource(paths=(path,))) as volume:
        tracemalloc.start()
        for z in range(256):
            volume.read((slice(z, z + 1), slice(0, 512), slice(0, 512)), 0)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 4 << 20


def hdf5(path: Path, **arrays: Any) -> Path:
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array
    return path


def test_hdf5_with_several_volumes_lists_them(tmp_path: Path) -> None:
    path = hdf5(tmp_path / "a.h5", raw=VOLUME, labels=VOLUME.astype(np.uint64), matrix=np.eye(4))
    error = refused(path)
    assert error.kind == "ambiguous"
    assert "labels (4, 6, 8) uint64, raw (4, 6, 8) uint8" in str(error)
    assert list(reader_for(path).keys(path)) == ["labels", "raw"]
    with open_volume(VolumeSource(paths=(path,), key="/raw")) as volume:
        np.testing.assert_array_equal(volume.read(ALL, 0), VOLUME)


def test_hdf5_takes_the_only_volume_and_not_the_matrix_beside_it(tmp_path: Path) -> None:
    path = hdf5(tmp_path / "a.h5", main=VOLUME, affine=np.eye(4), names=np.array([b"a"]))
    with open_volume(VolumeSource(paths=(path,))) as volume:
        np.testing.assert_array_equal(volume.read(ALL, 0), VOLUME)


def test_hdf5_keys_that_are_none(tmp_path: Path) -> None:
    path = hdf5(tmp_path / "a.h5", **{"group/raw": VOLUME})
    assert "no such data set" in str(refused(path, key="rwa"))
    assert "group/raw" in str(refused(path, key="group"))
    assert "holds no numeric" in str(refused(hdf5(tmp_path / "b.h5", names=np.array([b"a", b"b"]))))


@pytest.mark.parametrize(
    ("array", "kind"),
    [
        (np.zeros((3, 4, 5), np.complex64), "not-intensities"),
        (np.zeros((3, 4, 5), [("a", "u1"), ("b", "f4")]), "not-intensities"),
        (np.array([[b"a"]]), "unsupported"),
        (np.zeros((0, 4, 5), np.uint8), "empty"),
        (np.zeros((2,) * 6, np.uint8), "unsupported"),
    ],
)
def test_hdf5_data_sets_that_are_no_volumes(tmp_path: Path, array: Any, kind: str) -> None:
    assert refused(hdf5(tmp_path / "a.h5", raw=array), key="raw").kind == kind


def test_hdf5_filter_that_is_not_installed(tmp_path: Path) -> None:
    """Another run may have it: ``missing-extra`` is tried again."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        chunked: Any = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        chunked.set_chunk((4, 4, 4))
        chunked.set_filter(300, h5py.h5z.FLAG_OPTIONAL)  # of the range for tests: nobody has it
        space = h5py.h5s.create_simple((4, 4, 4))
        h5py.h5d.create(file.id, b"raw", h5py.h5t.NATIVE_UINT8, space, dcpl=chunked)
    with pytest.raises(FormatError, match=r"HDF5 filter 300 .*HDF5_PLUGIN_PATH") as caught:
        open_volume(VolumeSource(paths=(tmp_path / "a.h5",)))
    assert caught.value.kind == "missing-extra"


def test_hdf5_links_within_the_file_and_folder_are_followed(tmp_path: Path) -> None:
    other = hdf5(tmp_path / "other.h5", deep=VOLUME)
    path = hdf5(tmp_path / "a.h5", **{"g/raw": VOLUME})
    with h5py.File(path, "a") as file:
        file["soft"] = h5py.SoftLink("/g/raw")
        file["g/relative"] = h5py.SoftLink("raw")
        file["external"] = h5py.ExternalLink("other.h5", "/deep")
    for key in ("soft", "g/relative", "external"):
        with open_volume(VolumeSource(paths=(path,), key=key)) as volume:
            np.testing.assert_array_equal(volume.read(ALL, 0), VOLUME)
    with open_volume(VolumeSource(paths=(path,))) as volume:
        assert volume.header.shape == VOLUME.shape
    assert other.exists()


@pytest.mark.parametrize(
    "how", ["external", "relative", "symlink", "two-steps", "storage", "virtual", "nested"]
)
def test_hdf5_that_leads_out_of_its_folder(tmp_path: Path, how: str) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    secret = hdf5(tmp_path / "secret.h5", raw=VOLUME)
    path = folder / "a.h5"
    with h5py.File(path, "w") as file:
        if how == "external":
            file["raw"] = h5py.ExternalLink(str(secret), "/raw")
        elif how == "relative":
            file["raw"] = h5py.ExternalLink("../secret.h5", "/raw")
        elif how == "symlink":
            (folder / "inside.h5").symlink_to(secret)
            file["raw"] = h5py.ExternalLink("inside.h5", "/raw")
        elif how == "two-steps":
            with h5py.File(folder / "middle.h5", "w") as middle:
                middle["raw"] = h5py.ExternalLink("../secret.h5", "/raw")
            file["raw"] = h5py.ExternalLink("middle.h5", "/raw")
        elif how == "storage":
            (tmp_path / "secret.bin").write_bytes(VOLUME.tobytes())
            file.create_dataset(
                "raw", VOLUME.shape, "u1", external=[(str(tmp_path / "secret.bin"), 0, VOLUME.size)]
            )
        elif how == "virtual":
            layout = h5py.VirtualLayout(VOLUME.shape, "u1")
            layout[...] = h5py.VirtualSource(str(secret), "raw", VOLUME.shape)
            file.create_virtual_dataset("raw", layout)
        else:
            with h5py.File(folder / "middle.h5", "w") as middle:
                layout = h5py.VirtualLayout(VOLUME.shape, "u1")
                layout[...] = h5py.VirtualSource(str(secret), "raw", VOLUME.shape)
                middle.create_virtual_dataset("raw", layout)
            layout = h5py.VirtualLayout(VOLUME.shape, "u1")
            layout[...] = h5py.VirtualSource("middle.h5", "raw", VOLUME.shape)
            file.create_virtual_dataset("raw", layout)
    assert refused(path, key="raw").kind == "outside"


def test_hdf5_links_in_a_circle(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["a"] = h5py.SoftLink("/b")
        file["b"] = h5py.SoftLink("/a")
        file.create_group("g")["up"] = file["/"]
        file["g/raw"] = VOLUME
    assert "loop" in str(refused(path, key="a"))
    with open_volume(VolumeSource(paths=(path,))) as volume:
        assert volume.header.shape == VOLUME.shape


def test_hdf5_that_another_process_has_locked_is_read(tmp_path: Path) -> None:
    path = hdf5(tmp_path / "a.h5", raw=VOLUME)
    code = (
        "import sys, h5py; f = h5py.File(sys.argv[1], 'r+', locking=True); print('open', flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "open\n"
        with pytest.raises(OSError, match="lock"):
            h5py.File(path, "r", locking=True)
        with open_volume(VolumeSource(paths=(path,))) as volume:
            np.testing.assert_array_equal(volume.read(ALL, 0), VOLUME)
        writer.communicate("\n")


def test_hdf5_absent_chunks_are_fill_values(tmp_path: Path) -> None:
    """A volume of 20 GB with one chunk written opens at once and reads in bounded memory."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        sparse = file.create_dataset("raw", (5000, 2048, 2048), "u1", chunks=(16, 64, 64), fillvalue=7)
        sparse[16:32, :64, :64] = 3
    with open_volume(VolumeSource(paths=(path,))) as volume:
        assert volume.header.block == (16, 64, 64)
        block = volume.read((slice(15, 17), slice(0, 64), slice(0, 64)), 0)
    assert block[0, 0, 0] == 7
    assert block[1, 0, 0] == 3


@pytest.mark.parametrize("dtype", ["u1", "<i2", ">i2", "<f4", "<u8"])
@pytest.mark.parametrize("shuffle", [True, False])
def test_hdf5_gzip_chunks_are_what_h5py_reads(tmp_path: Path, dtype: str, shuffle: bool) -> None:
    """Whole chunks, parts, clipped ones at the far edges, absent ones, and one stored without its filter."""
    path = tmp_path / "a.h5"
    array = np.random.default_rng(6).integers(0, 100, (9, 10, 11)).astype(dtype)
    with h5py.File(path, "w") as file:
        options = {"chunks": (4, 4, 4), "compression": "gzip", "shuffle": shuffle, "fillvalue": 9}
        dataset = file.create_dataset("raw", array.shape, dtype, **options)
        dataset[:4] = array[:4]
        dataset[8:] = array[8:]
        dataset.id.write_direct_chunk((4, 4, 4), np.full((4, 4, 4), 5, dtype).tobytes(), filter_mask=0b11)
        truth = dataset[...]
    regions = [
        (slice(0, 9), slice(0, 10), slice(0, 11)),
        (slice(0, 4), slice(4, 8), slice(8, 11)),
        (slice(8, 9), slice(8, 10), slice(0, 4)),
        (slice(4, 8), slice(0, 4), slice(0, 4)),
        (slice(4, 8), slice(4, 8), slice(4, 8)),
        (slice(1, 4), slice(4, 8), slice(3, 9)),
    ]
    with open_volume(VolumeSource(paths=(path,))) as volume:
        for region in regions:
            np.testing.assert_array_equal(volume.read(region, 0), truth[region])


def test_hdf5_chunk_that_inflates_to_the_wrong_size(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("raw", (4, 4, 4), "u1", chunks=(4, 4, 4), compression="gzip")
        dataset.id.write_direct_chunk((0, 0, 0), zlib.compress(bytes(1000)))
    assert "cannot be decoded" in str(refused(path))
    with h5py.File(path, "r+") as file:
        file["raw"].id.write_direct_chunk((0, 0, 0), zlib.compress(bytes(10)))  # type: ignore[union-attr]
    assert "cannot be decoded" in str(refused(path))


def test_booleans_are_zero_and_one(tmp_path: Path) -> None:
    mask = VOLUME > 100
    for path in (hdf5(tmp_path / "a.h5", mask=mask), tmp_path / "a.tif"):
        if path.suffix == ".tif":
            tifffile.imwrite(path, mask, photometric="minisblack")
        with open_volume(VolumeSource(paths=(path,))) as volume:
            assert volume.header.dtype == np.uint8
            np.testing.assert_array_equal(volume.read(ALL, 0), mask.astype(np.uint8))


def test_tiff_colours(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((3, 20, 20, 3), np.uint8), photometric="rgb")
    error = refused(path)
    assert error.kind == "not-intensities"
    assert "RGB" in str(error)


def _pages(path: Path, count: int) -> list[int]:
    """Write pages and give the offsets of the pointers to each next page."""
    with tifffile.TiffWriter(path) as writer:
        for _ in range(count):
            writer.write(VOLUME[0], photometric="minisblack", metadata=None)
    with tifffile.TiffFile(path) as file:
        return [page.offset + 2 + 12 * len(page.tags) for page in file.pages]  # type: ignore[union-attr]


@pytest.mark.timeout(20)
@pytest.mark.parametrize(("count", "back_to"), [(3, 0), (3, 2), (150, 0), (250, 120)])
def test_tiff_whose_pages_go_in_a_circle(tmp_path: Path, count: int, back_to: int) -> None:
    path = tmp_path / "a.tif"
    pointers = _pages(path, count)
    raw = bytearray(path.read_bytes())
    first = struct.unpack("<I", raw[4:8])[0]
    starts = [first, *(struct.unpack("<I", raw[p : p + 4])[0] for p in pointers[:-1])]
    raw[pointers[-1] : pointers[-1] + 4] = struct.pack("<I", starts[back_to])
    path.write_bytes(raw)
    assert "points back" in str(refused(path))


def test_tiff_with_several_series_reads_the_first_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(VOLUME, photometric="minisblack")
        writer.write(VOLUME[0, :3, :3], photometric="minisblack")
    with open_volume(VolumeSource(paths=(path,))) as volume:
        assert volume.header.shape == VOLUME.shape
        assert "2 image series" in volume.header.warnings[0]


def test_tiff_segment_that_cannot_be_decoded_names_its_page(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    big = np.random.default_rng(0).integers(0, 255, (3, 64, 64)).astype(np.uint8)
    tifffile.imwrite(path, big, photometric="minisblack", compression="zlib")
    with tifffile.TiffFile(path) as file:
        at = file.pages[1].dataoffsets[0]
    raw = bytearray(path.read_bytes())
    raw[at : at + 100] = bytes(100)
    path.write_bytes(raw)
    assert "page 1" in str(refused(path))


def test_slices_must_agree(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.tif" for i in range(4)]
    for path, plane in zip(paths, VOLUME, strict=True):
        tifffile.imwrite(path, plane)
    tifffile.imwrite(paths[2], VOLUME[2, :5])
    with open_volume(VolumeSource(paths=tuple(paths))) as volume:
        np.testing.assert_array_equal(volume.read((slice(0, 2), slice(0, 6), slice(0, 8)), 0), VOLUME[:2])
        with pytest.raises(FormatError, match=r"2\.tif: slice 2 is 5 x 8"):
            volume.read(ALL)


def test_slices_that_know_their_pixels_do_not_invent_their_distance(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.tif" for i in range(4)]
    for path, plane in zip(paths, VOLUME, strict=True):
        tifffile.imwrite(path, plane, resolution=(100, 100), resolutionunit="CENTIMETER")
    with open_volume(VolumeSource(paths=tuple(paths))) as volume:
        assert volume.header.spacing.values is None
        assert "0.1 x 0.1 mm in the plane" in volume.header.warnings[0]


def test_a_stack_is_no_slice(tmp_path: Path) -> None:
    for name in ("a.tif", "b.tif"):
        tifffile.imwrite(tmp_path / name, VOLUME, photometric="minisblack")
    assert refused(tmp_path / "a.tif", tmp_path / "b.tif").kind == "ambiguous"


@pytest.mark.parametrize("channels", [3, 4])
def test_png_colours(tmp_path: Path, channels: int) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(imagecodecs.png_encode(np.zeros((5, 6, channels), np.uint8)))
    assert refused(path).kind == "not-intensities"


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("a.nhdr", "NRRD0004\ntype: uint8\ndimension: 3\nsizes: 8 6 4\nencoding: raw\ndata file: {}\n"),
        ("a.nhdr", "NRRD0004\ntype: uint8\ndimension: 3\nsizes: 8 6 4\nencoding: raw\ndata file: LIST\n{}\n"),
        ("a.mhd", "NDims = 3\nDimSize = 8 6 4\nElementType = MET_UCHAR\nElementDataFile = {}\n"),
        ("a.mhd", "NDims = 3\nDimSize = 8 6 4\nElementType = MET_UCHAR\nElementDataFile = LIST\n{}\n"),
    ],
)
@pytest.mark.parametrize("how", ["absolute", "relative", "symlink"])
def test_headers_that_lead_out_of_their_folder(tmp_path: Path, name: str, header: str, how: str) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    secret = tmp_path / "secret.raw"
    secret.write_bytes(VOLUME.tobytes())
    (folder / "inside.raw").symlink_to(secret)
    target = {"absolute": str(secret), "relative": "../secret.raw", "symlink": "inside.raw"}[how]
    (folder / name).write_text(header.format(target))
    assert refused(folder / name).kind == "outside"


@pytest.mark.parametrize("encoding", ["ascii", "hex"])
def test_nrrd_encodings_that_only_itk_reads(tmp_path: Path, encoding: str) -> None:
    text = " ".join(str(v) for v in VOLUME.ravel()) if encoding == "ascii" else VOLUME.tobytes().hex()
    head = f"NRRD0004\ntype: uint8\ndimension: 3\nsizes: 8 6 4\nspacings: 1 1 2\nencoding: {encoding}\n\n"
    path = tmp_path / "a.nrrd"
    path.write_text(head + text + "\n")
    with open_volume(VolumeSource(paths=(path,))) as volume:
        assert volume.header.block == VOLUME.shape
        np.testing.assert_array_equal(volume.read(ALL, 0), VOLUME)


@pytest.mark.parametrize("at", [132, 155, 163])
def test_dicom_elements_longer_than_the_file_never_reach_gdcm(tmp_path: Path, at: int) -> None:
    """GDCM allocates 0.7 to 1.3 GB for one changed byte here."""
    import SimpleITK as sitk

    path = tmp_path / "a.dcm"
    sitk.WriteImage(sitk.GetImageFromArray(VOLUME), str(path))
    raw = bytearray(path.read_bytes())
    raw[at] = 255
    path.write_bytes(raw)
    assert refused(path).kind == "unreadable"


def test_dicom_sequences_are_walked(tmp_path: Path) -> None:
    """A sequence of undefined and one of stated length, and a lie inside."""

    def element(group: int, number: int, kind: bytes, value: bytes, length: int | None = None) -> bytes:
        size = len(value) if length is None else length
        if kind in (b"SQ", b"OB", b"OW"):
            return struct.pack("<HH2sHI", group, number, kind, 0, size) + value
        return struct.pack("<HH2sH", group, number, kind, size) + value

    def item(value: bytes, length: int | None = None) -> bytes:
        return struct.pack("<HHI", 0xFFFE, 0xE000, len(value) if length is None else length) + value

    end_item, end = struct.pack("<HHI", 0xFFFE, 0xE00D, 0), struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    inner = element(8, 0x1150, b"UI", b"1.2 ")
    open_ended = item(inner + end_item, 0xFFFFFFFF) + end
    for lie in (0, 0x7FFFFFFF):
        wrong = element(8, 0x1155, b"OB", b"1234", 4 + lie)
        body = element(2, 0x10, b"UI", b"1.2.840.10008.1.2.1\0")
        body += element(8, 0x1110, b"SQ", open_ended, 0xFFFFFFFF)
        body += element(8, 0x1111, b"SQ", item(inner + wrong)) + element(8, 0x60, b"CS", b"CT")
        path = tmp_path / "a.dcm"
        path.write_bytes(bytes(128) + b"DICM" + body)
        if lie:
            with pytest.raises(FormatError, match=r"\(0008,1155\) declares"):
                check_elements(path)
        else:
            check_elements(path)


def test_dicom_folder_with_two_series(tmp_path: Path) -> None:
    import SimpleITK as sitk

    for series in (1, 2):
        plane = sitk.GetImageFromArray(VOLUME[0].astype(np.int16))
        writer = sitk.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        plane.SetMetaData("0020|000e", f"1.2.826.0.1.3680043.2.1125.{series}")
        plane.SetMetaData("0020|000d", "1.2.826.0.1.3680043.2.1125.9")
        plane.SetMetaData("0008|0018", f"1.2.826.0.1.3680043.2.1125.9.{series}")
        writer.SetFileName(str(tmp_path / f"{series}.dcm"))
        writer.Execute(plane)
    error = refused(tmp_path)
    assert error.kind == "ambiguous"
    first = reader_for(tmp_path).keys(tmp_path)[0]
    with open_volume(VolumeSource(paths=(tmp_path,), key=first)) as volume:
        assert volume.header.shape == (1, 6, 8)


def test_a_folder_that_is_no_volume(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("nothing here")
    assert refused(tmp_path).kind == "unsupported"


def test_zarr_without_its_extra_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.zarr").mkdir()
    monkeypatch.setitem(sys.modules, "zarr", None)
    error = refused(tmp_path / "a.zarr")
    assert error.kind == "missing-extra"
    assert "pip install voxplan[zarr]" in str(error)


def test_zarr_with_several_arrays_lists_them(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    path = tmp_path / "a.zarr"
    group = zarr.open_group(str(path), mode="w")
    for name in ("raw", "labels/neurons"):
        group.create_array(name, shape=VOLUME.shape, chunks=(2, 3, 4), dtype="u1")[...] = VOLUME
    error = refused(path)
    assert error.kind == "ambiguous"
    assert "labels/neurons (4, 6, 8) uint8, raw" in str(error)
    assert list(reader_for(path).keys(path)) == ["labels/neurons", "raw"]
    with open_volume(VolumeSource(paths=(path,), key="raw")) as volume:
        np.testing.assert_array_equal(volume.read(ALL, 0), VOLUME)


def test_zarr_at_an_fsspec_address(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    array = zarr.create_array("memory://voxplan/a.zarr", shape=VOLUME.shape, chunks=(2, 3, 4), dtype="u1")
    array[...] = VOLUME
    with open_volume(VolumeSource(paths=(Path("memory://voxplan/a.zarr"),))) as volume:
        np.testing.assert_array_equal(volume.read(ALL, 0), VOLUME)


def test_formats_need_no_torch() -> None:
    code = "import sys, voxplan.profiling.formats; print(*sorted(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "voxplan.profiling.formats.tiff" in loaded
    assert not {"torch", "monai", "matplotlib", "zarr", "SimpleITK", "nibabel"} & set(loaded)
