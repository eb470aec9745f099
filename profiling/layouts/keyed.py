"""Container files given to layouts that pair by name: which key of each file is the volume."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from ..fingerprint import Failure
from ..formats.base import CaseSource, FormatError, VolumeSource
from .base import LayoutRequest
from .containers import choose_keys, is_container, label_only
from .volumes import NamedVolume


def cases_of_containers(
    images: Sequence[NamedVolume], request: LayoutRequest
) -> tuple[list[CaseSource], list[NamedVolume]]:
    """Containers that hold their label map beside their image, as cases; and the images that do not.

    What a container itself holds goes before what lies beside it. Where it holds several label maps and none
    is named, its label is looked for outside.
    """
    if not request.use_labels:
        return [], list(images)
    cases: list[CaseSource] = []
    others: list[NamedVolume] = []
    for volume in images:
        path = volume.source.paths[0]
        if not is_container(path) or volume.source.key is not None:
            others.append(volume)
            continue
        try:
            image, label = choose_keys(path, request.image_key, request.label_key)
        except FormatError:
            others.append(volume)
            continue
        if label is None:
            others.append(volume)
        else:
            cases.append(CaseSource(id=volume.name, images=(image,), label=label))
    return cases, others


def with_image_keys(
    volumes: Sequence[NamedVolume], image_key: str | None
) -> tuple[list[NamedVolume], list[Failure]]:
    """The same volumes, containers narrowed to their image."""
    return _with_keys(volumes, lambda path: choose_keys(path, image_key, None, use_labels=False)[0])


def with_label_keys(
    volumes: Sequence[NamedVolume], label_key: str | None
) -> tuple[list[NamedVolume], list[Failure]]:
    """The same volumes, containers narrowed to their label map."""
    return _with_keys(volumes, lambda path: label_only(path, label_key))


def _with_keys(
    volumes: Sequence[NamedVolume], choose: Callable[[Path], VolumeSource]
) -> tuple[list[NamedVolume], list[Failure]]:
    chosen: list[NamedVolume] = []
    failures: list[Failure] = []
    for volume in volumes:
        path = volume.source.paths[0]
        if not is_container(path) or volume.source.key is not None:
            chosen.append(volume)
            continue
        try:
            chosen.append(replace(volume, source=choose(path)))
        except FormatError as error:
            failures.append(failure_of(volume.name, path, error))
    return chosen, failures


def failure_of(case_id: str, path: Path, error: FormatError) -> Failure:
    """A failure that stands beside the cases."""
    return Failure(id=case_id, files=(str(path),), kind=error.kind, reason=str(error))
