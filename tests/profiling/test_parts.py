"""A case that workers share gives the same bytes as one that a single worker reads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile

from voxplan.profiling import parts as parts_module
from voxplan.profiling import tasks as tasks_module
from voxplan.profiling.backends.base import Backend, Crash, Work
from voxplan.profiling.case import ProfileOptions, profile_case
from voxplan.profiling.codec import decode, encode
from voxplan.profiling.combine import NothingProfiledError
from voxplan.profiling.extract import profile_dataset
from voxplan.profiling.fingerprint import Fingerprint
from voxplan.profiling.formats.base import CaseSource, VolumeSource
from voxplan.profiling.json_text import json_text
from voxplan.profiling.layouts import discover
from voxplan.profiling.layouts.base import DiscoveredDataset
from voxplan.profiling.parts import Split, profile_or_split, profile_part
from voxplan.profiling.tasks import BatchTask, CaseTask, PartTask, make_batches, part_classes

SHAPE = (24, 40, 36)
SMALL = ProfileOptions(part_bytes=4096, memory_per_worker=200_000)
"""Cuts the test volumes into several parts of several blocks."""


class Inline(Backend):
    """Tasks in this process; ``dies`` says which of them kill their worker."""

    def __init__(self, workers: int = 4, dies: Callable[[Any], bool] = lambda task: False) -> None:
        self.workers = workers
        self.dies = dies
        self.done: list[Any] = []

    def run(self, work: Work[Any, Any], tasks: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
        for task in reversed(tasks):
            self.done.append(task)
            yield task, Crash(False, "SIGKILL(-9)") if self.dies(task) else work.function(task)

    def parts(self) -> list[int]:
        return sorted(task.part for task in self.done if isinstance(task, PartTask))


def image(dtype: str) -> np.ndarray[Any, np.dtype[Any]]:
    rng = np.random.default_rng(3)
    values = (rng.normal(100, 40, SHAPE) if dtype[0] == "f" else rng.integers(0, 90, SHAPE)).astype(dtype)
    values[:3] = values[:, :5] = values[..., 30:] = 0
    if dtype[0] == "f":
        values[1, 2, 3], values[12, 20, 20] = np.nan, np.inf
    return values


def label() -> np.ndarray[Any, np.dtype[np.uint64]]:
    """Objects, some of them where the image is 0."""
    blocks = np.indices((6, 10, 9)).reshape(3, -1)
    ids = (np.ravel_multi_index(blocks, (6, 10, 9)) * 7919).astype(np.uint64).reshape(6, 10, 9)
    return ids.repeat(4, 0).repeat(4, 1).repeat(4, 2)


def write_hdf5(folder: Path) -> DiscoveredDataset:
    with h5py.File(folder / "case.h5", "w") as file:
        file.create_dataset("raw", data=image("float32"), chunks=(4, 20, 18), compression="gzip")
        file.create_dataset("label", data=label(), chunks=(6, 10, 36))
    return discover(
        folder, images=None, labels=None, image_key="raw", label_key="label", exclude=(), use_labels=True
    )


def write_leading(folder: Path, leads: str, values: np.ndarray[Any, np.dtype[Any]]) -> DiscoveredDataset:
    """A volume whose voxels lie in a file beside it, which only its header names; always the same header."""
    path = folder / ("case.mhd" if leads == "detached" else "case.h5")
    if leads == "detached":
        sitk.WriteImage(sitk.GetImageFromArray(values), str(path))
        (folder / "case.raw").replace(folder / "voxels.part")
        path.write_text(path.read_text().replace("case.raw", "voxels.part"))
        return discover(path)
    with h5py.File(folder / "voxels.part", "w") as file:
        file.create_dataset("v", data=values, chunks=(4, 20, 18))
    if not path.exists():
        with h5py.File(path, "w") as file:
            if leads == "link":
                file["raw"] = h5py.ExternalLink("voxels.part", "/v")
            else:
                layout = h5py.VirtualLayout(SHAPE, np.int16)
                layout[:] = h5py.VirtualSource("voxels.part", "v", SHAPE)
                file.create_virtual_dataset("raw", layout)
    return discover(path, image_key="raw")


def write_volume(folder: Path, name: str) -> DiscoveredDataset:
    path = folder / name
    if name.endswith(".tif"):
        tiles: dict[str, Any] = {"tile": (16, 16), "compression": "zlib"} if "tiled" in name else {}
        tifffile.imwrite(path, image("uint16"), bigtiff=True, photometric="minisblack", **tiles)
    elif name.endswith(".zarr"):
        zarr = pytest.importorskip("zarr")
        array = zarr.create_array(str(path), shape=SHAPE, chunks=(5, 16, 16), dtype="int16")
        array[...] = image("int16")
    else:
        nib.Nifti1Image(image("int16").transpose(2, 1, 0), np.eye(4)).to_filename(path)
    source = CaseSource(id="case", images=(VolumeSource(paths=(path,)),))
    return DiscoveredDataset(name="one", root=folder, layout="file", file_format="any", cases=(source,))


def text(fingerprint: Fingerprint) -> str:
    return json_text(fingerprint.model_dump(mode="json", exclude={"provenance"}))


WRITERS: dict[str, Callable[[Path], DiscoveredDataset]] = {"hdf5": write_hdf5} | {
    name: lambda folder, name=name: write_volume(folder, name)  # type: ignore[misc]
    for name in ("pages.tif", "tiled.tif", "raw.nii", "store.zarr")
}


@pytest.mark.parametrize("kind", WRITERS)
def test_same_bytes_however_the_volume_is_shared(kind: str, tmp_path: Path) -> None:
    dataset = WRITERS[kind](tmp_path)
    alone = profile_dataset(dataset, ProfileOptions(), jobs=1, histograms=tmp_path / "alone.npz")
    backend = Inline()
    sidecar = tmp_path / "shared.npz"
    shared = profile_dataset(dataset, SMALL, backend=backend, histograms=sidecar)
    assert len(backend.parts()) >= 4
    assert text(shared) == text(alone)
    assert sidecar.read_bytes() == (tmp_path / "alone.npz").read_bytes()


def test_processes_share_a_volume(tmp_path: Path) -> None:
    dataset = write_hdf5(tmp_path)
    alone = profile_dataset(dataset, SMALL, jobs=1)
    assert text(profile_dataset(dataset, SMALL, jobs=2, journal=tmp_path / "journal")) == text(alone)
    assert len(list((tmp_path / "journal").iterdir())) == 1, "parts go when their case is finished"


def test_numbers_of_a_shared_case_are_numpys(tmp_path: Path) -> None:
    fingerprint = profile_dataset(write_hdf5(tmp_path), SMALL, backend=Inline())
    (case,) = fingerprint.cases
    values, ids = image("float32"), label()
    z, y, x = (slice(*side) for side in case.crop_box)
    inside = values[z, y, x]
    chosen = inside[(ids[z, y, x] > 0) & np.isfinite(inside)]
    statistics = case.channels[0]
    assert statistics.foreground is not None
    assert statistics.foreground.count == chosen.size
    assert statistics.foreground.median == np.quantile(chosen, 0.5, method="inverted_cdf")
    assert statistics.foreground.mean == pytest.approx(chosen.mean(dtype=np.float64), rel=1e-12)
    assert statistics.non_finite == 2
    assert case.foreground_voxels == np.count_nonzero(ids[z, y, x])
    assert case.objects is not None
    assert case.objects.count == np.unique(ids).size - 1


def test_finished_parts_are_not_counted_again(tmp_path: Path) -> None:
    dataset = write_hdf5(tmp_path)
    journal = tmp_path / "journal"
    first = Inline(dies=lambda task: isinstance(task, PartTask) and task.part == 2)
    with pytest.raises(NothingProfiledError):
        profile_dataset(dataset, SMALL, backend=first, journal=journal)
    second = Inline()
    shared = profile_dataset(dataset, SMALL, backend=second, journal=journal)
    assert len(first.parts()) > 4
    assert second.parts() == [2]
    assert text(shared) == text(profile_dataset(dataset, SMALL, jobs=1))


@pytest.mark.parametrize("leads", ["link", "virtual", "detached"])
def test_parts_of_voxels_in_other_files_are_counted_anew(leads: str, tmp_path: Path) -> None:
    """Whether such a file has changed since a run was killed cannot be told; half of each is no volume."""
    dataset = write_leading(tmp_path, leads, image("int16"))
    journal = tmp_path / "journal"
    first = Inline(dies=lambda task: isinstance(task, PartTask) and task.part == 2)
    with pytest.raises(NothingProfiledError):
        profile_dataset(dataset, SMALL, backend=first, journal=journal)
    (header,) = (path for path in tmp_path.glob("case.*") if path.suffix in (".h5", ".mhd"))
    status = header.stat()
    changed = image("int16")
    changed[changed > 0] += 100
    dataset = write_leading(tmp_path, leads, changed)
    os.utime(header, ns=(status.st_atime_ns, status.st_mtime_ns))
    second = Inline()
    shared = profile_dataset(dataset, SMALL, backend=second, journal=journal)
    assert second.parts() == first.parts()
    statistics = shared.cases[0].channels[0].nonzero
    assert statistics is not None
    assert (statistics.min, statistics.max) == (changed[changed > 0].min(), changed.max())
    assert statistics.mean == pytest.approx(changed[changed > 0].mean(dtype=np.float64), rel=1e-12)


def test_a_part_that_was_lost_is_counted_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = write_hdf5(tmp_path)
    journal = tmp_path / "journal"

    class Losing(Inline):
        def run(self, work: Work[Any, Any], tasks: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
            yield from super().run(work, tasks)
            for path in journal.glob("*-1-of-*"):
                path.write_bytes(path.read_bytes()[:-3])

    counted: list[int] = []
    original = parts_module._run_part
    monkeypatch.setattr(
        parts_module,
        "_run_part",
        lambda scan, part, parts: (counted.append(part), original(scan, part, parts)),
    )
    shared = profile_dataset(dataset, SMALL, backend=Losing(), journal=journal)
    assert counted.count(1) == 2
    assert text(shared) == text(profile_dataset(dataset, SMALL, jobs=1))


def test_a_part_that_kills_its_worker_fails_its_case_once(tmp_path: Path) -> None:
    dataset = write_hdf5(tmp_path)
    small = replace(write_volume(tmp_path, "raw.nii").cases[0], id="small")
    both = DiscoveredDataset(
        name="two", root=tmp_path, layout="files", file_format="any", cases=(*dataset.cases, small)
    )
    deadly = Inline(dies=lambda task: isinstance(task, PartTask) and "h5" in str(task.whole.case))
    fingerprint = profile_dataset(both, SMALL, backend=deadly)
    (failure,) = fingerprint.failures
    assert (failure.kind, failure.id) == ("killed", dataset.cases[0].id)
    assert "case.h5" in failure.reason
    assert [case.id for case in fingerprint.cases] == ["small"]


def test_a_damaged_chunk_is_the_failure_of_the_case(tmp_path: Path) -> None:
    dataset = write_hdf5(tmp_path)
    with h5py.File(tmp_path / "case.h5") as file:
        at = file["raw"].id.get_chunk_info(5).byte_offset
    content = bytearray((tmp_path / "case.h5").read_bytes())
    content[at : at + 40] = bytes(40)
    (tmp_path / "case.h5").write_bytes(bytes(content))
    with pytest.raises(NothingProfiledError) as raised:
        profile_dataset(dataset, SMALL, backend=Inline())
    (failure,) = raised.value.failures
    assert "case.h5:raw" in failure.reason


def test_streams_and_small_cases_stay_whole(tmp_path: Path) -> None:
    (tmp_path / "stream").mkdir()
    path = tmp_path / "stream" / "stream.nii.gz"
    nib.Nifti1Image(image("int16").transpose(2, 1, 0), np.eye(4)).to_filename(path)
    stream = CaseSource(id="stream", images=(VolumeSource(paths=(path,)),))
    assert not isinstance(profile_or_split(stream, tmp_path, SMALL), Split)
    (tmp_path / "hdf5").mkdir()
    dataset = write_hdf5(tmp_path / "hdf5")
    (case,) = dataset.cases
    assert not isinstance(profile_or_split(case, tmp_path, ProfileOptions()), Split)
    assert isinstance(profile_or_split(case, tmp_path, SMALL), Split)
    backend = Inline(workers=1)
    profile_dataset(dataset, SMALL, backend=backend)
    assert backend.parts() == [], "nobody to share with"


def many(folder: Path, cases: int) -> DiscoveredDataset:
    """Small cases, one of them damaged."""
    sources = []
    for number in range(cases):
        path = folder / f"case_{number:02d}.nii.gz"
        nib.Nifti1Image(image("int16")[:, :, number:].transpose(2, 1, 0), np.eye(4)).to_filename(path)
        if number == 5:
            path.write_bytes(path.read_bytes()[:400])
        sources.append(CaseSource(id=path.name[:7], images=(VolumeSource(paths=(path,)),)))
    return DiscoveredDataset(
        name="many", root=folder, layout="file", file_format="nifti", cases=tuple(sources)
    )


def test_small_cases_go_in_batches_with_the_same_result(tmp_path: Path) -> None:
    dataset = many(tmp_path, 33)
    backend = Inline(workers=2)
    batched = profile_dataset(dataset, ProfileOptions(), backend=backend)
    assert {type(task) for task in backend.done} == {BatchTask}
    assert [len(task.cases) for task in backend.done] == [1] + [2] * 16
    assert text(batched) == text(profile_dataset(dataset, ProfileOptions(), jobs=1))
    assert [failure.id for failure in batched.failures] == ["case_05"]


def test_the_case_that_kills_its_batch_is_found(tmp_path: Path) -> None:
    dataset = many(tmp_path, 33)

    def dies(task: Any) -> bool:
        cases = task.cases if isinstance(task, BatchTask) else [task]
        return any(case.case.id == "case_07" for case in cases)

    fingerprint = profile_dataset(dataset, ProfileOptions(), backend=Inline(workers=2, dies=dies))
    assert {failure.id: failure.kind for failure in fingerprint.failures}.keys() == {"case_05", "case_07"}
    assert [failure.kind for failure in fingerprint.failures if failure.id == "case_07"] == ["killed"]
    assert len(fingerprint.cases) == 31


def test_batches_hold_few_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = many(tmp_path, 33)
    tasks = [CaseTask(case, tmp_path, ProfileOptions(), case.id, tmp_path) for case in dataset.cases]
    sizes = [case.images[0].paths[0].stat().st_size for case in dataset.cases]
    monkeypatch.setattr(tasks_module, "BATCH_BYTES", max(sizes))
    assert all(len(batch.cases) == 1 for batch in make_batches(tasks, 2)[:3])
    assert make_batches(tasks, 1) == []
    assert make_batches(tasks[:10], 2) == []


@pytest.mark.parametrize("kind", WRITERS)
def test_a_part_survives_the_journal(kind: str, tmp_path: Path) -> None:
    (case,) = WRITERS[kind](tmp_path).cases
    part = profile_part(case, tmp_path, SMALL, 1, 4)
    again = decode(encode(part), part_classes())
    assert encode(again) == encode(part)
    for mine, theirs in zip(part.channels, again.channels, strict=True):
        assert mine.rest.sums() == theirs.rest.sums()
        assert (mine.box, mine.empty_foreground, mine.non_finite) == (
            theirs.box,
            theirs.empty_foreground,
            theirs.non_finite,
        )
    assert profile_case(case, tmp_path, SMALL).fingerprint.shape == SHAPE
