"""fsspec addresses (``s3://bucket/a.zarr``, ``zip://a.zarr::https://host/b.zip``) beside local paths.

An address travels as a :class:`~pathlib.Path`, as every place does, which folds its slashes: ``s3:/bucket``.
:func:`address_text` unfolds them. A folder that is really called ``s3:`` goes before an address, so that no
name in a data folder is ever taken for one. Only users name addresses; no file of a data set can.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final
from urllib.parse import unquote

_ADDRESS: Final = re.compile(r"^(?:[a-z][a-z0-9+.-]+::)*[a-z][a-z0-9+.-]+:(?::/|/)", re.IGNORECASE)
"""A protocol of two letters or more (``C:/`` is a drive), or several in a row: ``simplecache::s3://``."""
_FOLDED: Final = re.compile(r"(?:^|(?<=::))([a-z][a-z0-9+.-]+):/+(?=[^/]|$)", re.IGNORECASE)
_OF_THIS_MACHINE: Final = ("file", "local")
_LOCAL_PLACE: Final = re.compile(r"^(?:file|local):/*(?=/)", re.IGNORECASE)


def is_address(place: str | Path) -> bool:
    """Whether a place is an fsspec address, not a path of this machine."""
    text = os.fspath(place)
    if _ADDRESS.match(text) is None:
        return False
    return not os.path.lexists(text.partition("/")[0])


def address_text(place: str | Path) -> str:
    """The address as fsspec takes it, or the path as it is."""
    text = os.fspath(place)
    if not is_address(text):
        return text

    def unfolded(match: re.Match[str]) -> str:
        slashes = ":///" if match[1].lower() in _OF_THIS_MACHINE else "://"
        return match[1] + slashes

    return _FOLDED.sub(unfolded, text)


def place_text(place: Path) -> str:
    """A place from everywhere: an address, or an absolute path."""
    return address_text(place) if is_address(place) else str(place.absolute())


def address_folder(place: Path) -> Path:
    """What data sets of an address are named after: its folder, or itself where it has none."""
    chained = "::" in str(place)
    return place if chained or not is_address(place.parent) else place.parent


def local_place(text: str) -> str:
    """``file:///data/a.zarr`` is the path ``/data/a.zarr``; all else stays as it is."""
    if not is_address(text) or _LOCAL_PLACE.match(text) is None:
        return text
    return unquote(_LOCAL_PLACE.sub("", text))


def lives_in_a_process(place: str | Path) -> bool:
    """Whether an address means the memory of the process that wrote to it, and nothing in any other."""
    return is_address(place) and os.fspath(place).lower().rpartition("::")[2].startswith("memory:")


def place_exists(place: Path) -> bool:
    """Whether a path is there; of an address that is found out when it is opened."""
    local = Path(local_place(str(place)))
    return is_address(local) or local.exists()
