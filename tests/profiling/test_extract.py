"""From cases to a fingerprint: workers, journal, failures; and the same bytes whatever the way."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from voxplan.profiling.case import ProfileOptions
from voxplan.profiling.codec import CodecError
from voxplan.profiling.combine import NothingProfiledError
from voxplan.profiling.events import Event
from voxplan.profiling.extract import profile_dataset
from voxplan.profiling.fingerprint import Fingerprint
from voxplan.profiling.formats.base import CaseSource, ReadOptions, VolumeSource
from voxplan.profiling.json_text import json_text
from voxplan.profiling.layouts import DiscoveredDataset, discover
from voxplan.profiling.sidecar import load_histograms

_opened: list[str] = []
_counting = False


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _counting and event == "open" and isinstance(arguments[0], str) and arguments[0].endswith(".nii.gz"):
        _opened.append(Path(arguments[0]).name)


sys.addaudithook(_audit)


@pytest.fixture
def opened() -> Iterator[list[str]]:
    """Names of the volume files that this process opens."""
    global _counting
    _opened.clear()
    _counting = True
    yield _opened
    _counting = False


def write(path: Path, array: np.ndarray[Any, Any], spacing: tuple[float, float, float] = (1, 1, 1)) -> None:
    """NIfTI from a ZYX array."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(array.transpose(), np.diag([*spacing[::-1], 1.0]))
    image.header.set_xyzt_units("mm")
    nib.save(image, path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six cases with labels, of different size and spacing."""
    rng = np.random.default_rng(5)
    for number in range(6):
        shape = (5 + number, 12, 9)
        image = rng.integers(1, 1000, shape).astype(np.int16)
        image[:, :2] = 0
        write(tmp_path / "data" / "images" / f"c{number}.nii.gz", image, (2.0 + number, 1.0, 0.5))
        label = (image > 700).astype(np.uint8) + (image > 900)
        write(tmp_path / "data" / "labels" / f"c{number}.nii.gz", label.astype(np.uint8))
    return tmp_path / "data"


def run(data: Path, journal: Path | None = None, **arguments: Any) -> Fingerprint:
    dataset = data if isinstance(data, DiscoveredDataset) else discover(data)
    return profile_dataset(dataset, ProfileOptions(), journal=journal, **arguments)


def text(fingerprint: Fingerprint) -> str:
    return json_text(fingerprint.model_dump(mode="json", exclude={"provenance"}))


def test_numbers_of_the_summary(folder: Path) -> None:
    fingerprint = run(folder, jobs=1)
    summary = fingerprint.summary
    assert [case.id for case in fingerprint.cases] == [f"c{i}" for i in range(6)]
    assert summary.shape.median == (7.5, 12.0, 9.0)
    assert summary.shape_after_crop.median == (7.5, 10.0, 9.0)
    assert summary.spacing is not None
    assert summary.spacing.median == (4.5, 1.0, 0.5)
    assert (summary.spacing.min[0], summary.spacing.max[0]) == (2.0, 7.0)
    assert summary.spacing_unit == "mm"
    assert summary.anisotropy == 9.0
    assert summary.median_relative_size_after_cropping == pytest.approx(10 / 12)
    assert fingerprint.dataset.labels.kind == "semantic"
    assert fingerprint.dataset.labels.classes == {"background": (0,), "class_1": (1,), "class_2": (2,)}
    images = [nib.load(folder / "images" / f"c{i}.nii.gz").get_fdata() for i in range(6)]
    labels = [nib.load(folder / "labels" / f"c{i}.nii.gz").get_fdata() for i in range(6)]
    foreground = [image[label > 0] for image, label in zip(images, labels, strict=True)]
    channel = summary.channels[0]
    assert channel.region == "foreground"
    assert channel.pooled is not None
    assert channel.case_weighted is not None
    assert channel.pooled.mean == pytest.approx(np.concatenate(foreground).mean(), rel=1e-12)
    assert channel.case_weighted.mean == pytest.approx(np.mean([f.mean() for f in foreground]), rel=1e-12)
    assert channel.pooled.median == np.percentile(np.concatenate(foreground), 50, method="inverted_cdf")
    assert summary.class_frequencies is not None
    voxels = sum(label.size for label in labels)
    assert summary.class_frequencies["class_2"] == sum((label == 2).sum() for label in labels) / voxels
    assert sum(summary.class_frequencies.values()) == pytest.approx(1.0)


def test_second_run_opens_no_file(folder: Path, tmp_path: Path, opened: list[str]) -> None:
    events: list[Event] = []
    first = run(folder, tmp_path / "journal", jobs=1)
    assert len(set(opened)) == 6
    opened.clear()
    second = run(folder, tmp_path / "journal", jobs=1, on_event=events.append)
    assert opened == []
    assert text(first) == text(second)
    assert [event.kind for event in events] == ["begin", *["resumed"] * 6, "summary"]


def test_changed_added_and_removed_files_are_noticed(folder: Path, tmp_path: Path, opened: list[str]) -> None:
    journal = tmp_path / "journal"
    run(folder, journal, jobs=1)
    write(folder / "images" / "c3.nii.gz", np.full((8, 12, 9), 7, np.int16))
    for kind in ("images", "labels"):
        (folder / kind / "c5.nii.gz").unlink()
        write(folder / kind / "c9.nii.gz", np.ones((4, 4, 4), np.uint8))
    opened.clear()
    fingerprint = run(folder, journal, jobs=1)
    assert set(opened) == {"c3.nii.gz", "c9.nii.gz"}
    assert text(fingerprint) == text(run(folder, jobs=1))
    assert len(list(journal.iterdir())) == 6, "entries of removed and changed files are gone"


def test_other_options_are_not_answered_from_the_journal(folder: Path, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    run(folder, journal, jobs=1)
    dataset = discover(folder)
    options = ProfileOptions(read=ReadOptions(spacing=(9.0, 9.0, 9.0), unit="um"))
    fingerprint = profile_dataset(dataset, options, jobs=1, journal=journal)
    assert fingerprint.summary.spacing is not None
    assert fingerprint.summary.spacing.median == (9.0, 9.0, 9.0)
    assert fingerprint.summary.spacing_unit == "um"


def test_histograms_beside_the_fingerprint(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "f.histograms.npz"
    fingerprint = run(folder, jobs=1, histograms=path)
    loaded = load_histograms(path)
    assert list(loaded) == [case.id for case in fingerprint.cases]
    for case in fingerprint.cases:
        foreground = loaded[case.id].foreground[0]
        image = nib.load(folder / "images" / f"{case.id}.nii.gz").get_fdata()
        label = nib.load(folder / "labels" / f"{case.id}.nii.gz").get_fdata()
        assert foreground is not None
        assert foreground.statistics() == case.channels[0].foreground
        values, counts = np.unique(image[label > 0], return_counts=True)
        assert foreground.table()[0].tolist() == values.tolist()
        assert foreground.table()[1].tolist() == counts.tolist()
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(CodecError, match="profile again"):
        load_histograms(path)


@pytest.mark.parametrize("damage", [b"", b"{}\n", b"garbage", b'{"tree": 1, "arrays": [], "bytes": -1}\n'])
def test_damaged_entries_are_read_again(folder: Path, tmp_path: Path, damage: bytes) -> None:
    journal = tmp_path / "journal"
    first = run(folder, journal, jobs=1)
    for path in journal.iterdir():
        path.write_bytes(damage)
    assert text(run(folder, journal, jobs=1)) == text(first)


def test_cut_entries_are_read_again(folder: Path, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    first = run(folder, journal, jobs=1)
    for path in journal.iterdir():
        path.write_bytes(path.read_bytes()[:-7])
    assert text(run(folder, journal, jobs=1)) == text(first)


def test_failures_stand_beside_the_cases(folder: Path) -> None:
    (folder / "images" / "c1.nii.gz").write_bytes(b"not gzip at all")
    write(folder / "labels" / "c2.nii.gz", np.zeros((3, 3, 3), np.uint8))
    events: list[Event] = []
    fingerprint = run(folder, jobs=2, on_event=events.append)
    assert [case.id for case in fingerprint.cases] == ["c0", "c3", "c4", "c5"]
    by_id = {failure.id: failure for failure in fingerprint.failures}
    assert set(by_id) == {"c1", "c2"}
    assert by_id["c2"].kind == "shape-mismatch"
    assert "images/c2.nii.gz" in by_id["c2"].reason
    assert "labels/c2.nii.gz" in by_id["c2"].reason
    assert "c1.nii.gz" in by_id["c1"].reason
    assert fingerprint.summary.failures == 2
    assert sorted(event.case_id or "" for event in events if event.kind == "failed") == ["c1", "c2"]


def test_nothing_profiled(folder: Path) -> None:
    for path in (folder / "images").iterdir():
        path.write_bytes(b"")
    with pytest.raises(NothingProfiledError) as caught:
        run(folder, jobs=1)
    assert len(caught.value.failures) == 6


def test_label_kind_as_the_user_says(folder: Path) -> None:
    instance = run(folder, jobs=1, label_kind="instance")
    assert instance.dataset.labels.kind == "instance"
    assert not instance.dataset.labels.proposed
    assert instance.cases[0].class_voxels is None
    assert instance.cases[0].objects is not None
    assert instance.cases[0].objects.count == 2
    none = run(folder, jobs=1, label_kind="none")
    assert none.cases[0].label is None
    assert none.summary.channels[0].region == "nonzero"


def hanging(folder: Path, tmp_path: Path) -> DiscoveredDataset:
    """The data set with a case whose file never yields a byte: a pipe that nobody writes to."""
    pipe = tmp_path / "hang.nii.gz"
    os.mkfifo(pipe)
    dataset = discover(folder)
    stuck = CaseSource(id="c2stuck", images=(VolumeSource(paths=(pipe,)),))
    return replace(dataset, cases=(*dataset.cases[:3], stuck, *dataset.cases[3:]))


def test_a_case_that_hangs_is_ended(folder: Path, tmp_path: Path) -> None:
    fingerprint = run(hanging(folder, tmp_path), jobs=2, case_timeout=3.0)
    assert [failure.kind for failure in fingerprint.failures] == ["timeout"]
    assert "3 s" in fingerprint.failures[0].reason
    assert len(fingerprint.cases) == 6


def test_a_killed_worker_is_reported_with_its_case(folder: Path, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    dataset = hanging(folder, tmp_path)
    over = threading.Event()

    def kill() -> None:
        """Kill whoever holds a case for more than two seconds: only the stuck one lasts that long."""
        while not over.wait(0.2):
            for marker in journal.glob("*.running"):
                try:
                    age = time.time() - marker.stat().st_mtime
                    if age > 2:
                        os.kill(int(marker.read_text()), signal.SIGKILL)
                except (OSError, ValueError):
                    continue

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        fingerprint = run(dataset, journal, jobs=2)
    finally:
        over.set()
        killer.join()
    assert [(failure.id, failure.kind) for failure in fingerprint.failures] == [("c2stuck", "killed")]
    assert "SIGKILL" in fingerprint.failures[0].reason
    assert [case.id for case in fingerprint.cases] == [f"c{i}" for i in range(6)]
    assert fingerprint.cases == run(folder, jobs=1).cases
