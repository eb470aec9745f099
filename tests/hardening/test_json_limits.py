"""JSON that is too large, too deep or full of digits ends in a message that names the file; odd paths too."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile
import zarr

from voxplan.planning.nnunet_fingerprint import is_nnunet_fingerprint, load_nnunet
from voxplan.plans.document import PlansError, read_document
from voxplan.profiling import fingerprint as fingerprint_module
from voxplan.profiling.case import ProfileOptions, profile_case
from voxplan.profiling.fingerprint import FingerprintError, load_fingerprint
from voxplan.profiling.formats.base import CaseSource, FormatError, VolumeSource
from voxplan.profiling.layouts import dataset_json, discover
from voxplan.scripts.profile_dataset import main

BAD = {
    "deep": "[" * 100_000,
    "deep-object": '{"a":' * 100_000,
    "digits": '{"format_version": ' + "9" * 5000 + "}",
    "infinite": '{"format_version": Infinity}',
    "utf-16": '{"a": 1}'.encode("utf-16").decode("latin-1"),
    "nul": "\0" * 100,
    "empty": "",
    "scalar": "12",
}


@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
def test_every_json_file(text: str, tmp_path: Path) -> None:
    path = tmp_path / "dataset.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(FingerprintError, match=r"dataset\.json"):
        load_fingerprint(path)
    with pytest.raises(PlansError, match=r"dataset\.json"):
        read_document(path)
    with pytest.raises(FormatError, match=r"dataset\.json|nothing|no volume"):
        discover(tmp_path)
    with pytest.raises(ValueError, match=r"dataset\.json"):
        load_nnunet(path, path)
    assert not is_nnunet_fingerprint(path)


@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
def test_sidecars_and_zarr_metadata(text: str, tmp_path: Path) -> None:
    """A bad sidecar costs the spacing; bad metadata the case."""
    image = tmp_path / "a.tif"
    tifffile.imwrite(image, np.ones((3, 4, 5), np.uint8), photometric="minisblack", metadata={"axes": "ZYX"})
    (tmp_path / "a.json").write_text(text, encoding="latin-1")
    case = profile_case(
        CaseSource(id="a", images=(VolumeSource(paths=(image,)),)), tmp_path, ProfileOptions()
    )
    assert case.fingerprint.spacing.values is None
    store = tmp_path / "a.zarr"
    zarr.create_array(str(store), shape=(2, 3, 4), chunks=(2, 3, 4), dtype="u1")[...] = 1
    (store / "zarr.json").write_text(text, encoding="latin-1")
    with pytest.raises(FormatError, match=r"a\.zarr"):
        profile_case(CaseSource(id="a", images=(VolumeSource(paths=(store,)),)), tmp_path, ProfileOptions())


def test_sizes_are_checked_before_anything_is_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps({"training": ["x" * 200]}))
    monkeypatch.setattr(dataset_json, "MAX_BYTES", 100)
    monkeypatch.setattr(fingerprint_module, "MAX_BYTES", 100)
    monkeypatch.setattr(json, "loads", lambda *_, **__: pytest.fail("parsed"))
    with pytest.raises(FormatError, match="too large"):
        discover(tmp_path)
    with pytest.raises(FingerprintError, match="larger than 100 bytes"):
        load_fingerprint(path)


@pytest.mark.parametrize("how", ["../secret", "sub/../../secret", "absolute", "link", "folder-link"])
@pytest.mark.parametrize("layout", ["decathlon", "nnunet"])
def test_listed_files_that_leave_the_folder(how: str, layout: str, tmp_path: Path) -> None:
    """Neither a datalist nor nnU-Net's ``dataset`` dictionary leads out of the data folder."""
    import nibabel

    data, outside = tmp_path / "data", tmp_path / "outside"
    outside.mkdir()
    (data / "sub").mkdir(parents=True)
    volume = nibabel.Nifti1Image(np.ones((3, 3, 3), np.uint8), np.eye(4))
    volume.to_filename(tmp_path / "secret.nii.gz")
    shutil.copy(tmp_path / "secret.nii.gz", outside / "secret.nii.gz")
    volume.to_filename(data / "good.nii.gz")
    name = f"{how}.nii.gz"
    if how == "absolute":
        name = str(tmp_path / "secret.nii.gz")
    elif how == "link":
        (data / "link.nii.gz").symlink_to("../secret.nii.gz")
    elif how == "folder-link":
        (data / "folder").symlink_to(outside)
        name = "folder/secret.nii.gz"
    if layout == "decathlon":
        content: dict[str, object] = {"training": [{"image": name}, {"image": "good.nii.gz"}]}
    else:
        content = {
            "channel_names": {"0": "CT"},
            "labels": {"background": 0, "organ": 1},
            "numTraining": 2,
            "file_ending": ".nii.gz",
            "dataset": {
                "bad": {"images": [name], "label": "good.nii.gz"},
                "good": {"images": ["good.nii.gz"], "label": "good.nii.gz"},
            },
        }
    (data / "dataset.json").write_text(json.dumps(content))
    dataset = discover(data)
    assert [case.id for case in dataset.cases] == ["good"]
    assert {failure.kind for failure in dataset.failures} == {"outside"}
    assert any("secret" in failure.reason or name in failure.reason for failure in dataset.failures)


