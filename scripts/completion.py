"""Completion of options, choices and file names in bash, zsh and fish, as a script to be sourced.

The script is static (made by shtab from the parser): a shell on a login node does not start Python at every
press of the tab key. Commands behind a word (``profile-dataset merge``) are completed in bash alone.
"""

from __future__ import annotations

import argparse
import re

SHELLS = ("bash", "zsh", "fish")
FILES = ("DATA", "FILE", "PLACE", "PLACE|KIND", "FINGERPRINT_OR_DATA", "PLANS", "CKPT", "SHARD")
"""Metavars of arguments that are files or folders."""
FOLDERS = ("DIR",)
FILE_NAMES = ("before", "after")
"""Positional arguments without a metavar that are files."""


_NO_WORD = re.compile(r"\W")


class PrintCompletion(argparse.Action):
    """Prints the script for a shell and exits; shtab is imported only then."""

    def __call__(self, parser: argparse.ArgumentParser, _: object, shell: object, __: object = None) -> None:
        """Print and exit."""
        print(completion_script(parser, str(shell)))
        parser.exit()


def completion_script(parser: argparse.ArgumentParser, shell: str) -> str:
    """What completes the options of a parser in a shell.

    Raises:
        ModuleNotFoundError: shtab is not installed.
    """
    script = _script(parser, shell)
    if shell == "bash":
        for word, build in getattr(parser, "subcommands", {}).items():
            subcommand = build()
            subcommand.prog = f"{parser.prog}-{word}"  # of which the name of its function is made
            script += _script(subcommand, shell) + _dispatch(parser.prog, word)
    return script


def _script(parser: argparse.ArgumentParser, shell: str) -> str:
    import shtab

    for action in parser._actions:
        names = action.metavar if isinstance(action.metavar, tuple) else (action.metavar,)
        if any(name in FILES for name in names) or action.dest in FILE_NAMES:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
        elif any(name in FOLDERS for name in names):
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
    script: str = shtab.complete(parser, shell)
    return script


def _dispatch(program: str, word: str) -> str:
    """Bash: where the first word behind the program is this one, the rest is completed as its command."""
    usual, behind = (f"_shtab_{_NO_WORD.sub('_', name)}" for name in (program, f"{program}-{word}"))
    return f"""
complete -r {program}-{word}
_voxplan{usual}() {{
  if [ "$COMP_CWORD" -gt 1 ] && [ "${{COMP_WORDS[1]}}" = {word} ]; then
    COMP_WORDS=("{program}-{word}" "${{COMP_WORDS[@]:2}}")
    COMP_CWORD=$((COMP_CWORD - 1))
    {behind} "$@"
    return
  fi
  {usual} "$@"
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY+=($(compgen -W {word} -- "${{COMP_WORDS[1]}}"))
  fi
}}
complete -o bashdefault -F _voxplan{usual} {program}
"""
