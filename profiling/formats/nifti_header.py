"""The header of NIfTI-1 and NIfTI-2, both byte orders.

Field offsets are those of ``nifti1.h`` (https://nifti.nimh.nih.gov/nifti-1) and ``nifti2.h``. An own parser,
because ITK refuses headers without an orthonormal direction and both ITK and nibabel take far longer to open.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from .base import FormatError, Unit

NIFTI1_SIZE: Final = 348
NIFTI2_SIZE: Final = 540
HEADER_BYTES: Final = NIFTI2_SIZE
"""Bytes that are enough to parse either version."""

_DTYPES: Final[dict[int, str]] = {
    2: "u1",
    4: "i2",
    8: "i4",
    16: "f4",
    64: "f8",
    256: "i1",
    512: "u2",
    768: "u4",
    1024: "i8",
    1280: "u8",
}
_NOT_INTENSITIES: Final[dict[int, str]] = {
    32: "complex64",
    128: "RGB24",
    1792: "complex128",
    2048: "complex256",
    2304: "RGBA32",
}
_UNITS: Final[dict[int, tuple[Unit, float]]] = {1: ("mm", 1000.0), 2: ("mm", 1.0), 3: ("um", 1.0)}
"""Code in the low three bits of ``xyzt_units``: our unit, and the factor to it (1 is the metre)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NiftiHeader:
    """What voxplan needs of the header; lengths and axes in the file's order, X first."""

    dims: tuple[int, ...]
    """X, Y, Z, then time and vector axes: at least three."""
    dtype: np.dtype[Any]
    """In the file's byte order."""
    offset: int
    pixdim: tuple[float, float, float]
    """XYZ, exactly as stored (NIfTI-1: the float64 of a float32)."""
    unit_code: int
    scl_slope: float
    scl_inter: float
    qform_code: int
    sform_code: int
    qfac: float
    quaternion: tuple[float, float, float]
    qoffset: tuple[float, float, float]
    srow: NDArray[np.float64]
    """3 by 4: voxel indices to millimetres, RAS."""

    @property
    def unit(self) -> tuple[Unit, float]:
        """Our unit, and the factor that turns ``pixdim`` into it."""
        return _UNITS.get(self.unit_code & 7, ("unknown", 1.0))

    @property
    def directions(self) -> NDArray[np.float64] | None:
        """3 by 3, columns: where each voxel axis (XYZ) points in RAS; None where the file does not say.

        As in nibabel, the sform is believed before the qform.
        """
        if self._has_sform:
            directions: NDArray[np.float64] = self.srow[:, :3]
            return directions
        if self.qform_code > 0:
            return _rotation(self.quaternion) @ np.diag([1.0, 1.0, -1.0 if self.qfac < 0 else 1.0])
        return None

    @property
    def affine(self) -> NDArray[np.float64] | None:
        """3 by 4: voxel indices (XYZ) to RAS, of the same of the two forms as :attr:`directions`."""
        directions = self.directions
        if directions is None or self._has_sform:
            return None if directions is None else self.srow
        if not np.isfinite(self.pixdim).all():
            return None
        return np.column_stack([directions * np.array(self.pixdim), np.array(self.qoffset)])

    @property
    def _has_sform(self) -> bool:
        finite = self.sform_code > 0 and np.isfinite(self.srow).all()
        return bool(finite and np.linalg.det(self.srow[:, :3]) != 0)


HALF_TURN = 1e-7
"""Rest of the squared quaternion that is float32 rounding: the NIfTI library (nifti1_io.c) takes it as 0."""


