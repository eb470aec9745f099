"""Every layout, from files on disk."""

from __future__ import annotations

import json
import os
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile

from voxplan.profiling.formats.base import FormatError
from voxplan.profiling.layouts import DiscoveredDataset, discover


def touch(folder: Path, *names: str) -> None:
    """Files whose names alone matter."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def ids(dataset: DiscoveredDataset) -> list[str]:
    return [case.id for case in dataset.cases]


def kinds(dataset: DiscoveredDataset) -> dict[str, str]:
    return {failure.id: failure.kind for failure in dataset.failures}


def nnunet(folder: Path, **changes: object) -> Path:
    content = {
        "channel_names": {"0": "T1", "1": "T2"},
        "labels": {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3},
        "numTraining": 2,
        "file_ending": ".nii.gz",
    }
    folder.mkdir(exist_ok=True)
    (folder / "dataset.json").write_text(json.dumps(content | changes))
    return folder


def test_nnunet_raw(tmp_path: Path) -> None:
    folder = nnunet(tmp_path / "Dataset007_Brain")
    files = [f"imagesTr/{case}_000{channel}.nii.gz" for case in "ab" for channel in (1, 0)]
    touch(folder, *files, "labelsTr/a.nii.gz", "labelsTr/b.nii.gz", "imagesTr/._a_0000.nii.gz")
    dataset = discover(folder)
    assert (dataset.layout, dataset.name, dataset.file_format) == ("nnunet-raw", "Dataset007_Brain", "nifti")
    assert ids(dataset) == ["a", "b"]
    assert [s.paths[0].name for s in dataset.cases[0].images] == ["a_0000.nii.gz", "a_0001.nii.gz"]
    assert dataset.channel_names == ("T1", "T2")
    assert dataset.classes == {"background": (0,), "whole": (1, 2), "core": (2,)}
    assert (dataset.ignore, dataset.declared_cases, dataset.label_kind) == (3, 2, "semantic")
    assert not dataset.failures
    assert not dataset.warnings


def test_nnunet_raw_with_holes(tmp_path: Path) -> None:
    folder = nnunet(tmp_path / "d")
    touch(
        folder,
        *("imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii.gz", "labelsTr/a.nii.gz"),
        *("imagesTr/nochannel_0000.nii.gz", "labelsTr/nochannel.nii.gz"),
        *("imagesTr/nolabel_0000.nii.gz", "imagesTr/nolabel_0001.nii.gz"),
        *("imagesTr/more_0000.nii.gz", "imagesTr/more_0001.nii.gz", "imagesTr/more_0002.nii.gz"),
        *("labelsTr/more.nii.gz", "labelsTr/noimage.nii.gz", "imagesTr/unnumbered.nii.gz"),
    )
    dataset = discover(folder)
    assert ids(dataset) == ["a"]
    assert kinds(dataset) == {
        "more": "channels",
        "noimage": "missing-file",
        "nochannel": "missing-file",
        "nolabel": "missing-file",
        "unnumbered": "name",
    }
    reasons = {failure.id: failure.reason for failure in dataset.failures}
    assert "nochannel_0001.nii.gz" in reasons["nochannel"]
    assert "labelsTr/nolabel.nii.gz" in reasons["nolabel"]
    assert dataset.declared_cases == 2, "which stands out, see outliers"


def test_nnunet_raw_without_labels_wanted(tmp_path: Path) -> None:
    folder = nnunet(tmp_path / "d", numTraining=1)
    touch(folder, "imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii.gz")
    (folder / "labelsTr").mkdir()
    assert kinds(discover(folder)) == {"a": "missing-file"}
    assert ids(discover(folder, use_labels=False)) == ["a"]


def test_nnunet_dataset_dictionary(tmp_path: Path) -> None:
    entries = {
        "a": {"images": ["x/a1.nii.gz", "x/a2.nii.gz"], "label": "y/a.nii.gz"},
        "gone": {"images": ["x/none.nii.gz"], "label": "y/a.nii.gz"},
        "climbs": {"images": ["../secret.nii.gz"], "label": "y/a.nii.gz"},
        "absolute": {"images": [str(tmp_path / "secret.nii.gz")], "label": "y/a.nii.gz"},
        "broken": {"label": "y/a.nii.gz"},
    }
    folder = nnunet(tmp_path / "d", dataset=entries)
    touch(tmp_path, "secret.nii.gz", "d/x/a1.nii.gz", "d/x/a2.nii.gz", "d/y/a.nii.gz")
    dataset = discover(folder)
    assert ids(dataset) == ["a"]
    assert [s.paths[0].name for s in dataset.cases[0].images] == ["a1.nii.gz", "a2.nii.gz"]
    assert kinds(dataset) == {
        "gone": "missing-file",
        "climbs": "outside",
        "absolute": "outside",
        "broken": "dataset-json",
    }


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"channel_names": ["T1"]}, "channel_names"),
        ({"channel_names": {"0": "T1", "2": "T2"}}, "gap"),
        ({"labels": {"background": 0.5}}, "background"),
        ({"labels": ["background"]}, "labels"),
        ({"file_ending": "nii"}, "file_ending"),
    ],
)
def test_dataset_json_that_makes_no_sense(tmp_path: Path, changes: dict[str, object], word: str) -> None:
    folder = nnunet(tmp_path / "d", **changes)
    touch(folder, "imagesTr/a_0000.nii.gz")
    with pytest.raises(FormatError, match=word) as caught:
        discover(folder)
    assert "dataset.json" in str(caught.value)


def test_decathlon(tmp_path: Path) -> None:
    content = {
        "name": "Hippocampus",
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "Anterior", "2": "Posterior"},
        "numTraining": 4,
        "training": [
            {"image": "./imagesTr/h_1.nii.gz", "label": "./labelsTr/h_1.nii.gz"},
            {"image": "imagesTr/h_2.nii.gz", "label": "labelsTr/h_2.nii.gz"},
            {"image": "imagesTr/h_3.nii.gz", "label": "labelsTr/h_3.nii.gz"},
            {"image": "../out.nii.gz", "label": "labelsTr/h_1.nii.gz"},
        ],
        "test": ["imagesTs/h_9.nii.gz"],
    }
    folder = tmp_path / "Task04"
    folder.mkdir()
    (folder / "dataset.json").write_text(json.dumps(content))
    touch(tmp_path, "out.nii.gz")
    touch(folder, *(f"{kind}Tr/h_{i}.nii.gz" for kind in ("images", "labels") for i in (1, 2)))
    dataset = discover(folder)
    assert (dataset.layout, dataset.name, dataset.declared_cases) == ("decathlon", "Hippocampus", 4)
    assert ids(dataset) == ["h_1", "h_2"]
    assert dataset.classes == {"background": (0,), "Anterior": (1,), "Posterior": (2,)}
    assert dataset.channel_names == ("MRI",)
    assert kinds(dataset) == {"h_3": "missing-file", "out": "outside"}
    named = tmp_path / "Task04" / "fold0.json"
    named.write_text(json.dumps({"training": [{"image": ["imagesTr/h_1.nii.gz", "imagesTr/h_2.nii.gz"]}]}))
    listed = discover(named)
    assert [len(case.images) for case in listed.cases] == [2]
    assert listed.cases[0].label is None


def test_image_and_label_folders(tmp_path: Path) -> None:
    touch(
        tmp_path, "images/a.nii.gz", "images/b.nii.gz", "labels/b.nii.gz", "labels/a.nii.gz", "images/n.txt"
    )
    dataset = discover(tmp_path)
    assert dataset.layout == "pair"
    assert [(case.id, case.label.paths[0].name if case.label else None) for case in dataset.cases] == [
        ("a", "a.nii.gz"),
        ("b", "b.nii.gz"),
    ]
    given = discover(None, images=str(tmp_path / "images"), labels=str(tmp_path / "labels"))
    assert given.cases == dataset.cases
    assert given.root == tmp_path
    relative = discover(tmp_path, images="images/a*.nii.gz", labels="labels/a*.nii.gz")
    assert ids(relative) == ["a"]


def test_globs_over_case_folders(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{case}/{what}.nrrd" for case in ("p1", "p2") for what in ("ct", "seg", "dose")))
    dataset = discover(None, images=str(tmp_path / "*/ct.nrrd"), labels=str(tmp_path / "*/seg.nrrd"))
    assert ids(dataset) == ["p1", "p2"], "the only two of their folder that the globs name"
    assert any("only label of their folder" in note for note in dataset.warnings)
    all_files = discover(tmp_path)
    assert not all_files.cases, "ct or dose?"
    named = discover(None, images=str(tmp_path / "p1/ct.nrrd"), labels=str(tmp_path / "p1/seg.nrrd"))
    assert ids(named) == ["ct"]
    touch(tmp_path / "two", *(f"{case}/{what}.nrrd" for case in ("p1", "p2") for what in ("img", "seg")))
    two = tmp_path / "two"
    found = discover(None, images=str(two / "*/img.nrrd"), labels=str(two / "*/seg.nrrd"))
    assert ids(found) == ["p1", "p2"]
    assert not found.failures


def test_mixed_folder_pairs_by_words(tmp_path: Path) -> None:
    touch(tmp_path, "train-input.nrrd", "train-labels.nrrd", "val-input.nrrd", "val-labels.nrrd")
    dataset = discover(tmp_path)
    assert dataset.layout == "volumes"
    assert ids(dataset) == ["train", "val"]
    assert all(case.label is not None for case in dataset.cases)


def test_exclude_hidden_and_links(tmp_path: Path) -> None:
    data = tmp_path / "data"
    touch(tmp_path, "elsewhere/x.nii.gz")
    touch(data, "a.nii.gz", "b.nii.gz", "._a.nii.gz", ".hidden.nii.gz", "bad_1.nii.gz")
    (data / "link.nii.gz").symlink_to(tmp_path / "elsewhere" / "x.nii.gz")
    (data / "inner.nii.gz").symlink_to("a.nii.gz")
    dataset = discover(data, exclude=["bad_*"])
    assert ids(dataset) == ["a", "b", "inner"]
    assert kinds(dataset) == {"link.nii.gz": "outside"}
    assert str(data / "link.nii.gz") in dataset.failures[0].reason
    assert not kinds(discover(data, exclude=["bad_*", "link*"]))


def write_slices(folder: Path, count: int, shape: tuple[int, int] = (4, 5)) -> None:
    folder.mkdir(parents=True)
    for number in range(count):
        tifffile.imwrite(folder / f"s_{number}.tif", np.full(shape, number, np.uint8))


def test_slices_are_one_volume_in_order_of_their_number(tmp_path: Path) -> None:
    write_slices(tmp_path / "stack", 11)
    dataset = discover(tmp_path / "stack")
    assert (dataset.layout, dataset.file_format) == ("slices", "tiff")
    assert ids(dataset) == ["stack"]
    assert [path.name for path in dataset.cases[0].images[0].paths] == [f"s_{i}.tif" for i in range(11)]
    assert any("one volume" in warning for warning in dataset.warnings)


def test_multi_page_files_are_volumes(tmp_path: Path) -> None:
    for number in range(3):
        tifffile.imwrite(
            tmp_path / f"v_{number}.tif", np.zeros((3, 4, 5), np.uint8), photometric="minisblack"
        )
    assert ids(discover(tmp_path)) == ["v_0", "v_1", "v_2"]


def test_pages_of_different_size_are_images(tmp_path: Path) -> None:
    write_slices(tmp_path / "d", 3)
    tifffile.imwrite(tmp_path / "d" / "s_3.tif", np.zeros((6, 5), np.uint8))
    assert len(discover(tmp_path / "d").cases) == 4


def test_names_that_are_no_numbers_are_images(tmp_path: Path) -> None:
    for name in ("liver", "spleen"):
        tifffile.imwrite(tmp_path / f"{name}.tif", np.zeros((4, 5), np.uint8))
    assert ids(discover(tmp_path)) == ["liver", "spleen"]


def test_slice_folders_of_images_and_labels(tmp_path: Path) -> None:
    write_slices(tmp_path / "images", 4)
    write_slices(tmp_path / "labels", 4)
    dataset = discover(tmp_path)
    assert len(dataset.cases) == 1
    case = dataset.cases[0]
    assert case.label is not None
    assert len(case.images[0].paths) == len(case.label.paths) == 4


def hdf5(path: Path, **volumes: str) -> Path:
    with h5py.File(path, "w") as file:
        for key, dtype in volumes.items():
            file.create_dataset(key.replace("__", "/"), data=np.ones((3, 4, 5), dtype))
    return path


@pytest.mark.parametrize(
    ("volumes", "image", "label"),
    [
        ({"raw": "u1"}, "raw", None),
        ({"main": "u1", "seg": "u1"}, "main", "seg"),
        ({"volumes__raw": "u1", "volumes__labels__mito": "u1"}, "volumes/raw", "volumes/labels/mito"),
        ({"first": "u1", "second": "u8"}, "first", "second"),
        ({"raw": "f4", "probabilities": "f4", "gt": "u2"}, "raw", "gt"),
    ],
)
def test_hdf5_keys_that_are_clear(
    tmp_path: Path, volumes: dict[str, str], image: str, label: str | None
) -> None:
    path = hdf5(tmp_path / "v.h5", **volumes)
    for data in (path, tmp_path):
        case = discover(data).cases[0]
        assert (case.images[0].key or "").strip("/") == image
        assert (case.label.key.strip("/") if case.label and case.label.key else None) == label


@pytest.mark.parametrize(
    ("volumes", "option"),
    [
        ({"first": "u1", "second": "u1"}, "--image-key"),
        ({"raw": "u1", "labels__a": "u4", "labels__b": "u4"}, "--label-key"),
    ],
)
def test_hdf5_keys_that_are_not(tmp_path: Path, volumes: dict[str, str], option: str) -> None:
    dataset = discover(hdf5(tmp_path / "v.h5", **volumes))
    assert not dataset.cases
    assert kinds(dataset) == {"v": "ambiguous"}
    assert option in dataset.failures[0].reason
    for key in set(volumes) - {"raw"}:
        assert key.replace("__", "/") in dataset.failures[0].reason


def test_hdf5_keys_as_told(tmp_path: Path) -> None:
    path = hdf5(tmp_path / "v.h5", raw="u1", labels__a="u4", labels__b="u4")
    case = discover(path, label_key="labels/b").cases[0]
    assert ((case.images[0].key or "").strip("/"), case.label and case.label.key) == ("raw", "labels/b")
    assert discover(path, use_labels=False).cases[0].label is None


def test_hdf5_images_and_labels_in_two_files(tmp_path: Path) -> None:
    for case in ("a", "b"):
        hdf5(tmp_path / f"{case}_raw.h5", main="u1")
        hdf5(tmp_path / f"{case}_seg.h5", main="u4")
    dataset = discover(tmp_path)
    assert ids(dataset) == ["a", "b"]
    assert all(case.label is not None for case in dataset.cases)


def test_broken_hdf5_file_costs_its_case(tmp_path: Path) -> None:
    hdf5(tmp_path / "good.h5", raw="u1")
    (tmp_path / "bad.h5").write_bytes(b"nothing of the kind")
    dataset = discover(tmp_path)
    assert ids(dataset) == ["good"]
    assert set(kinds(dataset)) == {"bad"}


def test_same_id_twice_keeps_neither(tmp_path: Path) -> None:
    touch(tmp_path, "a.nii", "a.nrrd", "b.nii")
    dataset = discover(tmp_path)
    assert ids(dataset) == ["b"]
    assert kinds(dataset) == {"a": "duplicate-id"}


def test_nested_folders(tmp_path: Path) -> None:
    touch(tmp_path, "p1/ct.nii.gz", "p2/ct.nii.gz", "p2/notes.txt")
    assert ids(discover(tmp_path)) == ["p1/ct", "p2/ct"]


def test_nothing_here(tmp_path: Path) -> None:
    touch(tmp_path, "readme.txt")
    with pytest.raises(FormatError, match="no volume found") as caught:
        discover(tmp_path)
    assert caught.value.kind == "empty"
    with pytest.raises(FormatError, match="no such file"):
        discover(tmp_path / "gone")


def test_dicom_series(tmp_path: Path) -> None:
    import SimpleITK as sitk

    folder = tmp_path / "scan"
    folder.mkdir()
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for number in range(3):
        image = sitk.GetImageFromArray(np.full((1, 4, 5), number, np.int16))
        tags = {
            "0008|0060": "CT",
            "0020|000e": "1.2.3.4",
            "0020|000d": "1.2.3",
            "0008|0018": f"1.2.3.4.{number}",
            "0020|0032": f"0\\0\\{3 * (2 - number)}",
            "0020|0013": str(number),
        }
        for tag, value in tags.items():
            image.SetMetaData(tag, value)
        writer.SetFileName(os.fspath(folder / f"IM{number}.dcm"))
        writer.Execute(image)
    dataset = discover(folder)
    assert ids(dataset) == ["scan"]
    assert dataset.file_format == "dicom"
    assert len(dataset.cases[0].images[0].paths) == 3
