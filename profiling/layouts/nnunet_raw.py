"""nnU-Net's raw layout: ``dataset.json``, ``imagesTr/CASE_0000.nii.gz``, ``labelsTr/CASE.nii.gz``.

A ``dataset`` dictionary in dataset.json (case to ``images`` and ``label``) takes the place of the folders,
as in nnU-Net. Paths in it that leave the data folder are refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..fingerprint import Failure
from ..formats.base import CaseSource, FormatError, VolumeSource
from .assemble import assemble
from .base import DiscoveredDataset, Layout, LayoutRequest
from .dataset_json import declared_channels, declared_count, declared_labels, inside, read_json
from .listing import Listing
from .pairing import split_channel

REQUIRED = ("labels", "channel_names", "numTraining", "file_ending")
"""Keys of a dataset.json that nnU-Net 2.8.1 demands (verify_dataset_integrity)."""


class NnunetRawLayout(Layout):
    """A folder with a dataset.json that has nnU-Net's keys."""

    name = "nnunet-raw"

    def matches(self, request: LayoutRequest) -> bool:
        """A dataset.json with ``file_ending`` or ``dataset``."""
        if request.data is None or request.images is not None or request.labels is not None:
            return False
        path = request.data / "dataset.json"
        if not path.is_file():
            return False
        content = read_json(path)
        return "training" not in content and ("file_ending" in content or "dataset" in content)

    def discover(self, request: LayoutRequest) -> DiscoveredDataset:
        """Cases by channel number; what is missing is a failure."""
        root = request.data
        assert root is not None
        path = root / "dataset.json"
        content = read_json(path)
        channels = declared_channels(content, path)
        labels = declared_labels(content, path)
        listing = Listing(root, request.exclude)
        notes: list[str] = []
        if "dataset" in content:
            cases, failures = _listed_cases(content["dataset"], root, path, listing)
        else:
            ending = content["file_ending"]
            if not isinstance(ending, str) or not ending.startswith("."):
                msg = (
                    f"{path}: file_ending is {ending!r}; write the files' suffix with its dot, e.g. '.nii.gz'"
                )
                raise FormatError(msg)
            cases, failures, notes = _found_cases(root, ending, len(channels), listing, request.use_labels)
        if not request.use_labels:
            cases = [replace(case, label=None) for case in cases]
        declared = declared_count(content)
        lacking = [key for key in REQUIRED if key not in content and "dataset" not in content]
        if lacking:
            notes.append(f"{path}: lacks {', '.join(lacking)}, which nnU-Net requires")
        dataset = assemble(
            layout=self.name, root=root, cases=cases, listing=listing, failures=failures, notes=notes
        )
        return replace(
            dataset,
            channel_names=channels or None,
            classes=labels.classes,
            ignore=labels.ignore,
            label_kind="semantic" if labels.classes else None,
            declared_cases=declared,
        )


