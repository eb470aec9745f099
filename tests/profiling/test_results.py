"""The parent's memory: distributions beyond a limit are read from the journal, with the same result."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from voxplan.profiling import extract, results, sidecar
from voxplan.profiling.case import ProfileOptions
from voxplan.profiling.codec import CodecError
from voxplan.profiling.extract import profile_dataset
from voxplan.profiling.fingerprint import Fingerprint
from voxplan.profiling.json_text import json_text
from voxplan.profiling.layouts import discover
from voxplan.profiling.layouts.base import DiscoveredDataset
from voxplan.profiling.results import JournalledResult, Result
from voxplan.profiling.sidecar import load_histograms


@pytest.fixture
def dataset(tmp_path: Path) -> DiscoveredDataset:
    folder = tmp_path / "data"
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    rng = np.random.default_rng(11)
    for number in range(7):
        values = rng.normal(number, 5, (6, 7, 8)).astype(np.float32)
        labels = (values > number).astype(np.uint8)
        for name, array in (("images", values), ("labels", labels)):
            nib.Nifti1Image(array, np.eye(4)).to_filename(folder / name / f"case_{number}.nii.gz")
    return discover(folder, images=None, labels=None, image_key=None, label_key=None, exclude=())


def text(fingerprint: Fingerprint) -> str:
    return json_text(fingerprint.model_dump(mode="json", exclude={"provenance"}))


def kept_in_memory(monkeypatch: pytest.MonkeyPatch, limit: int) -> list[int]:
    """Set the limit, and see how many results of a run were journalled only."""
    seen: list[int] = []
    original = extract.assemble_fingerprint

    def watch(dataset: DiscoveredDataset, profiled: Sequence[Result], *rest: object) -> Fingerprint:
        seen.append(sum(isinstance(result, JournalledResult) for result in profiled))
        return original(dataset, profiled, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(extract, "assemble_fingerprint", watch)
    monkeypatch.setattr(results.ResultKeeper.__init__, "__defaults__", (limit,))
    return seen


@pytest.mark.parametrize(("limit", "journalled"), [(0, 7), (12_000, 5), (1 << 30, 0)])
def test_same_bytes_wherever_the_counts_lie(
    dataset: DiscoveredDataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    limit: int,
    journalled: int,
) -> None:
    reference = profile_dataset(dataset, ProfileOptions(), jobs=1, histograms=tmp_path / "a.npz")
    seen = kept_in_memory(monkeypatch, limit)
    for _ in range(2):  # read, and resumed
        journal = tmp_path / "journal"
        again = profile_dataset(
            dataset, ProfileOptions(), jobs=1, histograms=tmp_path / "b.npz", journal=journal
        )
        assert text(again) == text(reference)
        assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert seen == [journalled, journalled]


def test_an_entry_that_vanishes_meanwhile_is_said(
    dataset: DiscoveredDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept_in_memory(monkeypatch, 0)
    original = extract.assemble_fingerprint
    journal = tmp_path / "journal"

    def vanish(*arguments: object) -> Fingerprint:
        for path in journal.iterdir():
            path.unlink()
        return original(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(extract, "assemble_fingerprint", vanish)
    with pytest.raises(OSError, match="case_0 has vanished"):
        profile_dataset(dataset, ProfileOptions(), jobs=1, journal=journal)


def test_parts_of_the_sidecar(
    dataset: DiscoveredDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sidecar, "PART_CASES", 3)
    path = tmp_path / "f.npz"
    fingerprint = profile_dataset(dataset, ProfileOptions(), jobs=1, histograms=path)
    with np.load(path, allow_pickle=False) as arrays:
        assert sorted(arrays) == ["index", "part_000000", "part_000001", "part_000002"]
    loaded = load_histograms(path)
    assert list(loaded) == [f"case_{number}" for number in range(7)]
    assert len(loaded) == 7
    for case in reversed(fingerprint.cases):
        foreground = loaded[case.id].foreground[0]
        assert foreground is not None
        assert foreground.statistics() == case.channels[0].foreground
    with pytest.raises(KeyError):
        loaded["case_9"]
    content = bytearray(path.read_bytes())
    at = content.index(b"part_000001") + 200
    content[at : at + 20] = bytes(20)
    path.write_bytes(bytes(content))
    damaged = load_histograms(path)
    assert damaged["case_0"].labels is not None
    with pytest.raises(CodecError, match="profile again"):
        damaged["case_3"]
