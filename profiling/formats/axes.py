"""From the order in which a file stores its axes to channels first, ZYX."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from .base import FormatError, Region

SPATIAL: Final = "zyx"
LARGEST_GUESSED_CHANNELS: Final = 16
"""A first axis of a 4-D array without axis names is taken for channels up to this length."""


@dataclass(frozen=True)
class AxisOrder:
    """The stored axes of an array.

    All axes that are not spatial together make the channels, flattened in stored order.
    """

    letters: str
    """One distinct lower-case letter a stored axis; ``y`` and ``x`` always among them."""
    stored: tuple[int, ...]
    """Length of each stored axis."""

    @cached_property
    def shape(self) -> tuple[int, int, int]:
        """ZYX; an axis that is not stored has length 1."""
        z, y, x = (self.stored[self.letters.index(a)] if a in self.letters else 1 for a in SPATIAL)
        return z, y, x

    @cached_property
    def channels(self) -> int:
        """Product of the axes that are not spatial."""
        return prod(self._channel_lengths)

    @cached_property
    def _channel_axes(self) -> tuple[int, ...]:
        return tuple(i for i, a in enumerate(self.letters) if a not in SPATIAL)

    @cached_property
    def _channel_lengths(self) -> tuple[int, ...]:
        return tuple(self.stored[i] for i in self._channel_axes)

    @cached_property
    def is_channels_first_zyx(self) -> bool:
        """Whether each channel lies in one piece, in ZYX order."""
        leading = len(self._channel_axes)
        return self._channel_axes == tuple(range(leading)) and self.letters[leading:] in ("zyx", "yx")

    def spatial(self, per_axis: Sequence[Any], missing: Any) -> tuple[Any, Any, Any]:
        """ZYX part of something given per stored axis."""
        z, y, x = (per_axis[self.letters.index(a)] if a in self.letters else missing for a in SPATIAL)
        return z, y, x

    def index(self, region: Region, channel: int | None) -> tuple[slice, ...]:
        """Slices of the stored array, one per stored axis, for a region of one or of all channels."""
        which: Sequence[Any] = ()
        if channel is not None and self._channel_axes:
            which = np.unravel_index(channel, self._channel_lengths)
        index = []
        for i, letter in enumerate(self.letters):
            if letter in SPATIAL:
                index.append(region[SPATIAL.index(letter)])
            elif channel is None:
                index.append(slice(0, self.stored[i]))
            else:
                at = int(which[self._channel_axes.index(i)])
                index.append(slice(at, at + 1))
        return tuple(index)

    def arrange(self, block: NDArray[Any], channel: int | None) -> NDArray[Any]:
        """A block read with :meth:`index` as ``(channels, z, y, x)``, or ``(z, y, x)`` of one channel."""
        spatial = [self.letters.index(a) for a in SPATIAL if a in self.letters]
        moved = block.transpose(*self._channel_axes, *spatial)
        lengths = self.spatial(block.shape, 1)
        channels = prod(block.shape[i] for i in self._channel_axes)
        arranged = moved.reshape(channels, *lengths)
        return np.ascontiguousarray(arranged if channel is None else arranged[0])


def check_region(region: Region, shape: tuple[int, int, int], channel: int | None, channels: int) -> None:
    """Raise IndexError where a region or a channel lies outside the volume."""
    for axis, part, length in zip("ZYX", region, shape, strict=True):
        if part.step not in (None, 1) or not 0 <= part.start <= part.stop <= length:
            msg = (
                f"region {part.start}:{part.stop} lies outside the {length} voxels of the volume along {axis}"
            )
            raise IndexError(msg)
    if channel is not None and not 0 <= channel < channels:
        msg = f"channel {channel} does not exist; the volume has {channels}"
        raise IndexError(msg)


def choose_axes(stored: Sequence[int], stated: str | None, where: str) -> AxisOrder:
    """Axes of an array whose file names none.

    ``stated`` (the user's ``--axes``) wins; its letters ``c`` and ``t`` are dropped for an array that has
    fewer axes, so that one option serves images with channels and labels without. Otherwise two axes are
    ``yx``, three are ``zyx``, and four are ``czyx`` if the first is the shortest and at most 16 long.

    Raises:
        FormatError: the letters do not fit, or nobody can say which axis is which (kind ``ambiguous``).
    """
    stored = tuple(int(n) for n in stored)
    if stated is not None:
        return AxisOrder(_fit(stated, stored, where), stored)
    if len(stored) in (2, 3):
        return AxisOrder("zyx"[-len(stored) :], stored)
    if len(stored) == 4 and stored[0] == min(stored) and stored[0] <= LARGEST_GUESSED_CHANNELS:
        return AxisOrder("czyx", stored)
    if len(stored) == 5 and stored[0] == 1 and stored[1] <= LARGEST_GUESSED_CHANNELS:
        return AxisOrder("tczyx", stored)
    if not 2 <= len(stored) <= 5:
        msg = f"{where}: an array of {len(stored)} axes {stored} is no volume"
        raise FormatError(msg, kind="unsupported")
    msg = (
        f"{where}: shape {stored} does not say which axis is which; state it with --axes, "
        f"for example --axes {'czyx' if len(stored) == 4 else 'tczyx'}"
    )
    raise FormatError(msg, kind="ambiguous")


def _fit(stated: str, stored: tuple[int, ...], where: str) -> str:
    letters = stated.lower()
    if len(set(letters)) != len(letters) or not set(letters) <= set("ctzyx") or not set("yx") <= set(letters):
        msg = f"--axes {stated} is no axis order; use each of c, t, z, y, x at most once, y and x always"
        raise FormatError(msg, kind="unsupported")
    for optional in ("t", "c"):
        if len(letters) > len(stored):
            letters = letters.replace(optional, "")
    if len(letters) > len(stored) and len(stored) == 2:
        letters = letters.replace("z", "")
    if len(letters) != len(stored):
        msg = f"{where}: --axes {stated} names {len(stated)} axes, but the stored shape is {stored}"
        raise FormatError(msg, kind="unsupported")
    return letters
