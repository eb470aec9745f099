"""What is handed to workers: whole cases, parts of huge ones, and putting such parts together."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from .backends.base import Backend, Crash, Work
from .fingerprint import CaseFingerprint, Failure, ObjectStatistics
from .formats.address_files import look_anew
from .formats.base import CaseSource, FormatError
from .journal import Journal
from .parts import PartDone, Split, join_parts, profile_or_split, profile_part
from .scan import CaseError, ChannelPart, ScanPart

if TYPE_CHECKING:
    from .case import CaseResult, ProfileOptions

R = TypeVar("R")

BATCH_CASES = 64
"""Small cases in one task, at most: handing a task to a process takes about 2 ms."""
BATCH_BYTES = 8 << 20
"""Bytes of their files, at most: a tenth of a second's work."""
BATCHES_PER_WORKER = 8
"""At least, so that workers end at the same time."""
RETRIED_KINDS = ("killed", "timeout", "memory", "error", "access", "missing-extra")
"""Failures that another run may not meet again: not kept in the journal."""


@dataclass(frozen=True, slots=True)
class CaseTask:
    """A whole case."""

    case: CaseSource
    root: Path
    options: ProfileOptions
    name: str
    """Of the journal entry."""
    journal: Path
    share: bool = False
    """Whether a huge case comes back as :class:`.parts.Split`."""
    keep: bool = True
    """Whether the worker journals the result; else whoever gets it does (:attr:`Backend.remote`)."""
    run: str = ""
    """Of which run it is: a worker may outlive one."""


@dataclass(frozen=True, slots=True)
class PartTask:
    """One of the parts of a case."""

    whole: CaseTask
    part: int
    parts: int

    @property
    def name(self) -> str:
        """Of the journal entry."""
        return part_name(self.whole.name, self.part, self.parts)


@dataclass(frozen=True, slots=True)
class JoinTask:
    """A case all of whose parts are counted."""

    whole: CaseTask
    parts: int

    def tasks(self) -> list[PartTask]:
        """Its parts, in order."""
        return [PartTask(self.whole, part, self.parts) for part in range(self.parts)]


@dataclass(frozen=True, slots=True)
class BatchTask:
    """Several small cases: handing each of them over would take longer than reading it."""

    cases: tuple[CaseTask, ...]

    @property
    def name(self) -> str:
        """Of their common file in the journal."""
        return f"{self.cases[0].name}-{len(self.cases)}"


def part_name(case: str, part: int, parts: int) -> str:
    """Name of a part's journal entry."""
    return f"{case}-{part}-of-{parts}"


def journalled_classes() -> tuple[type, ...]:
    """What the journal entry of a case may hold."""
    from .case import CaseResult
    from .labels import LabelTable
    from .statistics import Distribution

    return (CaseResult, CaseFingerprint, Failure, Distribution, LabelTable, ObjectStatistics)


def part_classes() -> tuple[type, ...]:
    """What the journal entry of a part may hold."""
    from .histogram import ValueHistogram
    from .labels import LabelCounter

    return (ScanPart, ChannelPart, ValueHistogram, LabelCounter)


def run_tasks(
    backend: Backend,
    store: Journal,
    tasks: Sequence[CaseTask],
    timeout: float | None,
    on_part: Callable[[int, int], None] | None = None,
) -> Iterator[tuple[CaseTask, CaseResult | Failure]]:
    """Every case with its result, as they come: small ones first, then those that workers share.

    ``timeout`` holds for a whole case, or for one part of a shared one. ``on_part`` is told how many parts of
    shared cases are counted, and how many there are.
    """
    shared: list[JoinTask] = []
    whole: Work[CaseTask, CaseResult | Failure | Split] = Work(
        function=run_case,
        name=lambda task: task.name,
        recover=lambda task: store.read(task.name),
        folder=store.folder,
        timeout=timeout,
    )
    batches = make_batches(tasks, backend.workers) if timeout is None else []
    outcomes: Iterator[tuple[CaseTask, CaseResult | Failure | Split | Crash]]
    if batches:
        outcomes = _run_batched(backend, store, batches, whole)
    else:
        outcomes = _run_singly(backend, store, whole, tasks)
    for task, outcome in outcomes:
        if isinstance(outcome, Split):
            join = JoinTask(task, outcome.parts)
            if outcome.other_files:
                for part in join.tasks():
                    store.forget(part.name)
            shared.append(join)
        else:
            yield task, _settled(task, outcome, timeout)
    if shared:
        yield from _run_shared(backend, store, shared, timeout, on_part or (lambda finished, parts: None))


