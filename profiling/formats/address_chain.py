"""Zarr stores at chained addresses: ``simplecache::https://host/a.zarr``, ``zip://a.zarr::https://host/b.zip``.

zarr would tell only the first of a chain that it works in an event loop of zarr's; a server behind it then
answers in fsspec's own loop, which aiohttp refuses. Here all of the chain works in fsspec's loop, called from
threads.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fsspec.core import url_to_fs
from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper
from fsspec.implementations.cached import CachingFileSystem, WholeFileCacheFileSystem
from zarr.storage import FsspecStore

if TYPE_CHECKING:
    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype

_ONE_AT_A_TIME: Final = {"filecache", "blockcache", "cached"}
"""Caches whose index of what they hold is not made for several threads; that of ``simplecache`` is."""


class ChainedStore(FsspecStore):
    """A store in which a file is absent only where the last of the chain says so, and no file is half of one.

    The caches ask beforehand whether a file exists, and take any error of the server for a no; zarr would
    fill the chunk with zeros. Of a file whose transfer broke off they keep what came as the whole.
    """

    @classmethod
    def at(cls, address: str) -> ChainedStore:
        """The store at an address, for reading."""
        system, path = url_to_fs(address)
        alone = asyncio.Semaphore(1) if _ONE_AT_A_TIME & set(address.split("::")) else None
        return cls(
            AsyncFileSystemWrapper(system, asynchronous=True, semaphore=alone), path=path, read_only=True
        )

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """See :class:`zarr.abc.store.Store`; raises what a server says of a file that is not just absent."""
        path = f"{self.path}/{key}" if self.path else key
        try:
            found = await super().get(key, prototype, byte_range)
        except Exception:
            self._forget(path)
            raise
        if found is None:
            await asyncio.to_thread(self._require_absent, path)
        return found

    def _chain(self) -> Any:
        wrapper: Any = self.fs
        return wrapper.sync_fs

    def _forget(self, path: str) -> None:
        system = self._chain()
        if isinstance(system, WholeFileCacheFileSystem):
            kept = Path(system.storage[-1], system._mapper(system._strip_protocol(path)))
            kept.unlink(missing_ok=True)

    def _require_absent(self, path: str) -> None:
        system = self._chain()
        cached = False
        while isinstance(system, CachingFileSystem):
            system, cached = system.fs, True
        if not cached:
            return
        try:
            system.cat_file(path)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return
        msg = f"{path}: is there, though it was said to be absent; does it change while it is read?"
        raise OSError(msg)
