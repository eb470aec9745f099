"""TIFF files whose metadata spreads one image over several files: OME-TIFF, Micro-Manager, NDTiff.

tifffile opens those files, wherever a name in the metadata leads, and makes zeros of what is not there. Here
a file is read alone: its own pages are its voxels, and what it says of others becomes a remark.
"""

from __future__ import annotations

from math import prod
from typing import Any
from xml.etree import ElementTree

from .base import FormatError

PART_OF_A_SET = "other files"
"""In every remark of :func:`remark_on_other_files`; of no interest where the files make one stack."""


def forget_other_files(file: Any) -> None:
    """Keep an open ``TiffFile`` (made with ``_multifile=False``) from looking for files beside it."""
    file.is_mmstack = False
    file.is_ndtiff = False


def remark_on_other_files(file: Any, kind: str) -> list[str]:
    """What to say of a file that is one of several; ``kind`` is that of the series which was read."""
    if kind == "ome" or not file.is_ome:
        return []
    names = sorted(_named_files(file.ome_metadata) - {file.filename})
    if not names:
        return []
    listed = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return [f"by its OME-XML other planes lie in {PART_OF_A_SET} ({listed}); only its own pages are read"]


def require_all_planes(series: Any, where: str) -> None:
    """Raise FormatError where the OME-XML declares planes that the file does not have."""
    if series.kind != "ome":
        return
    for number in range(len(series)):
        if series[number] is None:
            msg = (
                f"{where}: its OME-XML declares plane {number} of {len(series)}, which the file does not "
                "have; it is cut short, or was written in part"
            )
            raise FormatError(msg)


def missing_imagej_images(file: Any, series: Any, where: str) -> list[str]:
    """What to say where ImageJ's description declares more images than are read.

    ImageJ writes stacks beyond 4 GB as one page, with the voxels of all images behind it. Of one that is cut
    short, tifffile makes an image of that page.

    Raises:
        FormatError: there is one page, so that this is such a stack.
    """
    stated = file.imagej_metadata or {}
    try:
        axes = prod(int(stated.get(name, 1)) for name in ("frames", "slices", "channels"))
        declared = max(axes, int(stated.get("images", 1)))
    except (TypeError, ValueError):
        return []
    read = series.size // series.keyframe.size
    if read >= declared or series.keyframe.size == declared * _plane(series.keyframe):
        return []
    if len(file.pages) == 1:
        msg = (
            f"{where}: its ImageJ description declares {declared} images in one piece, and {read} can be "
            "read; it is cut short, or damaged"
        )
        raise FormatError(msg)
    return [f"its ImageJ description declares {declared} images, and {read} are read; is it cut short?"]


def _plane(page: Any) -> int:
    """Voxels of a plane of a page, whose samples or slices Bio-Formats declares as images."""
    return int(page.imagelength * page.imagewidth)


def _named_files(xml: str) -> set[str]:
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError:
        return set()
    return {
        name
        for element in root.iter()
        if element.tag.rpartition("}")[2] == "UUID" and (name := element.get("FileName"))
    }
