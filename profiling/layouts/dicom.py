"""DICOM series: the files of one folder that belong to one scan, in the order of their position."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..formats import is_volume_file
from ..formats.base import VolumeSource
from ..formats.dicom import locale_kept

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


def series_in(folder: Path, files: Sequence[Path]) -> tuple[dict[str, VolumeSource], list[Path]]:
    """Series identifier to volume, and the DICOM files of no series; empty where the folder holds no DICOM.

    Only files among ``files`` count, so that excluded and refused ones stay out. Files without a suffix are
    named through their folder, which is how the reader takes them.
    """
    candidates = [path for path in files if is_dicom(path)]
    if not candidates:
        return {}, []
    from SimpleITK import ImageSeriesReader as reader

    allowed = {path.name: path for path in candidates}
    series: dict[str, VolumeSource] = {}
    lost = dict(allowed)
    with locale_kept():
        identifiers = reader.GetGDCMSeriesIDs(str(folder))
        found = {name: reader.GetGDCMSeriesFileNames(str(folder), name) for name in identifiers}
    for identifier, names in sorted(found.items()):
        paths = tuple(allowed[Path(name).name] for name in names if Path(name).name in allowed)
        for path in paths:
            lost.pop(path.name, None)
        if paths and all(is_volume_file(path) for path in paths):
            series[identifier] = VolumeSource(paths=paths)
        elif paths:
            series[identifier] = VolumeSource(paths=(folder,), key=identifier)
    return series, list(lost.values())
