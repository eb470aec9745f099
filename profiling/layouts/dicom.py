"""DICOM series: the files of one folder that belong to one scan, in the order of their position."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
PREAMBLE_BYTES = 128
"""A DICOM file has 128 free bytes, then ``DICM`` (PS3.10, section 7.1)."""


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM: by its suffix or, for a name without one, by its first bytes."""
    if path.suffix.lower() in DICOM_SUFFIXES:
        return True
    if path.suffix and not path.suffix[1:].isdecimal():
        return False
    try:
        with path.open("rb") as file:
            return file.read(PREAMBLE_BYTES + 4)[PREAMBLE_BYTES:] == b"DICM"
    except OSError:
        return False


def series_in(folder: Path, files: Sequence[Path]) -> dict[str, tuple[Path, ...]]:
    """Series identifier to files, slices in geometric order; empty where the folder holds no DICOM.

    Only files among ``files`` count, so that excluded and refused ones stay out.
    """
    candidates = [path for path in files if is_dicom(path)]
    if not candidates:
        return {}
    import SimpleITK

    allowed = {str(path): path for path in candidates}
    series: dict[str, tuple[Path, ...]] = {}
    reader = SimpleITK.ImageSeriesReader()
    for identifier in sorted(reader.GetGDCMSeriesIDs(str(folder))):
        names = reader.GetGDCMSeriesFileNames(str(folder), identifier)
        paths = tuple(allowed[name] for name in names if name in allowed)
        if paths:
            series[identifier] = paths
    return series
