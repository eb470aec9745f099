"""What a run of ``profile-dataset`` is compared with the last one by, before it opens any file."""

from __future__ import annotations

import argparse
import glob
import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from voxplan.profiling.case import ProfileOptions
    from voxplan.profiling.fingerprint import LabelKind


def own_files(arguments: argparse.Namespace) -> list[Path]:
    """What this run writes: no part of the data, also where it lies among them."""
    from voxplan.profiling.journal import journal_folder
    from voxplan.profiling.run_lock import lock_path
    from voxplan.profiling.sidecar import sidecar_path

    output: Path = arguments.output
    own = [output, sidecar_path(output), journal_folder(output), lock_path(output)]
    return own if arguments.report is None else [*own, arguments.report]


def own_globs(arguments: argparse.Namespace) -> list[str]:
    """Globs of :func:`own_files` by their whole paths: what has the same name elsewhere is data."""
    return [glob.escape(os.path.abspath(path)) for path in own_files(arguments)]  # noqa: PTH100 - as in is_excluded


def state_before(
    arguments: argparse.Namespace, labels: str | None, kind: LabelKind | None, options: ProfileOptions
) -> str | None:
    """Digest of everything that decides about the fingerprint; None where only opening files would tell."""
    from voxplan.profiling.data_state import data_state
    from voxplan.profiling.extract import installed_version
    from voxplan.profiling.fingerprint import FORMAT_VERSION
    from voxplan.profiling.formats.address import local_place
    from voxplan.profiling.journal import COMPUTATION
    from voxplan.profiling.layouts.pair import below_data

    data: Path | None = arguments.data
    images: str | None = arguments.images
    places = [] if data is None else [str(data)]
    for place in (images, labels):
        if place is not None:
            local = local_place(place)
            places.append(local if data is None or images is None else below_data(data, local))
    found = data_state(places, own_files(arguments))
    if found is None:
        return None
    stated = (
        [str(Path(place).absolute()) for place in places],
        arguments.image_key,
        arguments.label_key,
        arguments.exclude,
        kind,
        options,
        str(arguments.output.absolute()),
        (installed_version(), FORMAT_VERSION, COMPUTATION),
    )
    return hashlib.sha256(f"{found} {stated!r}".encode("utf-8", "surrogateescape")).hexdigest()
