"""Results of cases in the parent, whose memory must not grow with what the cases hold.

Small distributions stay in memory up to a limit; the others are read from the journal each time they are
asked for. The summary goes over them three times.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from .fingerprint import CaseFingerprint
from .labels import LabelTable
from .statistics import Distribution

if TYPE_CHECKING:
    from .case import CaseResult

KEPT_BYTES = 64 << 20
"""Counts of all cases together that stay in memory: some 2,000 CT scans."""
OBJECT_BYTES = 1 << 10
"""What a distribution takes besides its arrays."""


class Result(Protocol):
    """A case's result, in memory or in the journal."""

    @property
    def fingerprint(self) -> CaseFingerprint:
        """See :class:`.case.CaseResult`."""
        ...

    @property
    def foreground(self) -> tuple[Distribution | None, ...]:
        """Per channel."""
        ...

    @property
    def nonzero(self) -> tuple[Distribution | None, ...]:
        """Per channel."""
        ...

    @property
    def labels(self) -> LabelTable | None:
        """See :class:`.labels.LabelTable`."""


class Store(Protocol):
    """Where results lie by name: a journal, or a shard's file."""

    @property
    def folder(self) -> Path:
        """For messages."""
        ...

    def read(self, name: str) -> CaseResult | None:
        """The result; None where there is none any more."""
        ...


class JournalledResult:
    """A case's result without its distributions, which are read from the journal."""

    __slots__ = ("_name", "_store", "fingerprint", "labels")

    def __init__(self, result: CaseResult, store: Store, name: str) -> None:
        self.fingerprint = result.fingerprint
        self.labels = result.labels
        self._store, self._name = store, name

    @property
    def foreground(self) -> tuple[Distribution | None, ...]:
        """Per channel."""
        return self._load().foreground

    @property
    def nonzero(self) -> tuple[Distribution | None, ...]:
        """Per channel."""
        return self._load().nonzero

    def _load(self) -> CaseResult:
        found: CaseResult | None = self._store.read(self._name)
        if found is None:
            msg = (
                f"{self._store.folder}: the entry of case {self.fingerprint.id} has vanished or was damaged "
                f"while the data set was profiled; run the same command again"
            )
            raise OSError(msg)
        return found


class ResultKeeper:
    """Decides which results stay in memory."""

    def __init__(self, limit: int = KEPT_BYTES) -> None:
        self._room = limit

    def keep(self, result: CaseResult, store: Store, name: str) -> Result:
        """The result as it is while there is room, else one that reads from the entry ``name``."""
        size = sum(stored_size(d) for d in (*result.foreground, *result.nonzero))
        if size <= self._room:
            self._room -= size
            return result
        return JournalledResult(result, store, name)


def stored_size(distribution: Distribution | None) -> int:
    """Bytes that a distribution takes in memory."""
    if distribution is None:
        return 0
    return distribution.values.nbytes + distribution.counts.nbytes + OBJECT_BYTES


class Column:
    """One channel of one region over the cases that have it; read again each time it is gone over."""

    def __init__(
        self, results: Sequence[Result], region: Literal["foreground", "nonzero"], channel: int
    ) -> None:
        self._results, self._region, self._channel = results, region, channel

    def __iter__(self) -> Iterator[Distribution | None]:
        for result in self._results:
            channels = result.foreground if self._region == "foreground" else result.nonzero
            if self._channel < len(channels):
                yield channels[self._channel]
