"""Atheris (libFuzzer) over one parser: ``python -m voxplan.scripts.fuzzing.atheris_headers nrrd_header``.

Arguments after the name go to libFuzzer (``-max_total_time=60``, a folder of a corpus). Needs
``pip install atheris`` (Linux). Good files of every format are the first corpus.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any


def main() -> None:
    """Fuzz until libFuzzer stops."""
    try:
        import atheris  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError:
        sys.exit("Atheris is not installed: pip install atheris")
    fuzzer: Any = atheris  # knows its functions only once it is installed
    with fuzzer.instrument_imports(include=["voxplan.profiling"]):  # what is imported earlier is not seen
        from .targets import TARGETS, write_corpus
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: python -m voxplan.scripts.fuzzing.atheris_headers {'|'.join(TARGETS)} [options]")
    name = sys.argv[1]
    with tempfile.TemporaryDirectory(prefix="voxplan-corpus-") as corpus:
        write_corpus(name, Path(corpus))
        fuzzer.Setup([sys.argv[0], *sys.argv[2:], corpus], TARGETS[name])
        fuzzer.Fuzz()


if __name__ == "__main__":
    main()
