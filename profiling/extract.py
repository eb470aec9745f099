"""From cases to a fingerprint: fan-out over worker processes, journal, failures, progress.

The parent holds what workers hand back (counts and numbers), never voxels. Outside ``provenance`` the result
does not depend on the number of workers or on the order in which they finish.
"""

from __future__ import annotations

import os
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from .backends.base import Backend
from .backends.local import LocalBackend, usable_cores
from .combine import Declared, assemble_fingerprint
from .events import Event, EventKind
from .fingerprint import Failure, Fingerprint, LabelKind, Provenance
from .formats.address_files import look_anew
from .journal import Journal, entry_name
from .layouts.base import DiscoveredDataset
from .results import Result, ResultKeeper
from .sidecar import save_histograms
from .tasks import CaseTask, is_retried, journalled_classes, run_tasks

if TYPE_CHECKING:
    from .case import CaseResult, ProfileOptions


MANY_HEADERS = 1000
"""Cases from which processes read headers sooner than this one alone (0.5 ms a case, 0.5 s to start)."""


def profile_dataset(
    dataset: DiscoveredDataset,
    options: ProfileOptions,
    *,
    jobs: int | None = None,
    backend: Backend | None = None,
    label_kind: LabelKind | None = None,
    on_event: Callable[[Event], None] | None = None,
    journal: Path | None = None,
    case_timeout: float | None = None,
    stated_options: Mapping[str, str] | None = None,
    histograms: Path | None = None,
) -> Fingerprint:
    """Profile every case and put the data set together.

    Args:
        dataset: what a layout discovered.
        options: how cases are read.
        jobs: worker processes; None for one a usable core (for headers only: this process).
        backend: where tasks run instead of ``jobs`` processes of this machine; its owner stops it.
        label_kind: what the labels are, where the user says so.
        on_event: called in this process, as results come.
        journal: folder of finished cases; a temporary one if None. A run that is killed leaves it usable.
        case_timeout: seconds after which a case is ended and reported.
        stated_options: what the provenance says the user asked for.
        histograms: file for the cases' histograms (see :mod:`.sidecar`); none if None.

    Raises:
        NothingProfiledError: no case could be profiled.
        WorkerPoolError: worker processes die before they take up any case.
        OSError: the journal's folder cannot be written.
    """
    began = time.perf_counter()
    with profiled_cases(
        dataset,
        options,
        jobs=jobs,
        backend=backend,
        label_kind=label_kind,
        on_event=on_event,
        journal=journal,
        case_timeout=case_timeout,
    ) as cases:
        provenance = Provenance(
            program="profile-dataset",
            version=installed_version(),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            options=dict(stated_options or {}),
            seconds=round(time.perf_counter() - began, 3),
        )
        if histograms is not None and cases.results:
            save_histograms(cases.results, histograms)
        return assemble_fingerprint(
            cases.dataset,
            cases.results,
            cases.failures,
            Declared(kind=label_kind, ignore=cases.options.ignore_label),
            provenance,
        )


@dataclass(frozen=True, slots=True)
class ProfiledCases:
    """Every case with its result, in the order of the data set; the data set is not put together yet."""

    dataset: DiscoveredDataset
    """Without label maps where the user wants none."""
    options: ProfileOptions
    """With the ignore label of the data set."""
    results: list[Result]
    failures: list[Failure]
    content: Callable[[str], bytes]
    """The encoded result of a profiled case, by its id, from the journal."""


@contextmanager
def profiled_cases(
    dataset: DiscoveredDataset,
    options: ProfileOptions,
    *,
    jobs: int | None = None,
    backend: Backend | None = None,
    label_kind: LabelKind | None = None,
    on_event: Callable[[Event], None] | None = None,
    journal: Path | None = None,
    case_timeout: float | None = None,
) -> Iterator[ProfiledCases]:
    """Profile every case; see :func:`profile_dataset`. Results may be read from the journal until the end."""
    if label_kind == "none":
        dataset = replace(dataset, cases=tuple(replace(case, label=None) for case in dataset.cases))
    options = _with_ignore(options, dataset)
    run = secrets.token_hex(16)
    look_anew(run)
    with tempfile.TemporaryDirectory(prefix="voxplan-journal-") as temporary:
        store = Journal(journal or Path(temporary), journalled_classes())
        store.open()
        progress = _Progress(dataset, on_event)
        chosen = backend or LocalBackend(jobs or _default_jobs(options, len(dataset.cases)))
        names = _entry_names(dataset, options)
        try:
            found = _run(dataset, options, store, progress, names, run, backend=chosen, timeout=case_timeout)
        finally:
            if backend is None:
                chosen.stop()
        progress.tell("summary")
        yield ProfiledCases(
            dataset,
            options,
            [result for result in found if not isinstance(result, Failure)],
            [result for result in found if isinstance(result, Failure)],
            lambda case: store.content(names[case]),
        )


