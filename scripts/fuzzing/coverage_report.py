"""Coverage of lines and of branches by folder, and what is missing; fails below a share of either."""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

FOLDERS = ("profiling", "plans", "planning")


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; 1 where a folder has less than the least share."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", type=Path, help="of `coverage json`")
    parser.add_argument("--least", type=float, default=90.0, help="percent (default %(default)s)")
    parser.add_argument(
        "--files", type=int, default=25, help="files named that miss most (default %(default)s)"
    )
    arguments = parser.parse_args(argv)
    files = json.loads(arguments.report.read_text(encoding="utf-8"))["files"]
    totals = by_folder(files)
    low = False
    for folder in FOLDERS:
        lines, branches = shares(totals[folder])
        low = low or min(lines, branches) < arguments.least
        print(f"{folder:10} lines {lines:6.2f} %   branches {branches:6.2f} %")
    print_missing(files, arguments.files)
    return int(low)


def by_folder(files: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """Sums of coverage's counts by top-level folder."""
    totals: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for name, file in files.items():
        folder = next((part for part in Path(name).parts if part in FOLDERS), "")
        for key, value in file["summary"].items():
            if isinstance(value, int):
                totals[folder][key] += value
    return totals


def shares(counts: Mapping[str, int]) -> tuple[float, float]:
    """Percent of lines and of branches."""
    lines = 100.0 * counts["covered_lines"] / max(1, counts["num_statements"])
    branches = 100.0 * counts["covered_branches"] / max(1, counts["num_branches"])
    return lines, branches


def print_missing(files: Mapping[str, Any], most: int) -> None:
    """The files that miss most lines and branches."""
    missed = {
        name: len(file["missing_lines"]) + len(file.get("missing_branches", ()))
        for name, file in files.items()
    }
    for name in sorted(missed, key=lambda name: -missed[name])[:most]:
        if missed[name]:
            lines = ", ".join(map(str, files[name]["missing_lines"][:30]))
            print(f"  {name}: {missed[name]} (lines {lines or 'all run'})")


if __name__ == "__main__":
    sys.exit(main())
