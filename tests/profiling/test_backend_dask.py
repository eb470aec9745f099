"""A real Dask cluster on loopback: scheduler and two workers with nannies, each a process of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import nibabel as nib
import numpy as np
import pytest

from voxplan.profiling.backends import dask as dask_backend
from voxplan.profiling.backends.base import Crash, Work, WorkerPoolError
from voxplan.profiling.backends.dask import DaskBackend, run_in_worker
from voxplan.profiling.case import ProfileOptions
from voxplan.profiling.events import Event
from voxplan.profiling.extract import installed_version, profile_dataset
from voxplan.profiling.fingerprint import Fingerprint, load_fingerprint
from voxplan.profiling.formats.base import CaseSource, VolumeSource
from voxplan.profiling.json_text import json_text
from voxplan.profiling.layouts import discover
from voxplan.profiling.parts import Split, profile_or_split
from voxplan.scripts.profile_dataset import main

DASK = [sys.executable, "-m", "dask"]
MEMORY = (3_000_000, 6_000_000)
"""Bytes of a worker, in which a volume of 4 MB is read in blocks of different size."""
ON_LOOPBACK = ["--host", "127.0.0.1", "--no-dashboard"]


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The scheduler file of the cluster."""
    folder = tmp_path_factory.mktemp("cluster")
    file = folder / "scheduler.json"
    place = [*ON_LOOPBACK, "--scheduler-file", str(file)]
    commands = [
        [*DASK, "scheduler", "--port", "0", *place],
        [*DASK, "worker", "--nworkers", "2", "--nthreads", "1", "--local-directory", str(folder), *place],
    ]
    with (folder / "log").open("w") as log:
        processes = [
            subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True) for command in commands
        ]
        try:
            _connected(file).stop()
            yield str(file)
        finally:
            for process in reversed(processes):
                process.terminate()
            for process in processes:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(20)
                with contextlib.suppress(ProcessLookupError):  # a worker without scheduler may not hear
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _connected(file: Path) -> DaskBackend:
    began = time.monotonic()
    while not file.exists():
        assert time.monotonic() - began < 60
        time.sleep(0.1)
    return DaskBackend(str(file))


def complete(scheduler: str) -> DaskBackend:
    """The backend, once both workers are there: one that was killed may still be starting again."""
    backend = DaskBackend(scheduler)
    while backend._present != 2:
        backend.stop()
        time.sleep(0.2)
        backend = DaskBackend(scheduler)
    return backend


@pytest.fixture
def backend(scheduler: str) -> Iterator[DaskBackend]:
    backend = complete(scheduler)
    yield backend
    backend.stop()


def run(backend: DaskBackend, work: Callable[[int], int], folder: Path, tasks: int) -> dict[int, int | Crash]:
    marks = folder / "marks"
    marks.mkdir(exist_ok=True)
    results = list(backend.run(Work(work, str, lambda task: None, marks), range(tasks)))
    assert len(results) == tasks, "one result for every task"
    assert not list(marks.iterdir())
    return dict(results)


def test_the_killer_is_named_and_the_rest_finishes(backend: DaskBackend, tmp_path: Path) -> None:
    def work(task: int) -> int:
        if task == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        if task == 7 and not unlucky.exists():
            unlucky.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return task * task

    unlucky = tmp_path / "unlucky"
    results = run(backend, work, tmp_path, 12)
    crash = results.pop(3)
    assert isinstance(crash, Crash)
    assert not crash.timed_out
    assert crash.host
    assert results == {task: task * task for task in range(12) if task != 3}, "bad luck is no failure"


def test_delivered_results_count_though_their_workers_die(backend: DaskBackend, tmp_path: Path) -> None:
    """Before we look at them: the client then says of their futures that they are lost, or pending again."""

    def work(task: int) -> int:
        (tmp_path / f"{task} {os.getpid()}").touch()
        return task * task

    (tmp_path / "marks").mkdir()
    results = backend.run(Work(work, str, lambda task: None, tmp_path / "marks"), range(4))
    first = next(results)
    futures = backend._client.futures

    def statuses() -> set[str]:
        return {state.status for state in list(futures.values())}

    def wait_for(reached: Callable[[], bool]) -> None:
        began = time.monotonic()
        while not reached():
            assert time.monotonic() - began < 60
            time.sleep(0.01)

    wait_for(lambda: len(futures) >= 3 and statuses() == {"finished"})
    time.sleep(1)  # and what they returned has come, too
    for pid in {int(path.name.partition(" ")[2]) for path in tmp_path.glob("* *")}:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: "finished" not in statuses())
    assert dict([first, *results]) == {task: task * task for task in range(4)}