def installed_version() -> str:
    """The version of the installed package; ``0`` where it runs without being installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("voxplan")
    except PackageNotFoundError:
        return "0"


def _with_ignore(options: ProfileOptions, dataset: DiscoveredDataset) -> ProfileOptions:
    """The ignore label of a dataset.json holds unless the user names another."""
    if options.ignore_label is None and dataset.ignore is not None:
        return replace(options, ignore_label=dataset.ignore)
    return options


def _entry_names(dataset: DiscoveredDataset, options: ProfileOptions) -> dict[str, str]:
    """The journal entry of every case."""
    depends_on = (options, os.fspath(dataset.root.absolute()))
    return {case.id: entry_name(case, depends_on) for case in dataset.cases}


def _run(
    dataset: DiscoveredDataset,
    options: ProfileOptions,
    store: Journal,
    progress: _Progress,
    names: Mapping[str, str],
    run: str,
    *,
    backend: Backend,
    timeout: float | None,
) -> list[Result | Failure]:
    """Results of all cases, in the order of the data set."""
    found: dict[str, Result | Failure] = {}
    tasks: list[CaseTask] = []
    keeper = ResultKeeper()
    share = backend.workers > 1
    finished = store.entries()
    for case in dataset.cases:
        task = CaseTask(
            case, dataset.root, options, names[case.id], store.folder, share, not backend.remote, run
        )
        known = store.read(task.name) if task.name in finished else None
        if known is not None and not isinstance(known, Failure) and known.fingerprint.other_files:
            store.forget(task.name)
            known = None
        if known is None:
            tasks.append(task)
        else:
            found[case.id] = _kept(keeper, known, store, task.name)
    progress.tell("begin", jobs=max(1, min(backend.workers, len(tasks))))
    for case_id, resumed in found.items():
        progress.finish(case_id, resumed, resumed=True)
    for task, result in run_tasks(backend, store, tasks, timeout, progress.count_part):
        found[task.case.id] = _kept(keeper, result, store, task.name)
        progress.finish(task.case.id, result)
    store.prune(names.values(), {names[i] for i, result in found.items() if is_retried(result)})
    return [found[case.id] for case in dataset.cases]


def _kept(keeper: ResultKeeper, result: CaseResult | Failure, store: Journal, name: str) -> Result | Failure:
    return result if isinstance(result, Failure) else keeper.keep(result, store, name)


def _default_jobs(options: ProfileOptions, cases: int) -> int:
    """One a usable core; one in all for a few headers, which take less time than starting processes."""
    return 1 if options.headers_only and cases < MANY_HEADERS else usable_cores()


class _Progress:
    """Counts, and tells them."""

    def __init__(self, dataset: DiscoveredDataset, on_event: Callable[[Event], None] | None) -> None:
        self.total = len(dataset.cases)
        self.finished = 0
        self.failed = 0
        self.jobs = 1
        self.parts = 0
        self.parts_finished = 0
        self._on_event = on_event

    def tell(
        self, kind: EventKind, case_id: str | None = None, reason: str | None = None, jobs: int | None = None
    ) -> None:
        self.jobs = jobs or self.jobs
        if self._on_event is not None:
            self._on_event(
                Event(
                    kind=kind,
                    total=self.total,
                    finished=self.finished,
                    failed=self.failed,
                    jobs=self.jobs,
                    parts=self.parts,
                    parts_finished=self.parts_finished,
                    case_id=case_id,
                    reason=reason,
                )
            )

    def count_part(self, finished: int, parts: int) -> None:
        """So many parts of the volumes that workers share are counted."""
        self.parts_finished, self.parts = finished, parts
        self.tell("part")

    def finish(self, case_id: str, result: Result | Failure, *, resumed: bool = False) -> None:
        self.finished += 1
        if isinstance(result, Failure):
            self.failed += 1
            self.tell("failed", case_id, result.reason)
        else:
            self.tell("resumed" if resumed else "done", case_id)
