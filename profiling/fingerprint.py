"""The fingerprint: what a data set is, as a frozen model and a JSON file.

Axis order is ZYX. Everything outside :attr:`Fingerprint.provenance` is the same, bit for bit, whatever the
number of workers, the block size or the order of files.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from .files import read_regular, writing_atomically
from .fingerprint_checks import first_contradiction
from .formats.base import Unit, one_line, printable, unicode_text
from .json_text import json_pieces

FORMAT_VERSION = 1

LabelKind = Literal["semantic", "instance", "none"]
Triple = tuple[float, float, float]
Shape = tuple[int, int, int]


class Model(BaseModel):
    """Frozen; unknown fields are refused, so that a typo never passes silently."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def model_post_init(self, context: Any) -> None:
        """All count as set, in one set for all: one a model takes half of the memory of many cases."""
        del context
        object.__setattr__(self, "__pydantic_fields_set__", _all_fields(type(self)))

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """As pydantic's, with the same set again."""
        copied = super().model_copy(update=update, deep=deep)
        object.__setattr__(copied, "__pydantic_fields_set__", _all_fields(type(self)))
        return copied


@cache
def _all_fields(model: type[BaseModel]) -> set[str]:
    return set(model.model_fields)


class NamedModel(Model):
    """A model with names of files: bytes in them that are no UTF-8 become escapes, since JSON is Unicode."""

    @model_validator(mode="before")
    @classmethod
    def _as_unicode(cls, values: Any) -> Any:
        return _unicode(values)


def _unicode(value: Any) -> Any:
    if isinstance(value, str):
        return unicode_text(value)
    if isinstance(value, dict):
        return {key: _unicode(item) for key, item in value.items()}
    if isinstance(value, list | tuple) and value and isinstance(value[0], str):
        return type(value)(map(_unicode, value))
    return value


class IntensityStatistics(Model):
    """Numbers of one channel in one region, in intensities (slope and intercept applied)."""

    count: int
    """Finite voxels that the numbers stand on (for a case-weighted summary: of all cases together)."""
    mean: float
    std: float
    """Population standard deviation."""
    min: float
    max: float
    percentile_00_5: float
    percentile_10: float
    median: float
    percentile_90: float
    percentile_99_5: float
    quantile_error: float = 0.0
    """Bound on the error of the five quantiles, in intensities; 0 means exact (``inverted_cdf``)."""


class ExtremeCounts(Model):
    """Voxels at the ends of the values that one channel takes where it is not zero."""

    values: int
    """Distinct values."""
    lowest: int
    """Voxels that have the lowest of them."""
    highest: int
    """Voxels that have the highest."""


class ChannelStatistics(Model):
    """One channel of one case. A region without voxels is ``None``."""

    foreground: IntensityStatistics | None
    """Label > 0 inside the crop box, ignore label excluded."""
    crop: IntensityStatistics | None
    """All voxels of the crop box."""
    nonzero: IntensityStatistics | None
    """Voxels whose intensity is not zero."""
    non_finite: int = 0
    """NaN and infinite voxels: counted here, excluded above."""
    extremes: ExtremeCounts | None = None
    """Of the voxels that are not zero; None without any, or where values are too many to be told apart."""


class SpacingRecord(Model):
    """ZYX distance between voxel centres, and who said so; ``values`` is None where nobody did."""

    values: Triple | None
    unit: Unit
    source: str


class ObjectStatistics(Model):
    """Objects of an instance label map; never a table of ids."""

    count: int
    size_min: int
    size_median: int
    size_max: int
    size_percentile_10: int
    size_percentile_90: int
    """Voxels per object, ``inverted_cdf`` quantiles."""
    largest_id: int


class Mismatch(NamedModel):
    """Files of one case that disagree about where the voxels lie."""

    kind: Literal["spacing", "origin", "direction"]
    role: Literal["channel", "label map"]
    """Which of the case's files disagrees with its first image."""
    reason: str