def write(path: Path, array: np.ndarray[Any, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.Nifti1Image(array, np.diag([1.0, 1.0, 2.0, 1.0])).to_filename(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Forty small cases, one of them damaged: enough for batches."""
    rng = np.random.default_rng(3)
    for number in range(40):
        image = rng.integers(-100, 400, (6, 7, 8 + number % 3)).astype(np.int16)
        write(tmp_path / "data" / "images" / f"c{number:02}.nii.gz", image)
        write(tmp_path / "data" / "labels" / f"c{number:02}.nii.gz", (image > 200).astype(np.uint8))
    (tmp_path / "data" / "images" / "c05.nii.gz").write_bytes(b"damaged")
    return tmp_path / "data"


def text(fingerprint: Fingerprint) -> str:
    return json_text(fingerprint.model_dump(mode="json", exclude={"provenance"}))


def test_same_bytes_whatever_workers_blocks_order_and_backend(
    backend: DaskBackend, folder: Path, tmp_path: Path
) -> None:
    """Small cases, and a large one that workers share, whose blocks depend on the memory."""
    dataset = discover(folder)
    values = np.random.default_rng(0).integers(-50, 50, (64, 128, 128)).astype(np.float32)
    with h5py.File(tmp_path / "large.h5", "w") as file:
        file.create_dataset("raw", data=values, chunks=(8, 64, 64), compression="gzip")
    large = CaseSource(id="large", images=(VolumeSource(paths=(tmp_path / "large.h5",), key="raw"),))
    dataset = replace(dataset, cases=(*dataset.cases, large))
    backwards = replace(dataset, cases=dataset.cases[::-1])
    options = {memory: ProfileOptions(memory_per_worker=memory, part_bytes=500_000) for memory in MEMORY}
    splits = [profile_or_split(large, dataset.root, option) for option in options.values()]
    assert all(isinstance(split, Split) for split in splits)
    seen = []
    for number, (cases, memory, where) in enumerate(
        [
            (dataset, MEMORY[0], {"jobs": 1}),
            (backwards, MEMORY[1], {"jobs": 4}),
            (dataset, MEMORY[1], {"backend": backend}),
            (backwards, MEMORY[0], {"backend": backend}),
        ]
    ):
        histograms = tmp_path / f"{number}.npz"
        fingerprint = profile_dataset(cases, options[memory], histograms=histograms, **where)
        assert (len(fingerprint.cases), len(fingerprint.failures)) == (40, 1)
        seen.append((text(fingerprint), histograms.read_bytes()))
    assert seen[1:] == seen[:1] * 3


def test_the_command_profiles_on_the_cluster_and_resumes(
    scheduler: str,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    complete(scheduler).stop()
    monkeypatch.chdir(tmp_path)  # workers run elsewhere: relative paths must still be found
    cluster = ["--backend", "dask", "--scheduler", scheduler]
    assert main(["data", "-o", "local.json", "--jobs", "1", "-q"]) == 0
    assert main(["data", "-o", "dask.json", *cluster]) == 0
    assert "with 2 workers" in capsys.readouterr().err
    assert text(load_fingerprint(tmp_path / "local.json")) == text(load_fingerprint(tmp_path / "dask.json"))
    histograms = [(tmp_path / f"{name}.histograms.npz").read_bytes() for name in ("local", "dask")]
    assert histograms[0] == histograms[1]
    (tmp_path / "dask.json").unlink()
    assert main(["data", "-o", "dask.json", *cluster]) == 0
    assert "39 of them unchanged" in capsys.readouterr().err
    (tmp_path / "dask.json").unlink()
    assert main(["data", "-o", "dask.json", "--jobs", "1"]) == 0, "and what Dask read serves a local run"
    assert "39 of them unchanged" in capsys.readouterr().err


def test_a_killed_worker_and_a_hanging_one_are_reported_with_their_case(
    backend: DaskBackend, folder: Path, tmp_path: Path
) -> None:
    """A pipe that nobody writes to never yields a byte; who reads it is killed, or ended by the limit."""
    os.mkfifo(tmp_path / "stuck.nii.gz")
    dataset = discover(folder)
    stuck = CaseSource(id="c20stuck", images=(VolumeSource(paths=(tmp_path / "stuck.nii.gz",)),))
    dataset = replace(dataset, cases=(*dataset.cases[:4], stuck, *dataset.cases[6:9]))
    journal = tmp_path / "journal"
    over = threading.Event()

    def kill() -> None:
        while not over.wait(0.1):
            for mark in journal.glob("*.running"):
                try:
                    if time.time() - mark.stat().st_mtime > 1:
                        os.kill(int(mark.read_text().split()[0]), signal.SIGKILL)
                except (OSError, ValueError, IndexError):
                    continue

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        killed = profile_dataset(dataset, ProfileOptions(), backend=backend, journal=journal)
    finally:
        over.set()
        killer.join()
    assert [(failure.id, failure.kind) for failure in killed.failures] == [("c20stuck", "killed")]
    assert "stuck.nii.gz" in killed.failures[0].reason
    events: list[Event] = []
    hung = profile_dataset(
        dataset,
        ProfileOptions(),
        backend=backend,
        journal=journal,
        case_timeout=1.5,
        on_event=events.append,
    )
    assert [(failure.id, failure.kind) for failure in hung.failures] == [("c20stuck", "timeout")]
    assert "1.5 s" in hung.failures[0].reason
    assert [event.kind for event in events].count("resumed") == 7, "finished cases are not read again"
    assert killed.cases == hung.cases
    rest = replace(dataset, cases=tuple(case for case in dataset.cases if case.id != "c20stuck"))
    assert hung.cases == profile_dataset(rest, ProfileOptions(), jobs=1).cases


def test_workers_that_outlive_a_run_read_a_changed_address(backend: DaskBackend, tmp_path: Path) -> None:
    """They hold copies of what they read at an address, and open archives."""
    zarr = pytest.importorskip("zarr")
    store = tmp_path / "a.zarr"
    for value in (3, 5, 7):  # on two workers
        zarr.create_array(str(store), shape=(4, 4, 4), dtype="u1", overwrite=True)[...] = value
        dataset = discover(Path(f"simplecache::file://{store}"))
        found = profile_dataset(dataset, ProfileOptions(), backend=backend, journal=tmp_path / "journal")
        statistics = found.cases[0].channels[0].nonzero
        assert statistics is not None
        assert statistics.mean == value


def test_a_worker_that_does_not_see_the_data_is_said(scheduler: str, tmp_path: Path) -> None:
    backend = DaskBackend(scheduler, sees=[tmp_path / "elsewhere"])
    try:
        with pytest.raises(WorkerPoolError, match=r"does not see .*elsewhere"):
            run(backend, lambda task: task, tmp_path, 3)
    finally:
        backend.stop()


def test_an_error_of_ours_is_no_crash(backend: DaskBackend, tmp_path: Path) -> None:
    def work(task: int) -> int:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        run(backend, work, tmp_path, 2)


def test_a_cluster_without_workers_or_scheduler_is_given_up(tmp_path: Path) -> None:
    file = tmp_path / "alone.json"
    command = [*DASK, "scheduler", "--port", "0", *ON_LOOPBACK, "--scheduler-file", str(file)]
    said: list[str] = []
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process, contextlib.ExitStack() as ends:
        ends.callback(process.kill)
        _connected(file).stop()
        deserted = DaskBackend(str(file), tell=said.append, patience=0.5)
        try:
            with pytest.raises(WorkerPoolError, match="start some and run the same command again"):
                run(deserted, lambda task: task, tmp_path, 3)
            assert "no workers" in said[0]
            deserted._patience = 60
            death = threading.Timer(0.5, process.kill)
            death.start()
            with pytest.raises(WorkerPoolError, match="has gone"):
                run(deserted, lambda task: task, tmp_path, 3)
            death.join()
        finally:
            deserted.stop()


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("tcp://127.0.0.1:9", "no Dask scheduler answers"),
        ("nowhere.json", "no such file"),
        ("nonsense://", "no Dask"),
    ],
)
def test_no_scheduler_is_said_in_one_line(
    address: str,
    why: str,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(dask_backend, "CONNECT_SECONDS", 1)
    output = str(tmp_path / "f.json")
    assert main([str(folder), "-o", output, "--backend", "dask", "--scheduler", address]) == 1
    err = capsys.readouterr().err
    assert why in err
    assert err.count("\n") == 1


def test_a_worker_of_another_version_is_said(tmp_path: Path) -> None:
    call = _call(tmp_path, lambda task: task)
    refused = run_in_worker(replace(call, version="0.0.1"))
    assert isinstance(refused, dask_backend._Unfit)
    assert "0.0.1" in refused.reason


def test_one_task_at_a_time_whatever_the_threads(tmp_path: Path) -> None:
    """The bound of memory is one of the process, and so is the time limit's end."""
    inside: list[int] = []
    most: list[int] = []

    def work(task: int) -> int:
        inside.append(task)
        most.append(len(inside))
        time.sleep(0.05)
        inside.pop()
        return task

    calls = [_call(tmp_path, work, number) for number in range(4)]
    threads = [threading.Thread(target=run_in_worker, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1, 1]


def _call(folder: Path, work: Callable[[int], int], task: int = 0) -> dask_backend._Call[int, int]:
    mark = folder / f"{task}.running"
    return dask_backend._Call(work, task, mark, None, folder, (), installed_version())
