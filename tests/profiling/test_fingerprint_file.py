"""Saving, loading, migrating and refusing fingerprint files."""

from __future__ import annotations

import json
import os
import tracemalloc
from pathlib import Path

import pytest

from voxplan.profiling import fingerprint as module
from voxplan.profiling.fingerprint import (
    FORMAT_VERSION,
    AxisSummary,
    CaseFingerprint,
    DatasetInfo,
    Failure,
    Fingerprint,
    FingerprintError,
    IntensityStatistics,
    Labels,
    Provenance,
    SpacingRecord,
    Summary,
    load_fingerprint,
    save_fingerprint,
)
from voxplan.profiling.json_text import json_text


def axes(value: float) -> AxisSummary:
    triple = (value, value, value)
    return AxisSummary(median=triple, min=triple, max=triple, percentile_10=triple, percentile_90=triple)


@pytest.fixture
def fingerprint() -> Fingerprint:
    case = CaseFingerprint(
        id="a",
        images=("a.nii.gz",),
        label=None,
        shape=(3, 4, 5),
        spacing=SpacingRecord(values=(0.1, 1 / 3, 2.0), unit="um", source="header"),
        orientation=None,
        dtype="uint8",
        label_dtype=None,
        channels=(),
        crop_box=((0, 3), (0, 4), (0, 5)),
        shape_after_crop=(3, 4, 5),
        foreground_voxels=None,
        class_voxels=None,
        objects=None,
        stored_bytes=60,
        compressed_stream=True,
        content_key="k",
        warnings=("µm",),
    )
    return Fingerprint(
        dataset=DatasetInfo(
            name="d",
            root="/d",
            layout="volumes",
            file_format="nifti",
            channel_names=("channel_0",),
            labels=Labels(kind="none", proposed=True, reason="no label", classes={}),
        ),
        summary=Summary(
            cases=1,
            failures=1,
            voxels=60,
            stored_bytes=60,
            shape=axes(4.0),
            shape_after_crop=axes(4.0),
            spacing=None,
            spacing_unit="unknown",
            spacing_missing=1,
            spacing_clusters=(),
            anisotropy=None,
            median_relative_size_after_cropping=1.0,
            channels=(),
            class_frequencies=None,
            warnings=(),
        ),
        cases=(case,),
        failures=(Failure(id="b", files=("b.nii.gz",), kind="unreadable", reason="b.nii.gz: empty"),),
        provenance=Provenance(program="p", version="1", created="now", options={}, seconds=1.5),
    )


def test_every_bit_comes_back(fingerprint: Fingerprint, tmp_path: Path) -> None:
    path = tmp_path / "fingerprint.json"
    save_fingerprint(fingerprint, path)
    assert load_fingerprint(path) == fingerprint
    text = path.read_text(encoding="utf-8")
    assert "0.3333333333333333" in text
    assert "µm" in text
    assert max(map(len, text.splitlines())) <= 120
    assert [p.name for p in tmp_path.iterdir()] == ["fingerprint.json"]


def test_interrupted_writing_keeps_the_old_file(
    fingerprint: Fingerprint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "fingerprint.json"
    save_fingerprint(fingerprint, path)
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        save_fingerprint(fingerprint, path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["fingerprint.json"]


def test_the_file_is_readable_by_others(fingerprint: Fingerprint, tmp_path: Path) -> None:
    path = tmp_path / "fingerprint.json"
    plain = tmp_path / "plain"
    plain.touch()
    save_fingerprint(fingerprint, path)
    assert path.stat().st_mode == plain.stat().st_mode


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"not json", "cannot be read"),
        (b"[]", "format_version"),
        (b"{}", "format_version"),
        (b'{"format_version": 99}', "update voxplan"),
        (b'{"format_version": 0}', "no migration"),
        (b'{"format_version": 1}', "dataset: field required"),
        (b"\xff\xfe", "cannot be read"),
    ],
)
def test_files_that_are_refused(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "fingerprint.json"
    path.write_bytes(content)
    with pytest.raises(FingerprintError, match=words) as caught:
        load_fingerprint(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FingerprintError, match=r"gone\.json"):
        load_fingerprint(tmp_path / "gone.json")


def test_unknown_fields_are_refused(fingerprint: Fingerprint, tmp_path: Path) -> None:
    path = tmp_path / "fingerprint.json"
    content = fingerprint.model_dump(mode="json")
    content["cases"][0]["spacin"] = None
    path.write_text(json.dumps(content))
    with pytest.raises(FingerprintError, match=r"cases\.0\.spacin"):
        load_fingerprint(path)


def test_older_files_are_migrated(
    fingerprint: Fingerprint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def from_zero(content: dict[str, object]) -> dict[str, object]:
        renamed = dict(content)
        renamed["dataset"] = renamed.pop("data_set")
        return renamed | {"format_version": FORMAT_VERSION}

    monkeypatch.setitem(module.MIGRATIONS, 0, from_zero)
    content = fingerprint.model_dump(mode="json")
    content["data_set"] = content.pop("dataset")
    content["format_version"] = 0
    path = tmp_path / "old.json"
    path.write_text(json.dumps(content))
    assert load_fingerprint(path) == fingerprint


def many(fingerprint: Fingerprint, count: int) -> Fingerprint:
    """As many cases as wanted, each with strings and statistics of its own."""
    case = fingerprint.cases[0].model_dump(mode="json")
    numbers = dict.fromkeys(IntensityStatistics.model_fields, 1.5) | {"count": 7}
    channel = {"foreground": numbers, "crop": numbers, "nonzero": numbers}
    cases = tuple(
        CaseFingerprint.model_validate(
            {**case, "id": f"{n:07d}", "images": [f"{n}.nii"], "channels": [channel]}
        )
        for n in range(count)
    )
    return fingerprint.model_copy(update={"cases": cases})


@pytest.mark.parametrize("cases", [0, 1, 2, 50])
def test_written_case_by_case_it_is_the_same_text(
    fingerprint: Fingerprint, tmp_path: Path, cases: int
) -> None:
    path = tmp_path / "fingerprint.json"
    written = many(fingerprint, cases)
    save_fingerprint(written, path)
    assert path.read_text(encoding="utf-8") == json_text(written.model_dump(mode="json"))


def test_many_cases_take_little_memory(fingerprint: Fingerprint, tmp_path: Path) -> None:
    """100,000 cases are to be held by a laptop: at most 6 kB each here, and no second copy to write them."""
    count = 2000
    many(fingerprint, 2)  # what is made once
    tracemalloc.start()
    written = many(fingerprint, count)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    save_fingerprint(written, tmp_path / "fingerprint.json")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held / count < 6000
    assert (peak - held) / count < 500
