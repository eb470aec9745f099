"""Which label belongs to which image, by name alone.

Names are paths below the folder, or below the fixed part of the glob, without the volume suffix
(``scan_01.nii.gz`` is ``scan_01``; ``case1/img.tif`` of the glob ``raw/*/img.tif`` is ``case1/img``).

0. One image and one label are a pair, whatever their names.
1. Otherwise names must be equal.
2. Or be equal once the image's trailing channel number, ``_`` and four digits as in ``scan_01_0000``, is
   dropped; several images of one name are then the channels of one case, numbered from 0 without a gap.
3. Or be equal once a word that says what the file is (:data:`IMAGE_WORDS`, :data:`LABEL_WORDS`, any case) is
   dropped from the start or the end of the file's name too: ``img_07``/``seg_07``, ``07-raw``/``07-labels``,
   ``case1/image``/``case1/label``. The word is set off by ``_``, ``-``, ``.``, a space or a digit.
4. Or, in sub-folders, be the only image and the only label of one: ``case1/T1``/``case1/seg``.

The first rule that pairs every file is used; if none does, the one that pairs the most. What it leaves over,
and what it would pair in two ways, are failures that name the file.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..fingerprint import Failure
from ..formats.base import CaseSource, VolumeSource
from .volumes import NamedVolume

IMAGE_WORDS = (
    "images",
    "image",
    "imgs",
    "img",
    "im",
    "raw",
    "inputs",
    "input",
    "volume",
    "vol",
    "data",
    "scan",
)
LABEL_WORDS = (
    "labels",
    "label",
    "lbl",
    "segmentation",
    "seg",
    "groundtruth",
    "gt",
    "masks",
    "mask",
    "annotations",
    "annotation",
)

_CHANNEL = re.compile(r"^(?P<case>.+)_(?P<channel>\d{4})$")


def drop_word(name: str, words: Sequence[str]) -> str:
    """A name without a leading or trailing word in its last component; the rest may be empty."""
    folder, slash, last = name.rpartition("/")
    either = "|".join(words)
    shorter = re.sub(rf"^(?:{either})(?:[_\-. ]+|(?=\d)|$)", "", last, count=1, flags=re.IGNORECASE)
    if shorter == last:
        shorter = re.sub(rf"(?:^|[_\-. ]+|(?<=\d))(?:{either})$", "", last, count=1, flags=re.IGNORECASE)
    return folder + slash + shorter


def split_channel(name: str) -> tuple[str, int | None]:
    """``scan_01_0002`` is channel 2 of ``scan_01``; a name without channel number has none."""
    match = _CHANNEL.match(name)
    return (match["case"], int(match["channel"])) if match else (name, None)


def is_label_name(name: str) -> bool:
    """Whether a name says by its first or last word that the file is a label map."""
    return drop_word(name, LABEL_WORDS) != name


@dataclass(frozen=True, slots=True)
class _Rule:
    image: Callable[[str], str]
    label: Callable[[str], str]
    channels: bool


def _same(name: str) -> str:
    return name


def _without_channel(name: str) -> str:
    return split_channel(name)[0]


def _image_stem(name: str) -> str:
    return drop_word(_without_channel(name), IMAGE_WORDS)


def _label_stem(name: str) -> str:
    return drop_word(name, LABEL_WORDS)


def _folder_of_image(name: str) -> str:
    return name.rpartition("/")[0] or f"/image/{name}"  # without a sub-folder it is no other's neighbour


def _folder_of_label(name: str) -> str:
    return name.rpartition("/")[0] or f"/label/{name}"


_BY_FOLDER = _Rule(_folder_of_image, _folder_of_label, channels=False)
_RULES = (
    _Rule(_same, _same, channels=False),
    _Rule(_without_channel, _same, channels=True),
    _Rule(_image_stem, _label_stem, channels=True),
    _BY_FOLDER,
)


@dataclass(slots=True)
class _Attempt:
    cases: list[CaseSource]
    failures: list[Failure]


def pair(
    images: Sequence[NamedVolume], labels: Sequence[NamedVolume]
) -> tuple[list[CaseSource], list[Failure]]:
    """Cases and the files that no case could be made of; the rules are those of this module's text."""
    if len(images) == 1 and len(labels) == 1:
        only = CaseSource(id=images[0].name, images=(images[0].source,), label=labels[0].source)
        return [only], []
    _, best = _best(images, labels)
    return best.cases, best.failures


def _best(images: Sequence[NamedVolume], labels: Sequence[NamedVolume]) -> tuple[_Rule, _Attempt]:
    """The first rule that pairs every file, else the first of those that pair the most."""
    attempts: list[tuple[_Rule, _Attempt]] = []
    for rule in _RULES:
        attempt = _apply(rule, images, labels)
        if not attempt.failures:
            return rule, attempt
        attempts.append((rule, attempt))
    return max(attempts, key=lambda attempt: len(attempt[1].cases))


