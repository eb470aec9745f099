"""Wrong usage of any command: status 2, one line on stderr that says what to do."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from voxplan.scripts import plan_experiment, profile_dataset, train_from_plans

MAINS = {
    "profile-dataset": profile_dataset.main,
    "plan-experiment": plan_experiment.main,
    "train-from-plans": train_from_plans.main,
}


@pytest.mark.parametrize(("name", "main"), MAINS.items())
@pytest.mark.parametrize("words", [["--no-such-option"], ["nowhere.json", "--spacing", "1"]])
def test_one_line(
    name: str, main: Callable[[Sequence[str]], int], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert line.startswith(f"{name}: error: ")
    assert f"{name} --help" in line