def parse_header(data: bytes, path: Path) -> NiftiHeader:
    """Parse the first :data:`HEADER_BYTES` of a single-file NIfTI.

    Raises:
        FormatError: no NIfTI header, or one that declares no sensible volume (``unreadable``,
            ``unsupported``), or voxels that are no intensities (``not-intensities``).
    """
    order, version = _recognise(data, path)
    if version == 1:
        dim = struct.unpack_from(order + "8h", data, 40)
        datatype = struct.unpack_from(order + "h", data, 70)[0]
        pixdim = struct.unpack_from(order + "8f", data, 76)
        vox_offset, slope, inter = struct.unpack_from(order + "3f", data, 108)
        units = data[123]
        qform, sform = struct.unpack_from(order + "2h", data, 252)
        quaternion = struct.unpack_from(order + "3f", data, 256)
        qoffset = struct.unpack_from(order + "3f", data, 268)
        srow = struct.unpack_from(order + "12f", data, 280)
    else:
        dim = struct.unpack_from(order + "8q", data, 16)
        datatype = struct.unpack_from(order + "h", data, 12)[0]
        pixdim = struct.unpack_from(order + "8d", data, 104)
        vox_offset = struct.unpack_from(order + "q", data, 168)[0]
        slope, inter = struct.unpack_from(order + "2d", data, 176)
        qform, sform = struct.unpack_from(order + "2i", data, 344)
        quaternion = struct.unpack_from(order + "3d", data, 352)
        qoffset = struct.unpack_from(order + "3d", data, 376)
        srow = struct.unpack_from(order + "12d", data, 400)
        units = struct.unpack_from(order + "i", data, 500)[0]
    return NiftiHeader(
        dims=_dims(dim, path),
        dtype=_dtype(datatype, order, path),
        offset=_offset(vox_offset, version, path),
        pixdim=(pixdim[1], pixdim[2], pixdim[3]),
        unit_code=units,
        scl_slope=slope,
        scl_inter=inter,
        qform_code=qform,
        sform_code=sform,
        qfac=pixdim[0],
        quaternion=quaternion,
        qoffset=qoffset,
        srow=np.array(srow, np.float64).reshape(3, 4),
    )


def _recognise(data: bytes, path: Path) -> tuple[str, int]:
    for order in "<>":
        size = struct.unpack_from(order + "i", data.ljust(4, b"\0"))[0]
        if size == NIFTI1_SIZE and len(data) >= NIFTI1_SIZE:
            magic, version = data[344:348], 1
        elif size == NIFTI2_SIZE and len(data) >= NIFTI2_SIZE:
            magic, version = data[4:8], 2
        else:
            continue
        if magic[:2] == b"ni":
            msg = f"{path}: header of a NIfTI pair (.hdr and .img); convert it to one .nii file"
            raise FormatError(msg, kind="unsupported")
        if magic[:2] == b"n+":
            return order, version
        msg = f"{path}: no NIfTI file (magic {magic!r}; perhaps Analyze 7.5); convert it to NIfTI"
        raise FormatError(msg, kind="unsupported")
    msg = f"{path}: no NIfTI header in {len(data)} bytes; the file is empty, cut short or of another format"
    raise FormatError(msg)


def _dims(dim: tuple[int, ...], path: Path) -> tuple[int, ...]:
    count = dim[0]
    if not 1 <= count <= 7 or any(n < 1 for n in dim[1 : count + 1]):
        msg = f"{path}: header field dim = {list(dim)} is no shape; the header is damaged"
        raise FormatError(msg)
    dims = tuple(dim[1 : count + 1]) + (1,) * (3 - count)
    if any(n != 1 for n in dims[5:]):
        msg = f"{path}: {count}-D NIfTI of shape XYZ... {dims}; at most five axes are read"
        raise FormatError(msg, kind="unsupported")
    return dims[:5]


def _dtype(code: int, order: str, path: Path) -> np.dtype[Any]:
    if code in _NOT_INTENSITIES:
        msg = (
            f"{path}: voxels are {_NOT_INTENSITIES[code]} (NIfTI datatype {code}), not intensities or "
            "labels; convert the file to scalar values, or leave it out with --exclude"
        )
        raise FormatError(msg, kind="not-intensities")
    if code not in _DTYPES:
        msg = f"{path}: NIfTI datatype {code} is not supported; convert the file, for example to float32"
        raise FormatError(msg, kind="unsupported")
    return np.dtype(_DTYPES[code]).newbyteorder(order)  # type: ignore[arg-type]


def _offset(vox_offset: float, version: int, path: Path) -> int:
    smallest = (NIFTI1_SIZE if version == 1 else NIFTI2_SIZE) + 4
    if vox_offset == 0:
        return smallest
    if not (np.isfinite(vox_offset) and vox_offset >= smallest - 4 and vox_offset == int(vox_offset)):
        msg = f"{path}: header field vox_offset = {vox_offset} lies inside the header; the header is damaged"
        raise FormatError(msg)
    return int(vox_offset)


def _rotation(quaternion: tuple[float, float, float]) -> NDArray[np.float64]:
    b, c, d = quaternion
    length = b * b + c * c + d * d
    if 1.0 - length < HALF_TURN:
        b, c, d = (float(part / np.sqrt(length)) for part in (b, c, d))
        length = 1.0
    a = np.sqrt(1.0 - length)
    return np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
