"""What the profiler says while it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

EventKind = Literal["begin", "resumed", "done", "failed", "part", "summary"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One step of progress.

    ``begin`` comes first and once; ``resumed`` for a case taken from the journal; ``done`` and ``failed``
    for one that was read; ``part`` for a part of a large volume that workers share, after all smaller cases;
    ``summary`` when the last case is in and the numbers of the whole are made.
    """

    kind: EventKind
    total: int
    """Cases."""
    finished: int
    """Cases that are through, failed ones among them."""
    failed: int
    jobs: int = 1
    parts: int = 0
    """Into which the shared volumes are cut; 0 as long as none is met."""
    parts_finished: int = 0
    case_id: str | None = None
    reason: str | None = None
    """Why the case failed."""
