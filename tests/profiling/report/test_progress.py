"""Progress of cases, and of the parts of one large volume."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
import tifffile
from rich.console import Console

from voxplan.profiling.case import ProfileOptions
from voxplan.profiling.events import Event
from voxplan.profiling.extract import profile_dataset
from voxplan.profiling.layouts import discover
from voxplan.profiling.report import progress as module
from voxplan.profiling.report.progress import BarProgress, PlainProgress


def test_parts_of_a_large_volume_are_counted_one_by_one(tmp_path: Path) -> None:
    volume = np.random.default_rng(0).integers(0, 255, (60, 100, 100)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", volume, photometric="minisblack")
    events: list[Event] = []
    options = ProfileOptions(part_bytes=4096, memory_per_worker=1 << 20)
    profile_dataset(discover(tmp_path), options, jobs=2, on_event=events.append)
    parts = [(event.parts_finished, event.parts) for event in events if event.kind == "part"]
    assert len(parts) > 2
    assert parts == [(done, len(parts) - 1) for done in range(len(parts))]
    assert [event.kind for event in events if event.kind != "part"] == ["begin", "done", "summary"]


def parts(finished: int, of: int = 40) -> Event:
    return Event(kind="part", total=1, finished=0, failed=0, parts=of, parts_finished=finished)


def test_a_log_says_how_long_the_parts_will_take(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    lines: list[str] = []
    tell = PlainProgress(lines.append)
    tell(Event(kind="begin", total=1, finished=0, failed=0, jobs=2))
    tell(parts(10))  # an earlier run has counted ten
    for second in range(1, 21):
        clock[0] += 2.0
        tell(parts(10 + second))
    assert lines[1] == "large volumes are shared by the workers, in 40 parts"
    assert lines[2] == "15/40 parts, about 50 s left", "five parts in ten seconds, 25 to go"
    assert len(lines) == 6, "a line every ten seconds"


def test_the_bar_turns_to_parts_and_back() -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=80, color_system=None)
    with BarProgress(console) as bar:
        bar(Event(kind="begin", total=3, finished=0, failed=0))
        bar(Event(kind="failed", total=3, finished=2, failed=1, case_id="b", reason="why"))
        bar(parts(7))
        bar._progress.refresh()
        assert re.search(r"large volumes, parts .* 7/40 .*left, 1 FAILED", stream.getvalue())
        bar(Event(kind="done", total=3, finished=3, failed=1, case_id="c"))
        bar._progress.refresh()
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue()).replace("\n", "\r").split("\r")
    assert any(re.search(r"profiling .* 3/3 ", line) for line in shown)
    assert max(map(len, shown)) <= 80