@pytest.mark.parametrize("how", ["chunk-link", "array-link", "metadata-path"])
def test_zarr_that_leaves_its_folder(how: str, tmp_path: Path) -> None:
    """Links inside a store, and multiscale paths with dots."""
    store, secret = tmp_path / "data" / "a.zarr", tmp_path / "secret.zarr"
    group = zarr.open_group(str(store), mode="w", zarr_format=3)
    zarr.create_array(str(secret), shape=(2, 3, 4), chunks=(2, 3, 4), dtype="u1")[...] = 7
    if how == "chunk-link":
        array = group.create_array("raw", shape=(2, 3, 4), chunks=(2, 3, 4), dtype="u1")
        array[...] = 1
        chunk = store / "raw" / "c" / "0" / "0" / "0"
        chunk.unlink()
        chunk.symlink_to(secret / "c" / "0" / "0" / "0")
    elif how == "array-link":
        (store / "raw").symlink_to(secret)
    else:
        axes = [{"name": a, "type": "space"} for a in "zyx"]
        datasets = [{"path": "../../secret.zarr", "coordinateTransformations": []}]
        group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": datasets}]
    with pytest.raises(FormatError) as caught:
        profile_case(CaseSource(id="a", images=(VolumeSource(paths=(store,)),)), tmp_path, ProfileOptions())
    if how != "metadata-path":
        assert caught.value.kind == "outside"


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"{}\n", b'{"a":-5}\n', b'{"a":"x"}\n', b"[" * 100_000 + b"\n", b"9" * 9999, b"\xff" * 99],
    ids=["empty", "line", "object", "negative", "text", "deep", "digits", "bytes"],
)
def test_a_journal_of_foreign_content(content: bytes, tmp_path: Path) -> None:
    """Entries, packs and the note of a finished run: what does not hold is read again, and thrown away."""
    (tmp_path / "data").mkdir()
    nibabel.Nifti1Image(np.ones((4, 5, 6), np.uint8), np.eye(4)).to_filename(tmp_path / "data" / "a.nii")
    words = [str(tmp_path / "data"), "-o", str(tmp_path / "f.json"), "-j", "1", "-q"]
    assert main(words) == 0
    journal = tmp_path / "f.json.journal"
    for path in (*journal.iterdir(), journal / "other.cases", journal / "other.case"):
        path.write_bytes(content)
    (journal / "folder.case").mkdir()
    assert main(words) == 0
    assert len(load_fingerprint(tmp_path / "f.json").cases) == 1
    assert not (journal / "other.case").exists()
    assert main([*words, "--fresh"]) == 0
