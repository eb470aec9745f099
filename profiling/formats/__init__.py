"""Container formats, one file each, behind one contract (:mod:`.base`).

To add a format: write a module with a :class:`.base.Reader`, and add one line to :data:`READERS`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from .address import is_address
from .base import FormatError, Reader, ReadOptions, Volume, VolumeSource
from .damage import damage_named
from .dicom import DicomReader
from .hdf5 import Hdf5Reader
from .itk import ItkReader
from .nifti import NiftiReader
from .slices import PngReader, SliceStack
from .spacing import resolve_spacing
from .tiff import TiffReader
from .zarr import ZarrReader

_ZARR = ZarrReader()
READERS: Final[tuple[Reader, ...]] = (
    NiftiReader(),
    ItkReader(),
    Hdf5Reader(),
    TiffReader(),
    PngReader(),
    _ZARR,
    DicomReader(),
)
"""Asked in this order which of them reads a path."""

__all__ = [
    "READERS",
    "files_beside",
    "is_volume_file",
    "keys_of",
    "open_volume",
    "reader_for",
    "strip_suffix",
]


def reader_for(path: Path) -> Reader:
    """The reader responsible for a path, by its name (a folder without a known suffix: a DICOM series).

    Raises:
        FormatError: no format has this suffix (kind ``unsupported``).
    """
    for reader in READERS if not is_address(path) else (_ZARR,):
        if reader.matches(path):
            return reader
    if path.is_dir():
        return READERS[-1]
    known = ", ".join(suffix for reader in READERS for suffix in reader.suffixes)
    msg = f"{path}: the suffix is not that of a known volume format; known are {known}"
    raise FormatError(msg, kind="unsupported")


def is_volume_file(path: Path) -> bool:
    """Whether some reader is responsible for a path, by its name alone (no I/O)."""
    return any(reader.matches(path) for reader in READERS)


def files_beside(path: Path) -> tuple[Path, ...]:
    """Other files, there or not, that may decide what a volume file says; see :meth:`.base.Reader.beside`."""
    return next((reader.beside(path) for reader in READERS if reader.matches(path)), ())


def strip_suffix(path: Path) -> str:
    """File name without its volume suffix: ``case_00.nii.gz`` -> ``case_00``; unknown suffixes stay."""
    lower = path.name.lower()
    for reader in READERS:
        for suffix in reader.suffixes:
            if lower.endswith(suffix):
                return path.name[: -len(suffix)]
    return path.name


def open_volume(source: VolumeSource, options: ReadOptions = ReadOptions()) -> Volume:  # noqa: B008 - frozen
    """Open one volume and read its header, no voxels.

    Several files are one volume along Z, in the order given; a DICOM series is put in order by its positions.

    Raises:
        FormatError: the files cannot be read as a volume of intensities or labels.
        ValueError: the spacing in ``options`` is not three positive numbers.
    """
    reader = reader_for(source.paths[0])
    resolve_spacing(options, [])  # a spacing that the user mistyped is no fault of the file
    with _no_file_named(source.paths[0]), damage_named(f"{source.name}: its header cannot be read"):
        try:
            if len(source.paths) > 1 and not isinstance(reader, DicomReader):
                return SliceStack(source, options, reader_for)
            return reader.open(source, options)
        except FileNotFoundError as error:
            msg = f"{source.name}: no such file"
            raise FormatError(msg) from error


def keys_of(path: Path) -> Sequence[str]:
    """Names of the volumes in a container; empty for other formats.

    Raises:
        FormatError: the file cannot be read.
    """
    with _no_file_named(path), damage_named(f"{path}: what it holds cannot be listed; it is damaged"):
        return reader_for(path).keys(path)


@contextmanager
def _no_file_named(path: Path) -> Iterator[None]:
    """Where reading fails because the file is empty or a folder, say that, not what a library makes of it."""
    try:
        yield
    except FormatError as error:
        if path.is_file() and not path.stat().st_size:
            msg = (
                f"{path}: the file is empty (0 bytes), as after a copy or download that broke off; "
                "get it again, or leave it out with --exclude"
            )
            raise FormatError(msg, kind="empty") from error
        if path.is_dir() and is_volume_file(path) and reader_for(path).name not in ("zarr", "dicom"):
            msg = (
                f"{path}: is a folder, though it has the suffix of a {reader_for(path).name} file; rename it"
            )
            raise FormatError(msg) from error
        raise
