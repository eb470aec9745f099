"""How a folder becomes cases, one file a layout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..formats.address import local_place, place_exists
from ..formats.address_files import look_anew
from ..formats.base import FormatError
from .base import DiscoveredDataset, Layout, LayoutRequest
from .decathlon import DecathlonLayout
from .hdf5 import KeysLayout
from .nnunet_raw import NnunetRawLayout
from .pair import PairLayout
from .volume_folder import VolumeFolderLayout
from .volumes import few
from .within import datasets_within

LAYOUTS: tuple[Layout, ...] = (
    NnunetRawLayout(),
    DecathlonLayout(),
    PairLayout(),
    KeysLayout(),
    VolumeFolderLayout(),
)
"""The first that matches is used."""

SHOWN_DATASETS = 8
"""Data sets that an error names."""

__all__ = ["LAYOUTS", "DiscoveredDataset", "Layout", "LayoutRequest", "discover"]


def discover(
    data: Path | None,
    *,
    images: str | None = None,
    labels: str | None = None,
    image_key: str | None = None,
    label_key: str | None = None,
    exclude: Sequence[str] = (),
    use_labels: bool = True,
) -> DiscoveredDataset:
    """The cases that lie in a data folder, or where ``images`` and ``labels`` say.

    Args:
        data: a folder, a volume file or a datalist JSON; None where ``images`` is given.
        images: folder, file or glob of the images, relative to ``data`` if both are given.
        labels: likewise, of the label maps.
        image_key: data set of the image in HDF5 and Zarr containers.
        label_key: data set of the label map in them.
        exclude: globs of file names or paths within the data folder that are left out.
        use_labels: False to profile the images alone.

    Raises:
        FormatError: nothing here can be profiled; single unusable files are failures of the result instead.
    """
    if data is None and images is None:
        msg = "neither a data folder nor --images was given"
        raise FormatError(msg, kind="empty")
    look_anew()
    data = data if data is None else Path(local_place(str(data)))
    images = images if images is None else local_place(images)
    labels = labels if labels is None else local_place(labels)
    if data is not None and not place_exists(data):
        msg = f"{data}: no such file or folder"
        raise FormatError(msg, kind="empty")
    request = LayoutRequest(
        data=data,
        images=images,
        labels=labels,
        image_key=image_key,
        label_key=label_key,
        exclude=tuple(exclude),
        use_labels=use_labels,
    )
    layout = _layout_of(request)
    if layout is None:
        msg = f"{data}: no layout that is known ({', '.join(layout.name for layout in LAYOUTS)})"
        raise FormatError(msg, kind="unsupported")
    inner: list[Path] = []
    others: list[Path] = []
    if isinstance(layout, VolumeFolderLayout):
        inner, others = datasets_within(request, _pairing_layout_of)
    if not inner or data is None:
        return layout.discover(request)
    names = [folder.relative_to(data).as_posix() for folder in inner]
    if len(inner) > 1:
        shown = ", ".join(names[:SHOWN_DATASETS])
        more = f" and {len(names) - SHOWN_DATASETS} more" if len(names) > SHOWN_DATASETS else ""
        msg = (
            f"{data} holds {len(names)} data sets, each with its own images and labels: {shown}{more}; "
            f"name one of them, e.g. {inner[0]}"
        )
        raise FormatError(msg, kind="ambiguous")
    found = discover(
        inner[0], image_key=image_key, label_key=label_key, exclude=exclude, use_labels=use_labels
    )
    note = f"{data} holds one data set, {names[0]}: that is what was profiled"
    if others:
        note += f"; left out: {few(others)}"
    return replace(found, warnings=(note, *found.warnings))


def _layout_of(request: LayoutRequest) -> Layout | None:
    """The first layout that matches."""
    return next((layout for layout in LAYOUTS if layout.matches(request)), None)


def _pairing_layout_of(request: LayoutRequest) -> Layout | None:
    """The layout of a folder that pairs images with labels by what it says or by sub-folders; names only."""
    layouts = (
        layout for layout in LAYOUTS if isinstance(layout, NnunetRawLayout | DecathlonLayout | PairLayout)
    )
    return next((layout for layout in layouts if layout.matches(request)), None)