class CaseFingerprint(NamedModel):
    """One case."""

    id: str
    images: tuple[str, ...]
    """Files, relative to the data folder where they lie in it, with ``:key`` for containers."""
    label: str | None
    shape: Shape
    spacing: SpacingRecord
    orientation: str | None
    affine_flips: bool | None = None
    """Whether the file's affine has a negative determinant: the array is a mirror image of what RAS shows."""
    mismatches: tuple[Mismatch, ...] = ()
    dtype: str
    label_dtype: str | None
    channels: tuple[ChannelStatistics, ...]
    crop_box: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
    """Half-open ZYX bounds of the voxels that are not zero in some channel."""
    shape_after_crop: Shape
    foreground_voxels: int | None
    """Label > 0, ignore label excluded, inside the crop box; None without labels."""
    class_voxels: dict[str, int] | None
    """Voxels per label value in the whole volume (semantic labels only)."""
    objects: ObjectStatistics | None
    """Instance labels only."""
    stored_bytes: int
    compressed_stream: bool
    """Whether every random patch would have to inflate the file (``.nii.gz``, ``.nrrd`` with gzip)."""
    content_key: str
    """Size, modification time and header hash of the files (of a folder, of what lies directly in it):
    changes when they do. Not in comparisons; empty where a server tells nothing of the kind."""
    sample_digest: str | None = None
    """Of the shape and of the intensities at up to 4096 fixed places of every channel (:mod:`.samples`)."""
    other_files: bool = False
    """Whether voxels lie in files that the case does not name (links and virtual data sets of HDF5, detached
    voxels under names of their own): every run reads it again, since nothing tells whether they changed."""
    warnings: tuple[str, ...]


class Failure(NamedModel):
    """A case that could not be profiled."""

    id: str
    files: tuple[str, ...]
    kind: str
    reason: str
    other_files: bool = False
    """Whether files that the case does not name have part in it, as in :class:`CaseFingerprint`: every run
    tries it again. Written only where it is so."""

    @model_serializer(mode="wrap")
    def _in_short(self, usual: SerializerFunctionWrapHandler) -> dict[str, Any]:
        members: dict[str, Any] = usual(self)
        return members if self.other_files else {k: v for k, v in members.items() if k != "other_files"}

    @field_validator("id")
    @classmethod
    def _printable(cls, text: str) -> str:
        return printable(text)

    @field_validator("reason")
    @classmethod
    def _one_line(cls, text: str) -> str:
        return one_line(text)


class Outlier(NamedModel):
    """A case that stands out from its data set, by one of the checks in :mod:`voxplan.profiling.outliers`."""

    case_id: str
    """``dataset.json`` for what that file says of all cases."""
    kind: str
    reason: str

    def __str__(self) -> str:
        return f"{self.case_id}: {self.reason}"


class Labels(Model):
    """What the label maps are."""

    kind: LabelKind
    proposed: bool
    """True where the program proposed the kind; False where the user or a dataset.json said so."""
    reason: str
    classes: dict[str, tuple[int, ...]]
    """Name to label values (several: a region, as in nnU-Net), background included; empty if not semantic."""
    ignore: int | None = None


class DatasetInfo(NamedModel):
    """What the folder says about itself."""

    name: str
    root: str
    layout: str
    file_format: str
    channel_names: tuple[str, ...]
    labels: Labels
    declared_cases: int | None = None
    """``numTraining`` of a dataset.json, which nnU-Net's rules use."""


class AxisSummary(Model):
    """Per-axis distribution over cases, ZYX (``inverted_cdf`` except the median, which is numpy's)."""

    median: Triple
    min: Triple
    max: Triple
    percentile_10: Triple
    percentile_90: Triple


class SpacingCluster(Model):
    """Cases whose spacings agree to within 5 % on every axis."""

    spacing: Triple
    cases: int


class ChannelSummary(Model):
    """One channel over the data set."""

    region: Literal["foreground", "nonzero"]
    """``nonzero`` where no case has foreground."""
    case_weighted: IntensityStatistics | None
    """Every case with voxels in the region weighs the same, as in nnU-Net."""
    pooled: IntensityStatistics | None
    """Every voxel weighs the same."""


class Summary(Model):
    """The data set in numbers."""

    cases: int
    failures: int
    voxels: int
    stored_bytes: int
    shape: AxisSummary
    shape_after_crop: AxisSummary
    spacing: AxisSummary | None
    """In ``spacing_unit``; None where no case knows its spacing."""
    spacing_unit: Unit
    spacing_missing: int
    """Cases without spacing."""
    spacing_clusters: tuple[SpacingCluster, ...]
    anisotropy: float | None
    """Largest over smallest axis of the median spacing."""
    median_relative_size_after_cropping: float
    channels: tuple[ChannelSummary, ...]
    class_frequencies: dict[str, float] | None
    """Share of all voxels by class name (semantic labels only)."""
    warnings: tuple[str, ...]


