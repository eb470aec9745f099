"""Completion of options, choices and file names in bash, zsh and fish, as a script to be sourced.

The script is static (made by shtab from the parser): a shell on a login node does not start Python at every
press of the tab key.
"""

from __future__ import annotations

import argparse

SHELLS = ("bash", "zsh", "fish")
FILES = ("DATA", "FILE", "PLACE", "PLACE|KIND", "FINGERPRINT_OR_DATA", "PLANS", "CKPT", "SHARD")
"""Metavars of arguments that are files or folders."""
FOLDERS = ("DIR",)
FILE_NAMES = ("before", "after")
"""Positional arguments without a metavar that are files."""


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
    import shtab

    for action in parser._actions:
        names = action.metavar if isinstance(action.metavar, tuple) else (action.metavar,)
        if any(name in FILES for name in names) or action.dest in FILE_NAMES:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
        elif any(name in FOLDERS for name in names):
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
    script: str = shtab.complete(parser, shell)
    return script
