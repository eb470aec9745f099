"""One case, streamed block by block, to its fingerprint."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path

from .agreement import mismatches, unused_spacings
from .blocks import VOXEL_SHARE
from .boxes import whole
from .fingerprint import CaseFingerprint, ChannelStatistics, ExtremeCounts, SpacingRecord
from .formats import open_volume
from .formats.address import is_address
from .formats.address_files import state_of_address
from .formats.base import CaseSource, FormatError, ReadOptions, Spacing, Volume, VolumeHeader, VolumeSource
from .hollow import refuse_hollow
from .labels import LabelTable
from .memory_guard import memory_ceiling, reuse_freed_memory
from .scan import CaseError, CaseScan, Outside
from .statistics import Distribution

__all__ = ["CaseError", "CaseResult", "ProfileOptions", "content_key", "profile_case", "summarize"]

HEAD_BYTES = 1 << 16
"""Bytes of each file that its content key covers, beside its size and modification time."""

MOST_CHANNELS = 10_000
"""Each has statistics of its own; more channels are an axis that was mistaken for them."""
FEW_CHANNELS = 16
"""Whose counts fit beside the interpreter whatever the budget for voxels."""


@dataclass(frozen=True)
class ProfileOptions:
    """How cases are read and counted."""

    read: ReadOptions = field(default_factory=ReadOptions)
    ignore_label: int | None = None
    """Label value that is neither foreground nor background."""
    memory_per_worker: int = 512 << 20
    """Bytes that a worker process may use in all."""
    headers_only: bool = False
    """Shapes, spacing and types; no voxel is read."""
    part_bytes: int = 64 << 20
    """Voxels, in bytes, of one of the parts in which workers share a large volume with random access."""


@dataclass(frozen=True)
class CaseResult:
    """What a worker hands back: numbers and counts, no voxels."""

    fingerprint: CaseFingerprint
    """``class_voxels`` and ``objects`` are left for who knows the kind of labels of the whole data set."""
    foreground: tuple[Distribution | None, ...]
    """Per channel."""
    nonzero: tuple[Distribution | None, ...]
    """Per channel."""
    labels: LabelTable | None


def profile_case(case: CaseSource, root: Path, options: ProfileOptions) -> CaseResult:
    """Read a case once, in blocks that fit into memory, and say what it is.

    Args:
        case: its files.
        root: the data folder; files in it are named relative to it.
        options: how to read.

    Raises:
        FormatError: a file cannot be read.
        CaseError: the files do not belong together, are too large in one piece, or hold no labels.
    """
    with open_case(case, root, options) as opened:
        if opened.scan is not None:
            opened.scan.run()
        return opened.result()


@dataclass(frozen=True)
class OpenCase:
    """The open volumes of a case, and the scan of their voxels (None where only headers are read)."""

    case: CaseSource
    root: Path
    key: str
    images: Sequence[Volume]
    label: Volume | None
    scan: CaseScan | None

    @property
    def other_files(self) -> bool:
        """Whether voxels lie in files that the case does not name."""
        volumes = [*self.images, *([self.label] if self.label is not None else [])]
        return any(volume.header.other_files for volume in volumes)

    def result(self) -> CaseResult:
        """What the case is, once all its blocks are counted."""
        return summarize(self.case, self.root, self.key, self.images, self.label, self.scan)


@contextmanager
def open_case(case: CaseSource, root: Path, options: ProfileOptions) -> Iterator[OpenCase]:
    """Open a case's files and check that they belong together; see :func:`profile_case`."""
    key = content_key(case)
    reuse_freed_memory()
    opened: list[Volume] = []
    with _other_files_told(opened), ExitStack() as stack:
        stack.enter_context(memory_ceiling(options.memory_per_worker))
        for source in case.images:
            opened.append(stack.enter_context(open_volume(source, options.read)))
        images, label = opened.copy(), None
        if case.label is not None:
            label = stack.enter_context(open_volume(case.label, label_options(options.read)))
            opened.append(label)
        _check_shapes(images, label)
        scan = None
        if not options.headers_only:
            refuse_hollow(opened)
            _check_counters(images, options.memory_per_worker)
            scan = CaseScan(images, label, options.ignore_label, options.memory_per_worker)
        yield OpenCase(case, root, key, images, label, scan)


@contextmanager
def _other_files_told(volumes: Sequence[Volume]) -> Iterator[None]:
    """Mark what is raised inside where one of the volumes has voxels in files that the case does not name."""
    try:
        yield
    except (FormatError, CaseError) as error:
        error.other_files = error.other_files or any(volume.header.other_files for volume in volumes)
        raise


def label_options(read: ReadOptions) -> ReadOptions:
    """Axes as the user said, without the channels and time points that a label map does not have."""
    if read.axes is None:
        return read
    return replace(read, axes="".join(letter for letter in read.axes if letter not in "ct"))


