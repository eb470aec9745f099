"""A few hundred of the mutants that ``scripts/fuzz`` makes by the thousand, through a whole run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from voxplan.profiling.case import ProfileOptions
from voxplan.profiling.extract import profile_dataset
from voxplan.profiling.fingerprint import load_fingerprint, save_fingerprint
from voxplan.profiling.layouts.base import DiscoveredDataset
from voxplan.scripts.fuzzing.judge import try_seed
from voxplan.scripts.fuzzing.mutants import Mutant, make_mutant
from voxplan.scripts.fuzzing.run import run_seeds
from voxplan.scripts.fuzzing.specimens import NAMES, specimen

COUNT = int(os.environ.get("VOXPLAN_FUZZ_COUNT", "300"))
FIRST = 100_000
CASE_LIMIT = 30.0


@pytest.mark.timeout(200)
def test_a_run_survives_every_mutant(tmp_path: Path) -> None:
    """Each one is profiled, or reported with its file and a reason; no defect, hang or dead worker."""
    mutants: list[Mutant] = []
    for seed in range(FIRST, FIRST + COUNT):
        folder = tmp_path / str(seed)
        folder.mkdir()
        mutants.append(make_mutant(seed, folder))
    dataset = DiscoveredDataset(
        name="mutants",
        root=tmp_path,
        layout="files",
        file_format="any",
        cases=tuple(sorted((m.case for m in mutants), key=lambda case: case.id)),
    )
    fingerprint = profile_dataset(dataset, ProfileOptions(), jobs=2, case_timeout=CASE_LIMIT)
    assert len(fingerprint.cases) + len(fingerprint.failures) == COUNT
    assert len(fingerprint.cases) > COUNT // 20, "mutants that nothing can read test little"
    assert len(fingerprint.failures) > COUNT // 2
    for failure in fingerprint.failures:
        assert failure.kind not in ("error", "killed", "timeout"), failure
        assert str(tmp_path / failure.id[1:]) in failure.reason
        assert failure.reason.isprintable()
    save_fingerprint(fingerprint, tmp_path / "fingerprint.json")
    assert load_fingerprint(tmp_path / "fingerprint.json") == fingerprint


@pytest.mark.parametrize("name", NAMES)
def test_specimens_are_sound(name: str, tmp_path: Path) -> None:
    """What mutations start from is read without fault, so that a failure is the mutation's."""
    from voxplan.profiling.case import profile_case
    from voxplan.profiling.formats.base import CaseSource

    good = specimen(name)
    source = good.write(tmp_path, good.files)
    case = profile_case(CaseSource(id="a", images=(source,)), tmp_path, ProfileOptions()).fingerprint
    assert case.shape == (6, 7, 8)
    assert case.channels[0].crop is not None


def test_a_seed_makes_the_same_mutant_again(tmp_path: Path) -> None:
    written = []
    for turn in "ab":
        folder = tmp_path / turn
        for seed in range(40):
            (folder / str(seed)).mkdir(parents=True)
            make_mutant(seed, folder / str(seed))
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        written.append({path.relative_to(folder): path.read_bytes() for path in files})
    assert written[0] == written[1]


def test_a_fuzz_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    output = tmp_path / "fuzz.jsonl"
    first = run_seeds(range(4), output, jobs=1, limit=20.0)
    before = output.read_text()
    both = run_seeds(range(6), output, jobs=1, limit=20.0)
    assert [verdict["seed"] for verdict in first] == [0, 1, 2, 3]
    assert output.read_text().startswith(before)
    assert sorted(verdict["seed"] for verdict in both) == [0, 1, 2, 3, 4, 5]
    assert not any(verdict["finding"] for verdict in both)
    alone = try_seed(5, ProfileOptions())
    (same,) = (verdict for verdict in both if verdict["seed"] == 5)
    assert (alone.what, alone.outcome) == (same["what"], same["outcome"])
