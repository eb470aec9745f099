"""The tables of docs/speed.md are those of the committed runs, and the aims are computed, not stated."""

from __future__ import annotations

from pathlib import Path

from voxplan.scripts.benchmarks.profile_aims import ONE_WORKER, OURS, START_ONE, START_TWO, aims_table
from voxplan.scripts.benchmarks.profile_speed import as_markdown
from voxplan.scripts.benchmarks.timing import Run, read_results, write_results

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "scripts/benchmarks/results/profile_speed.json"


def run(wall: float) -> list[Run]:
    return [Run(wall=wall, cpu=wall, peak_process=600 << 20, peak_parent=1 << 20)]


def test_the_page_shows_the_committed_runs() -> None:
    assert as_markdown(RESULTS) in (ROOT / "docs/speed.md").read_text(encoding="utf-8")


def test_what_two_workers_gain_leaves_their_start_out_and_a_missed_aim_says_no() -> None:
    shared = {OURS: run(6.0), ONE_WORKER: run(9.0), START_TWO: run(1.0), START_ONE: run(0.5)}
    table = aims_table({"gzip-hdf5": shared, "memory": {OURS: run(1.0)}, "nifti": {OURS: run(1.0)}})
    assert table.splitlines()[2:] == [
        "| gzip-hdf5 | one worker over two, start-up aside | at least 1.7 | 1.70 | yes |",
        "| memory | MiB of the largest process | at most 512 | 600.00 | no |",
    ]


def test_groups_that_are_not_run_stay_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    write_results(file, "a title", {"nifti": {OURS: run(1.0)}, "bigtiff": {OURS: run(2.0)}})
    write_results(file, "a title", {"nifti": {OURS: run(3.0)}})
    found = read_results(file)
    assert found["nifti"][OURS][0].wall == 3.0
    assert found["bigtiff"][OURS][0].wall == 2.0
