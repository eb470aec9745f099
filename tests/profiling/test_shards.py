"""Shards put together are one run, to the byte; those that do not belong together are refused in a line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from voxplan.profiling import extract, results, shards
from voxplan.profiling.case import ProfileOptions
from voxplan.profiling.combine import NothingProfiledError
from voxplan.profiling.events import Event
from voxplan.profiling.extract import profile_dataset
from voxplan.profiling.fingerprint import Fingerprint, LabelKind
from voxplan.profiling.formats.base import ReadOptions
from voxplan.profiling.json_text import json_text
from voxplan.profiling.layouts import discover
from voxplan.profiling.shard_file import Shard, ShardError, ShardFile
from voxplan.profiling.shards import merge_shards, profile_shard
from voxplan.profiling.sidecar import load_histograms


def write(path: Path, array: np.ndarray[Any, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.Nifti1Image(array, np.diag([1.0, 1.0, 2.0, 1.0])).to_filename(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eight cases: two damaged ones, a float one, an image without label, instance-like ids in none."""
    data = tmp_path / "data"
    rng = np.random.default_rng(8)
    for number in range(8):
        image = rng.integers(-50, 400, (6, 7, 8 + number)).astype(np.float32 if number == 6 else np.int16)
        write(data / "images" / f"c{number}.nii.gz", image / 7 if number == 6 else image)
        write(data / "labels" / f"c{number}.nii.gz", (image > 200).astype(np.uint8) + (image > 350))
    (data / "images" / "c2.nii.gz").write_bytes(b"damaged")
    write(data / "labels" / "c5.nii.gz", np.zeros((2, 2, 2), np.uint8))
    (data / "labels" / "c7.nii.gz").unlink()
    return data


def make(
    folder: Path,
    of: int,
    output: Path,
    options: ProfileOptions = ProfileOptions(),  # noqa: B008 - frozen
    kind: LabelKind | None = None,
    only: range | None = None,
) -> list[Path]:
    """The shards of a folder."""
    paths = []
    for number in only or range(1, of + 1):
        shard = Shard(number, of)
        paths.append(shard.path(output))
        profile_shard(discover(folder), options, shard, paths[-1], jobs=1, label_kind=kind)
    return paths


def text(fingerprint: Fingerprint) -> str:
    return json_text(fingerprint.model_dump(mode="json", exclude={"provenance"}))


@pytest.mark.parametrize("kind", [None, "instance", "none"])
@pytest.mark.parametrize("of", [1, 3, 11])
def test_the_same_bytes_as_one_run(folder: Path, tmp_path: Path, of: int, kind: LabelKind | None) -> None:
    """Eleven shards of seven cases: some are empty, some hold nothing but a failure."""
    one = profile_dataset(
        discover(folder), ProfileOptions(), jobs=1, label_kind=kind, histograms=tmp_path / "one.npz"
    )
    assert {failure.id for failure in one.failures} >= {"c2"}
    paths = make(folder, of, tmp_path / "f.json", kind=kind)
    merged = merge_shards(paths[::-1], tmp_path / "merged.npz")
    assert text(merged) == text(one)
    assert (tmp_path / "merged.npz").read_bytes() == (tmp_path / "one.npz").read_bytes()
    assert merged.provenance.options["shard"] == f"{of} shards merged"


