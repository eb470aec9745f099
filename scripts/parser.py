"""The argument parser of the three commands: wrong usage gets one line, as every error does."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from .completion import SHELLS, PrintCompletion


def existing_place(text: str) -> Path:
    """A path; an empty one, as from a shell's variable that is not set, would mean the folder at hand."""
    if not text.strip():
        msg = "is empty (from a variable that is not set?); write . for the folder you are in"
        raise argparse.ArgumentTypeError(msg)
    return Path(text)


class Parser(argparse.ArgumentParser):
    """As argparse's, without the usage text before each error, and with completion for shells."""

    _offers_completion = False
    subcommands: Mapping[str, Callable[[], argparse.ArgumentParser]] = {}
    """Words that, right behind the command, make it another one; with that one's parser."""

    def parse_known_args(self, *arguments: Any, **options: Any) -> Any:
        """As argparse's; ``--print-completion`` comes last in the help, after all others are there."""
        self.add_completion()
        return super().parse_known_args(*arguments, **options)

    def add_completion(self) -> None:
        """Add ``--print-completion``, except for a subcommand: shells take its options from its command."""
        if self._offers_completion or " " in self.prog:
            return
        self._offers_completion = True
        self.add_argument_group("shell").add_argument(
            "--print-completion",
            action=PrintCompletion,
            choices=SHELLS,
            dest=argparse.SUPPRESS,
            default=argparse.SUPPRESS,
            help='tab completion, for a shell\'s start-up file: eval "$(%(prog)s --print-completion bash)"',
        )

    def error(self, message: str) -> NoReturn:
        """End with status 2 and one line."""
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")
