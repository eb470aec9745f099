"""A folder of volume files or a single file, with labels beside the images or without.

A container (HDF5, Zarr) with a label map of its own is a case by itself; only the others are paired by name.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from ..fingerprint import Failure
from ..formats.address import address_text, is_address
from ..formats.base import CaseSource, FormatError
from .assemble import assemble
from .base import DiscoveredDataset, Layout, LayoutRequest
from .keyed import cases_of_containers, with_image_keys, with_label_keys
from .listing import is_hidden
from .pairing import channels_of_cases, is_label_name, note_of_only_pair, pair
from .volumes import Found, NamedVolume, data_name, volumes_of_data

SHOWN_SUFFIXES = 5
"""Of files that are no volumes, where there are no others."""


class VolumeFolderLayout(Layout):
    """Volumes of one folder (or of its sub-folders); names that say ``label`` are paired with the others."""

    name = "volumes"

    def matches(self, request: LayoutRequest) -> bool:
        """Anything that exists."""
        return request.data is not None

    def discover(self, request: LayoutRequest) -> DiscoveredDataset:
        """Volumes by file; names that say label are paired with the rest."""
        data = request.data
        assert data is not None
        found, listing = volumes_of_data(data, request.exclude)
        if not found.volumes and not listing.failures:
            msg = (
                f"{data}: no volume found here (NIfTI, NRRD, MHA, DICOM, HDF5, TIFF, PNG, Zarr)"
                f"{_what_lies_in(data)}; give the folder that holds the volumes, or --images and --labels"
            )
            if is_address(data):
                msg = f"{address_text(data)}: no Zarr store found here; other formats are read from folders"
            raise FormatError(msg, kind="empty")
        labels = [volume for volume in found.volumes if is_label_name(volume.name)]
        images = [volume for volume in found.volumes if not is_label_name(volume.name)]
        if not images:
            images, labels = labels, []
        notes = list(found.notes)
        own, images = cases_of_containers(images, request)
        images, failures = with_image_keys(images, request.image_key)
        if labels and request.use_labels:
            labels, label_failures = with_label_keys(labels, request.label_key)
            if own and not images:
                cases: list[CaseSource] = []
                unpaired = [_superfluous(label, own[0]) for label in labels]
            else:
                cases, unpaired = pair(images, labels)
            notes += note_of_only_pair(images, labels)
            failures += label_failures + unpaired
        else:
            cases = channels_of_cases(images) or [CaseSource(id=v.name, images=(v.source,)) for v in images]
            if any(len(case.images) > 1 for case in cases):
                notes.append("names end in channel numbers (_0000, _0001, ...): read as channels of one case")
        cases += own
        return assemble(
            layout="slices" if _is_stack(found) else self.name,
            root=listing.root,
            cases=cases,
            listing=listing,
            failures=failures,
            notes=notes,
            name=data_name(data),
        )


def _what_lies_in(folder: Path) -> str:
    """``, only .jpg (12), .txt (1)``: the suffixes of files that are no volumes, the most frequent first."""
    if not folder.is_dir():
        return ""
    files = (entry.name for entry in os.scandir(folder) if entry.is_file() and not is_hidden(entry.name))
    counts = Counter(Path(name).suffix.lower() or "without suffix" for name in files)
    shown = ", ".join(f"{suffix} ({count})" for suffix, count in counts.most_common(SHOWN_SUFFIXES))
    return f", only {shown}" if shown else ""


def _superfluous(label: NamedVolume, own: CaseSource) -> Failure:
    name = label.source.name
    reason = (
        f"{name}: no image is left for this label map: {own.images[0].name} holds a label map of its own "
        f"({own.label.key if own.label else None}), which is used; leave the file out with --exclude, or say "
        "--images and --labels"
    )
    return Failure(id=label.name, files=(name,), kind="unpaired", reason=reason)


def _is_stack(found: Found) -> bool:
    return bool(found.volumes) and all(len(volume.source.paths) > 1 for volume in found.volumes)