def test_counts_are_read_from_the_shards_where_they_do_not_fit(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = profile_dataset(discover(folder), ProfileOptions(), jobs=1, histograms=tmp_path / "one.npz")
    paths = make(folder, 3, tmp_path / "f.json")
    monkeypatch.setattr(results.ResultKeeper.__init__, "__defaults__", (0,))
    merged = merge_shards(paths, tmp_path / "merged.npz")
    assert text(merged) == text(one)
    assert (tmp_path / "merged.npz").read_bytes() == (tmp_path / "one.npz").read_bytes()
    assert len(load_histograms(tmp_path / "merged.npz")) == len(one.cases)


def test_every_case_is_in_one_shard_whatever_the_order(folder: Path) -> None:
    cases = discover(folder).cases
    chosen = [Shard(number, 3).select(cases) for number in (1, 2, 3)]
    assert sorted(case.id for shard in chosen for case in shard) == sorted(case.id for case in cases)
    assert chosen == [Shard(number, 3).select(cases[::-1]) for number in (1, 2, 3)]
    assert max(map(len, chosen)) - min(map(len, chosen)) <= 1


def test_names_sort_and_do_not_meet() -> None:
    names = [Shard(number, 16).path(Path("d/f.json")).name for number in (1, 9, 10, 16)]
    assert names == [f"f.{number}-of-16.shard" for number in ("01", "09", "10", "16")]
    with pytest.raises(ValueError, match="0 of 3"):
        Shard(0, 3)


def test_a_finished_shard_is_not_read_again(folder: Path, tmp_path: Path) -> None:
    (path,) = make(folder, 2, tmp_path / "f.json", only=range(1, 2))
    before = ShardFile(path).head
    events: list[Event] = []
    profile_shard(discover(folder), ProfileOptions(), Shard(1, 2), path, jobs=1, on_event=events.append)
    assert {event.kind for event in events} == {"begin", "resumed", "failed", "summary"}
    after = ShardFile(path).head
    assert after.model_copy(update={"seconds": before.seconds}) == before


def refused(paths: list[Path]) -> str:
    """The message with which merging is refused: one line."""
    with pytest.raises(ShardError) as caught:
        merge_shards(paths)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_missing_shards_are_named(folder: Path, tmp_path: Path) -> None:
    paths = make(folder, 4, tmp_path / "f.json")
    said = refused([paths[0], paths[3]])
    assert "2 of 4 shards are missing: 2, 3" in said
    assert "--shard 2/4" in said


def test_a_shard_given_twice_is_named(folder: Path, tmp_path: Path) -> None:
    paths = make(folder, 2, tmp_path / "f.json")
    twin = tmp_path / "twin.shard"
    shutil.copy(paths[0], twin)
    said = refused([*paths, twin])
    assert "both are shard 1 of 2" in said
    assert str(twin) in said


def test_shards_of_another_number_are_refused(folder: Path, tmp_path: Path) -> None:
    paths = make(folder, 2, tmp_path / "f.json", only=range(1, 2))
    said = refused([*paths, *make(folder, 3, tmp_path / "f.json", only=range(2, 3))])
    assert "one is of 2 shards, the other of 3" in said


@pytest.mark.parametrize(
    ("options", "kind", "word"),
    [
        (ProfileOptions(read=ReadOptions(spacing=(3.0, 2.0, 1.0))), None, "spacing None and (3.0, 2.0, 1.0)"),
        (ProfileOptions(ignore_label=2), None, "ignore-label None and 2"),
        (ProfileOptions(headers_only=True), None, "headers-only False and True"),
        (ProfileOptions(), "instance", "label-kind None and instance"),
    ],
)
def test_other_options_are_refused(
    folder: Path, tmp_path: Path, options: ProfileOptions, kind: LabelKind | None, word: str
) -> None:
    first = make(folder, 2, tmp_path / "f.json", only=range(1, 2))
    second = make(folder, 2, tmp_path / "f.json", options, kind, only=range(2, 3))
    assert f"made with {word}" in refused([*first, *second])


def test_memory_is_no_other_option(folder: Path, tmp_path: Path) -> None:
    """Machines differ; what they count does not."""
    first = make(folder, 2, tmp_path / "f.json", only=range(1, 2))
    smaller = ProfileOptions(memory_per_worker=64 << 20, part_bytes=1 << 20)
    second = make(folder, 2, tmp_path / "f.json", smaller, only=range(2, 3))
    assert text(merge_shards([*first, *second])) == text(
        profile_dataset(discover(folder), ProfileOptions(), jobs=1)
    )


def added(folder: Path) -> None:
    write(folder / "images" / "c9.nii.gz", np.ones((4, 4, 4), np.uint8))
    write(folder / "labels" / "c9.nii.gz", np.ones((4, 4, 4), np.uint8))


def removed(folder: Path) -> None:
    (folder / "images" / "c0.nii.gz").unlink()
    (folder / "labels" / "c0.nii.gz").unlink()


def unlabelled(folder: Path) -> None:
    (folder / "labels" / "c3.nii.gz").unlink()


def described(folder: Path) -> None:
    (folder / "images" / "c9.txt").write_text("not a volume")
    (folder / "labels" / "lost.nii.gz").write_bytes(b"")


@pytest.mark.parametrize(
    ("change", "word"), [(added, "c9"), (removed, "c0"), (unlabelled, "c3"), (described, "failures")]
)
def test_a_folder_that_changed_in_between_is_noticed(
    folder: Path, tmp_path: Path, change: Callable[[Path], None], word: str
) -> None:
    first = make(folder, 2, tmp_path / "f.json", only=range(1, 2))
    change(folder)
    said = refused([*first, *make(folder, 2, tmp_path / "f.json", only=range(2, 3))])
    assert "the data folder changed in between" in said
    assert word in said


def test_shards_of_two_folders_are_refused(folder: Path, tmp_path: Path) -> None:
    first = make(folder, 2, tmp_path / "f.json", only=range(1, 2))
    other = shutil.copytree(folder, tmp_path / "elsewhere" / "data")
    said = refused([*first, *make(other, 2, tmp_path / "f.json", only=range(2, 3))])
    assert str(other) in said
    assert str(folder) in said


def test_another_version_is_refused(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = make(folder, 2, tmp_path / "f.json", only=range(1, 2))
    with monkeypatch.context() as patch:
        patch.setattr(shards, "installed_version", lambda: "0.0.7")
        second = make(folder, 2, tmp_path / "f.json", only=range(2, 3))
    said = refused([*first, *second])
    assert "0.0.7" in said
    assert str(second[0]) in said
    assert extract.installed_version() in said


def test_what_is_no_shard_is_refused(folder: Path, tmp_path: Path) -> None:
    (path,) = make(folder, 1, tmp_path / "f.json")
    whole = path.read_bytes()
    head, _, body = whole.partition(b"\n")
    newer = head.replace(b'"voxplan_shard":1', b'"voxplan_shard":2').replace(b'"layout"', b'"layouts"')
    beyond = json.dumps({**json.loads(head), "number": 3}).encode()
    for content, word in (
        (b"", "is no shard"),
        (b"{}\n", "is no shard"),
        (whole[:-9], "copy it again"),
        (whole + b"more", "copy it again"),
        (head[:-30] + b"\n" + body, "damaged"),
        (newer + b"\n" + body, "format 2"),
        (beyond + b"\n" + body, "is no shard"),
        (head + b"\n" + body[:-40] + bytes(40), "is damaged"),
    ):
        path.write_bytes(content)
        said = refused([path])
        assert word in said, content[:40]
        assert str(path) in said
    path.unlink()
    assert "cannot be read" in refused([path])


def test_a_shard_that_lacks_one_of_its_cases_is_refused(folder: Path, tmp_path: Path) -> None:
    (path,) = make(folder, 1, tmp_path / "f.json")
    head, _, body = path.read_bytes().partition(b"\n")
    fewer = {**json.loads(head), "failures": []}
    path.write_bytes(json.dumps(fewer).encode() + b"\n" + body)
    assert "does not hold the cases of shard 1 of 1" in refused([path])


def test_nothing_profiled_is_told_when_shards_are_merged(folder: Path, tmp_path: Path) -> None:
    for path in (folder / "images").iterdir():
        path.write_bytes(b"")
    paths = make(folder, 2, tmp_path / "f.json")
    with pytest.raises(NothingProfiledError) as caught:
        merge_shards(paths)
    assert len(caught.value.failures) == len(discover(folder).cases) + len(discover(folder).failures)
    one = replace(discover(folder), cases=())
    assert {failure.id for failure in caught.value.failures} >= {failure.id for failure in one.failures}
