"""Folders as they really lie about: nothing in them is opened that is no file, and nothing vanishes."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import h5py
import imagecodecs
import numpy as np
import pytest
import tifffile

from voxplan.profiling.formats import open_volume
from voxplan.profiling.formats.base import FormatError, VolumeSource
from voxplan.profiling.layouts import discover
from voxplan.scripts.phantom import write_phantom

VOLUME = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)


def tiff(path: Path, volume: np.ndarray = VOLUME) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, volume, photometric="minisblack")
    return path


@pytest.mark.parametrize("depth", ["", "a", "a/b/c"])
def test_data_sets_far_below_are_named(tmp_path: Path, depth: str) -> None:
    write_phantom(tmp_path / "disk" / depth, cases=1)
    tiff(tmp_path / "disk" / "loose" / "x.tif")
    with pytest.raises(FormatError, match="holds 2 data sets") as caught:
        discover(tmp_path / "disk")
    said = str(caught.value)
    prefix = f"{depth}/" if depth else ""
    assert f": {prefix}nifti/Dataset900_Phantom, {prefix}tiff; name one" in said


def test_the_only_data_set_far_below_is_taken_and_the_rest_named(tmp_path: Path) -> None:
    write_phantom(tmp_path / "phantom", cases=1)
    (tmp_path / "disk" / "x" / "y").mkdir(parents=True)
    (tmp_path / "phantom" / "tiff").rename(tmp_path / "disk" / "x" / "y" / "z")
    tiff(tmp_path / "disk" / "loose" / "x.tif")
    found = discover(tmp_path / "disk")
    assert [case.id for case in found.cases] == ["cell_00"]
    assert "holds one data set, x/y/z" in found.warnings[0]
    assert "left out: loose" in found.warnings[0]


def test_volumes_of_the_folder_itself_go_before_data_sets_below(tmp_path: Path) -> None:
    tiff(tmp_path / "d" / "scan.tif")
    tiff(tmp_path / "d" / "sub" / "images" / "a.tif")
    tiff(tmp_path / "d" / "sub" / "labels" / "a.tif")
    found = discover(tmp_path / "d")
    assert [case.id for case in found.cases] == ["scan"]
    assert any("not searched: sub" in note for note in found.warnings)


@pytest.mark.parametrize("kind", ["pipe", "socket", "lost link"])
def test_what_is_no_file_is_reported_and_not_opened(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "d"
    tiff(folder / "good.tif")
    odd = folder / "odd.nii.gz"
    if kind == "pipe":
        os.mkfifo(odd)
    elif kind == "socket":
        monkeypatch.chdir(folder)  # a socket's path may have 108 bytes
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(odd.name)
    else:
        odd.symlink_to(folder / "gone.nii.gz")
    expected = "missing-file" if kind == "lost link" else "special-file"
    for found in (discover(folder), discover(None, images=str(folder / "*"))):
        assert [case.id for case in found.cases] == ["good"]
        assert [(failure.id, failure.kind) for failure in found.failures] == [("odd.nii.gz", expected)]
        assert kind.split()[-1] in found.failures[0].reason
    if kind != "lost link":
        alone = discover(odd)
        assert (len(alone.cases), len(alone.failures)) == (0, 1)


def test_a_device_is_not_opened() -> None:
    found = discover(Path("/dev/null"))
    assert not found.cases
    assert "character device" in found.failures[0].reason


def test_a_folder_with_the_suffix_of_a_file_is_a_folder(tmp_path: Path) -> None:
    for number in range(3):
        tiff(tmp_path / "stack.tif" / f"{number}.tif", VOLUME[0])
    for data in (tmp_path, tmp_path / "stack.tif"):
        found = discover(data)
        assert [case.id for case in found.cases] == ["stack.tif"]
        assert len(found.cases[0].images[0].paths) == 3
        assert not found.failures


def test_failures_do_not_share_an_id(tmp_path: Path) -> None:
    tiff(tmp_path / "images" / "a.tif")
    tiff(tmp_path / "labels" / "a.tif")
    for name in ("images/b.tif", "images/b.tiff", "labels/c.tif", "labels/c.tiff"):
        tiff(tmp_path / name)
    os.mkfifo(tmp_path / "images" / "p.tif")
    os.mkfifo(tmp_path / "labels" / "p.tif")
    found = discover(tmp_path)
    ids = [failure.id for failure in found.failures]
    assert [case.id for case in found.cases] == ["a"]
    assert len(ids) == len(set(ids)) == 6
    assert {"b (b.tif)", "b (b.tiff)", "c (c.tif)", "c (c.tiff)"} <= set(ids)


def container(path: Path, *keys: str) -> Path:
    with h5py.File(path, "w") as file:
        for key in keys:
            file[key] = VOLUME
    return path


def test_the_label_map_inside_a_container_goes_first(tmp_path: Path) -> None:
    path = container(tmp_path / "vnc.h5", "volumes/raw", "volumes/labels/mito")
    outside = tiff(tmp_path / "labels.tif")
    found = discover(tmp_path)
    label = found.cases[0].label
    assert label is not None
    assert (label.paths, label.key) == ((path,), "volumes/labels/mito")
    assert [failure.files for failure in found.failures] == [(str(outside),)]
    assert "label map of its own (volumes/labels/mito)" in found.failures[0].reason
    told = discover(None, images=str(path), labels=str(outside)).cases[0].label
    assert told is not None
    assert told.paths == (outside,)


def test_a_container_without_a_label_map_takes_the_one_outside(tmp_path: Path) -> None:
    container(tmp_path / "vnc.h5", "raw")
    outside = tiff(tmp_path / "labels.tif")
    found = discover(tmp_path)
    label = found.cases[0].label
    assert label is not None
    assert label.paths == (outside,)
    assert any("only image and the only label" in note for note in found.warnings)


def test_containers_with_and_without_labels_beside_each_other(tmp_path: Path) -> None:
    container(tmp_path / "a.h5", "raw", "labels")
    container(tmp_path / "b.h5", "raw")
    container(tmp_path / "b_seg.h5", "labels")
    found = discover(tmp_path)
    assert {case.id: case.label and case.label.paths[0].name for case in found.cases} == {
        "a": "a.h5",
        "b": "b_seg.h5",
    }
    assert not found.failures


@pytest.mark.parametrize("slices_are", ["images", "labels"])
def test_a_glob_of_slices_is_told_to_name_the_folder(tmp_path: Path, slices_are: str) -> None:
    for number in range(4):
        tiff(tmp_path / "slices" / f"{number:02}.tif", VOLUME[0])
    whole = tiff(tmp_path / "whole.tif")
    slices = str(tmp_path / "slices" / "*.tif")
    places = {"images": slices, "labels": str(whole)}
    if slices_are == "labels":
        places = {"images": str(whole), "labels": slices}
    with pytest.raises(FormatError, match=f"--{slices_are} {tmp_path}/slices"):
        discover(None, **places)  # type: ignore[arg-type]
    places[slices_are] = str(tmp_path / "slices")
    assert len(discover(None, **places).cases) == 1  # type: ignore[arg-type]


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".tif", ".h5", ".nrrd", ".mha", ".png", ".dcm"])
def test_an_empty_file_is_called_empty(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"")
    with pytest.raises(FormatError, match=r"the file is empty \(0 bytes\)") as caught:
        open_volume(VolumeSource(paths=(path,)))
    assert caught.value.kind == "empty"
    if suffix == ".h5":
        assert "is empty (0 bytes)" in discover(tmp_path).failures[0].reason


def test_a_folder_named_as_a_file_is_called_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a.tif").mkdir()
    with pytest.raises(FormatError, match="is a folder, though it has the suffix of a tiff file"):
        open_volume(VolumeSource(paths=(tmp_path / "a.tif",)))


def test_slices_in_colour_fail_as_one_volume(tmp_path: Path) -> None:
    for number in range(40):
        pixels = np.random.default_rng(number).integers(0, 255, (6, 8, 3)).astype(np.uint8)
        (tmp_path / f"s_{number}.png").write_bytes(imagecodecs.png_encode(pixels))
    dataset = discover(tmp_path)
    assert [len(case.images[0].paths) for case in dataset.cases] == [40]
    with pytest.raises(FormatError, match=r"s_0.png: pixels are RGB, not intensities"):
        open_volume(dataset.cases[0].images[0])
