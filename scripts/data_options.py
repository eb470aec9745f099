"""The options with which another command finds the data that a fingerprint was made of."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from voxplan.profiling.fingerprint import Fingerprint

KINDS = ("semantic", "instance", "none")
"""``--labels`` takes these words too; a place is something else."""
REPEATED = ("exclude",)
LISTED = ("spacing",)
CARRIED = (
    "images",
    "labels",
    "image_key",
    "label_key",
    "exclude",
    "spacing",
    "unit",
    "axes",
    "spacing_order",
)
"""Options of profile-dataset that train-from-plans has too, by the same names."""


def data_options(fingerprint: Fingerprint) -> str:
    """``--data FOLDER --image-key raw``, quoted for a shell; ``--data DATA`` where the place is unknown."""
    stated = fingerprint.provenance.options
    words: list[str] = []
    if "data" in stated or "images" not in stated:
        words += ["--data", _place(stated.get("data"), fingerprint)]
    for name in CARRIED:
        value = stated.get(name)
        if value is None or (name == "labels" and value in KINDS):
            continue
        option = f"--{name.replace('_', '-')}"
        if name in REPEATED:
            words += [word for one in value.split(" ") for word in (option, one)]
        else:
            words += [option, *(value.split(" ") if name in LISTED else [value])]
    return shlex.join(words)


def _place(data: str | None, fingerprint: Fingerprint) -> str:
    """The data folder or file as the user named it, if it is there from here; else its absolute folder."""
    from voxplan.profiling.formats.address import is_address, place_exists

    if data is not None and place_exists(Path(data)):
        return data
    root = fingerprint.dataset.root
    return root if root and (is_address(root) or Path(root).is_dir()) else "DATA"
