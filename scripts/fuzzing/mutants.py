"""A mutant by its seed: which specimen, which changes, and the case that it makes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from voxplan.profiling.formats.base import CaseSource

from .liars import LIARS
from .mutations import mutate
from .specimens import NAMES, specimen


@dataclass(frozen=True)
class Mutant:
    """A damaged volume on disk, alone or as the label map of a good one."""

    seed: int
    what: str
    """Specimen and kind of change, for people."""
    case: CaseSource


def make_mutant(seed: int, folder: Path) -> Mutant:
    """Write the mutant of a seed into a folder that exists and is empty.

    The same seed gives the same changes; bytes that a library writes anew (HDF5) may hold its time stamps.
    """
    rng = np.random.default_rng(seed)
    name = NAMES[int(rng.integers(0, len(NAMES)))]
    original = specimen(name)
    files = dict(original.files)
    ways: list[str] = []
    liars = LIARS.get(name, ())
    if liars and rng.random() < 0.5:
        liar = liars[int(rng.integers(0, len(liars)))]
        files = liar(rng, files)
        ways.append(liar.__name__)
    elif rng.random() < 0.15:
        files = _swap_header(rng, files)
        ways.append("swapped header")
    if not ways or rng.random() < 0.2:
        victim = _victim(rng, files)
        files[victim] = mutate(rng, files[victim])
        ways.append(f"bytes of {victim}")
    if len(original.opened) > 1 and rng.random() < 0.2:
        files = _swap_slices(rng, files)
        ways.append("slices")
    source = original.write(folder / "mutant", files)
    as_label = rng.random() < 0.2
    if not as_label:
        return Mutant(seed, f"{name}: {', '.join(ways)}", CaseSource(id=f"m{seed}", images=(source,)))
    good = specimen("nifti")
    image = good.write(folder / "good", good.files)
    case = CaseSource(id=f"m{seed}", images=(image,), label=source)
    return Mutant(seed, f"{name} as label map: {', '.join(ways)}", case)


def _victim(rng: np.random.Generator, files: dict[str, bytes]) -> str:
    """The file to change: metadata of a Zarr store as often as its many chunks together."""
    names = sorted(files)
    described = [name for name in names if name.endswith((".json", ".zarray", ".zattrs"))]
    if described and rng.random() < 0.5:
        names = described
    return names[int(rng.integers(0, len(names)))]


def _swap_header(rng: np.random.Generator, files: dict[str, bytes]) -> dict[str, bytes]:
    """The first bytes are those of another specimen's file."""
    other: Any = specimen(NAMES[int(rng.integers(0, len(NAMES)))])
    donor = list(other.files.values())[int(rng.integers(0, len(other.files)))]
    victim = _victim(rng, files)
    size = int(rng.integers(1, 400))
    return {**files, victim: donor[:size] + files[victim][size:]}


def _swap_slices(rng: np.random.Generator, files: dict[str, bytes]) -> dict[str, bytes]:
    """A slice is empty, or another format's."""
    victim = sorted(files)[int(rng.integers(0, len(files)))]
    donors = (b"", *specimen("tiff-tiled").files.values(), *specimen("png-slices").files.values())
    return {**files, victim: donors[int(rng.integers(0, len(donors)))]}
