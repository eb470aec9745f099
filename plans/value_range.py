"""The range that resampled intensities keep to. Pure numpy.

Cubic splines overshoot at edges. nnU-Net resizes with scikit-image, which clips to the range of what it was
given: the normalized volume or, where the thick axis is left out, each plane across it.

Source: nnU-Net 2.8.1, ``preprocessing/resampling/default_resampling.py``; scikit-image, ``transform.resize``
with ``clip=True``, its default.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


class ValueRange:
    """Least and largest value of every channel of a box, or of every plane of it, from blocks in any order.

    Args:
        channels: of the image.
        start: first voxel of the box, ZYX.
        stop: behind its last one.
        thick: the axis whose planes have ranges of their own; None: the whole box has one.
    """

    def __init__(
        self, channels: int, start: tuple[int, ...], stop: tuple[int, ...], thick: int | None
    ) -> None:
        self._thick = thick
        self._first = 0 if thick is None else start[thick]
        planes = 1 if thick is None else stop[thick] - start[thick]
        self._low = np.full((channels, planes), np.inf, np.float32)
        self._high = np.full((channels, planes), -np.inf, np.float32)

    def add(self, block: NDArray[np.float32], origin: tuple[int, int, int]) -> None:
        """A block ``(C, z, y, x)``, without non-finite values, whose first voxel stands at ``origin``."""
        others = tuple(axis + 1 for axis in range(3) if axis != self._thick)
        low, high = block.min(axis=others), block.max(axis=others)
        where = slice(None)
        if self._thick is None:
            low, high = low[:, None], high[:, None]
        else:
            first = origin[self._thick] - self._first
            where = slice(first, first + block.shape[self._thick + 1])
        self._low[:, where] = np.minimum(self._low[:, where], low)
        self._high[:, where] = np.maximum(self._high[:, where], high)

    def clip(self, image: NDArray[np.float32], planes: NDArray[np.intp] | None) -> None:
        """Clip, in place, an image ``(C, z, y, x)``.

        Args:
            image: resampled.
            planes: the stored plane under each of its planes across the thick axis; None without one.
        """
        chosen: Any = slice(None)
        shape = [len(image), 1, 1, 1]
        if self._thick is not None and planes is not None:
            chosen = planes - self._first
            shape[self._thick + 1] = len(planes)
        low, high = self._low[:, chosen].reshape(shape), self._high[:, chosen].reshape(shape)
        np.clip(image, low, high, out=image)