def _found_cases(
    root: Path, ending: str, channels: int, listing: Listing, use_labels: bool
) -> tuple[list[CaseSource], list[Failure], list[str]]:
    """Cases by the names in imagesTr, labelled from labelsTr."""
    notes: list[str] = []
    images_folder, labels_folder = root / "imagesTr", root / "labelsTr"
    if not images_folder.is_dir():
        msg = f"{root}: dataset.json is there, but no folder imagesTr; put CASE_0000{ending} files there"
        raise FormatError(msg, kind="empty")
    by_case: dict[str, dict[int, Path]] = {}
    failures: list[Failure] = []
    image_files = listing.read(images_folder)[0]
    for path in image_files:
        if not path.name.endswith(ending):
            continue
        case_id, channel = split_channel(path.name.removesuffix(ending))
        if channel is None:
            reason = f"{path}: has no channel number before {ending}; nnU-Net wants {case_id}_0000{ending}"
            failures.append(Failure(id=case_id, files=(str(path),), kind="name", reason=reason))
            continue
        by_case.setdefault(case_id, {})[channel] = path
    skipped = sum(not path.name.endswith((ending, ".json")) for path in image_files)
    if skipped:
        notes.append(f"{images_folder}: {skipped} files do not end in {ending} and are left out")
    labels: dict[str, Path] | None = None
    if labels_folder.is_dir():
        names = [path for path in listing.read(labels_folder)[0] if path.name.endswith(ending)]
        labels = {path.name.removesuffix(ending): path for path in names}
    elif use_labels:
        notes.append(f"{root}: no folder labelsTr; profiled without labels")
    cases: list[CaseSource] = []
    for case_id, files in by_case.items():
        problem = _channel_problem(case_id, files, channels, ending, images_folder)
        label = None if labels is None else labels.get(case_id)
        if problem is None and use_labels and labels is not None and label is None:
            wanted = labels_folder / f"{case_id}{ending}"
            problem = Failure(
                id=case_id,
                files=tuple(map(str, files.values())),
                kind="missing-file",
                reason=f"{wanted}: the label of case {case_id!r} is missing; add it, or --exclude the images",
            )
        if problem is not None:
            failures.append(problem)
            continue
        ordered = tuple(VolumeSource(paths=(files[channel],)) for channel in sorted(files))
        source = None if label is None else VolumeSource(paths=(label,))
        cases.append(CaseSource(id=case_id, images=ordered, label=source))
    refused = {failure.files[0] for failure in listing.failures}
    for case_id, path in (labels or {}).items():
        if use_labels and case_id not in by_case and not _image_refused(refused, images_folder, case_id):
            reason = f"{path}: no image {case_id}_0000{ending} in {images_folder} belongs to this label"
            failures.append(Failure(id=case_id, files=(str(path),), kind="missing-file", reason=reason))
    return cases, failures, notes


def _image_refused(refused: Iterable[str], folder: Path, case_id: str) -> bool:
    return any(name.startswith(str(folder / f"{case_id}_")) for name in refused)


def _channel_problem(
    case_id: str, files: dict[int, Path], channels: int, ending: str, folder: Path
) -> Failure | None:
    """What is wrong with the channel files of a case: one is missing, or there are more than declared."""
    wanted = range(channels or max(files) + 1)
    missing = [f"{case_id}_{channel:04d}{ending}" for channel in wanted if channel not in files]
    extra = [path.name for channel, path in files.items() if channel not in wanted]
    if not missing and not extra:
        return None
    present = tuple(str(files[channel]) for channel in sorted(files))
    if missing:
        lacking = ", ".join(missing)
        reason = f"{folder}: case {case_id!r} lacks {lacking}; dataset.json declares {channels} channels"
        return Failure(id=case_id, files=present, kind="missing-file", reason=reason)
    reason = (
        f"{folder}: case {case_id!r} has {', '.join(extra)}, but dataset.json declares {channels} channels; "
        "add them to channel_names or move the files away"
    )
    return Failure(id=case_id, files=present, kind="channels", reason=reason)


def _listed_cases(
    dataset: Any, root: Path, path: Path, listing: Listing
) -> tuple[list[CaseSource], list[Failure]]:
    """Cases of the ``dataset`` dictionary."""
    if not isinstance(dataset, dict):
        msg = f"{path}: 'dataset' must map case names to {{'images': [...], 'label': ...}}"
        raise FormatError(msg)
    cases: list[CaseSource] = []
    failures: list[Failure] = []
    for case_id, entry in dataset.items():
        images = entry.get("images") if isinstance(entry, dict) else None
        if not isinstance(images, list) or not images or not all(isinstance(name, str) for name in images):
            reason = f"{path}: case {case_id!r} has no list of 'images'"
            failures.append(Failure(id=case_id, files=(str(path),), kind="dataset-json", reason=reason))
            continue
        label = entry.get("label")
        names = [*images, *([label] if isinstance(label, str) else [])]
        case, failure = inside(case_id, images, names[len(images) :], root, listing)
        if case is not None:
            cases.append(case)
        if failure is not None:
            failures.append(failure)
    return cases, failures
