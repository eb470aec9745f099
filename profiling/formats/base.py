"""The contract that every container format keeps.

A reader opens one volume and knows its shape, spacing and storage without touching a voxel. Voxels are then
read region by region. Axis order is ZYX everywhere, channels first; a 2D image is a volume with one slice.

A reader must

* read the header only in :meth:`Reader.open`, and check declared sizes before anything is allocated;
* return *stored* values (``slope`` and ``intercept`` turn them into intensities) in native byte order;
* never invent a spacing: what the file does not say is ``Spacing.missing()``;
* raise :class:`FormatError` with a reason that a person can act on, never a bare library exception.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from .address import address_text

Unit = Literal["mm", "um", "nm", "unknown"]
Region = tuple[slice, slice, slice]
"""Half-open ZYX slices with explicit integer bounds and step 1."""

UNITS_IN_MM: dict[str, float] = {"mm": 1.0, "um": 1e-3, "nm": 1e-6}


def printable(text: str) -> str:
    """Text without control characters, line breaks and bytes that are no UTF-8: each as an escape."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def unicode_text(text: str) -> str:
    """A file name as text that can be written: bytes that are no UTF-8 as escapes, all else as it is."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


TIME_POINTS = "time points are read as channels"
"""What a reader says of a file whose fourth axis is time, after their number."""
LONGEST_MESSAGE = 1200
"""Characters; what a header holds may be quoted, and be a million characters long."""


def one_line(message: str) -> str:
    """A message without line breaks and other control characters (of file names, too), cut in its middle."""
    message = printable(message)
    if len(message) <= LONGEST_MESSAGE:
        return message
    return f"{message[: LONGEST_MESSAGE * 2 // 3]} ... {message[-LONGEST_MESSAGE // 3 + 5 :]}"


class FormatError(ValueError):
    """A file that cannot be read as a volume: what, where and why, in one line.

    ``kind`` is a short stable word for machines: ``unreadable``, ``unsupported``, ``not-intensities``,
    ``ambiguous``, ``too-large``, ``missing-extra``, ``empty``, ``outside``, ``access``.
    """

    other_files: bool = False
    """Whether files that only a header names have part in it (:attr:`VolumeHeader.other_files`): another run
    may find them mended though the file with the header is as it was."""

    def __init__(self, message: str, *, kind: str = "unreadable") -> None:
        super().__init__(one_line(message))
        self.kind = kind


@contextmanager
def in_other_files(there: bool = True) -> Iterator[None]:
    """Mark a :class:`FormatError` raised inside as one about files that only a header names, if it is."""
    try:
        yield
    except FormatError as error:
        error.other_files = error.other_files or there
        raise


@dataclass(frozen=True, slots=True, kw_only=True)
class Spacing:
    """Distance between voxel centres, ZYX, in ``unit``; and who said so.

    ``source`` is one of ``header``, ``ome-xml``, ``imagej``, ``tiff-resolution``, ``sidecar``,
    ``attribute:<name>``, ``user``, ``missing``.
    """

    values: tuple[float, float, float] | None
    unit: Unit
    source: str

    def __post_init__(self) -> None:
        if self.values is not None and not all(np.isfinite(v) and v > 0 for v in self.values):
            msg = f"spacing must be three positive finite numbers (ZYX), got {self.values}"
            raise ValueError(msg)
        if self.values is None and self.source != "missing":
            msg = f"spacing without values must have the source 'missing', got {self.source!r}"
            raise ValueError(msg)

    @classmethod
    def missing(cls) -> Self:
        """The file says nothing usable."""
        return cls(values=None, unit="unknown", source="missing")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """What the user says about files that do not say it themselves."""

    spacing: tuple[float, float, float] | None = None
    """ZYX; wins over whatever the files say."""
    unit: Unit | None = None
    """Unit of ``spacing``, or of a spacing that a file states without unit."""
    axes: str | None = None
    """Order of the stored axes, letters among ``c``, ``t``, ``z``, ``y``, ``x``: e.g. ``czyx`` or ``xyz``."""
    spacing_order: Literal["zyx", "xyz"] = "zyx"
    """Order in which array-like attributes and sidecars state spacing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeSource:
    """Where one volume lies: one file (or Zarr folder), or several slice files along Z in this order."""

    paths: tuple[Path, ...]
    key: str | None = None
    """Data set inside an HDF5 or Zarr container; ``None`` lets the reader choose when there is only one."""

    @property
    def name(self) -> str:
        """How messages call this volume: the path (for slices, their folder), and the key if there is one."""
        where = address_text(self.paths[0] if len(self.paths) == 1 else self.paths[0].parent)
        return where if self.key is None else f"{where}:{self.key}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseSource:
    """One case: the volumes whose channels, in order, make the image, and its label map if there is one."""

    id: str
    images: tuple[VolumeSource, ...]
    label: VolumeSource | None = None

    def __post_init__(self) -> None:
        """Ids are told on terminals and stand in files: what cannot be printed becomes an escape."""
        object.__setattr__(self, "id", printable(self.id))


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeHeader:
    """Everything about a volume that is known without reading a voxel."""

    shape: tuple[int, int, int]
    """ZYX, in voxels."""
    channels: int
    dtype: np.dtype[Any]
    """As stored, native byte order."""
    spacing: Spacing
    slope: float = 1.0
    intercept: float = 0.0
    """Intensity = ``slope`` * stored + ``intercept``, in float64."""
    orientation: str | None = None
    """Where the array axes point, as three letters in ZYX order (``SPL``...), if the file knows."""
    affine_flips: bool | None = None
    """True where the file's own affine has a negative determinant (a left-right mirrored grid)."""
    affine: tuple[tuple[float, ...], ...] | None = None
    """3 rows of 4: voxel indices (XYZ) to RAS positions, in the file's own unit; None if it does not say."""
    block: tuple[int, int, int] = (1, 1, 1)
    """ZYX granularity in which reading is cheap: a chunk, a page (1, Y, X), a tile row."""
    sequential: bool = False
    """True for a compressed stream: only whole planes in ascending Z, channel after channel, are cheap."""
    decoded_bytes: int = 0
    """Bytes that decoding one chunk, tile or strip yields, however little of it lies in the volume; 0 where
    voxels are not decoded in pieces."""
    stored_bytes: int = 0
    """Bytes on disk of the voxels or, if the format does not say, of the files."""
    other_files: bool = False
    """True where voxels lie in files beyond the source's own and what :meth:`Reader.beside` names (links and
    virtual data sets of HDF5, detached voxels under names of their own): whether those have changed cannot be
    told without reading the header."""
    warnings: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        for what, sizes in (
            ("shape", self.shape),
            ("storage block", self.block),
            ("channels", (self.channels,)),
        ):
            if min(sizes) < 1:
                msg = f"the {what} is {' x '.join(map(str, sizes))}, which holds nothing"
                raise ValueError(msg)

    @property
    def voxels(self) -> int:
        """Number of voxels of one channel, as an unbounded int."""
        z, y, x = self.shape
        return z * y * x


