"""How a folder becomes cases, one file a layout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..formats.base import FormatError
from .base import DiscoveredDataset, Layout, LayoutRequest
from .decathlon import DecathlonLayout
from .hdf5 import KeysLayout
from .nnunet_raw import NnunetRawLayout
from .pair import PairLayout
from .volume_folder import VolumeFolderLayout

LAYOUTS: tuple[Layout, ...] = (
    NnunetRawLayout(),
    DecathlonLayout(),
    PairLayout(),
    KeysLayout(),
    VolumeFolderLayout(),
)
"""The first that matches is used."""

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
    if data is not None and not data.exists():
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
    inner = _datasets_within(request) if isinstance(layout, VolumeFolderLayout) else []
    if not inner:
        return layout.discover(request)
    if len(inner) > 1:
        msg = (
            f"{data} holds several data sets, each with its own images and labels: "
            f"{', '.join(folder.name for folder in inner)}; name one of them"
        )
        raise FormatError(msg, kind="ambiguous")
    found = discover(
        inner[0], image_key=image_key, label_key=label_key, exclude=exclude, use_labels=use_labels
    )
    note = f"{data} holds one data set, {inner[0].name}: that is what was profiled"
    return replace(found, warnings=(note, *found.warnings))


def _layout_of(request: LayoutRequest) -> Layout | None:
    """The first layout that matches."""
    return next((layout for layout in LAYOUTS if layout.matches(request)), None)


def _datasets_within(request: LayoutRequest) -> list[Path]:
    """Subfolders that pair images with labels; read as loose volumes, labels would pass for images."""
    if request.data is None or request.images is not None or not request.data.is_dir():
        return []
    folders = sorted(path for path in request.data.iterdir() if path.is_dir() and not path.is_symlink())
    return [
        folder
        for folder in folders
        if not folder.name.startswith(".")
        and isinstance(
            _layout_of(replace(request, data=folder)), NnunetRawLayout | DecathlonLayout | PairLayout
        )
    ]
