"""What a dataset.json says, nnU-Net's or the Decathlon's: channels, classes, ignore label, listed files."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..fingerprint import Failure
from ..formats.base import CaseSource, FormatError, VolumeSource
from .listing import Listing, is_excluded

MAX_BYTES = 256 * 2**20
"""A dataset.json that lists a million cases has about 200 MB; what is larger is something else."""


@dataclass(frozen=True, slots=True)
class DeclaredLabels:
    """Class names to label values, and the ignore label apart from them."""

    classes: dict[str, tuple[int, ...]] | None
    ignore: int | None


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        FormatError: no readable JSON object.
    """
    try:
        size = path.stat().st_size
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror})"
        raise FormatError(msg) from error
    if size > MAX_BYTES:
        msg = f"{path}: {size} bytes is too large for a dataset.json"
        raise FormatError(msg, kind="too-large")
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        msg = f"{path}: not readable as JSON ({error}); repair it, or give --images and --labels"
        raise FormatError(msg) from error
    if not isinstance(content, dict):
        msg = f"{path}: holds a {type(content).__name__}, not a JSON object; give --images and --labels"
        raise FormatError(msg)
    return content


def declared_channels(content: dict[str, Any], path: Path) -> tuple[str, ...]:
    """Names of the channels in order (``channel_names``, formerly ``modality``); empty if not declared."""
    names = content.get("channel_names", content.get("modality"))
    if names is None:
        return ()
    try:
        numbered = sorted((int(number), str(name)) for number, name in names.items())
    except (AttributeError, ValueError) as error:
        msg = f"{path}: channel_names must map 0, 1, ... to names, got {names!r}"
        raise FormatError(msg) from error
    if [number for number, _ in numbered] != list(range(len(numbered))):
        msg = f"{path}: channel_names must be numbered 0, 1, ... without a gap, got {sorted(names)}"
        raise FormatError(msg)
    return tuple(name for _, name in numbered)


def declared_count(content: dict[str, Any]) -> int | None:
    """``numTraining``, if it is a number."""
    count = content.get("numTraining")
    return count if isinstance(count, int) and not isinstance(count, bool) and count > 0 else None


def declared_labels(content: dict[str, Any], path: Path) -> DeclaredLabels:
    """Classes as name to values; the Decathlon's value-to-name form is turned round."""
    labels = content.get("labels")
    if not labels:
        return DeclaredLabels(None, None)
    if not isinstance(labels, dict):
        msg = f"{path}: labels must map names to values, got {labels!r}"
        raise FormatError(msg)
    if all(isinstance(value, str) and not value.lstrip("-").isdecimal() for value in labels.values()):
        labels = {name: value for value, name in labels.items()}
    classes: dict[str, tuple[int, ...]] = {}
    ignore: int | None = None
    for name, value in labels.items():
        values = _values(value)
        if values is None:
            msg = f"{path}: label {name!r} must be a whole number or a list of them, got {value!r}"
            raise FormatError(msg)
        if name.lower() == "ignore" and len(values) == 1:
            ignore = values[0]
        else:
            classes[name] = values
    return DeclaredLabels(classes, ignore)


def inside(
    case_id: str, images: Sequence[str], labels: Sequence[str], root: Path, listing: Listing
) -> tuple[CaseSource | None, Failure | None]:
    """A case of listed files, relative to ``root``; a failure where one is missing or leaves the folder.

    Neither, where the case is excluded.
    """
    paths = [Path(os.path.normpath(root / name)) for name in (*images, *labels)]
    if any(is_excluded(path, Path(os.path.normpath(root)), listing.exclude) for path in paths):
        return None, None
    for name, path in zip((*images, *labels), paths, strict=True):
        if listing.refuses(path, case_id):
            return None, None
        if not (path.is_file() or path.is_dir()):
            what = "is no file" if path.exists() else "is not there"
            reason = f"{root / name}: listed for case {case_id!r} in dataset.json, but {what}"
            return None, Failure(id=case_id, files=(str(path),), kind="missing-file", reason=reason)
    sources = tuple(VolumeSource(paths=(path,)) for path in paths)
    label = sources[len(images)] if labels else None
    return CaseSource(id=case_id, images=sources[: len(images)], label=label), None


def _values(value: Any) -> tuple[int, ...] | None:
    """Label values of one class: a whole number, text of one (as in JSON keys), or a list of them."""
    items = value if isinstance(value, list) else [value]
    try:
        numbers = tuple(int(item) for item in items)
    except (TypeError, ValueError):
        return None
    whole = all(not isinstance(item, bool | float) for item in items)
    return numbers if numbers and whole else None
