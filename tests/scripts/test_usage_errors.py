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


@pytest.mark.parametrize(("name", "main"), MAINS.items())
@pytest.mark.parametrize("words", [["--help"], ["diff", "--help"], ["merge", "--help"]])
def test_help_fits_eighty_columns_and_explains_every_option(
    name: str,
    main: Callable[[Sequence[str]], int],
    words: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert [line for line in text.splitlines() if len(line) > 80] == []
    body = text[text.index("options:") :].splitlines()
    for place, line in enumerate(body):
        if line.startswith("  -") and len(line.split("  ")) < 3:  # no help beside it
            assert body[place + 1].startswith("        "), f"{name}: nothing is said of {line.strip()}"
