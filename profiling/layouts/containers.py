"""HDF5 and Zarr files that hold image and label side by side: which key is which.

``--image-key`` and ``--label-key`` decide where they are given. Otherwise a key is a label where a part of
its path is a label word (``volumes/labels/neuron_ids``, ``seg``, ``gt``); of two keys without such a name
the one of a type that only ids have (bool, 32- and 64-bit integers) is. What stays ambiguous is an error
that lists the keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..formats import keys_of, open_volume, reader_for
from ..formats.base import FormatError, VolumeSource
from .pairing import IMAGE_WORDS, LABEL_WORDS, drop_word

ID_DTYPES = tuple(np.dtype(name) for name in ("bool", "uint32", "int32", "uint64", "int64"))


def is_container(path: Path) -> bool:
    """Whether a file may hold several volumes under keys."""
    try:
        return reader_for(path).name in ("hdf5", "zarr")
    except FormatError:
        return False


def choose_keys(
    path: Path, image_key: str | None, label_key: str | None, *, use_labels: bool = True
) -> tuple[VolumeSource, VolumeSource | None]:
    """Image and label of one container file; no label where the file has none.

    The file is not opened where both keys are given: the reader then says what is wrong with them.

    Raises:
        FormatError: the file cannot be read, or the choice is not clear.
    """
    if image_key is None or (label_key is None and use_labels):
        keys = tuple(keys_of(path))
        if not keys and image_key is None and label_key is None:
            return VolumeSource(paths=(path,)), None  # a Zarr array by itself, or nothing
        labels = [key for key in keys if _names_label(key) and _clean(key) != _clean(image_key)]
        if image_key is None:
            image_key, labels = _image_of(path, [k for k in keys if _clean(k) != _clean(label_key)], labels)
        if label_key is None and use_labels:
            label_key = _label_of(path, labels)
    image = VolumeSource(paths=(path,), key=image_key)
    label = VolumeSource(paths=(path,), key=label_key) if label_key is not None and use_labels else None
    return image, label


def label_only(path: Path, label_key: str | None) -> VolumeSource:
    """The label map of a container that ``--labels`` names."""
    keys = tuple(keys_of(path))
    if label_key is None and len(keys) > 1:
        named = [key for key in keys if _names_label(key)]
        label_key = _label_of(path, named or list(keys))
    return VolumeSource(paths=(path,), key=label_key)


def _image_of(path: Path, keys: Sequence[str], labels: list[str]) -> tuple[str, list[str]]:
    images = [key for key in keys if key not in labels]
    if len(images) == 2 and not labels:
        ids = [key for key in images if _dtype(path, key) in ID_DTYPES]
        if len(ids) == 1:
            labels, images = ids, [key for key in images if key not in ids]
    if len(images) > 1:
        named = [key for key in images if not drop_word(_last(key), IMAGE_WORDS)]
        images = named if len(named) == 1 else images
    if len(images) != 1:
        what = "no image" if not images else "several images"
        msg = f"{path}: holds {what} ({_listed(keys)}); say which with --image-key (and --label-key)"
        raise FormatError(msg, kind="ambiguous")
    return images[0], labels


def _label_of(path: Path, labels: Sequence[str]) -> str | None:
    if len(labels) > 1:
        msg = f"{path}: holds several label maps ({_listed(labels)}); say which with --label-key"
        raise FormatError(msg, kind="ambiguous")
    return labels[0] if labels else None


def _names_label(key: str) -> bool:
    """Whether a part of a key's path begins or ends with a label word."""
    return any(drop_word(part, LABEL_WORDS) != part for part in _clean(key).split("/"))


def _dtype(path: Path, key: str) -> np.dtype[np.generic]:
    with open_volume(VolumeSource(paths=(path,), key=key)) as volume:
        return volume.header.dtype


def _clean(key: str | None) -> str:
    return (key or "").strip("/")


def _last(key: str) -> str:
    return _clean(key).rpartition("/")[2]


def _listed(keys: Sequence[str]) -> str:
    return ", ".join(keys) if keys else "no volume"
