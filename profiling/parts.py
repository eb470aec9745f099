"""One huge case, shared by several workers: parts of its blocks are counted apart and merged exactly.

Which blocks a part has changes nothing in the result, since counts, sums and boxes merge exactly. Parts lie
in the journal until the case is finished, so that a killed run goes on within a volume too; not within one
whose voxels lie in files that the case does not name, since nothing tells whether those have changed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .case import CaseResult, ProfileOptions, open_case
from .formats.base import CaseSource
from .scan import CaseScan, ScanPart

MOST_PARTS = 256
"""Parts of one case: each opens the files and leaves an entry in the journal."""
FEWEST_PARTS = 4
"""Below, a case is read by one worker: parts pay for opening the files again."""


@dataclass(frozen=True, slots=True)
class Split:
    """What comes back for a case that is worth sharing, instead of its result."""

    parts: int
    other_files: bool
    """Whether parts of an earlier run may be of other voxels; see :class:`.formats.base.VolumeHeader`."""


@dataclass(frozen=True, slots=True)
class PartDone:
    """What comes back for a part; what it counted lies in the journal."""


def count_parts(scan: CaseScan, part_bytes: int) -> int:
    """Into how many parts a case is cut; 1 where that is not worthwhile, or a stream forbids it."""
    if scan.sequential:
        return 1
    parts = min(scan.stored_size // part_bytes, MOST_PARTS, len(scan.blocks()))
    return parts if parts >= FEWEST_PARTS else 1


def profile_or_split(case: CaseSource, root: Path, options: ProfileOptions) -> CaseResult | Split:
    """As :func:`.case.profile_case`; of a case worth sharing only its headers are read."""
    with open_case(case, root, options) as opened:
        if opened.scan is not None:
            parts = count_parts(opened.scan, options.part_bytes)
            if parts > 1:
                return Split(parts, opened.other_files)
            opened.scan.run()
        return opened.result()


def profile_part(case: CaseSource, root: Path, options: ProfileOptions, part: int, parts: int) -> ScanPart:
    """Count the blocks of one part; raises what :func:`.case.profile_case` raises."""
    with open_case(case, root, options) as opened:
        if opened.scan is None:
            msg = "a case of which only headers are read has no parts"
            raise ValueError(msg)
        _run_part(opened.scan, part, parts)
        return opened.scan.part()


def join_parts(
    case: CaseSource,
    root: Path,
    options: ProfileOptions,
    parts: int,
    load: Callable[[int], ScanPart | None],
) -> CaseResult:
    """The result of a case from its parts; one that ``load`` no longer finds is counted again."""
    with open_case(case, root, options) as opened:
        if opened.scan is None:
            msg = "a case of which only headers are read has no parts"
            raise ValueError(msg)
        for part in range(parts):
            counted = load(part)
            if counted is None:
                _run_part(opened.scan, part, parts)
            else:
                opened.scan.merge(counted)
        return opened.result()


def _run_part(scan: CaseScan, part: int, parts: int) -> None:
    blocks = scan.blocks()
    scan.run(blocks[part * len(blocks) // parts : (part + 1) * len(blocks) // parts])