def _check_shapes(images: Sequence[Volume], label: Volume | None) -> None:
    first = images[0]
    for other in [*images[1:], *([label] if label is not None else [])]:
        if other.header.shape != first.header.shape:
            role = "label map" if other is label else "channel"
            msg = (
                f"{first.source.name} has the shape {_times(first.header)} (ZYX), "
                f"but its {role} {other.source.name} has {_times(other.header)}; "
                f"do these files belong together?"
            )
            raise CaseError("shape-mismatch", msg)
    if label is not None and label.header.channels != 1:
        msg = f"{label.source.name}: a label map has one channel, this has {label.header.channels}"
        raise CaseError("label-channels", msg)


def _check_counters(images: Sequence[Volume], memory: int) -> None:
    """Refuse more channels than can be counted: each of 16 bits has two tables of all its values."""
    channels = sum(image.header.channels for image in images)
    if channels > MOST_CHANNELS:
        msg = (
            f"{images[0].source.name}: has {channels:,} channels; up to {MOST_CHANNELS:,} are counted "
            "(if they are slices or columns, --axes says so)"
        )
        raise CaseError("too-large", msg)
    wide = sum(image.header.channels for image in images if image.header.dtype.itemsize == 2)
    needed, room = wide * 2 * 8 << 16, int(memory * (1 - VOXEL_SHARE))
    if wide > FEW_CHANNELS and needed > room:
        msg = (
            f"{images[0].source.name}: {wide:,} channels of 16 bits need {needed >> 20:,} MiB for their "
            f"counts, and a worker of {memory >> 20:,} MiB has {room >> 20:,}; "
            f"allow more with --memory-per-worker"
        )
        raise CaseError("too-large", msg)


def _times(header: VolumeHeader) -> str:
    return " x ".join(map(str, header.shape))


def summarize(
    case: CaseSource,
    root: Path,
    key: str,
    images: Sequence[Volume],
    label: Volume | None,
    scan: CaseScan | None,
) -> CaseResult:
    """What finished passes over the open volumes of a case say; without a scan, what the headers say."""
    headers = [image.header for image in images]
    everything = [*headers, *([label.header] if label is not None else [])]
    shape = headers[0].shape
    found_mismatches = tuple(mismatches(images, label))
    warnings = [*_header_warnings(images, label), *(mismatch.reason for mismatch in found_mismatches)]
    box = whole(shape)
    channels: list[ChannelStatistics] = []
    foreground: list[Distribution | None] = []
    nonzero: list[Distribution | None] = []
    table = None
    foreground_voxels = None
    if scan is not None:
        if scan.labels is not None and label is not None:
            table = scan.labels.table(scan.ignore, label.header.dtype)
            _refuse_negative(table, label, scan.ignore)
        box = scan.crop_box() or box
        outside = scan.outside(box)
        for index in range(len(scan.channels)):
            statistics, in_foreground, not_zero = _channel(scan, index, outside)
            channels.append(statistics)
            foreground.append(in_foreground)
            nonzero.append(not_zero)
        if table is not None:
            foreground_voxels = table.foreground - outside.foreground
        warnings += _voxel_warnings(channels, table, outside)
    fingerprint = CaseFingerprint(
        id=case.id,
        images=tuple(_relative(source, root) for source in case.images),
        label=None if case.label is None else _relative(case.label, root),
        shape=shape,
        spacing=_record(headers[0].spacing),
        orientation=headers[0].orientation,
        affine_flips=headers[0].affine_flips,
        mismatches=found_mismatches,
        dtype=",".join(dict.fromkeys(str(header.dtype) for header in headers)),
        label_dtype=None if label is None else str(label.header.dtype),
        channels=tuple(channels),
        crop_box=box,
        shape_after_crop=(box[0][1] - box[0][0], box[1][1] - box[1][0], box[2][1] - box[2][0]),
        foreground_voxels=foreground_voxels,
        class_voxels=None,
        objects=None,
        stored_bytes=sum(header.stored_bytes for header in everything),
        compressed_stream=any(header.sequential for header in everything),
        content_key=key,
        sample_digest=None if scan is None else _sample_digest(scan),
        other_files=any(header.other_files for header in everything),
        warnings=tuple(dict.fromkeys(warnings)),
    )
    return CaseResult(fingerprint, tuple(foreground), tuple(nonzero), table)


def _channel(
    scan: CaseScan, index: int, outside: Outside
) -> tuple[ChannelStatistics, Distribution | None, Distribution | None]:
    """Statistics of one channel, and its distributions in the foreground and in the non-zero voxels."""
    channel = scan.channels[index]
    values = channel.everything()
    values.table()
    zeros = values.zeros - (outside.voxels - outside.non_finite.get(index, 0))
    lost = outside.foreground - outside.non_finite_foreground.get(index, 0)
    in_foreground = channel.region(channel.foreground, channel.foreground.zeros - lost)
    in_crop = channel.region(values, zeros)
    not_zero = channel.region(values, 0)
    statistics = ChannelStatistics(
        foreground=None if in_foreground is None else in_foreground.statistics(),
        crop=None if in_crop is None else in_crop.statistics(),
        nonzero=None if not_zero is None else not_zero.statistics(),
        non_finite=values.non_finite,
        extremes=None if not_zero is None else _extremes(not_zero),
    )
    return statistics, in_foreground, not_zero


