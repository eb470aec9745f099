"""A DICOM series: a folder, or its files, in the order of their positions."""

from __future__ import annotations

import locale
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from .axes import check_region
from .base import FormatError, Reader, ReadOptions, Region, Spacing, Volume, VolumeHeader, VolumeSource
from .dicom_guard import check_elements, is_dicom
from .orientation import affine_rows, is_flipped, orientation_letters
from .spacing import checked_spacing, planar_spacing, resolve_spacing

UNEVEN: Final = 0.01
"""Relative difference between distances of slices from which a series is called uneven."""

SAME_PLACE: Final = 1e-3
"""Distance of two slices, in terms of the longest in the series, under which they lie at one place."""

_PHOTOMETRIC, _SPACING, _POSITION = "0028|0004", "0028|0030", "0020|0032"
_GREY = ("MONOCHROME1", "MONOCHROME2", "")


class DicomReader(Reader):
    """``.dcm`` files, or a folder that holds one series. Lengths are millimetres, by the standard.

    Intensities are those that GDCM makes: rescale slope and intercept are applied while reading, since they
    may differ from slice to slice.
    """

    name: ClassVar[str] = "dicom"
    suffixes: ClassVar[tuple[str, ...]] = (".dicom", ".dcm")

    def open(self, source: VolumeSource, options: ReadOptions) -> Volume:
        """See :class:`.base.Reader`; several series in one folder are ``ambiguous``, ``key`` names one."""
        return _DicomVolume(source, options)

    def keys(self, path: Path) -> list[str]:
        """Identifiers of the series in a folder."""
        if not path.is_dir():
            return []
        _check_folder(path)
        with locale_kept():
            return sorted(_sitk().ImageSeriesReader.GetGDCMSeriesIDs(str(path)))


@dataclass(frozen=True, slots=True)
class _Slice:
    path: Path
    size: tuple[int, ...]
    spacing: tuple[float, ...]
    direction: NDArray[np.float64]
    position: NDArray[np.float64]
    dtype: np.dtype[Any]
    states_spacing: bool
    states_position: bool


class _DicomVolume(Volume):
    def __init__(self, source: VolumeSource, options: ReadOptions) -> None:
        self.source = source
        slices = [_read_slice_header(path) for path in _series_files(source)]
        first = slices[0]
        if len(slices) > 1:
            _require_alike(slices)
            normal = first.direction[:, 2]
            slices.sort(key=lambda s: float(s.position @ normal))
            _require_places_of_their_own(slices)
        self._slices = slices
        depth = len(slices) if len(slices) > 1 else first.size[2]
        spacing, doubts = _spacing(slices, depth)
        directions = np.array([-1.0, -1.0, 1.0])[:, np.newaxis] * first.direction
        dtype = np.result_type(*{s.dtype for s in slices})
        self.header = VolumeHeader(
            shape=(depth, first.size[1], first.size[0]),
            channels=1,
            dtype=dtype,
            spacing=resolve_spacing(options, [spacing]),
            orientation=orientation_letters(directions),
            affine_flips=is_flipped(directions),
            affine=_affine(directions, spacing, first.position),
            block=(depth if len(slices) == 1 else 1, first.size[1], first.size[0]),
            stored_bytes=sum(s.path.stat().st_size for s in slices),
            warnings=() if options.spacing is not None else doubts,
        )

    def read(self, region: Region, channel: int | None = None) -> NDArray[Any]:
        check_region(region, self.header.shape, channel, self.header.channels)
        planes, rows, columns = region
        block = np.empty([part.stop - part.start for part in region], self.header.dtype)
        if len(self._slices) == 1 and block.size:
            block[...] = self._load(0)[region]
        elif block.size:
            for at, number in enumerate(range(planes.start, planes.stop)):
                block[at] = self._load(number)[0, rows, columns]
        return block[np.newaxis] if channel is None else block

    def _load(self, number: int) -> NDArray[Any]:
        path = self._slices[number].path
        sitk = _sitk()
        try:
            with locale_kept():
                image = sitk.ReadImage(str(path), imageIO="GDCMImageIO")
            array: NDArray[Any] = sitk.GetArrayFromImage(image)
        except RuntimeError as error:
            raise _unreadable(path, error) from error
        if array.size != np.prod(self._slices[number].size, dtype=object):
            msg = f"{path}: holds {array.shape}, not what its header declares"
            raise FormatError(msg)
        return array.reshape(-1, *self.header.shape[1:])


def _affine(
    directions: NDArray[np.float64], spacing: Spacing, position: NDArray[np.float64]
) -> tuple[tuple[float, ...], ...] | None:
    if spacing.values is None:
        return None
    ras = np.array([-1.0, -1.0, 1.0]) * position
    return affine_rows(np.column_stack([directions * np.array(spacing.values[::-1]), ras]))


@contextmanager
def locale_kept() -> Iterator[None]:
    """GDCM sets the locale of the process to ``C``, in which Python's own ``open`` takes text for ASCII."""
    before = locale.setlocale(locale.LC_ALL)
    try:
        yield
    finally:
        if locale.setlocale(locale.LC_ALL) != before:
            locale.setlocale(locale.LC_ALL, before)


