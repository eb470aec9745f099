"""TIFF and BigTIFF: pages, strips or tiles, compressed or in one piece."""

from __future__ import annotations

import itertools
import logging
from math import prod
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from .axes import AxisOrder, check_region, choose_axes
from .base import TIME_POINTS, FormatError, Reader, ReadOptions, Region, Volume, VolumeHeader, VolumeSource
from .contiguous import ContiguousVoxels, to_native
from .damage import damage_named
from .spacing import resolve_spacing
from .tiff_chain import check_chain
from .tiff_other_files import (
    forget_other_files,
    missing_imagej_images,
    remark_on_other_files,
    require_all_planes,
)
from .tiff_spacing import (
    Stated,
    read_imagej,
    read_ome,
    read_resolution,
    read_sidecar,
    renamed_axes,
    sidecars,
)

MOST_CHANNELS_WITHOUT_Z: Final = 4
"""A file without a Z axis and with more channels than this is a stack whose writer called Z channels."""

_JPEG: Final = (6, 7, 34892, 33007)
"""Compression tags whose tables stand outside the segments."""


class TiffReader(Reader):
    """``.tif``, ``.tiff`` with OME and ImageJ metadata, and nnU-Net's ``.json`` spacing beside them."""

    name: ClassVar[str] = "tiff"
    suffixes: ClassVar[tuple[str, ...]] = (".ome.tiff", ".ome.tif", ".tiff", ".tif", ".tf8", ".btf")

    def beside(self, path: Path) -> tuple[Path, ...]:
        """See :class:`.base.Reader`."""
        return sidecars(path, _stem(path, self.suffixes))

    def open(self, source: VolumeSource, options: ReadOptions) -> Volume:
        """See :class:`.base.Reader`."""
        return _TiffVolume(source, options, _stem(source.paths[0], self.suffixes))