def _extremes(distribution: Distribution) -> ExtremeCounts | None:
    """How many voxels have the lowest and the highest value; None where values share a bin."""
    if distribution.step:
        return None
    counts = distribution.counts
    return ExtremeCounts(values=int(counts.size), lowest=int(counts[0]), highest=int(counts[-1]))


def _sample_digest(scan: CaseScan) -> str:
    """Digest of the shape and of the sampled intensities of every channel."""
    digest = blake2b(repr(scan.shape).encode(), digest_size=8)
    for channel in scan.channels:
        digest.update(channel.samples.intensities(channel.slope, channel.intercept))
    return digest.hexdigest()


def _refuse_negative(table: LabelTable, label: Volume, ignore: int | None) -> None:
    """Negative values are no classes and no ids; only the ignore label may be negative."""
    if table.smallest >= 0:
        return
    negative = [value for value in table.counts or {table.smallest: 0} if value < 0 and value != ignore]
    if negative:
        msg = (
            f"{label.source.name}: the label value {negative[0]} is negative; classes and ids start at 0 "
            f"(if it marks voxels to leave out, say --ignore-label {negative[0]})"
        )
        raise CaseError("label-negative", msg)


def _record(spacing: Spacing) -> SpacingRecord:
    return SpacingRecord(values=spacing.values, unit=spacing.unit, source=spacing.source)


def _header_warnings(images: Sequence[Volume], label: Volume | None) -> list[str]:
    warnings = [text for volume in images for text in volume.header.warnings]
    if label is not None:
        warnings += label.header.warnings
    return [*warnings, *unused_spacings(images, label)]


def _voxel_warnings(
    channels: Sequence[ChannelStatistics], table: LabelTable | None, outside: Outside
) -> list[str]:
    warnings = []
    for index, channel in enumerate(channels):
        name = f"channel {index}" if len(channels) > 1 else "image"
        if channel.non_finite:
            warnings.append(f"{name}: {channel.non_finite:,} voxels are NaN or infinite and are left out")
        every = "every finite voxel" if channel.non_finite else "every voxel"
        if channel.crop is None:
            warnings.append(f"{name}: no voxel is finite")
        elif channel.nonzero is None:
            warnings.append(f"{name}: {every} is zero")
        elif channel.crop.min == channel.crop.max:
            warnings.append(f"{name}: constant, {every} is {channel.crop.min:g}")
    if table is not None and table.foreground == 0:
        warnings.append("label map: only background")
    if outside.foreground:
        warnings.append(
            f"{outside.foreground:,} foreground voxels lie outside the crop box, where the image is zero, "
            f"and are left out"
        )
    return warnings


def _relative(source: VolumeSource, root: Path) -> str:
    """Name of a volume for the fingerprint: relative to the data folder where it lies in it."""
    path = source.paths[0] if len(source.paths) == 1 else source.paths[0].parent
    if is_address(path):
        return source.name
    absolute, base = path.absolute(), root.absolute()
    name = absolute.relative_to(base).as_posix() if absolute.is_relative_to(base) else path.as_posix()
    return name if source.key is None else f"{name}:{source.key}"


def content_key(case: CaseSource) -> str:
    """Hash of size, modification time and first bytes of all files of a case, in order.

    Of a folder (Zarr, DICOM) it covers the metadata files, and names and sizes of what lies directly in it.
    Files that are missing count as such; opening them says what is wrong. It is empty where a server tells
    neither times nor checksums of its files.
    """
    digest = blake2b(digest_size=16)
    for source in (*case.images, *([case.label] if case.label is not None else [])):
        digest.update(repr(source.key).encode("utf-8", "surrogateescape"))
        for path in source.paths:
            if is_address(path):
                state = state_of_address(path)
                if state is None:
                    return ""
                digest.update("\n".join(state).encode())
                continue
            for file in sorted(path.iterdir()) if path.is_dir() else [path]:
                _add_file(
                    digest, file, with_head=not path.is_dir() or file.name.startswith((".z", "zarr.json"))
                )
    return digest.hexdigest()


def _add_file(digest: blake2b, file: Path, *, with_head: bool) -> None:
    try:
        status = file.stat()
        digest.update(f"{file.name} {status.st_size} {status.st_mtime_ns}".encode("utf-8", "surrogateescape"))
        if with_head and file.is_file():
            with file.open("rb") as stream:
                digest.update(stream.read(HEAD_BYTES))
    except OSError as error:
        digest.update(f"{file.name} {type(error).__name__}".encode("utf-8", "surrogateescape"))
