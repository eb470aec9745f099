"""What ``-o FILE`` may name: a new file, or one of the program's own. Other files are never replaced."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path


def output_problem(output: Path, name: str, what: str, is_own: Callable[[Path], bool]) -> str | None:
    """What is wrong with an output file; None if nothing is.

    Args:
        output: the file that is to be written.
        name: a file name for the example, ``plans.json``.
        what: what the program writes, ``plans file``.
        is_own: whether a file that is there is such a one. An empty file may always be replaced.
    """
    from voxplan.profiling.files import unwritable

    if (problem := unwritable(output, name)) is not None:
        return f"--output {problem}"
    if output.is_file() and output.stat().st_size and not is_own(output):
        return f"--output {output}: exists and is no {what}; name another file, or remove this one first"
    return None
