"""The memory of the process while it reads files: a ceiling, and freed memory that is used again.

Readers check what a file declares. What a compressed chunk really inflates to, a library like HDF5 or zstd
finds out only by allocating it; under this ceiling that ends as an error of the case.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import mmap
import sys
import threading
from collections.abc import Iterator
from typing import Any, Final

import numpy as np

SLACK_BYTES: Final = 256 << 20
"""For libraries that are imported when a first file of their format is met, and for stacks of their threads,
which count in full (measured: 70 MiB for HDF5, Zarr, TIFF and ITK together; 8 MiB a thread)."""

REUSED_BYTES: Final = 16 << 20
"""Larger than the blocks of most volumes and what is made of them."""

HOARD_BYTES: Final = 64 << 20
"""What a process may keep of the memory that earlier cases have freed, before it is told to give that back:
one step of 100 to 200 MiB in what it holds was seen from a few chunks that inflate to 64 MiB each."""

_PAGE: Final = mmap.PAGESIZE

_active = threading.Lock()


@functools.cache
def reuse_freed_memory() -> None:
    """Let the C library keep what blocks leave for the next block, once in a process.

    glibc hands freed memory above a threshold back at once, and the next block is paged in anew, which took
    half as long again as counting it. The threshold grows to the largest piece that was ever freed
    (mallopt(3), M_MMAP_THRESHOLD): so one is, which no one touched. Twice as much may stay with the process.
    """
    np.empty(REUSED_BYTES, np.uint8)


class _Hoard:
    """Memory that no one needs: voxels that an error holds, with its traceback, in a circle; and what the C
    library keeps of freed memory, of which glibc has a heap for each thread.
    """

    def __init__(self) -> None:
        self._needed = 0
        self._trim: Any = None
        if sys.platform == "linux":
            with contextlib.suppress(OSError, AttributeError):
                self._trim = ctypes.CDLL(None).malloc_trim  # malloc_trim(3); other C libraries have none

    def give_back(self, budget: int) -> None:
        """Give it back if it has become much, so that the next case has its whole budget."""
        resident = _usage()[1]
        if resident < self._needed + min(HOARD_BYTES, budget // 8):
            return
        gc.collect()
        if self._trim is not None:
            self._trim(0)
        self._needed = _usage()[1]


_hoard = _Hoard()


@contextlib.contextmanager
def memory_ceiling(budget: int) -> Iterator[None]:
    """Let this process grow to ``budget`` bytes and :data:`SLACK_BYTES`; beyond, allocations fail.

    Uses the limit on private data of Linux (``RLIMIT_DATA``, setrlimit(2)), which mapped files do not count
    against. Elsewhere, and while another thread holds a ceiling, nothing is limited.
    """
    if sys.platform != "linux" or not _active.acquire(blocking=False):
        yield
        return
    try:
        _hoard.give_back(budget)
        with _lowered(budget):
            yield
    finally:
        _active.release()


@contextlib.contextmanager
def _lowered(budget: int) -> Iterator[None]:
    import resource

    data, resident = _usage()
    before, hard = resource.getrlimit(resource.RLIMIT_DATA)
    ceiling = data + max(budget - resident, budget // 2) + SLACK_BYTES
    if data == 0 or (before != resource.RLIM_INFINITY and before <= ceiling):
        yield
        return
    try:
        resource.setrlimit(resource.RLIMIT_DATA, (ceiling, hard))
    except (OSError, ValueError):
        yield
        return
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (before, hard))


def _usage() -> tuple[int, int]:
    """Bytes of private data (with the stack) and of resident memory of this process; zeros where untold.

    ``statm`` (proc_pid_statm(5)) is read in a tenth of the time of ``status``, which counts for small files.
    """
    try:
        with open("/proc/self/statm", "rb", buffering=0) as file:  # noqa: PTH123 - twice a case
            pages = file.read().split()
        return int(pages[5]) * _PAGE, int(pages[1]) * _PAGE
    except (OSError, IndexError, ValueError):
        return 0, 0
