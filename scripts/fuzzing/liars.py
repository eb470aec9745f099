"""Changes that know the format: headers and chunk tables that are well formed, and lie."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import re
import struct
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from .dicom_lies import lie_in_dicom
from .mutations import FLOATS, INTEGERS, LARGE_INTEGERS, Rng

Files = dict[str, bytes]
Liar = Callable[[Rng, Files], Files]

TEXTS: Final = (
    "0", "-1", "nan", "inf", "-0.0", "1e999", "x", "", "999999999999999999999", "1 1", "4294967296", "0x10",
    "2147483648 2147483648 2147483648", "1 1 1 1 1 1 1", "LIST", "LOCAL", "%d", "../a.raw", "/etc/passwd",
    "gzip", "raw", "bzip2", "hex", "ascii", "big", "little", "block", "double", "uchar", "MET_DOUBLE",
    "(nan,0,0) (0,0,0) (0,0,inf)", "none none none", "RGB-color domain domain", "True", "9" * 5000, "\0",
)  # fmt: skip
NIFTI_FIELDS: Final = (
    (40, "8h"), (70, "1h"), (72, "1h"), (76, "8f"), (108, "1f"), (112, "2f"), (123, "1b"), (252, "2h"),
    (256, "6f"), (280, "12f"), (344, "4b"),
)  # fmt: skip
"""Offset and type of what the reader of NIfTI-1 looks at (nifti1.h)."""
SLOW: Final = (1 << 26, 1 << 37)
"""Voxels of volumes without any stored chunk that are gone over all the same, which takes minutes."""
SLOW_CHUNKS: Final = (1 << 16, 1 << 23)
"""Numbers of tiny chunks that take HDF5 minutes, and are read all the same."""
BOMB_BYTES: Final = 64 << 20
"""What a lying chunk inflates to; it is stored in a thousandth of that."""


def _pick(rng: Rng, choices: Any) -> Any:
    return choices[int(rng.integers(0, len(choices)))]


def _integer(rng: Rng) -> int:
    value: int = _pick(rng, INTEGERS + LARGE_INTEGERS)
    return -value if rng.random() < 0.1 else value


def lie_in_nifti(rng: Rng, files: Files) -> Files:
    """Dimensions, type, offset, spacing, scaling or affine; in a ``.gz`` also the container's own numbers."""
    (name, data) = next(iter(files.items()))
    packed = name.endswith(".gz")
    raw = bytearray(gzip.decompress(data) if packed else data)
    order = "<" if raw[0] in (92, 28) else ">"
    for _ in range(int(rng.integers(1, 3))):
        at, kind = _pick(rng, NIFTI_FIELDS)
        width, count = struct.calcsize(kind[-1]), int(kind[:-1])
        offset = at + width * int(rng.integers(0, count))
        if kind[-1] == "f":
            with np.errstate(over="ignore"):
                value = float(np.float32(_pick(rng, FLOATS)))
            struct.pack_into(order + "f", raw, offset, value)
        else:
            low = _integer(rng) % (1 << (8 * width))
            raw[offset : offset + width] = low.to_bytes(width, "little" if order == "<" else "big")
    if not packed:
        return {name: bytes(raw)}
    stream = gzip.compress(bytes(raw), mtime=0)
    if rng.random() < 0.3:
        stream = _lie_in_gzip(rng, stream)
    return {name: stream}


def _lie_in_gzip(rng: Rng, stream: bytes) -> bytes:
    way = int(rng.integers(0, 5))
    if way == 0:  # checksum or length of the trailer
        at = len(stream) - 1 - int(rng.integers(0, 8))
        return stream[:at] + bytes([stream[at] ^ 0xFF]) + stream[at + 1 :]
    if way == 1:  # much follows what the header declares
        return gzip.compress(gzip.decompress(stream) + bytes(BOMB_BYTES), mtime=0)
    if way == 2:  # members that hold nothing
        return gzip.compress(b"", mtime=0) * 500 + stream
    if way == 3:  # a name that never ends
        return stream[:3] + b"\x08" + stream[4:10] + b"n" * 100_000
    return stream + b"trailing junk"