class _TiffVolume(Volume):
    def __init__(self, source: VolumeSource, options: ReadOptions, stem: str) -> None:
        self.source = source
        self._path = source.paths[0]
        import tifffile

        check_chain(self._path)
        # tifffile logs what it finds odd in a file; what matters of it is raised or becomes a warning here
        logging.getLogger("tifffile").setLevel(logging.CRITICAL)
        with damage_named(f"{self._path}: cannot be opened as TIFF; the file is damaged"):
            self._file = tifffile.TiffFile(self._path, _multifile=False)
        self._voxels: ContiguousVoxels | None = None
        try:
            with damage_named(f"{self._path}: its tags do not describe an image; the file is damaged"):
                self._open(options, stem)
        except BaseException:
            self.close()
            raise

    def _open(self, options: ReadOptions, stem: str) -> None:
        forget_other_files(self._file)
        series = self._file.series[0]
        page = series.keyframe
        _refuse_colour(page, self._path)
        if series.dtype is None or series.dtype.kind not in "biuf" or series.dtype.itemsize > 8:
            msg = f"{self._path}: samples of type {series.dtype} are no intensities or labels"
            kind = (
                "not-intensities" if series.dtype is not None and series.dtype.kind == "c" else "unsupported"
            )
            raise FormatError(msg, kind=kind)
        require_all_planes(series, str(self._path))
        if 0 in series.shape or not series.shape:
            msg = f"{self._path}: shape {series.shape} holds no voxels"
            raise FormatError(msg, kind="empty")
        self._series, self._page = series, page
        self._axes, doubts = _axes(series, options, self._file.imagej_metadata or {}, str(self._path))
        doubts += remark_on_other_files(self._file, series.kind)
        doubts += missing_imagej_images(self._file, series, str(self._path))
        stored = np.dtype(series.dtype).newbyteorder(self._file.byteorder)
        if series.dataoffset is not None and page.is_memmappable and stored.kind != "b":
            self._voxels = ContiguousVoxels(self._path, series.dataoffset, stored, self._axes)
        else:
            self._prepare_segments()
        if len(self._file.series) > 1:
            doubts.append(f"holds {len(self._file.series)} image series: the first, {series.shape}, is read")
        stated = self._stated_spacing(options, stem)
        if options.spacing is None:
            doubts += [warning for _, warning in stated if warning]
        self.header = VolumeHeader(
            shape=self._axes.shape,
            channels=self._axes.channels,
            dtype=np.dtype(np.uint8) if stored.kind == "b" else stored.newbyteorder("="),
            spacing=resolve_spacing(options, [spacing for spacing, _ in stated]),
            block=self._block(),
            decoded_bytes=0 if self._voxels is not None else self._decoded_bytes(),
            stored_bytes=self._path.stat().st_size,
            warnings=tuple(doubts),
        )

    def _stated_spacing(self, options: ReadOptions, stem: str) -> list[Stated]:
        slices = self._axes.shape[0]
        tags = self._file.pages.first.tags
        ome = self._file.ome_metadata
        imagej = self._file.imagej_metadata
        stated = [
            read_sidecar(self._path, stem, options),
            read_ome(ome, slices) if ome else None,
            read_imagej(imagej, tags, slices) if imagej else None,
            read_resolution(tags, slices),
        ]
        told = [s for s in stated if s is not None]
        if options.axes is not None:
            told = [
                (spacing, doubt)
                if spacing.source == "sidecar"
                else (renamed_axes(spacing, self._series.axes, self._axes.letters), doubt)
                for spacing, doubt in told
            ]
        known = next((i for i, (spacing, _) in enumerate(told) if spacing.values is not None), None)
        return told if known is None else told[: known + 1]

    def _prepare_segments(self) -> None:
        """Which stored axes run over pages, and which lie within one."""
        within = len(self._axes.stored)
        while within and prod(self._axes.stored[within:]) < self._page.size:
            within -= 1
        pages = prod(self._axes.stored[:within])
        whole_planes = {"y", "x"} <= set(self._axes.letters[within:])
        if (
            not whole_planes
            or prod(self._axes.stored[within:]) != self._page.size
            or len(self._series) != pages
        ):
            msg = (
                f"{self._path}: {len(self._series)} pages of {self._page.shape} do not make the declared "
                f"shape {self._axes.stored}; the file is truncated or damaged"
            )
            raise FormatError(msg)
        self._leading = within

    def _block(self) -> tuple[int, int, int]:
        _, y, x = self._axes.shape
        if self._voxels is not None:
            return 1, 1, x  # a plane of EM may be larger than a cache
        page = self._page
        if page.is_tiled:
            depth = page.tiledepth if "z" in self._axes.letters[self._leading :] else 1
            return min(depth, self._axes.shape[0]), min(page.tilelength, y), min(page.tilewidth, x)
        return 1, min(max(page.rowsperstrip, 1), y), x

    def _decoded_bytes(self) -> int:
        """Of one tile or strip; rowsperstrip is often 2**32 - 1 and means the whole page."""
        page, size = self._page, self._series.dtype.itemsize
        if page.is_tiled:
            return prod(page.chunks) * size
        return min(page.rowsperstrip, page.imagelength) * prod(page.shaped[3:]) * size

    def read(self, region: Region, channel: int | None = None) -> NDArray[Any]:
        check_region(region, self.header.shape, channel, self.header.channels)
        if self._voxels is not None:
            return self._voxels.read(region, channel)
        index = self._axes.index(region, channel)
        block = np.empty([part.stop - part.start for part in index], self._series.dtype.newbyteorder("="))
        if block.size:
            lead = self._leading
            for at in itertools.product(*(range(part.start, part.stop) for part in index[:lead])):
                number = int(np.ravel_multi_index(at, self._axes.stored[:lead])) if lead else 0
                inside = tuple(a - part.start for a, part in zip(at, index[:lead], strict=True))
                self._read_page(number, index[lead:], block[inside])
        arranged = to_native(self._axes.arrange(block, channel))
        return arranged.view(np.uint8) if arranged.dtype.kind == "b" else arranged

    def _read_page(self, number: int, index: tuple[slice, ...], into: NDArray[Any]) -> None:
        """Decode those strips or tiles of a page that touch the region, one at a time."""
        wanted = self._in_page(index)
        lengths = [part.stop - part.start for part in wanted]
        view = into.reshape(lengths)
        with damage_named(f"{self._path}: page {number} cannot be decoded; the file is damaged"):
            page = self._series[number]
            if page is None:
                msg = f"{self._path}: page {number} is declared, but the file does not have it"
                raise FormatError(msg)
            extra = {"jpegtables": page.jpegtables} if self._page.compression in _JPEG else {}
            for segment in _touched_segments(self._page, wanted):
                data = self._segment_bytes(page, segment)
                decoded, start, shape = self._page.decode(data, segment, **extra)
                _paste(view, wanted, decoded, start, shape, self._page.nodata)

    def _segment_bytes(self, page: Any, segment: int) -> bytes | None:
        offset, count = page.dataoffsets[segment], page.databytecounts[segment]
        if count == 0 or offset == 0:
            return None
        handle = self._file.filehandle
        if offset + count > handle.size:
            msg = f"{self._path}: truncated: a segment ends at byte {offset + count} of {handle.size}"
            raise FormatError(msg)
        handle.seek(offset)
        return bytes(handle.read(count))

    def _in_page(self, index: tuple[slice, ...]) -> tuple[slice, slice, slice, slice, slice]:
        """Slices of a page in tifffile's normal shape: separate samples, depth, length, width, samples."""
        letters = self._axes.letters[self._leading :]
        by_letter = dict(zip(letters, index, strict=True))
        one = slice(0, 1)
        separate, depth, _, _, contiguous = self._page.shaped
        samples = [part for letter, part in by_letter.items() if letter not in "zyx"]
        sample = samples[0] if samples else one
        return (
            sample if separate > 1 else one,
            by_letter.get("z", one) if depth > 1 else one,
            by_letter["y"],
            by_letter["x"],
            sample if contiguous > 1 else one,
        )

    def close(self) -> None:
        if self._voxels is not None:
            self._voxels.close()
        self._file.close()


