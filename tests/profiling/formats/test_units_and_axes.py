"""Every convention for units, axes and spacing, in files written with the format's own library."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile

from voxplan.profiling.formats import open_volume
from voxplan.profiling.formats.base import FormatError, ReadOptions, Spacing, VolumeHeader, VolumeSource
from voxplan.profiling.formats.units import convert, parse_unit

VOLUME = np.random.default_rng(1).integers(0, 200, (4, 6, 8)).astype(np.uint8)


def header_of(path: Path, **options: Any) -> VolumeHeader:
    with open_volume(VolumeSource(paths=(path,)), ReadOptions(**options)) as volume:
        return volume.header


@pytest.mark.parametrize(
    ("word", "unit", "factor"),
    [
        ("mm", "mm", 1.0),
        ("millimetre", "mm", 1.0),
        ("Millimeter", "mm", 1.0),
        ("um", "um", 1.0),
        ("\u00b5m", "um", 1.0),
        ("\u03bcm", "um", 1.0),
        ("\\u00B5m", "um", 1.0),
        ("\\u00b5m", "um", 1.0),
        ("micron", "um", 1.0),
        ("microns", "um", 1.0),
        ("micrometer", "um", 1.0),
        (" nm\0", "nm", 1.0),
        (b"nm", "nm", 1.0),
        ("nanometers", "nm", 1.0),
        ("m", "mm", 1000.0),
        ("cm", "mm", 10.0),
        ("inch", "mm", 25.4),
        ("\u00c5", "nm", 0.1),
        ("\u212b", "nm", 0.1),
        ("angstrom", "nm", 0.1),
    ],
)
def test_unit_words(word: object, unit: str, factor: float) -> None:
    assert parse_unit(word) == (unit, factor)


@pytest.mark.parametrize("word", ["pixel", "", "voxels", "sec", None, 3, "furlong"])
def test_words_that_are_no_unit(word: object) -> None:
    assert parse_unit(word) is None


def test_convert() -> None:
    assert convert(4.6, "nm", "nm") == 4.6
    assert convert(45.0, "nm", "um") == pytest.approx(0.045)
    assert convert(2.0, "mm", "um") == pytest.approx(2000.0)
    with pytest.raises(ValueError, match="unknown"):
        convert(1.0, "unknown", "mm")


def write_nifti(path: Path, pixdim: Any = (0.5, 0.75, 2.5), **fields: Any) -> Path:
    """XYZ pixdim; any other header field by its NIfTI name."""
    image = nibabel.Nifti1Image(VOLUME.T, None)
    image.header["pixdim"][1:4] = pixdim
    for name, value in fields.items():
        image.header[name] = value
    image.to_filename(path)
    raw = bytearray(path.read_bytes())  # nibabel rewrites some fields when it saves: put ours back
    raw[76 + 4 : 76 + 16] = np.asarray(pixdim, "<f4").tobytes()
    offsets = {"xyzt_units": (123, "u1"), "qform_code": (252, "<i2"), "sform_code": (254, "<i2")}
    offsets |= {"scl_slope": (112, "<f4"), "scl_inter": (116, "<f4"), "srow_x": (280, "<f4")}
    offsets |= {"srow_y": (296, "<f4"), "srow_z": (312, "<f4"), "vox_offset": (108, "<f4")}
    for name, value in fields.items():
        at, kind = offsets[name]
        data = np.asarray(value, kind).tobytes()
        raw[at : at + len(data)] = data
    path.write_bytes(raw)
    return path


@pytest.mark.parametrize(
    ("code", "spacing", "unit"),
    [
        (0, (2.5, 0.75, 0.5), "unknown"),
        (1, (2500.0, 750.0, 500.0), "mm"),
        (2, (2.5, 0.75, 0.5), "mm"),
        (3, (2.5, 0.75, 0.5), "um"),
        (2 + 8, (2.5, 0.75, 0.5), "mm"),
        (3 + 16, (2.5, 0.75, 0.5), "um"),
    ],
)
def test_nifti_units(tmp_path: Path, code: int, spacing: Any, unit: str) -> None:
    header = header_of(write_nifti(tmp_path / "a.nii", xyzt_units=code, qform_code=1))
    assert header.spacing == Spacing(values=spacing, unit=unit, source="header")  # type: ignore[arg-type]
    assert header.warnings == ()


@pytest.mark.parametrize("bad", [(0, 1, 1), (1, -1, 1), (1, 1, np.nan), (np.inf, 1, 1)])
def test_nifti_without_usable_spacing(tmp_path: Path, bad: Any) -> None:
    header = header_of(write_nifti(tmp_path / "a.nii", bad, xyzt_units=2, qform_code=1))
    assert header.spacing == Spacing.missing()
    assert "taken as missing" in header.warnings[0]


def test_nifti_placeholder_is_missing_but_a_stated_millimetre_is_not(tmp_path: Path) -> None:
    ones = (1, 1, 1)
    nothing = header_of(write_nifti(tmp_path / "a.nii", ones, xyzt_units=0, qform_code=0, sform_code=0))
    assert nothing.spacing == Spacing.missing()
    assert "placeholder" in nothing.warnings[0]
    stated = header_of(write_nifti(tmp_path / "b.nii", ones, xyzt_units=2, qform_code=0, sform_code=0))
    assert stated.spacing == Spacing(values=(1.0, 1.0, 1.0), unit="mm", source="header")
    affine = header_of(write_nifti(tmp_path / "c.nii", ones, xyzt_units=0, qform_code=1))
    assert affine.spacing.values == (1.0, 1.0, 1.0)


SFORM = {"srow_x": [-2, 0, 0, 5], "srow_y": [0, 3, 0, 6], "srow_z": [0, 0, 4, 7], "sform_code": 1}


def test_nifti_sform_only(tmp_path: Path) -> None:
    header = header_of(write_nifti(tmp_path / "a.nii", (0, 0, 0), xyzt_units=2, qform_code=0, **SFORM))
    assert header.spacing.values == (4.0, 3.0, 2.0)
    assert header.orientation == "SAL"
    assert header.affine_flips is True
    assert "sform" in header.warnings[0]


def test_nifti_sform_differs_from_pixdim_itk_decides(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii", (1.1, 1.2, 1.3), xyzt_units=2, qform_code=0, **SFORM)
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    itk = sitk.ReadImage(str(path)).GetSpacing()
    header = header_of(path)
    assert header.spacing.values == itk[::-1]
    assert "pixdim is taken" in header.warnings[0]


def test_nifti_that_itk_refuses(tmp_path: Path) -> None:
    """A sheared sform: ``ITK only supports orthonormal direction cosines``."""
    sheared = {**SFORM, "srow_x": [2, 1.5, 0, 0]}
    path = write_nifti(tmp_path / "a.nii", (2, 3, 4), xyzt_units=2, qform_code=0, **sheared)
    with pytest.raises(RuntimeError, match="orthonormal"):
        sitk.ReadImage(str(path))
    header = header_of(path)
    assert header.spacing.values == (4.0, 3.0, 2.0)
    assert header.orientation == "SAR"
    assert any("orthonormal" in warning for warning in header.warnings)


@pytest.mark.parametrize(
    ("slope", "inter", "expected"),
    [(0.0, 3.0, (1.0, 0.0)), (np.nan, 3.0, (1.0, 0.0)), (2.5, -4.0, (2.5, -4.0)), (-1.0, 0.0, (-1.0, 0.0))],
)
def test_nifti_slope(tmp_path: Path, slope: float, inter: float, expected: tuple[float, float]) -> None:
    path = write_nifti(tmp_path / "a.nii", scl_slope=slope, scl_inter=inter)
    with open_volume(VolumeSource(paths=(path,))) as volume:
        assert (volume.header.slope, volume.header.intercept) == expected
        stored = volume.read((slice(0, 4), slice(0, 6), slice(0, 8)), 0)
    assert stored.dtype == np.uint8
    truth = np.asarray(nibabel.load(path).dataobj).T  # type: ignore[attr-defined]
    np.testing.assert_allclose(stored * expected[0] + expected[1], truth)


@pytest.mark.parametrize(
    ("attributes", "options", "expected"),
    [
        ({"resolution": [45.0, 4.6, 4.6], "unit": "nm"}, {}, ((45.0, 4.6, 4.6), "nm", "resolution")),
        ({"resolution": [45.0, 4.6, 4.6]}, {}, ((45.0, 4.6, 4.6), "unknown", "resolution")),
        ({"resolution": [45.0, 4.6, 4.6]}, {"unit": "nm"}, ((45.0, 4.6, 4.6), "nm", "resolution")),
        (
            {"resolution": [4.6, 4.6, 45.0]},
            {"spacing_order": "xyz"},
            ((45.0, 4.6, 4.6), "unknown", "resolution"),
        ),
        ({"voxel_size": [2, 1, 1], "units": "micrometer"}, {}, ((2.0, 1.0, 1.0), "um", "voxel_size")),
        ({"spacing": [2.0, 1, 1], "spacing_unit": "mm"}, {}, ((2.0, 1.0, 1.0), "mm", "spacing")),
        (
            {"element_size_um": [0.045, 0.0046, 0.0046]},
            {},
            ((0.045, 0.0046, 0.0046), "um", "element_size_um"),
        ),
        ({"resolution": [1, 2, 3], "resolution_unit": b"nm"}, {}, ((1.0, 2.0, 3.0), "nm", "resolution")),
        ({"resolution": [1, 2, 3], "units": ["nm", "nm", "nm"]}, {}, ((1.0, 2.0, 3.0), "nm", "resolution")),
        (
            {"resolution": [1, 500, 500], "units": ["um", "nm", "nm"]},
            {},
            ((1.0, 0.5, 0.5), "um", "resolution"),
        ),
        ({"resolution": [5, 5, 5], "unit": "angstrom"}, {}, ((0.5, 0.5, 0.5), "nm", "resolution")),
        ({"spacing": 3.0, "unit": "um"}, {}, ((3.0, 3.0, 3.0), "um", "spacing")),
        (
            {"resolution": [45, 4, 4], "spacing": [1, 1, 1], "unit": "nm"},
            {},
            ((45.0, 4.0, 4.0), "nm", "resolution"),
        ),
    ],
)
@pytest.mark.parametrize("on", ["dataset", "group", "root"])
def test_hdf5_attributes(tmp_path: Path, attributes: Any, options: Any, expected: Any, on: str) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("volumes/raw", data=VOLUME)
        holder = {"dataset": dataset, "group": file["volumes"], "root": file}[on]
        for name, value in attributes.items():
            holder.attrs[name] = value
    values, unit, name = expected
    spacing = header_of(path, **options).spacing
    assert spacing.values == pytest.approx(values, rel=1e-12)
    assert (spacing.unit, spacing.source) == (unit, f"attribute:{name}")


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"resolution": "fine"},
        {"resolution": [1, 2]},
        {"resolution": [0, 1, 1]},
        {"spacing": [1, np.nan, 1]},
    ],
)
def test_hdf5_without_usable_attributes(tmp_path: Path, attributes: Any) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("raw", data=VOLUME).attrs.update(attributes)
    header = header_of(path)
    assert header.spacing == Spacing.missing()
    assert bool(header.warnings) == bool(attributes)


def test_hdf5_attribute_with_a_value_per_stored_axis(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("raw", data=VOLUME[np.newaxis]).attrs["spacing"] = [1.0, 45.0, 4.0, 5.0]
    assert header_of(path).spacing.values == (45.0, 4.0, 5.0)


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        ("\\u00B5m", "um"),
        ("micron", "um"),
        ("um", "um"),
        ("nm", "nm"),
        ("mm", "mm"),
    ],
)
def test_imagej_units(tmp_path: Path, unit: str, expected: str) -> None:
    path = tmp_path / "a.tif"
    metadata = {"axes": "ZYX", "spacing": 0.045, "unit": unit}
    tifffile.imwrite(path, VOLUME, imagej=True, resolution=((5, 2), (4, 1)), metadata=metadata)
    header = header_of(path)
    assert header.spacing == Spacing(values=(0.045, 0.25, 0.4), unit=expected, source="imagej")  # type: ignore[arg-type]
    assert header.warnings == ()


def test_imagej_inch_and_cm_become_mm(tmp_path: Path) -> None:
    for unit, factor in (("inch", 25.4), ("cm", 10.0)):
        path = tmp_path / f"{unit}.tif"
        metadata = {"axes": "ZYX", "spacing": 0.5, "unit": unit}
        tifffile.imwrite(path, VOLUME, imagej=True, resolution=(2, 4), metadata=metadata)
        spacing = header_of(path).spacing
        assert spacing.values == pytest.approx((0.5 * factor, 0.25 * factor, 0.5 * factor))
        assert spacing.unit == "mm"


@pytest.mark.parametrize("metadata", [{}, {"unit": "pixel", "spacing": 2.0}])
def test_imagej_without_calibration(tmp_path: Path, metadata: Any) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, VOLUME, imagej=True, resolution=(2, 4), metadata={"axes": "ZYX", **metadata})
    assert header_of(path).spacing == Spacing.missing()


def test_imagej_without_slice_distance_states_the_plane(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, VOLUME, imagej=True, resolution=(2, 4), metadata={"axes": "ZYX", "unit": "um"})
    header = header_of(path)
    assert header.spacing == Spacing.missing()
    assert "0.25 x 0.5 um in the plane" in header.warnings[0]


@pytest.mark.parametrize(
    ("unit", "expected"),
    [("nm", "nm"), ("\u00b5m", "um"), ("mm", "mm"), (None, "um")],
)
def test_ome_physical_sizes(tmp_path: Path, unit: str | None, expected: str) -> None:
    path = tmp_path / "a.ome.tif"
    metadata: dict[str, Any] = {"axes": "ZYX"}
    for axis, value in zip("ZYX", (45.0, 4.6, 4.7), strict=True):
        metadata[f"PhysicalSize{axis}"] = value
        if unit is not None:
            metadata[f"PhysicalSize{axis}Unit"] = unit
    tifffile.imwrite(path, VOLUME, metadata=metadata)
    assert header_of(path).spacing == Spacing(values=(45.0, 4.6, 4.7), unit=expected, source="ome-xml")  # type: ignore[arg-type]


def test_ome_units_that_differ_by_axis(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    metadata = {"axes": "ZYX", "PhysicalSizeZ": 0.045, "PhysicalSizeZUnit": "\u00b5m"}
    metadata |= {f"PhysicalSize{a}": 4.6 for a in "YX"} | {f"PhysicalSize{a}Unit": "nm" for a in "YX"}
    tifffile.imwrite(path, VOLUME, metadata=metadata)
    spacing = header_of(path).spacing
    assert spacing.values == pytest.approx((45.0, 4.6, 4.6))
    assert spacing.unit == "nm"


def test_ome_without_z_or_in_pixels(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, VOLUME, metadata={"axes": "ZYX", "PhysicalSizeX": 4.6, "PhysicalSizeY": 4.6})
    header = header_of(path)
    assert header.spacing == Spacing.missing()
    assert "4.6 x 4.6 um in the plane" in header.warnings[0]
    metadata = {f"PhysicalSize{a}": 1.0 for a in "XYZ"} | {f"PhysicalSize{a}Unit": "pixel" for a in "XYZ"}
    tifffile.imwrite(path, VOLUME, metadata={"axes": "ZYX", **metadata})
    assert header_of(path).spacing == Spacing.missing()


@pytest.mark.parametrize(
    ("resolution", "unit", "expected"),
    [
        ((100.0, 200.0), "CENTIMETER", (0.1, 0.05, 0.1)),
        ((254.0, 508.0), "INCH", (0.1, 0.05, 0.1)),
        ((72.0, 72.0), "INCH", None),
        ((96.0, 96.0), "INCH", None),
        ((1.0, 1.0), "INCH", None),
        ((100.0, 100.0), "NONE", None),
        ((0.0, 0.0), "INCH", None),
    ],
)
def test_tiff_resolution_of_a_plane_and_of_a_stack(
    tmp_path: Path, resolution: Any, unit: str, expected: Any
) -> None:
    """A single page takes its larger pixel edge for Z; a stack without a distance has none, and says so."""
    plane, stack = tmp_path / "plane.tif", tmp_path / "stack.tif"
    tifffile.imwrite(plane, VOLUME[0], resolution=resolution, resolutionunit=unit)
    tifffile.imwrite(stack, VOLUME, photometric="minisblack", resolution=resolution, resolutionunit=unit)
    spacing = header_of(plane).spacing
    assert spacing.values == (pytest.approx(expected) if expected else None)
    header = header_of(stack)
    assert header.spacing == Spacing.missing()
    assert bool(header.warnings) == bool(expected)
    if expected:
        assert (spacing.unit, spacing.source) == ("mm", "tiff-resolution")
        assert "0.05 x 0.1 mm in the plane" in header.warnings[0]


@pytest.mark.parametrize("name", ["case_7.tif", "case_7_0000.tif", "case_7_0001.tiff"])
def test_nnunet_sidecar(tmp_path: Path, name: str) -> None:
    tifffile.imwrite(tmp_path / name, VOLUME, photometric="minisblack")
    (tmp_path / "case_7.json").write_text(json.dumps({"spacing": [7.6, 3.4, 1.0]}))
    header = header_of(tmp_path / name)
    assert header.spacing == Spacing(values=(7.6, 3.4, 1.0), unit="unknown", source="sidecar")
    assert header_of(tmp_path / name, spacing_order="xyz").spacing.values == (1.0, 3.4, 7.6)
    assert header_of(tmp_path / name, unit="um").spacing.unit == "um"


@pytest.mark.parametrize(
    "text", ["{", '{"spacing": [1, 2]}', '{"spacing": ["a", 1, 1]}', '{"spacing": [0, 1, 1]}']
)
def test_a_sidecar_that_cannot_be_used_warns(tmp_path: Path, text: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", VOLUME, photometric="minisblack")
    (tmp_path / "a.json").write_text(text)
    header = header_of(tmp_path / "a.tif")
    assert header.spacing == Spacing.missing()
    assert header.warnings


def test_who_is_believed(tmp_path: Path) -> None:
    """User, then sidecar, then ImageJ."""
    path = tmp_path / "a.tif"
    metadata = {"axes": "ZYX", "spacing": 3.0, "unit": "um"}
    tifffile.imwrite(path, VOLUME, imagej=True, resolution=(2, 2), metadata=metadata)
    assert header_of(path).spacing.source == "imagej"
    (tmp_path / "a.json").write_text(json.dumps({"spacing": [1, 1, 1]}))
    assert header_of(path).spacing.source == "sidecar"
    assert header_of(path, spacing=(9.0, 9.0, 9.0)).spacing.source == "user"


@pytest.mark.parametrize(
    ("shape", "axes", "zyx", "channels"),
    [
        ((6, 8), None, (1, 6, 8), 1),
        ((4, 6, 8), None, (4, 6, 8), 1),
        ((4, 6, 8), "xyz", (8, 6, 4), 1),
        ((4, 6, 8), "czyx", (4, 6, 8), 1),
        ((4, 6, 8), "cyx", (1, 6, 8), 4),
        ((2, 4, 6, 8), None, (4, 6, 8), 2),
        ((4, 6, 8, 2), "zyxc", (4, 6, 8), 2),
        ((8, 6, 4, 2), "xyzc", (4, 6, 8), 2),
        ((3, 2, 4, 6, 8), "tczyx", (4, 6, 8), 6),
        ((1, 2, 4, 6, 8), None, (4, 6, 8), 2),
        ((4, 2, 6, 3, 8), "zcytx", (4, 6, 8), 6),
    ],
)
def test_axes_of_arrays(tmp_path: Path, shape: Any, axes: str | None, zyx: Any, channels: int) -> None:
    """Compared with numpy's einsum, which names axes the same way."""
    array = np.random.default_rng(2).integers(0, 99, shape).astype(np.int16)
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("raw", data=array)
    with open_volume(VolumeSource(paths=(path,)), ReadOptions(axes=axes)) as volume:
        assert volume.header.shape == zyx
        assert volume.header.channels == channels
        got = volume.read(tuple(slice(0, n) for n in zyx))  # type: ignore[arg-type]
        last = volume.read((slice(0, 1), slice(1, 5), slice(2, 3)), channels - 1)
    letters = (axes or {2: "yx", 3: "zyx", 4: "czyx", 5: "tczyx"}[array.ndim])[-5:]
    letters = letters.replace("c", "") if len(letters) > array.ndim else letters
    target = "".join(a for a in letters if a in "ct") + "".join(a for a in "zyx" if a in letters)
    truth = np.einsum(f"{letters}->{target}", array).reshape(channels, *zyx)
    np.testing.assert_array_equal(got, truth)
    np.testing.assert_array_equal(last, truth[-1, 0:1, 1:5, 2:3])