def note_of_only_pair(images: Sequence[NamedVolume], labels: Sequence[NamedVolume]) -> list[str]:
    """What to tell the user where an image and a label were paired although their names do not say so."""
    if len(images) != 1 or len(labels) != 1:
        rule, found = _best(images, labels)
        if rule is not _BY_FOLDER or not found.cases:
            return []
        case = found.cases[0]
        named = f"{case.images[0].name} and {case.label.name if case.label else None}"
        return [f"{named}: paired as the only image and the only label of their folder, as in the others"]
    if any(rule.image(images[0].name) == rule.label(labels[0].name) for rule in _RULES):
        return []
    return [
        f"{images[0].source.name} and {labels[0].source.name}: paired as the only image and the only label, "
        "although their names differ"
    ]


def channels_of_cases(images: Sequence[NamedVolume]) -> list[CaseSource] | None:
    """Images without labels that are numbered as channels throughout: ``a_0000, a_0001, b_0000, b_0001``.

    None unless every case has the same channels from 0 on, and there are several cases or one channel, so
    that numbered scans (``scan_0000`` to ``scan_0041``) are not taken for channels of one.
    """
    groups: dict[str, list[NamedVolume]] = defaultdict(list)
    for image in images:
        name, channel = split_channel(image.name)
        if channel is None:
            return None
        groups[name].append(image)
    counts = {len(group) for group in groups.values()}
    if len(counts) != 1 or (len(groups) == 1 and counts != {1}):
        return None
    ordered = {name: _in_channel_order(group) for name, group in groups.items()}
    if any(volumes is None for volumes in ordered.values()):
        return None
    return [CaseSource(id=name, images=volumes) for name, volumes in ordered.items() if volumes]


def _apply(rule: _Rule, images: Sequence[NamedVolume], labels: Sequence[NamedVolume]) -> _Attempt:
    by_image: dict[str, list[NamedVolume]] = defaultdict(list)
    by_label: dict[str, list[NamedVolume]] = defaultdict(list)
    for image in images:
        by_image[rule.image(image.name)].append(image)
    for label in labels:
        by_label[rule.label(label.name)].append(label)
    attempt = _Attempt([], [])
    for key, group in by_image.items():
        matching = by_label.get(key, [])
        volumes = _in_channel_order(group) if rule.channels else None
        if volumes is None and len(group) == 1:
            volumes = (group[0].source,)
        if len(matching) == 1 and volumes:
            case_id = key.strip("/_-. ") or group[0].name
            attempt.cases.append(CaseSource(id=case_id, images=volumes, label=matching[0].source))
        elif not matching:
            attempt.failures += [_unpaired(image, "image", "label", labels) for image in group]
        else:
            attempt.failures.append(_ambiguous(key, group, matching, by_folder=rule is _BY_FOLDER))
    for key, matching in by_label.items():
        if key not in by_image:
            attempt.failures += [_unpaired(label, "label", "image", images) for label in matching]
    return attempt


def _in_channel_order(group: Sequence[NamedVolume]) -> tuple[VolumeSource, ...] | None:
    """Channels 0, 1, ... of one case, or None where numbers are missing, repeated or absent."""
    numbers = [split_channel(volume.name)[1] for volume in group]
    if sorted(-1 if number is None else number for number in numbers) != list(range(len(group))):
        return None
    return tuple(
        volume.source for _, volume in sorted(zip(numbers, group, strict=True), key=lambda t: t[0] or 0)
    )


def _unpaired(volume: NamedVolume, what: str, other: str, others: Sequence[NamedVolume]) -> Failure:
    which = f"the only {other}" if len(others) == 1 else f"the first of {len(others)} {other}s"
    example = f" ({which} is called {others[0].name!r})" if others else ""
    reason = (
        f"{volume.source.name}: no {other} has the name of this {what}, {volume.name!r}{example}; "
        "rename one of them, or leave the file out with --exclude"
    )
    return Failure(id=volume.name, files=(volume.source.name,), kind="unpaired", reason=reason)


def _ambiguous(
    key: str, images: Sequence[NamedVolume], labels: Sequence[NamedVolume], *, by_folder: bool
) -> Failure:
    files = tuple(volume.source.name for volume in (*images, *labels))
    counted = f"{_counted(len(images), 'image')} and {_counted(len(labels), 'label')}"
    reason = (
        f"{files[0]}: cannot tell which image and label belong together: {counted} "
        f"{'lie in' if by_folder else 'are called'} {key!r} ({', '.join(files)}); rename them, or leave some "
        "out with --exclude"
    )
    return Failure(id=key or images[0].name, files=files, kind="ambiguous", reason=reason)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")
