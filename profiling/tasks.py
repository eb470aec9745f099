"""What is handed to workers: whole cases, parts of huge ones, and putting such parts together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from .backends.base import Backend, Crash, Work
from .fingerprint import CaseFingerprint, Failure, ObjectStatistics
from .formats.base import CaseSource, FormatError
from .journal import Journal
from .parts import PartDone, Split, join_parts, profile_or_split, profile_part
from .scan import CaseError, ChannelPart, ScanPart

if TYPE_CHECKING:
    from .case import CaseResult, ProfileOptions

R = TypeVar("R")

RETRIED_KINDS = ("killed", "timeout", "memory", "error")
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
    backend: Backend, store: Journal, tasks: Sequence[CaseTask], timeout: float | None
) -> Iterator[tuple[CaseTask, CaseResult | Failure]]:
    """Every case with its result, as they come: small ones first, then those that workers share.

    ``timeout`` holds for a whole case, or for one part of a shared one.
    """
    shared: list[JoinTask] = []
    cases: Work[CaseTask, CaseResult | Failure | Split] = Work(
        function=run_case,
        name=lambda task: task.name,
        recover=lambda task: store.read(task.name),
        folder=store.folder,
        timeout=timeout,
    )
    for task, outcome in backend.run(cases, tasks):
        if isinstance(outcome, Split):
            shared.append(JoinTask(task, outcome.parts))
        else:
            yield task, _settled(task, outcome, timeout)
    if shared:
        yield from _run_shared(backend, store, shared, timeout)


def _run_shared(
    backend: Backend, store: Journal, shared: Sequence[JoinTask], timeout: float | None
) -> Iterator[tuple[CaseTask, CaseResult | Failure]]:
    waiting = [PartTask(join.whole, part, join.parts) for join in shared for part in range(join.parts)]
    waiting = [task for task in waiting if not store.has(task.name)]
    parts: Work[PartTask, PartDone | Failure] = Work(
        function=run_part,
        name=lambda task: task.name,
        recover=lambda task: PartDone() if store.has(task.name) else None,
        folder=store.folder,
        timeout=timeout,
    )
    failed: dict[str, Failure] = {}
    for part, outcome in backend.run(parts, waiting):
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
        yield join.whole, _settled(join.whole, joined, timeout)


def run_case(task: CaseTask) -> CaseResult | Failure | Split:
    """One case in a worker: its result, or its failure, journalled before it is returned; never raises."""
    from .case import profile_case

    read = profile_or_split if task.share else profile_case
    result = _guarded(task, lambda: read(task.case, task.root, task.options))
    if not isinstance(result, Split):
        _journal(Journal(task.journal, ()), task.name, result)
    return result


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
    _journal(store, whole.name, result)
    return result


def _guarded(task: CaseTask, work: Callable[[], R]) -> R | Failure:
    """What the work returns, or as a failure what it raises."""
    files = _files(task.case)
    try:
        return work()
    except (FormatError, CaseError) as error:
        return Failure(id=task.case.id, files=files, kind=error.kind, reason=str(error))
    except MemoryError:
        reason = f"{files[0]}: not enough memory; free some, or use fewer --jobs"
        return Failure(id=task.case.id, files=files, kind="memory", reason=reason)
    except Exception as error:  # noqa: BLE001 - whatever a file provokes costs its case, not the run
        where = _where(error)
        reason = f"{files[0]}: {type(error).__name__}: {error} ({where}); please report this as a defect"
        return Failure(id=task.case.id, files=files, kind="error", reason=reason)


def is_retried(result: CaseResult | Failure) -> bool:
    """Whether another run tries this case again."""
    return isinstance(result, Failure) and result.kind in RETRIED_KINDS


def _journal(store: Journal, name: str, result: CaseResult | Failure) -> None:
    if not is_retried(result):
        store.write(name, result)


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
    exit_code = f" with {outcome.detail}" if outcome.detail else ""
    reason = (
        f"{files[0]}: the worker that held this case was killed or crashed{exit_code}, twice; "
        "out of memory, or a defect in a codec: see the system log, or use fewer --jobs"
    )
    return Failure(id=task.case.id, files=files, kind="killed", reason=reason)