class Volume(ABC):
    """An open volume; a context manager."""

    header: VolumeHeader
    source: VolumeSource

    @abstractmethod
    def read(self, region: Region, channel: int | None = None) -> NDArray[Any]:
        """Stored values of a region.

        Args:
            region: half-open ZYX bounds inside the volume.
            channel: one channel, or ``None`` for all.

        Returns:
            Array ``(channels, z, y, x)``, or ``(z, y, x)`` for one channel, native byte order.

        On a ``sequential`` volume a region before the last one read starts the stream again: right, but slow.
        Decoding errors are raised as :class:`FormatError`.
        """

    def stores(self, size: int) -> bool:
        """Whether at least so many bytes of voxels lie on disk (compressed, or not)."""
        return self.header.stored_bytes >= size

    def close(self) -> None:  # noqa: B027 - most readers hold nothing open
        """Release the file."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Reader(ABC):
    """One container format."""

    name: ClassVar[str]
    """Short word shown to users: ``nifti``, ``hdf5``, ``tiff``."""
    suffixes: ClassVar[tuple[str, ...]]
    """Lower case, with the dot, longest first: ``.nii.gz``, ``.nii``."""

    def matches(self, path: Path) -> bool:
        """Whether this reader is responsible for a path, by its name alone (no I/O)."""
        return path.name.lower().endswith(self.suffixes)

    def beside(self, path: Path) -> tuple[Path, ...]:
        """Other files, there or not, that may decide what a file says (sidecar, detached voxels); no I/O."""
        del path
        return ()

    @abstractmethod
    def open(self, source: VolumeSource, options: ReadOptions) -> Volume:
        """Read the header and return the open volume.

        Raises:
            FormatError: the file is no volume of this format, or not one of intensities or labels.
        """

    def keys(self, path: Path) -> Sequence[str]:
        """Names of the volumes in a container, for formats that hold several (HDF5, Zarr); else empty."""
        return ()
