"""Tab completion, in real shells."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from voxplan.scripts import plan_experiment, profile_dataset, train_from_plans
from voxplan.scripts.completion import SHELLS

COMMANDS = {
    "profile-dataset": profile_dataset,
    "plan-experiment": plan_experiment,
    "train-from-plans": train_from_plans,
}


@pytest.fixture
def script(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[[str, str], Path]:
    """The file with what a command prints for a shell."""

    def write(command: str, shell: str) -> Path:
        with pytest.raises(SystemExit) as caught:
            COMMANDS[command].main(["--print-completion", shell])
        assert caught.value.code == 0
        path = tmp_path / f"{command}.{shell}"
        path.write_text(capsys.readouterr().out)
        return path

    return write


@pytest.mark.parametrize("command", COMMANDS)
def test_bash_completes_at_the_press_of_tab(
    command: str, script: Callable[[str, str], Path], terminal: Any, tmp_path: Path
) -> None:
    path = script(command, "bash")
    (tmp_path / "only_data_here").mkdir()
    shell = terminal(
        "bash", "--norc", "--noprofile", "-i", PS1="$ ", INPUTRC="/dev/null", HISTFILE="/dev/null"
    )
    shell.type(f"source {path}; echo read''y\n")
    assert "ready" in shell.read(lambda said: "ready" in said, 20)
    option = {
        "profile-dataset": "--spacing-o",
        "plan-experiment": "--memory-f",
        "train-from-plans": "--validate",
    }
    whole = {"profile-dataset": "--spacing-order ", "plan-experiment": "--memory-fraction "}
    shell.type(f"{command} {option[command]}\t")
    expected = whole.get(command, "--validate-every ")
    assert expected in shell.read(lambda said: expected in said, 20)
    shell.type("\x15")  # Ctrl-U: an empty line
    if command == "profile-dataset":
        shell.type(f"{command} --spacing-order x\t")
        assert "xyz " in shell.read(lambda said: "xyz " in said, 20)
        shell.type("\x15")
    shell.type(f"{command} only_d\t")
    assert "only_data_here" in shell.read(lambda said: "only_data_here" in said, 20)


SUBCOMMANDS = {
    "profile-dataset": ("me", "merge", "--stric", "--strict ", "--jobs"),
    "plan-experiment": ("dif", "diff", "--deb", "--debug ", "--memory-fraction"),
}
"""What is typed and what comes of it: the word, one of its options; and what is no option of it."""


@pytest.mark.parametrize("command", SUBCOMMANDS)
def test_bash_completes_the_word_behind_the_command(
    command: str, script: Callable[[str, str], Path], terminal: Any, tmp_path: Path
) -> None:
    begun, word, option, whole, _ = SUBCOMMANDS[command]
    path = script(command, "bash")
    (tmp_path / "only_data_here").touch()
    shell = terminal(
        "bash", "--norc", "--noprofile", "-i", PS1="$ ", INPUTRC="/dev/null", HISTFILE="/dev/null"
    )
    shell.type(f"source {path}; echo read''y\n")
    assert "ready" in shell.read(lambda said: "ready" in said, 20)
    for typed, expected in (
        (f"{command} {begun}\t", f"{word} "),
        (f"{command} {word} {option}\t", whole),
        (f"{command} {word} only_d\t", "only_data_here "),
        (f"{command} --debug only_d\t", "only_data_here "),
    ):
        shell.type(typed)
        assert expected in shell.read(lambda said, expected=expected: expected in said, 20)
        shell.type("\x15")


@pytest.mark.parametrize("command", SUBCOMMANDS)
def test_bash_offers_the_options_of_the_subcommand_alone(
    command: str, script: Callable[[str, str], Path]
) -> None:
    word, unknown = SUBCOMMANDS[command][1], SUBCOMMANDS[command][4]
    offered = offers(script(command, "bash"), command, word, "--")
    assert "--debug" in offered
    assert "--help" in offered
    assert unknown not in offered
    assert unknown in offers(script(command, "bash"), command, "--")
    assert unknown in offers(script(command, "bash"), command, "--output", word, "--"), "a file of that name"


def offers(path: Path, *words: str) -> set[str]:
    """What the function that bash would call offers for the last word."""
    probe = (
        'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); found=$(complete -p "$1"); '
        'found=${found##*-F }; ${found%% *} "$1" "${!#}" "${@:$#-1:1}" 2>/dev/null; '
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "-c", probe, "bash", str(path), *words],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    return set(done.stdout.split())


def test_bash_offers_every_option(script: Callable[[str, str], Path]) -> None:
    parser = profile_dataset.build_parser()
    offered = offers(script("profile-dataset", "bash"), "profile-dataset", "--")
    options = {text for action in parser._actions for text in action.option_strings if text.startswith("--")}
    assert options | {"--print-completion"} == offered


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_is_one_of_its_shell(command: str, shell: str, script: Callable[[str, str], Path]) -> None:
    path = script(command, shell)
    if shutil.which(shell) is None:
        text = path.read_text()
        assert {"zsh": f"#compdef {command}", "fish": f"complete -c {command}"}[shell] in text
        return
    subprocess.run([shell, "-n", str(path)], check=True, timeout=30)


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
def test_fish_completes(script: Callable[[str, str], Path]) -> None:
    path = script("profile-dataset", "fish")
    done = subprocess.run(
        ["fish", "-c", f'source {path}; complete -C "profile-dataset --unit "'],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == ["mm", "um", "nm"]


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_zsh_takes_the_script_up(script: Callable[[str, str], Path], tmp_path: Path) -> None:
    path = script("profile-dataset", "zsh")
    probe = (
        f'autoload -U compinit; compinit -u -d {tmp_path}/dump; eval "$(cat {path})"; '
        "print $_comps[profile-dataset]"
    )
    done = subprocess.run(["zsh", "-f", "-c", probe], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.strip() == "_shtab_profile_dataset"
