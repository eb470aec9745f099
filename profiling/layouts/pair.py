"""Images and labels in two places: ``--images``/``--labels``, or sub-folders with such names."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from pathlib import Path

from ..formats.address import address_folder, is_address
from ..formats.base import CaseSource, FormatError
from .assemble import assemble
from .base import DiscoveredDataset, Layout, LayoutRequest
from .keyed import with_image_keys, with_label_keys
from .listing import Listing, is_plain_folder
from .pairing import channels_of_cases, note_of_only_pair, pair
from .slices import slice_stack
from .volumes import Found, fixed_part, unstack, volumes_of_pattern

IMAGE_FOLDERS = ("imagesTr", "images", "image", "imgs", "img", "raw", "volumes", "im")
LABEL_FOLDERS = ("labelsTr", "labels", "label", "segmentations", "segmentation", "seg", "masks", "mask", "gt")


class PairLayout(Layout):
    """An image place and, usually, a label place; see :mod:`.pairing` for the rule."""

    name = "pair"

    def matches(self, request: LayoutRequest) -> bool:
        """``--images`` or ``--labels`` given, or sub-folders called so."""
        if request.images is not None or request.labels is not None:
            return True
        return request.data is not None and subfolders(request.data) is not None

    def discover(self, request: LayoutRequest) -> DiscoveredDataset:
        """Cases by :mod:`.pairing`; without labels, every image is one."""
        images, labels, root = self._places(request)
        listing = Listing(root, request.exclude)
        found_images = volumes_of_pattern(images, listing)
        if not found_images.volumes and not listing.failures:
            raise _nothing_at(
                images, request, "no volume", "give a folder, a file or a quoted glob of volume files"
            )
        found_labels = Found()
        if labels is not None and request.use_labels:
            found_labels = volumes_of_pattern(labels, listing)
            if not found_labels.volumes and not listing.failures:
                remedy = "--labels none profiles without labels"
                raise _nothing_at(labels, request, "no label volume", remedy)
            unstack(found_images, found_labels)
            unstack(found_labels, found_images)
        notes = [*found_images.notes, *_note_of_unused_json(request), *found_labels.notes]
        image_volumes, failures = with_image_keys(found_images.volumes, request.image_key)
        if labels is None or not request.use_labels:
            cases = channels_of_cases(image_volumes)
            if cases is None:
                cases = [CaseSource(id=volume.name, images=(volume.source,)) for volume in image_volumes]
            elif any(len(case.images) > 1 for case in cases):
                notes.append("names end in channel numbers (_0000, _0001, ...): read as channels of one case")
        else:
            label_volumes, label_failures = with_label_keys(found_labels.volumes, request.label_key)
            cases, unpaired = pair(image_volumes, label_volumes)
            _refuse_loose_slices(cases, found_images, found_labels)
            notes += note_of_only_pair(image_volumes, label_volumes)
            failures += label_failures + unpaired
        return assemble(
            layout=self.name, root=root, cases=cases, listing=listing, failures=failures, notes=notes
        )

    def _places(self, request: LayoutRequest) -> tuple[str, str | None, Path]:
        """Image pattern, label pattern, and the folder that both lie in."""
        if request.images is None and request.data is not None:
            places = subfolders(request.data)
            if request.labels is not None:
                return str(request.data), request.labels, common_root(str(request.data), request.labels)
            if places is not None:
                return str(places[0]), None if places[1] is None else str(places[1]), request.data
        if request.images is None:
            msg = "--labels was given without images: add --images, or the data folder"
            raise FormatError(msg, kind="ambiguous")
        if request.data is not None:
            images = below_data(request.data, request.images)
            labels_here = None if request.labels is None else below_data(request.data, request.labels)
            return images, labels_here, common_root(str(request.data), images, labels_here)
        return request.images, request.labels, common_root(request.images, request.labels)


def _note_of_unused_json(request: LayoutRequest) -> list[str]:
    """What to say of a dataset.json that does not describe a layout."""
    if request.data is None or not (request.data / "dataset.json").is_file():
        return []
    return [
        f"{request.data / 'dataset.json'}: has neither file_ending nor lists of files, so that it is "
        "not used: cases are found by file names, classes by their values"
    ]


def _nothing_at(place: str, request: LayoutRequest, what: str, remedy: str) -> FormatError:
    """Why there is nothing: the place is not there, all of it is excluded, or it holds no volumes."""
    if not is_address(place) and not glob.has_magic(place) and not Path(place).exists():
        return FormatError(f"{place}: no such file or folder", kind="empty")
    left_out = [pattern for pattern in request.exclude if not pattern.startswith("/")]
    if left_out:
        remedy = f"perhaps --exclude ({' '.join(left_out)}) leaves all out; {remedy}"
    return FormatError(f"{place}: {what} found here; {remedy}", kind="empty")


def below_data(data: Path, place: str) -> str:
    """What ``--images`` or ``--labels`` means beside a data folder: a place within it, or an address."""
    return place if is_address(place) else str(data / place)


def _refuse_loose_slices(cases: Sequence[CaseSource], images: Found, labels: Found) -> None:
    """A glob over the slices of one volume makes each of them a volume, which no label map fits.

    Raises:
        FormatError: nothing could be paired, and one side are slices.
    """
    if cases:
        return
    for found, other, option in ((images, labels, "--images"), (labels, images, "--labels")):
        paths = [path for volume in found.volumes for path in volume.source.paths]
        folders = {path.parent for path in paths}
        if len(folders) == 1 and len(other.volumes) < len(found.volumes) == len(paths) and slice_stack(paths):
            folder = folders.pop()
            msg = (
                f"{folder}: the {len(paths)} files that {option} names are slices of one volume, but files "
                f"of a glob are volumes of their own; name their folder: {option} {folder}"
            )
            raise FormatError(msg, kind="ambiguous")


def subfolders(data: Path) -> tuple[Path, Path | None] | None:
    """Sub-folders for images and labels, if a folder has them; the labels may be absent for ``imagesTr``."""
    if not is_plain_folder(data):  # a Zarr store may hold arrays of these names
        return None
    names = {
        entry.name.lower(): Path(entry.path)
        for entry in os.scandir(data)
        if (Path(entry) if entry.is_symlink() else entry).is_dir()
    }
    images = next((names[name.lower()] for name in IMAGE_FOLDERS if name.lower() in names), None)
    labels = next((names[name.lower()] for name in LABEL_FOLDERS if name.lower() in names), None)
    if images is None or (labels is None and images.name.lower() not in ("imagestr", "images")):
        return None
    return images, labels


def common_root(*patterns: str | None) -> Path:
    """The deepest folder that holds all places; links may not leave it.

    Addresses count only where there is no folder.
    """
    places = [pattern for pattern in patterns if pattern is not None]
    local = [place for place in places if not is_address(place)]
    if not local:
        return address_folder(Path(places[0]))
    folders = []
    for place in local:
        path = Path(place)
        if glob.has_magic(place) and not path.exists():
            path = fixed_part(place)
        elif not is_plain_folder(path):
            path = path.parent
        folders.append(path.absolute())
    root = Path(os.path.commonpath(folders))
    return root if any(Path(place).is_absolute() for place in local) else Path(os.path.relpath(root))
