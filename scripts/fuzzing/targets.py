"""The parsers of this program, each as a function of bytes that may only return or raise FormatError.

Driven by Atheris (``atheris_headers.py``: libFuzzer with coverage) and, in the tests, by Hypothesis.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from voxplan.profiling.codec import CodecError, decode, encode
from voxplan.profiling.formats.base import FormatError, ReadOptions
from voxplan.profiling.formats.damage import damage_named
from voxplan.profiling.formats.dicom_guard import check_elements
from voxplan.profiling.formats.gzip_stream import GzipStream
from voxplan.profiling.formats.metaimage_header import read_metaimage_header
from voxplan.profiling.formats.nifti_header import parse_header
from voxplan.profiling.formats.nrrd_header import read_nrrd_header
from voxplan.profiling.formats.tiff_chain import check_chain
from voxplan.profiling.formats.tiff_spacing import read_ome, read_sidecar
from voxplan.profiling.formats.units import parse_unit

from .specimens import NAMES, specimen

Target = Callable[[bytes], None]
_NOWHERE = Path("mutant")


def _on_file(read: Callable[[Path], object], suffix: str, data: bytes) -> None:
    """As ``open_volume`` calls readers: what a library or a parser raises is named."""
    folder = "/dev/shm" if Path("/dev/shm").is_dir() else None
    descriptor, name = tempfile.mkstemp(suffix=suffix, dir=folder)
    path = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        with damage_named(f"{path}"):
            read(path)
    except FormatError as error:
        told = str(error)
    else:
        told = ""
    finally:
        path.unlink()
    assert told.isprintable()


def nifti_header(data: bytes) -> None:
    """NIfTI-1 and -2."""
    try:
        header = parse_header(data, _NOWHERE)
    except FormatError:
        return
    assert all(n >= 1 for n in header.dims)
    assert header.offset >= 0
    directions = header.directions
    assert directions is None or directions.shape == (3, 3)


def nrrd_header(data: bytes) -> None:
    """NRRD."""
    _on_file(read_nrrd_header, ".nrrd", data)


def metaimage_header(data: bytes) -> None:
    """MetaImage."""
    _on_file(read_metaimage_header, ".mha", data)


def tiff_chain(data: bytes) -> None:
    """The pages of a TIFF."""
    _on_file(check_chain, ".tif", data)


def ome_xml(data: bytes) -> None:
    """OME-XML."""
    stated = read_ome(data.decode("utf-8", "replace").replace("\0", ""), 3)
    if stated is not None and stated[0].values is not None:
        assert all(np.isfinite(v) and v > 0 for v in stated[0].values)


def sidecar(data: bytes) -> None:
    """The JSON beside a TIFF."""

    def read(path: Path) -> None:
        read_sidecar(path.with_suffix(".tif"), path.stem, ReadOptions())

    _on_file(read, ".json", data)


def gzip_stream(data: bytes) -> None:
    """The inflater: header, then a read further in, then back to the beginning."""

    def read(path: Path) -> None:
        stream = GzipStream(path)
        try:
            first = stream.read_header(64)
            stream.read_into(np.empty(32, np.uint8), 100)
            assert stream.read_header(64) == first
        finally:
            stream.close()

    _on_file(read, ".gz", data)


def dicom_elements(data: bytes) -> None:
    """The lengths of DICOM elements."""
    _on_file(check_elements, ".dcm", data)


def journal_entry(data: bytes) -> None:
    """What a journal, a shard or a sidecar holds."""
    try:
        decode(data, (), limit=1 << 20)
    except CodecError:
        return


def unit(data: bytes) -> None:
    """Names of units."""
    parse_unit(data.decode("utf-8", "replace"))


SEEDS: Mapping[str, tuple[bytes, ...]] = {
    "ome_xml": (
        b'<OME><Image><Pixels PhysicalSizeX="1" PhysicalSizeXUnit="nm" PhysicalSizeY="2"/></Image></OME>',
    ),
    "sidecar": (b'{"spacing": [1.0, 2, 3], "unit": "um"}',),
    "unit": (b"micrometer", b"mm", b"\xc2\xb5m"),
    "journal_entry": (
        encode((np.arange(4, dtype="i4"), {"a": [1.5, None, "x"]}, np.float32(2))),
        encode([]),
    ),
}
"""Good input of targets that read no volume file."""
LONGEST_SEED = 4096
"""Bytes; headers end there."""


def beginnings(name: str) -> list[bytes]:
    """Good input of a target."""
    if name in SEEDS:
        return list(SEEDS[name])
    return [content[:LONGEST_SEED] for kind in NAMES for content in specimen(kind).files.values()]


def write_corpus(name: str, folder: Path) -> None:
    """Files from which libFuzzer starts."""
    for number, content in enumerate(beginnings(name)):
        (folder / f"seed-{number:03d}").write_bytes(content)


TARGETS: Mapping[str, Target] = {
    target.__name__: target
    for target in (
        nifti_header,
        nrrd_header,
        metaimage_header,
        tiff_chain,
        ome_xml,
        sidecar,
        gzip_stream,
        dicom_elements,
        journal_entry,
        unit,
    )
}