def lie_in_text(rng: Rng, files: Files) -> Files:
    """A field of an NRRD or MetaImage header gets another value, is lost, or stands twice."""
    name = next(n for n in files if n.endswith((".nrrd", ".nhdr", ".mha", ".mhd")))
    lines = files[name].split(b"\n", 30)
    fields = [i for i, line in enumerate(lines[:-1]) if re.match(rb"[A-Za-z ]{3,40}(:|\s=)", line)]
    if not fields:
        return files
    for _ in range(int(rng.integers(1, 3))):
        at = _pick(rng, fields)
        mark = b":" if b":" in lines[at] else b"="
        key = lines[at].split(mark)[0]
        lines[at] = key + mark + b" " + str(_pick(rng, TEXTS)).encode()
        if rng.random() < 0.1:
            lines[at] = b""
    return {**files, name: b"\n".join(lines)}


def lie_in_json(rng: Rng, files: Files) -> Files:
    """A number, a word or a branch of Zarr's metadata."""
    trees = {n: json.loads(c) for n, c in files.items() if n.endswith((".json", ".zarray", ".zattrs"))}
    name, tree = _pick(rng, [(n, tree) for n, tree in trees.items() if tree])
    for _ in range(int(rng.integers(1, 3))):
        places = list(_leaves(tree))
        holder, key = _pick(rng, places)
        holder[key] = _other_value(rng, holder[key])
    return {**files, name: json.dumps(tree).encode()}


def _leaves(tree: Any) -> Any:
    keys = tree if isinstance(tree, dict) else range(len(tree))
    for key in keys:
        yield tree, key
        if isinstance(tree[key], dict | list):
            yield from _leaves(tree[key])


def _other_value(rng: Rng, value: Any) -> Any:
    if isinstance(value, int) and rng.random() < 0.7:
        return _integer(rng)
    choices: tuple[Any, ...] = (
        None,
        "",
        "x",
        [],
        {},
        -1,
        0,
        1.5,
        [1] * 9,
        [2**40] * 3,
        "float64",
        "NaN",
        "gzip",
        True,
        [[]],
    )
    return _pick(rng, choices)


def lie_in_chunk(rng: Rng, files: Files) -> Files:
    """A chunk of a Zarr store inflates to far more, is empty, another chunk's, or gone."""
    chunks = [n for n in files if not n.endswith((".json", ".zarray", ".zattrs", ".zgroup"))]
    name = _pick(rng, chunks)
    way = int(rng.integers(0, 4))
    if way == 0:
        return {n: content for n, content in files.items() if n != name}
    if way == 1:
        return {**files, name: b""}
    if way == 2:
        return {**files, name: files[_pick(rng, chunks)][::-1]}
    return {**files, name: gzip.compress(bytes(BOMB_BYTES), mtime=0)}