class Provenance(NamedModel):
    """How the file came about; not compared."""

    program: str
    version: str
    created: str
    options: dict[str, str]
    seconds: float


class Fingerprint(Model):
    """The whole file."""

    format_version: int = FORMAT_VERSION
    dataset: DatasetInfo
    summary: Summary
    cases: tuple[CaseFingerprint, ...]
    """Sorted by id."""
    failures: tuple[Failure, ...]
    outliers: tuple[Outlier, ...] = ()
    """Cases that stand out, by id and kind."""
    provenance: Provenance


MAX_BYTES = 1 << 30
"""A fingerprint takes 2 to 5 kB a case: this is one of some 200,000 cases."""


class FingerprintError(ValueError):
    """A file that is no fingerprint, or one that this version cannot read."""


def save_fingerprint(fingerprint: Fingerprint, path: Path) -> None:
    """Write the JSON file under a temporary name, flush it to the disk and rename it.

    Raises:
        OSError: the folder is missing, not writable or full.
    """
    content = fingerprint.model_dump(mode="json", exclude={"cases"})
    cases = (case.model_dump(mode="json") for case in fingerprint.cases)
    ordered = {name: cases if name == "cases" else content[name] for name in Fingerprint.model_fields}
    with writing_atomically(path) as file:
        for piece in json_pieces(ordered):
            file.write(piece.encode())


def load_fingerprint(path: Path) -> Fingerprint:
    """Read a fingerprint; older formats are migrated.

    Raises:
        FingerprintError: not readable, no fingerprint, damaged, or written by a newer version.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            msg = f"{path}: larger than {MAX_BYTES} bytes, which no fingerprint is; is it another file?"
            raise FingerprintError(msg)
        content = json.loads(data)
        del data
    except FingerprintError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        msg = f"{path}: cannot be read as a fingerprint ({error}); write it again with profile-dataset"
        raise FingerprintError(msg) from error
    if isinstance(content, dict) and "plans" in content and "cases" not in content:
        msg = f"{path}: is a plans file; name the fingerprint that it was made of"
        raise FingerprintError(msg)
    try:
        fingerprint = Fingerprint.model_validate(migrate(content))
    except FingerprintError as error:
        msg = f"{path}: {error}"
        raise FingerprintError(msg) from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        msg = (
            f"{path}: not a fingerprint of format {FORMAT_VERSION}: {where}: {first['msg'].lower()} "
            f"({error.error_count()} problems); write it again with profile-dataset"
        )
        raise FingerprintError(msg) from error
    if (problem := first_contradiction(fingerprint)) is not None:
        msg = f"{path}: contradicts itself: {problem}; write it again with profile-dataset"
        raise FingerprintError(msg)
    return fingerprint


HEAD_BYTES = 1 << 20
"""Bytes of a fingerprint that its data set's description, which stands first, lies in."""


def described_dataset(path: Path) -> DatasetInfo | None:
    """What data set a file is the fingerprint of, by its first bytes alone; None if it is no fingerprint."""
    try:
        head = read_regular(path, HEAD_BYTES).decode(errors="replace")
        start = head.index('"dataset":') + len('"dataset":')
        content, _ = json.JSONDecoder().raw_decode(head[start:].lstrip())
        return DatasetInfo.model_validate(content)
    except (OSError, ValueError, RecursionError):
        return None


MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""Format version to the function that turns such a file's content into the next version's."""


def migrate(content: Any) -> dict[str, Any]:
    """The content of a file in the present format.

    Raises:
        FingerprintError: not an object with a ``format_version``, a newer version, or one without a way here.
    """
    if not isinstance(content, dict) or not isinstance(content.get("format_version"), int):
        msg = "has no 'format_version'; is it a fingerprint that profile-dataset wrote?"
        raise FingerprintError(msg)
    while (version := content["format_version"]) != FORMAT_VERSION:
        if version > FORMAT_VERSION:
            msg = (
                f"has format version {version}, and this voxplan reads up to {FORMAT_VERSION}; "
                "update voxplan, or profile again with this version"
            )
            raise FingerprintError(msg)
        if version not in MIGRATIONS:
            msg = f"has format version {version}, which no migration leads from; profile again"
            raise FingerprintError(msg)
        content = MIGRATIONS[version](content)
    migrated: dict[str, Any] = content
    return migrated