def _sitk() -> Any:
    """SimpleITK, its C++ warnings silenced: they would go past our own reporting to stderr."""
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    return sitk


def _check_folder(folder: Path) -> None:
    """GDCM looks into every file of a folder to find its series."""
    for path in sorted(folder.iterdir()):
        if path.is_file() and is_dicom(path):
            check_elements(path)


def _series_files(source: VolumeSource) -> list[Path]:
    folder = source.paths[0]
    if len(source.paths) != 1 or not folder.is_dir():
        return list(source.paths)
    _check_folder(folder)
    reader = _sitk().ImageSeriesReader
    with locale_kept():
        series = sorted(reader.GetGDCMSeriesIDs(str(folder)))
    if source.key is not None:
        series = [name for name in series if name == source.key]
    if not series:
        msg = (
            f"{source.name}: the folder holds no such DICOM series, and is no volume of another known format"
        )
        raise FormatError(msg, kind="unsupported" if source.key is None else "unreadable")
    if len(series) > 1:
        names = ", ".join(series[:5])
        msg = f"{folder}: holds {len(series)} DICOM series ({names}); put each in a folder of its own"
        raise FormatError(msg, kind="ambiguous")
    with locale_kept():
        return [Path(name) for name in reader.GetGDCMSeriesFileNames(str(folder), series[0])]


def _read_slice_header(path: Path) -> _Slice:
    if not path.is_file():
        msg = f"{path}: no such file"
        raise FormatError(msg)
    check_elements(path)
    sitk = _sitk()
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    try:
        with locale_kept():
            reader.ReadImageInformation()
    except RuntimeError as error:
        raise _unreadable(path, error) from error
    photometric = reader.GetMetaData(_PHOTOMETRIC).strip() if reader.HasMetaDataKey(_PHOTOMETRIC) else ""
    if photometric not in _GREY or reader.GetNumberOfComponents() != 1:
        what = photometric or "vectors"
        msg = f"{path}: pixels are {what}, not intensities or labels; convert the file to grey values"
        raise FormatError(msg, kind="not-intensities")
    sample = sitk.GetArrayFromImage(sitk.Image([1, 1], reader.GetPixelID()))
    size = (*reader.GetSize(), 1)[:3]
    return _Slice(
        path,
        size,
        (*reader.GetSpacing(), 0.0)[:3],
        np.array(reader.GetDirection(), np.float64).reshape(len(reader.GetSize()), -1)[:3, :3],
        np.array(reader.GetOrigin(), np.float64)[:3],
        sample.dtype,
        reader.HasMetaDataKey(_SPACING) or reader.HasMetaDataKey("5200|9229"),
        reader.HasMetaDataKey(_POSITION),
    )


def _require_alike(slices: list[_Slice]) -> None:
    first = slices[0]
    for one in slices:
        if one.size != first.size or not np.allclose(one.direction, first.direction, atol=1e-4):
            msg = (
                f"{one.path}: {one.size[0]} x {one.size[1]} (XY) or its direction differs from "
                f"{first.path.name}, {first.size[0]} x {first.size[1]}; the files are not one volume"
            )
            raise FormatError(msg)
        if one.size[2] != 1:
            msg = f"{one.path}: holds {one.size[2]} frames; give a multi-frame file as a volume of its own"
            raise FormatError(msg, kind="ambiguous")


def _require_places_of_their_own(slices: list[_Slice]) -> None:
    """Raise FormatError where some slices, in the order of their positions, lie on each other.

    Where all lie at one place, or state none, the order is that of GDCM: instance numbers, then names.
    """
    steps = np.diff([float(one.position @ slices[0].direction[:, 2]) for one in slices])
    at = int(steps.argmin())
    if all(one.states_position for one in slices) and steps[at] <= SAME_PLACE * steps.max() > 0:
        msg = (
            f"{slices[at + 1].path}: lies where {slices[at].path.name} lies; the series holds several "
            "volumes (times, echoes, or files twice): put the files of each into a folder of its own"
        )
        raise FormatError(msg, kind="ambiguous")


def _spacing(slices: list[_Slice], depth: int) -> tuple[Spacing, tuple[str, ...]]:
    first = slices[0]
    if not first.states_spacing:
        return Spacing.missing(), ()
    x, y, z = first.spacing
    doubts: list[str | None] = []
    if len(slices) > 1:
        along = np.array([float(s.position @ first.direction[:, 2]) for s in slices])
        steps = np.diff(along)
        z = float(along[-1] - along[0]) / (len(slices) - 1)
        if steps.max() - steps.min() > UNEVEN * max(abs(z), 1e-9):
            doubts.append(
                f"slices are {steps.min():g} to {steps.max():g} mm apart: their mean, {z:g}, is taken"
            )
    elif depth == 1 and not z > 0:
        spacing, doubt = planar_spacing(y, x, 1, "mm", "header")
        return spacing, tuple(d for d in (doubt,) if d)
    spacing, doubt = checked_spacing((z, y, x), "mm", "header")
    return spacing, tuple(d for d in (*doubts, doubt) if d)


def _unreadable(path: Path, error: RuntimeError) -> FormatError:
    reason = str(error).strip().splitlines()[-1]
    return FormatError(
        f"{path}: cannot be read as DICOM ({reason}); the file is damaged or of another format"
    )
