"""HDF5; h5py is imported when the first such file is met."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from .base import Reader, ReadOptions, Volume, VolumeSource


class Hdf5Reader(Reader):
    """``.h5``, ``.hdf5``, ``.hdf``, opened read-only and without locking (NFS, Lustre)."""

    name: ClassVar[str] = "hdf5"
    suffixes: ClassVar[tuple[str, ...]] = (".hdf5", ".hdf", ".h5")

    def open(self, source: VolumeSource, options: ReadOptions) -> Volume:
        """See :class:`.base.Reader`; without a key, the only volume of the file is taken."""
        from .hdf5_volume import Hdf5Volume

        return Hdf5Volume(source, options)

    def keys(self, path: Path) -> Sequence[str]:
        """Data sets that can be volumes, sorted."""
        from .hdf5_volume import dataset_names

        return dataset_names(path)