@pytest.mark.parametrize("shape", [(40, 40, 40, 40), (40, 40, 40, 2), (2, 3, 40, 40, 40)])
def test_axes_that_nobody_can_guess(tmp_path: Path, shape: Any) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("raw", shape=shape, dtype="u1", chunks=True)
    with pytest.raises(FormatError, match="--axes") as caught:
        header_of(path)
    assert caught.value.kind == "ambiguous"


@pytest.mark.parametrize("axes", ["zzyx", "abc", "zx", "zyxctt"])
def test_axes_that_are_none(tmp_path: Path, axes: str) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("raw", data=VOLUME)
    with pytest.raises(FormatError, match="--axes"):
        header_of(path, axes=axes)


@pytest.mark.parametrize("convention", ["imagej", "ome"])
@pytest.mark.parametrize(
    ("axes", "spacing"), [(None, (0.5, 0.2, 0.1)), ("xyz", (0.1, 0.2, 0.5)), ("yzx", (0.2, 0.5, 0.1))]
)
def test_spacing_follows_the_stored_axes(
    tmp_path: Path, convention: str, axes: str | None, spacing: tuple[float, ...]
) -> None:
    """What the file calls Z, Y, X is 0.5, 0.2, 0.1 um apart, whatever ``--axes`` calls it."""
    path = tmp_path / ("a.ome.tif" if convention == "ome" else "a.tif")
    if convention == "ome":
        sizes = {f"PhysicalSize{axis}": size for axis, size in zip("ZYX", (0.5, 0.2, 0.1), strict=True)}
        tifffile.imwrite(path, VOLUME, metadata={"axes": "ZYX", **sizes})
    else:
        metadata = {"axes": "ZYX", "spacing": 0.5, "unit": "um"}
        tifffile.imwrite(path, VOLUME, imagej=True, resolution=(10, 5), metadata=metadata)
    header = header_of(path, axes=axes)
    order = [(axes or "zyx").index(axis) for axis in "zyx"]
    assert header.shape == tuple(VOLUME.shape[i] for i in order)
    assert header.spacing.values == pytest.approx(spacing)
    assert header.spacing.unit == "um"