def lie_in_hdf5(rng: Rng, files: Files) -> Files:
    """The file written anew: huge or odd shapes, chunks that inflate to the wrong size, bad attributes."""
    import h5py

    (name,) = files
    buffer = io.BytesIO()
    shape = tuple(int(n) for n in rng.choice([1, 5, 9, 70_000, 2**20, 2**31, 2**33], 3))
    if SLOW[0] < np.prod(shape, dtype=object) < SLOW[1]:
        shape = (5, 9, 70_000)
    chunks = tuple(min(n, int(c)) for n, c in zip(shape, rng.choice([1, 4, 64, 1000], 3), strict=True))
    pieces = np.prod([-(-n // c) for n, c in zip(shape, chunks, strict=True)], dtype=object)
    if SLOW_CHUNKS[0] < pieces < SLOW_CHUNKS[1]:
        chunks = tuple(min(n, 1000) for n in shape)
    kinds = ("u1", "<i2", ">i2", "<f4", ">f8", "<u8", "f2", "c8", "S4", "?")
    options: dict[str, Any] = {"chunks": chunks}
    if rng.random() < 0.6:
        options |= {"compression": "gzip", "shuffle": bool(rng.random() < 0.5)}
    options["fletcher32"] = bool(rng.random() < 0.2)
    with h5py.File(buffer, "w") as file:
        dataset = file.create_dataset("raw", shape, _pick(rng, kinds), **options)
        if dataset.dtype.kind == "f" and rng.random() < 0.3:
            del file["raw"]
            dataset = file.create_dataset("raw", shape, dataset.dtype, fillvalue=np.nan, **options)
        size = int(np.prod(chunks, dtype=object)) * dataset.dtype.itemsize
        for _ in range(int(rng.integers(0, 4))):
            content = _pick(
                rng,
                (
                    b"",
                    b"x",
                    zlib.compress(bytes(min(size, 1 << 20))),
                    zlib.compress(bytes(BOMB_BYTES)),
                    bytes(9),
                ),
            )
            at = tuple(int(rng.integers(0, -(-n // c))) * c for n, c in zip(shape, chunks, strict=True))
            with contextlib.suppress(OSError, ValueError, OverflowError):  # HDF5 itself refuses some lies
                dataset.id.write_direct_chunk(at, content, filter_mask=int(rng.integers(0, 3)))
        if rng.random() < 0.5:
            values = (
                [np.nan] * 3,
                [0, 0, 0],
                [-1.0, 1, 1],
                "abc",
                np.zeros(3000),
                [1e308] * 3,
                [np.inf, 1, 1],
            )
            dataset.attrs["resolution"] = _pick(rng, values)
        if rng.random() < 0.2:
            dataset.attrs["unit"] = _pick(rng, ("parsec", "", b"\xff\xfe", np.arange(4), "nm"))
        _add_links(rng, file)
    return {name: buffer.getvalue()}


def _add_links(rng: Rng, file: Any) -> None:
    import h5py

    if rng.random() < 0.2:
        file["other"] = _pick(
            rng,
            (
                h5py.SoftLink("/other"),
                h5py.SoftLink("/raw"),
                h5py.ExternalLink("/etc/passwd", "/"),
                h5py.ExternalLink("a.h5", "/other"),
            ),
        )


def lie_in_tiff(rng: Rng, files: Files) -> Files:
    """Type, count or value of tags in the directory of some page."""
    name = _pick(rng, list(files))
    data = bytearray(files[name])
    order = "<" if data[:2] == b"II" else ">"
    big = struct.unpack_from(order + "H", data, 2)[0] == 43
    entry, number, head = (20, "Q", "Q") if big else (12, "I", "H")
    at = struct.unpack_from(order + number, data, 8 if big else 4)[0]
    for _ in range(int(rng.integers(0, 5))):
        count = struct.unpack_from(order + head, data, at)[0]
        following = struct.unpack_from(order + number, data, at + struct.calcsize(head) + count * entry)[0]
        at = following or at
    count = struct.unpack_from(order + head, data, at)[0]
    for _ in range(int(rng.integers(1, 4))):
        tag = at + struct.calcsize(head) + entry * int(rng.integers(0, count))
        offset, width = _pick(
            rng, ((2, 2), (4, struct.calcsize(number)), (entry - struct.calcsize(number), 4))
        )
        value = _integer(rng) % (1 << (8 * width))
        data[tag + offset : tag + offset + width] = value.to_bytes(width, "little" if order == "<" else "big")
    return {**files, name: bytes(data)}


def lie_in_png(rng: Rng, files: Files) -> Files:
    """Width, height, depth or colour of a slice, with a checksum that fits."""
    name = _pick(rng, list(files))
    data = bytearray(files[name])
    at = 16 + int(rng.integers(0, 10))
    data[at] = int(rng.integers(0, 256))
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return {**files, name: bytes(data)}


LIARS: Mapping[str, tuple[Liar, ...]] = {
    "nifti": (lie_in_nifti,),
    "nifti-gz": (lie_in_nifti,),
    "nrrd": (lie_in_text,),
    "nrrd-gz": (lie_in_text,),
    "nhdr": (lie_in_text,),
    "mha": (lie_in_text,),
    "mha-zlib": (lie_in_text,),
    "hdf5": (lie_in_hdf5,),
    "hdf5-gzip": (lie_in_hdf5,),
    "tiff": (lie_in_tiff,),
    "tiff-tiled": (lie_in_tiff,),
    "tiff-strips": (lie_in_tiff,),
    "bigtiff": (lie_in_tiff,),
    "ome-tiff": (lie_in_tiff,),
    "tiff-slices": (lie_in_tiff,),
    "png-slices": (lie_in_png,),
    "zarr2": (lie_in_json, lie_in_chunk),
    "zarr3-zstd": (lie_in_json, lie_in_chunk),
    "zarr3-gzip": (lie_in_json, lie_in_chunk),
    "zarr3-blosc": (lie_in_json, lie_in_chunk),
    "zarr3-sharded": (lie_in_json, lie_in_chunk),
    "ome-zarr": (lie_in_json, lie_in_chunk),
    "dicom": (lie_in_dicom,),
}
"""Specimen to the lies that its format knows."""
