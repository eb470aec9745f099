"""The last steps that all layouts share: unique ids, order, names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from ..fingerprint import Failure
from ..formats import reader_for, strip_suffix
from ..formats.base import CaseSource, FormatError
from .base import DiscoveredDataset
from .listing import Listing


def assemble(
    *,
    layout: str,
    root: Path,
    cases: Iterable[CaseSource],
    listing: Listing,
    failures: Sequence[Failure] = (),
    notes: Sequence[str] = (),
    name: str | None = None,
) -> DiscoveredDataset:
    """The data set of a layout that knows nothing but its cases."""
    unique, repeated = unique_cases(cases)
    all_failures = with_own_ids((*failures, *listing.failures, *repeated), {case.id for case in unique})
    return DiscoveredDataset(
        name=name or (root.resolve().name or "dataset"),
        root=root,
        layout=layout,
        file_format=formats_of_cases(unique),
        cases=tuple(unique),
        failures=sorted_failures(all_failures),
        warnings=tuple(notes),
    )


def unique_cases(cases: Iterable[CaseSource]) -> tuple[list[CaseSource], list[Failure]]:
    """Cases sorted by id; of those that share an id none is kept, since either could be meant."""
    cases = list(cases)
    counts = Counter(case.id for case in cases)
    kept = sorted((case for case in cases if counts[case.id] == 1), key=lambda case: case.id)
    failures = []
    for case_id, count in counts.items():
        if count > 1:
            files = tuple(source.name for case in cases if case.id == case_id for source in case.images)
            reason = (
                f"{files[0]}: {count} cases are called {case_id!r} ({', '.join(files)}); rename all but one"
            )
            failures.append(Failure(id=case_id, files=files, kind="duplicate-id", reason=reason))
    return kept, failures


def with_own_ids(failures: Iterable[Failure], taken: Collection[str]) -> list[Failure]:
    """The same failures, each under an id that no case and no other failure has.

    Ids that meet are told apart by the failures' files, so that they do not depend on the order.
    """
    failures = list(dict.fromkeys(failures))
    counts = Counter(failure.id for failure in failures)
    used = set(taken) | {failure.id for failure in failures if counts[failure.id] == 1}
    named: list[Failure] = []
    for failure in sorted(failures, key=lambda failure: (failure.id, failure.files, failure.kind)):
        if counts[failure.id] == 1 and failure.id not in taken:
            named.append(failure)
            continue
        name = Path(failure.files[0]).name if failure.files else failure.kind
        own = f"{failure.id} ({name})"
        number = 1
        while own in used:
            number += 1
            own = f"{failure.id} ({name}, {number})"
        used.add(own)
        named.append(failure.model_copy(update={"id": own}))
    return named


def sorted_failures(failures: Iterable[Failure]) -> tuple[Failure, ...]:
    """Failures by id, then by file: the same whatever the order of discovery."""
    return tuple(sorted(set(failures), key=lambda failure: (failure.id, failure.files, failure.kind)))


def formats_of_cases(cases: Iterable[CaseSource]) -> str:
    """The names of the readers of the images, joined by ``+``."""
    names: set[str] = set()
    seen: set[str] = set()
    for case in cases:
        for source in case.images:
            path = source.paths[0]
            suffix = path.name[len(strip_suffix(path)) :].lower()
            if suffix in seen:
                continue
            seen.add(suffix)
            try:
                names.add(reader_for(path).name)
            except FormatError:
                names.add("unknown")
    return "+".join(sorted(names)) or "unknown"
