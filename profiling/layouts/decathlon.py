"""MONAI's datalist, the Medical Segmentation Decathlon's dataset.json: ``"training": [{"image", "label"}]``.

Paths are relative to the JSON file's folder; those that leave it are refused. Only the list ``training`` is
profiled, with ``validation`` where its entries have labels.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..fingerprint import Failure
from ..formats import strip_suffix
from ..formats.base import CaseSource, FormatError
from .assemble import assemble
from .base import DiscoveredDataset, Layout, LayoutRequest
from .dataset_json import declared_channels, declared_count, declared_labels, inside, read_json
from .listing import Listing


class DecathlonLayout(Layout):
    """A dataset.json, or another JSON file named directly, with a list ``training``."""

    name = "decathlon"

    def matches(self, request: LayoutRequest) -> bool:
        """A JSON file with a list ``training``."""
        if request.data is None or request.images is not None or request.labels is not None:
            return False
        path = _json_of(request.data)
        return path is not None and isinstance(read_json(path).get("training"), list)

    def discover(self, request: LayoutRequest) -> DiscoveredDataset:
        """Cases of the list, in which every path is checked."""
        path = None if request.data is None else _json_of(request.data)
        assert path is not None
        root = path.parent
        content = read_json(path)
        listing = Listing(root, request.exclude)
        entries = list(content["training"])
        entries += [e for e in content.get("validation") or () if isinstance(e, dict) and e.get("label")]
        if not entries:
            msg = f"{path}: the list 'training' is empty"
            raise FormatError(msg, kind="empty")
        cases: list[CaseSource] = []
        failures: list[Failure] = []
        for case_id, images, labels in _named(entries, path):
            case, failure = inside(case_id, images, labels if request.use_labels else [], root, listing)
            cases += [case] if case is not None else []
            failures += [failure] if failure is not None else []
        labels_declared = declared_labels(content, path)
        channels = declared_channels(content, path)
        dataset = assemble(
            layout=self.name,
            root=root,
            cases=cases,
            listing=listing,
            failures=failures,
            name=str(content["name"]) if isinstance(content.get("name"), str) and content["name"] else None,
        )
        return replace(
            dataset,
            channel_names=channels or None,
            classes=labels_declared.classes,
            ignore=labels_declared.ignore,
            label_kind="semantic" if labels_declared.classes else None,
            declared_cases=declared_count(content),
        )


def _json_of(data: Path) -> Path | None:
    if data.is_file() and data.suffix.lower() == ".json":
        return data
    path = data / "dataset.json"
    return path if path.is_file() else None


def _named(entries: list[Any], path: Path) -> list[tuple[str, list[str], list[str]]]:
    """Case id, image files, label files of every entry; ids are file names, or paths where those repeat."""
    read: list[tuple[list[str], list[str]]] = []
    for number, entry in enumerate(entries):
        image: Any = entry.get("image") if isinstance(entry, dict) else entry
        label: Any = entry.get("label") if isinstance(entry, dict) else None
        images: list[Any] = image if isinstance(image, list) else [image]
        labels: list[Any] = [] if label is None else [label]
        if not images or not all(isinstance(name, str) and name for name in (*images, *labels)):
            msg = f"{path}: entry {number} of 'training' must name an image (and a label), got {entry!r}"
            raise FormatError(msg)
        read.append((images, labels))
    short = [strip_suffix(Path(images[0])) for images, _ in read]
    counts = Counter(short)
    named = []
    for stem, (images, labels) in zip(short, read, strict=True):
        first = Path(images[0])
        long = (first.parent / stem).as_posix()
        named.append((stem if counts[stem] == 1 else long, images, labels))
    return named
