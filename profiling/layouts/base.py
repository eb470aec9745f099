"""The contract that every layout keeps: how a folder becomes cases.

A layout looks at names, at ``dataset.json`` and, where it must, at headers; never at voxels. What it cannot
use it reports as a :class:`~voxplan.profiling.fingerprint.Failure`, so that nothing disappears silently.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ..fingerprint import Failure, LabelKind
from ..formats.address import place_text
from ..formats.base import CaseSource


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoveredDataset:
    """Cases, and what the folder says about itself."""

    name: str
    root: Path
    """The data folder. Links that lead out of it are refused."""
    layout: str
    file_format: str
    """``nifti``, ``hdf5``, ...; several joined by ``+``."""
    cases: tuple[CaseSource, ...]
    """Sorted by id; ids are unique."""
    channel_names: tuple[str, ...] | None = None
    classes: dict[str, tuple[int, ...]] | None = None
    """Name to label values, background included, ignore label not; several values make a region."""
    ignore: int | None = None
    declared_cases: int | None = None
    """``numTraining`` of a dataset.json."""
    label_kind: LabelKind | None = None
    """What the folder itself says the labels are: ``semantic`` where a dataset.json names classes."""
    failures: tuple[Failure, ...] = ()
    warnings: tuple[str, ...] = ()
    """What was decided, and what looks odd."""

    @property
    def place(self) -> str:
        """The data folder from everywhere: an absolute path, or an address."""
        return place_text(self.root)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayoutRequest:
    """What the user pointed at."""

    data: Path | None = None
    images: str | None = None
    """A folder, a file or a glob."""
    labels: str | None = None
    """A folder, a file or a glob."""
    image_key: str | None = None
    label_key: str | None = None
    use_labels: bool = True
    """False where the user wants the images alone: label maps are then neither looked for nor missed."""
    exclude: tuple[str, ...] = ()
    """Globs; matched against a file's name and its path within the data folder."""


class Layout(ABC):
    """One way in which data sets lie in folders."""

    name: ClassVar[str]
    """Short word shown to users: ``nnunet-raw``, ``pair``."""

    @abstractmethod
    def matches(self, request: LayoutRequest) -> bool:
        """Whether the data lie this way; reads names and at most one JSON file or a few headers."""

    @abstractmethod
    def discover(self, request: LayoutRequest) -> DiscoveredDataset:
        """The cases.

        Raises:
            FormatError: nothing here can be profiled, or the request does not fit the data.
        """