def _axes(
    series: Any, options: ReadOptions, imagej: dict[str, Any], where: str
) -> tuple[AxisOrder, list[str]]:
    shape = tuple(int(n) for n in series.shape)
    if options.axes is not None:
        return choose_axes(shape, options.axes, where), []
    letters: list[str] = []
    unnamed = iter("zctuvwabdefghij")
    taken = {"y", "x"} | ({"z"} if "Z" in series.axes else set())
    for name in series.axes:
        letter = name.lower()
        if name in "QI" or letter in letters:
            letter = next(u for u in unnamed if u not in letters and u not in taken)
        elif name not in "ZYX":
            letter = {"C": "c", "T": "t", "S": "s"}.get(name) or next(
                u for u in unnamed if u not in letters and u not in taken and u not in "zct"
            )
        letters.append(letter)
    doubts: list[str] = []
    others = [i for i, a in enumerate(letters) if a in "ct" and shape[i] > 1]
    if "z" not in letters and len(others) == 1:
        i = others[0]
        is_stack = letters[i] == "t" or shape[i] > MOST_CHANNELS_WITHOUT_Z or "spacing" in imagej
        if is_stack:
            called = "time points" if letters[i] == "t" else "channels"
            doubts.append(
                f"no Z axis: its {shape[i]} {called} are read as slices; "
                f"--axes {''.join(letters)} says otherwise"
            )
            letters[i] = "z"
    elif "t" in letters and shape[letters.index("t")] > 1:
        doubts.append(f"{shape[letters.index('t')]} {TIME_POINTS}")
    if "y" not in letters or "x" not in letters:
        msg = f"{where}: axes {series.axes} of shape {shape} are no image"
        raise FormatError(msg, kind="unsupported")
    return AxisOrder("".join(letters), shape), doubts


def _refuse_colour(page: Any, path: Path) -> None:
    """Colours are no intensities: RGB, YCbCr, CMYK, CIELab, palettes."""
    name = {2: "RGB", 3: "palette colour", 5: "CMYK", 6: "YCbCr", 8: "CIELab"}.get(int(page.photometric))
    if name is None or (int(page.photometric) == 3 and page.samplesperpixel == 1):
        return
    msg = (
        f"{path}: pixels are {name}, not intensities or labels; convert the file to grey values or to one "
        "file a channel, or leave it out with --exclude"
    )
    raise FormatError(msg, kind="not-intensities")


def _touched_segments(page: Any, wanted: tuple[slice, ...]) -> list[int]:
    """Indices of the strips or tiles that a region of the page touches."""
    separate, depth, length, width, _ = page.shaped
    if page.is_tiled:
        size = (1, page.tiledepth, page.tilelength, page.tilewidth)
    else:
        size = (1, 1, max(page.rowsperstrip, 1), width)
    grid = [-(-n // s) for n, s in zip((separate, depth, length, width), size, strict=True)]
    ranges = [range(w.start // s, -(-w.stop // s)) for w, s in zip(wanted[:4], size, strict=True)]
    return [int(np.ravel_multi_index(at, grid)) for at in itertools.product(*ranges)]


def _paste(
    view: NDArray[Any], wanted: tuple[slice, ...], decoded: Any, start: Any, shape: Any, nodata: Any
) -> None:
    """Copy the part of a decoded segment that lies in the region."""
    depth, length, width, samples = decoded.shape if decoded is not None else shape
    begin = (start[0], start[1], start[2], start[3], 0)
    size = (1, depth, length, width, samples)
    low = [max(w.start, b) for w, b in zip(wanted, begin, strict=True)]
    high = [min(w.stop, b + s) for w, b, s in zip(wanted, begin, size, strict=True)]
    target = tuple(slice(lo - w.start, hi - w.start) for lo, hi, w in zip(low, high, wanted, strict=True))
    if decoded is None:
        view[target] = nodata
        return
    source = tuple(slice(lo - b, hi - b) for lo, hi, b in zip(low, high, begin, strict=True))
    view[target] = decoded[np.newaxis][source]


def _stem(path: Path, suffixes: tuple[str, ...]) -> str:
    lower = path.name.lower()
    return next((path.name[: -len(s)] for s in suffixes if lower.endswith(s)), path.name)
