"""Atheris (libFuzzer) over one parser: ``python -m voxplan.scripts.fuzzing.atheris_headers nrrd_header``.

Arguments after the name go to libFuzzer (``-max_total_time=60``, a folder of a corpus). Needs
``pip install atheris`` (Linux). Good files of every format are the first corpus.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path


def main() -> None:
    """Fuzz until libFuzzer stops."""
    try:
        import atheris  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError:
        sys.exit("Atheris is not installed: pip install atheris")
    with atheris.instrument_imports(include=["voxplan.profiling"]):  # what is imported earlier is not seen
        from .targets import TARGETS, write_corpus
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: python -m voxplan.scripts.fuzzing.atheris_headers {'|'.join(TARGETS)} [options]")
    name = sys.argv[1]
    with tempfile.TemporaryDirectory(prefix="voxplan-corpus-") as corpus:
        write_corpus(name, Path(corpus))
        atheris.Setup([sys.argv[0], *sys.argv[2:], corpus], TARGETS[name])
        atheris.Fuzz()


if __name__ == "__main__":
    main()