@pytest.mark.parametrize(
    ("axes", "zyx", "channels", "warned"),
    [
        ("ZYX", (4, 6, 8), 1, False),
        ("TZYX", (3, 6, 8), 4, True),
        ("CZYX", (3, 6, 8), 4, False),
        ("ZCYX", (4, 6, 8), 3, False),
        ("TYX", (4, 6, 8), 1, True),
        ("CYX", (1, 6, 8), 4, False),
        ("YX", (1, 6, 8), 1, False),
    ],
)
def test_axes_of_tiff_series(tmp_path: Path, axes: str, zyx: Any, channels: int, warned: bool) -> None:
    lengths = {2: (6, 8), 3: (4, 6, 8), 4: (4, 3, 6, 8)}[len(axes)]
    array = np.random.default_rng(3).integers(0, 99, lengths).astype(np.uint16)
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, array, metadata={"axes": axes}, photometric="minisblack", compression="zlib")
    with open_volume(VolumeSource(paths=(path,))) as volume:
        assert volume.header.shape == zyx
        assert volume.header.channels == channels
        assert bool(volume.header.warnings) == warned
        got = volume.read(tuple(slice(0, n) for n in zyx))  # type: ignore[arg-type]
    truth = array.transpose(1, 0, 2, 3) if axes == "ZCYX" else array
    np.testing.assert_array_equal(got, truth.reshape(channels, *zyx))