def make_batches(tasks: Sequence[CaseTask], workers: int) -> list[BatchTask]:
    """The cases in batches by the size of their files; none where there are too few cases or workers."""
    most = min(BATCH_CASES, len(tasks) // (BATCHES_PER_WORKER * workers))
    if workers == 1 or most < 2:
        return []
    batches: list[list[CaseTask]] = []
    room = 0
    for task in tasks:
        size = 0 if task.options.headers_only else _file_bytes(task.case)
        if not batches or size > room or len(batches[-1]) == most:
            batches.append([])
            room = BATCH_BYTES
        batches[-1].append(task)
        room -= size
    return [BatchTask(tuple(batch)) for batch in batches]


def _file_bytes(case: CaseSource) -> int:
    """Bytes of a case's files; a folder or a missing file counts as large."""
    total = 0
    for source in (*case.images, *([case.label] if case.label is not None else [])):
        for path in source.paths:
            try:
                status = path.stat()
            except OSError:
                return BATCH_BYTES
            total += status.st_size if stat.S_ISREG(status.st_mode) else BATCH_BYTES
    return total


def _run_batched(
    backend: Backend,
    store: Journal,
    batches: Sequence[BatchTask],
    whole: Work[CaseTask, CaseResult | Failure | Split],
) -> Iterator[tuple[CaseTask, CaseResult | Failure | Split | Crash]]:
    """Cases of batches as they come; those of a batch that lost its worker are then run one by one."""

    def recover(batch: BatchTask) -> list[CaseResult | Failure | Split] | None:
        store.open_pack(batch.name)
        found = [result for task in batch.cases if (result := store.read(task.name)) is not None]
        return found if len(found) == len(batch.cases) else None

    work: Work[BatchTask, list[CaseResult | Failure | Split]] = Work(
        function=run_batch,
        name=lambda batch: batch.name,
        recover=recover,
        folder=store.folder,
    )
    lost: list[CaseTask] = []
    for batch, outcome in backend.run(work, batches):
        if backend.remote and not isinstance(outcome, Crash):
            _journal_batch(store, batch, outcome)
        store.open_pack(batch.name)
        if isinstance(outcome, Crash):
            lost += batch.cases
        else:
            yield from zip(batch.cases, outcome, strict=True)
    if lost:
        yield from _run_singly(backend, store, whole, lost)


def _run_singly(
    backend: Backend,
    store: Journal,
    whole: Work[CaseTask, CaseResult | Failure | Split],
    tasks: Sequence[CaseTask],
) -> Iterator[tuple[CaseTask, CaseResult | Failure | Split | Crash]]:
    for task, outcome in backend.run(whole, tasks):
        if backend.remote and not isinstance(outcome, Split | Crash):
            _journal(store, task.name, outcome)
        yield task, outcome


def _run_shared(
    backend: Backend,
    store: Journal,
    shared: Sequence[JoinTask],
    timeout: float | None,
    on_part: Callable[[int, int], None],
) -> Iterator[tuple[CaseTask, CaseResult | Failure]]:
    every = [part for join in shared for part in join.tasks()]
    waiting = [task for task in every if not store.has(task.name)]
    finished = len(every) - len(waiting)
    on_part(finished, len(every))
    parts: Work[PartTask, PartDone | Failure] = Work(
        function=run_part,
        name=lambda task: task.name,
        recover=lambda task: PartDone() if store.has(task.name) else None,
        folder=store.folder,
        timeout=timeout,
    )
    failed: dict[str, Failure] = {}
    for part, outcome in backend.run(parts, waiting):
        finished += 1
        on_part(finished, len(every))
        if not isinstance(outcome, PartDone):
            failed.setdefault(part.whole.name, _settled(part.whole, outcome, timeout))
    for join in shared:
        if failure := failed.get(join.whole.name):
            _journal(store, join.whole.name, failure)
            yield join.whole, failure
    joins: Work[JoinTask, CaseResult | Failure] = Work(
        function=run_join,
        name=lambda task: task.whole.name,
        recover=lambda task: store.read(task.whole.name),
        folder=store.folder,
        timeout=timeout,
    )
    for join, joined in backend.run(joins, [join for join in shared if join.whole.name not in failed]):
        if backend.remote and not isinstance(joined, Crash):
            _journal(store, join.whole.name, joined)
        yield join.whole, _settled(join.whole, joined, timeout)


def run_case(task: CaseTask) -> CaseResult | Failure | Split:
    """One case in a worker: its result, or its failure, journalled before it is returned."""
    result = _profile(task)
    if task.keep and not isinstance(result, Split):
        _journal(Journal(task.journal, ()), task.name, result)
    return result


def run_batch(batch: BatchTask) -> list[CaseResult | Failure | Split]:
    """Several cases in a worker, journalled together."""
    results = [_profile(task) for task in batch.cases]
    if batch.cases[0].keep:
        _journal_batch(Journal(batch.cases[0].journal, ()), batch, results)
    return results


def _profile(task: CaseTask) -> CaseResult | Failure | Split:
    from .case import profile_case

    read = profile_or_split if task.share else profile_case
    return _guarded(task, lambda: read(task.case, task.root, task.options))


def run_part(task: PartTask) -> PartDone | Failure:
    """One part in a worker; what it counted goes to the journal; never raises."""
    whole = task.whole
    result = _guarded(
        whole, lambda: profile_part(whole.case, whole.root, whole.options, task.part, task.parts)
    )
    if isinstance(result, Failure):
        return result
    Journal(whole.journal, ()).write(task.name, result)
    return PartDone()


def run_join(task: JoinTask) -> CaseResult | Failure:
    """The result of a shared case, journalled; never raises."""
    whole = task.whole
    store = Journal(whole.journal, part_classes())

    def load(part: int) -> ScanPart | None:
        return store.read(part_name(whole.name, part, task.parts))

    result = _guarded(whole, lambda: join_parts(whole.case, whole.root, whole.options, task.parts, load))
    if whole.keep:
        _journal(store, whole.name, result)
    return result


def _guarded(task: CaseTask, work: Callable[[], R]) -> R | Failure:
    """What the work returns, or as a failure what it raises."""
    files = _files(task.case)
    if task.run:
        look_anew(task.run)
    try:
        return work()
    except (FormatError, CaseError) as error:
        return Failure(
            id=task.case.id, files=files, kind=error.kind, reason=str(error), other_files=error.other_files
        )
    except MemoryError:
        reason = f"{files[0]}: not enough memory; free some, or use fewer --jobs"
        return Failure(id=task.case.id, files=files, kind="memory", reason=reason)
    except Exception as error:  # noqa: BLE001 - whatever a file provokes costs its case, not the run
        where = _where(error)
        reason = f"{files[0]}: {type(error).__name__}: {error} ({where}); please report this as a defect"
        return Failure(id=task.case.id, files=files, kind="error", reason=reason)


def is_retried(result: object) -> bool:
    """Whether another run tries this case again."""
    return isinstance(result, Failure) and (result.kind in RETRIED_KINDS or result.other_files)


def _journal(store: Journal, name: str, result: CaseResult | Failure) -> None:
    if not is_retried(result):
        store.write(name, result)


def _journal_batch(store: Journal, batch: BatchTask, results: Sequence[CaseResult | Failure | Split]) -> None:
    named = zip(batch.cases, results, strict=True)
    kept = {task.name: r for task, r in named if not isinstance(r, Split) and not is_retried(r)}
    if kept:
        store.write_pack(batch.name, kept)


def _where(error: BaseException) -> str:
    """Module and line in which an unforeseen exception arose."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return "unknown place"
    return f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"


def _files(case: CaseSource) -> tuple[str, ...]:
    sources = (*case.images, *([case.label] if case.label is not None else []))
    return tuple(source.name for source in sources)


def _settled(task: CaseTask, outcome: R | Crash, timeout: float | None) -> R | Failure:
    """An outcome, crashes told as failures."""
    if not isinstance(outcome, Crash):
        return outcome
    files = _files(task.case)
    if outcome.timed_out:
        reason = f"{files[0]}: not finished after {timeout:g} s (--case-timeout); the worker was ended"
        return Failure(id=task.case.id, files=files, kind="timeout", reason=reason)
    how = f" with {outcome.detail}" if outcome.detail else ""
    how += f" on {outcome.host}" if outcome.host else ""
    reason = (
        f"{files[0]}: the worker that held this case was killed or crashed{how}, twice; "
        "out of memory, or a defect in a codec: see the system log, or use fewer --jobs"
    )
    return Failure(id=task.case.id, files=files, kind="killed", reason=reason)
