"""One data set in several runs: every n-th case each, and putting the shards together.

What the data set decides as a whole (kind of labels, classes, mixtures, what stands out) is decided when the
shards are merged, from the same results that one run would have had: the merged fingerprint and its
histograms are the same bytes.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from .combine import Declared, assemble_fingerprint
from .extract import installed_version, profiled_cases
from .fingerprint import Fingerprint, LabelKind, Provenance
from .formats.base import CaseSource
from .journal import COMPUTATION, journal_folder
from .layouts.base import DiscoveredDataset
from .results import Result, ResultKeeper
from .shard_file import Shard, ShardError, ShardFile, ShardHead, write_shard
from .sidecar import save_histograms

if TYPE_CHECKING:
    from .backends.base import Backend
    from .case import ProfileOptions
    from .events import Event


def profile_shard(
    dataset: DiscoveredDataset,
    options: ProfileOptions,
    shard: Shard,
    path: Path,
    *,
    jobs: int | None = None,
    backend: Backend | None = None,
    label_kind: LabelKind | None = None,
    on_event: Callable[[Event], None] | None = None,
    case_timeout: float | None = None,
    stated_options: Mapping[str, str] | None = None,
) -> ShardHead:
    """Profile the cases of one shard and write them, with what merging needs.

    The journal lies beside ``path``: shards that run at the same time do not share one. A shard may be
    empty, or hold failures only. The other arguments are those of :func:`.extract.profile_dataset`.

    Raises:
        WorkerPoolError: worker processes die before they take up any case.
        OSError: the shard or its journal cannot be written.
    """
    began = time.perf_counter()
    part = replace(dataset, cases=shard.select(dataset.cases))
    with profiled_cases(
        part,
        options,
        jobs=jobs,
        backend=backend,
        label_kind=label_kind,
        on_event=on_event,
        journal=journal_folder(path),
        case_timeout=case_timeout,
    ) as cases:
        head = ShardHead(
            number=shard.number,
            of=shard.of,
            version=installed_version(),
            computation=COMPUTATION,
            name=dataset.name,
            root=dataset.place,
            layout=dataset.layout,
            file_format=dataset.file_format,
            channel_names=dataset.channel_names,
            classes=dataset.classes,
            ignore=cases.options.ignore_label,
            declared_cases=dataset.declared_cases,
            found_kind=dataset.label_kind,
            stated_kind=label_kind,
            found_failures=dataset.failures,
            found_warnings=dataset.warnings,
            options=_deciding(cases.options),
            cases={case.id: _files(case) for case in dataset.cases},
            failures=tuple(cases.failures),
            entries={},
            provenance=dict(stated_options or {}),
            seconds=round(time.perf_counter() - began, 3),
        )
        return write_shard(path, head, [result.fingerprint.id for result in cases.results], cases.content)


def _deciding(options: ProfileOptions) -> dict[str, str]:
    """Options that decide about the numbers, in words; how much memory a worker takes does not."""
    stated = {**asdict(options), **asdict(options.read)}
    for name in ("read", "memory_per_worker", "part_bytes"):
        del stated[name]
    return {name: str(value) for name, value in stated.items()}


def _files(case: CaseSource) -> str:
    """Digest of the names of a case's files and keys."""
    digest = hashlib.blake2b(digest_size=8)
    for role, source in (*(("image", image) for image in case.images), ("label", case.label)):
        if source is not None:
            for path in source.paths:
                digest.update(f"{role} {path.absolute()} {source.key}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def merge_shards(paths: Sequence[Path], histograms: Path | None = None) -> Fingerprint:
    """The fingerprint of a data set from all of its shards.

    Args:
        paths: the shards' files, in any order, every shard once.
        histograms: file for the cases' histograms; none if None.

    Raises:
        ShardError: a file is no shard, damaged, missing or given twice; or the shards are not of one data
            set, one version and the same options.
        NothingProfiledError: no case could be profiled.
        OSError: the histograms cannot be written.
    """
    began = time.perf_counter()
    shards = sorted((ShardFile(path) for path in paths), key=lambda shard: shard.head.number)
    _check_versions(shards)
    _check_same(shards)
    _check_complete(shards)
    first = shards[0].head
    keeper = ResultKeeper()
    results: list[Result] = []
    for shard in shards:
        results += [keeper.keep(shard.read(case), shard, case) for case in shard.head.entries]
    if histograms is not None and results:
        save_histograms(results, histograms)
    dataset = DiscoveredDataset(
        name=first.name,
        root=Path(first.root),
        layout=first.layout,
        file_format=first.file_format,
        cases=(),
        channel_names=first.channel_names,
        classes=first.classes,
        ignore=first.ignore,
        declared_cases=first.declared_cases,
        label_kind=first.found_kind,
        failures=first.found_failures,
        warnings=first.found_warnings,
    )
    seconds = sum(shard.head.seconds for shard in shards) + time.perf_counter() - began
    return assemble_fingerprint(
        dataset,
        results,
        [failure for shard in shards for failure in shard.head.failures],
        Declared(kind=first.stated_kind, ignore=first.ignore),
        Provenance(
            program="profile-dataset",
            version=installed_version(),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            options={**first.provenance, "shard": f"{first.of} shards merged"},
            seconds=round(seconds, 3),
        ),
    )


def _check_versions(shards: Sequence[ShardFile]) -> None:
    if not shards:
        msg = "no shards to merge"
        raise ShardError(msg)
    for shard in shards:
        if (shard.head.version, shard.head.computation) != (installed_version(), COMPUTATION):
            msg = (
                f"{shard.folder}: made by voxplan {shard.head.version}, this is {installed_version()}; "
                "make and merge all shards with one version"
            )
            raise ShardError(msg)


def _check_same(shards: Sequence[ShardFile]) -> None:
    """All shards are of one data set, read in one way."""
    first = shards[0]
    for shard in shards[1:]:
        both = f"{first.folder} and {shard.folder}"
        one, other = first.head, shard.head
        if one.of != other.of:
            msg = (
                f"{both}: one is of {one.of} shards, the other of {other.of}; merge those of one --shard i/n"
            )
            raise ShardError(msg)
        if (one.root, one.name) != (other.root, other.name):
            msg = f"{both}: made from {one.root} and {other.root}; all shards need one data folder"
            raise ShardError(msg)
        mine = {**one.options, "label_kind": one.stated_kind}
        theirs = {**other.options, "label_kind": other.stated_kind}
        if key := _differing(mine, theirs):
            name = key.replace("_", "-")
            msg = f"{both}: made with {name} {mine.get(key)} and {theirs.get(key)}; run one of them again"
            raise ShardError(msg)
        if key := _differing(one.cases, other.cases):
            if key in one.cases and key in other.cases:
                what = f"case {key} had other files"
            else:
                what = f"case {key} was in {(first if key in one.cases else shard).folder} only"
            msg = f"{both}: the data folder changed in between ({what}); run all shards again"
            raise ShardError(msg)
        fields = _found(one), _found(other)
        if key := _differing(*fields):
            what = f"its {key.removeprefix('found_').replace('_', ' ')} differ"
            msg = f"{both}: the data folder changed in between ({what}); run all shards again"
            raise ShardError(msg)


def _found(head: ShardHead) -> dict[str, object]:
    """What discovery said about the data folder."""
    names = {"layout", "file_format", "channel_names", "classes", "declared_cases", "found_kind"}
    return head.model_dump(include=names | {"found_failures", "found_warnings"})


def _differing(first: Mapping[str, object], second: Mapping[str, object]) -> str | None:
    """The first key whose values differ; None if there is none."""
    return next((key for key in {**first, **second} if first.get(key) != second.get(key)), None)


def _check_complete(shards: Sequence[ShardFile]) -> None:
    """Every shard once, and in every shard each of its cases."""
    by_number: dict[int, ShardFile] = {}
    for shard in shards:
        twin = by_number.setdefault(shard.head.number, shard)
        if twin is not shard:
            msg = f"{twin.folder} and {shard.folder}: both are shard {shard.head.number} of {shard.head.of}"
            raise ShardError(msg)
    of = shards[0].head.of
    if missing := [number for number in range(1, of + 1) if number not in by_number]:
        named = ", ".join(map(str, missing[:10])) + (" ..." if len(missing) > 10 else "")
        msg = f"{len(missing)} of {of} shards are missing: {named}; run them with --shard {missing[0]}/{of}"
        raise ShardError(msg)
    cases = sorted(shards[0].head.cases)
    for number, shard in by_number.items():
        there = {*shard.head.entries, *(failure.id for failure in shard.head.failures)}
        if there != set(cases[number - 1 :: of]):
            msg = f"{shard.folder}: does not hold the cases of shard {number} of {of}; run it again"
            raise ShardError(msg)