def test_a_stack_whose_writer_called_z_channels(tmp_path: Path) -> None:
    """tifffile's ``imagej=True`` without axes calls the first axis of a 3-D array channels."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, VOLUME, imagej=True, resolution=(2, 2), metadata={"spacing": 2.0, "unit": "um"})
    header = header_of(path)
    assert header.shape == (4, 6, 8)
    assert header.spacing.values == (2.0, 0.5, 0.5)
    assert "--axes cyx" in header.warnings[0]
    assert header_of(path, axes="cyx").channels == 4


def test_nrrd_units_and_missing_spacing(tmp_path: Path) -> None:
    head = "NRRD0004\ntype: uint8\ndimension: 3\nsizes: 8 6 4\nencoding: raw\n"
    cases = {
        'spacings: 4.6 4.6 45\nunits: "nm" "nm" "nm"\n': ((45.0, 4.6, 4.6), "nm"),
        'space dimension: 3\nspace directions: (2,0,0) (0,3,0) (0,0,4)\nspace units: "um" "um" "um"\n': (
            (4.0, 3.0, 2.0),
            "um",
        ),
        "spacings: 1 2 3\n": ((3.0, 2.0, 1.0), "unknown"),
        "spacings: nan 2 3\n": (None, "unknown"),
        "": (None, "unknown"),
    }
    for number, (extra, (values, unit)) in enumerate(cases.items()):
        path = tmp_path / f"{number}.nrrd"
        path.write_bytes((head + extra + "\n").encode() + VOLUME.tobytes())
        spacing = header_of(path).spacing
        assert (spacing.values, spacing.unit) == (values, unit)


def test_nrrd_channels_first_and_colours(tmp_path: Path) -> None:
    array = np.random.default_rng(4).integers(0, 99, (4, 6, 8, 3)).astype(np.uint8)
    head = "NRRD0004\ntype: uint8\ndimension: 4\nsizes: 3 8 6 4\nencoding: raw\n"
    head += "kinds: {} domain domain domain\n\n"
    path = tmp_path / "a.nrrd"
    path.write_bytes(head.format("vector").encode() + array.tobytes())
    with open_volume(VolumeSource(paths=(path,))) as volume:
        got = volume.read((slice(0, 4), slice(0, 6), slice(0, 8)))
    np.testing.assert_array_equal(got, np.moveaxis(array, -1, 0))
    path.write_bytes(head.format("RGB-color").encode() + array.tobytes())
    with pytest.raises(FormatError, match="rgb-color") as caught:
        header_of(path)
    assert caught.value.kind == "not-intensities"


@pytest.mark.parametrize("angle", [0.0, 0.3])
@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".nii"])
def test_geometry_agrees_with_simpleitk(tmp_path: Path, suffix: str, angle: float) -> None:
    """Bit for bit, also for directions that are not along the axes."""
    image = sitk.GetImageFromArray(VOLUME)
    image.SetSpacing((0.4765625, 0.6 + 1e-9, 2.00000123))
    cos, sin = np.cos(angle), np.sin(angle)
    image.SetDirection((cos, -sin, 0, sin, cos, 0, 0, 0, -1))
    path = tmp_path / f"a{suffix}"
    sitk.WriteImage(image, str(path))
    read = sitk.ReadImage(str(path))
    header = header_of(path)
    assert header.spacing.values == pytest.approx(read.GetSpacing()[::-1], rel=0 if angle == 0 else 1e-15)
    assert header.orientation == "IPL"
    assert header.affine_flips is True
