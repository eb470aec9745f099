"""Colours of label values, the same in every picture of a report."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

PALETTE: tuple[tuple[int, int, int], ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (213, 94, 0),
    (204, 121, 167),
    (0, 114, 178),
    (148, 103, 189),
    (140, 220, 90),
    (255, 152, 150),
    (23, 190, 207),
    (196, 156, 148),
)
"""Okabe and Ito's colours, told apart by the colour-blind, without their black; then five of Tableau's."""
IGNORE_COLOUR = (128, 128, 128)
FULL_PALETTE = (*PALETTE, IGNORE_COLOUR)
IGNORE_INDEX = len(FULL_PALETTE)
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
"""Odd multiplier (2^64 over the golden ratio) that sends neighbouring ids to different colours."""


class LabelColours:
    """Label value to palette index; 0, the background, is transparent.

    Args:
        classes: name to label values, as in the fingerprint; empty for instance labels.
        ignore: shown grey.
    """

    def __init__(self, classes: Mapping[str, tuple[int, ...]], ignore: int | None) -> None:
        self.ignore = ignore
        values = sorted({value for group in classes.values() for value in group if value > 0})
        self._place = {value: 1 + n % len(PALETTE) for n, value in enumerate(values)}
        self._names = {
            value: name
            for name, group in sorted(classes.items(), key=lambda item: -len(item[1]))
            for value in group
        }

    def indices(self, labels: NDArray[np.uint64]) -> NDArray[np.uint8]:
        """Palette indices of label values."""
        found, inverse = np.unique(labels, return_inverse=True)
        table = np.array([self._index(int(value)) for value in found], np.uint8)
        return table[inverse].reshape(labels.shape)

    def _index(self, value: int) -> int:
        if value == 0:
            return 0
        if value == self.ignore:
            return IGNORE_INDEX
        if value in self._place:
            return self._place[value]
        spread = (value * int(_SPREAD)) % 2**64
        return 1 + (spread >> 40) % len(PALETTE)

    def name(self, value: int) -> str | None:
        """Name of a label value's class, where it has one."""
        return "ignore" if value == self.ignore else self._names.get(value)

    def legend(self) -> list[tuple[str, str]]:
        """Class name and CSS colour, in order of the values."""
        return [(self._names[value], css(PALETTE[place - 1])) for value, place in self._place.items()]


def css(colour: tuple[int, int, int]) -> str:
    """``#rrggbb``."""
    return "#{:02x}{:02x}{:02x}".format(*colour)
