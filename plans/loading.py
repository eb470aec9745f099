"""Batches of a plan's patches: which sample numbers each rank takes, and a loader that can be resumed."""

from __future__ import annotations

import json
import logging
import multiprocessing
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch import distributed as dist
from torch.utils.data import DataLoader, DistributedSampler

from voxplan.profiling.formats.base import FormatError

from .prepared import free_ram
from .targets import LabelError
from .workers_here import workers_here

if TYPE_CHECKING:
    from .build import Plan
    from .data import PatchDataset

_MARK = "in a file: "
_LABELS = "labels"

log = logging.getLogger(__name__)


class PatchSampler(DistributedSampler[int]):
    """Sample numbers for one rank, batch after batch, never repeating: a resumed run starts at its batch.

    It deals numbers to ranks by itself, which Lightning and Accelerate know a ``DistributedSampler`` by. Each
    iteration is an epoch of ``batches``; :meth:`set_epoch` says which (Lightning calls it).
    """

    def __init__(
        self,
        batch_size: int,
        batches: int,
        *,
        start: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        """``rank`` and ``world_size``: of the process group there is when an iteration begins, if None."""
        if (rank is None) != (world_size is None):
            msg = f"give rank and world_size both, or neither; got rank {rank}, world_size {world_size}"
            raise ValueError(msg)
        if rank is not None and world_size is not None and not 0 <= rank < world_size:
            msg = f"rank must be between 0 and world_size - 1 = {world_size - 1}, got {rank}"
            raise ValueError(msg)
        # Not the parent's: that one asks for the process group, which may not be there yet.
        self.batch_size = batch_size
        self.batches = batches
        self.start = start
        self.epoch = 0
        self.skip = 0
        """Batches that the next iteration leaves out, because they were done before."""
        self._place = None if rank is None or world_size is None else (rank, world_size)

    def __iter__(self) -> Iterator[int]:
        rank, world_size = self._place or _place_in_group()
        first = self.start + self.epoch * self.batches
        skip, self.skip = self.skip, 0
        for batch in range(first + skip, first + self.batches):
            sample = (batch * world_size + rank) * self.batch_size
            yield from range(sample, sample + self.batch_size)

    def __len__(self) -> int:
        return self.batches * self.batch_size


def _place_in_group() -> tuple[int, int]:
    """Rank and number of the processes that train together."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


class SampleError(RuntimeError):
    """What is wrong with a file, told by a worker: torch puts the worker's traceback before the message."""

    @classmethod
    def of(cls, error: FormatError | LabelError) -> SampleError:
        """To be raised in the worker in place of an error."""
        kind = error.kind if isinstance(error, FormatError) else _LABELS
        return cls(f"{_MARK}{json.dumps([kind, str(error)])}")

    def cause(self) -> FormatError | LabelError:
        """The error that was raised in the worker."""
        kind, message = json.loads(str(self).rpartition(_MARK)[2].splitlines()[0])
        return LabelError(message) if kind == _LABELS else FormatError(message, kind=kind)


class PatchLoader(DataLoader[dict[str, Tensor]]):
    """A loader that knows how far its epoch has come, so that training goes on in the middle of one.

    The state counts samples, not batches: it holds for another batch size too.
    """

    _done = 0

    @property
    def patch_sampler(self) -> PatchSampler:
        """The sampler, which deals out the numbers of samples."""
        assert isinstance(self.sampler, PatchSampler)
        return self.sampler

    def __iter__(self) -> Iterator[dict[str, Tensor]]:  # type: ignore[override]
        """One epoch, or what is left of it after :meth:`load_state_dict`."""
        self._done = self.patch_sampler.skip
        try:
            for batch in super().__iter__():
                self._done += 1
                yield batch
        except SampleError as error:
            raise error.cause() from error

    def state_dict(self) -> dict[str, Any]:
        """Samples of this rank that the current epoch gave so far."""
        return {"samples": self._done * self.patch_sampler.batch_size}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The next epoch begins behind these samples; one that was finished begins anew."""
        self.patch_sampler.skip = (
            state["samples"] // self.patch_sampler.batch_size % self.patch_sampler.batches
        )


def make_loader(
    plan: Plan,
    dataset: PatchDataset,
    *,
    steps: int,
    start: int = 0,
    workers: int | None = None,
    rank: int | None = None,
    world_size: int | None = None,
    context: str | None = None,
) -> PatchLoader:
    """Batches for ``steps`` optimizer steps from step ``start`` on; passes over whole volumes are made first.

    Args:
        plan: its batch size, accumulation and workers.
        dataset: of the same plan.
        steps: optimizer steps (``accumulation`` batches each).
        start: steps that were done before.
        workers: instead of the plan's, or as many of them as this machine bears.
        rank: of this process under DDP; None: of the process group, once it is there.
        world_size: processes under DDP; likewise.
        context: start method of the workers (``spawn``, ``fork``); None: Python's default, but ``fork`` where
            the plan caches in RAM, so that they share what this process holds.
    """
    dataset.prepare()
    sampler = PatchSampler(
        plan.batch_size,
        steps * plan.accumulation,
        start=start * plan.accumulation,
        rank=rank,
        world_size=world_size,
    )
    number = workers_here(plan) if workers is None else workers
    if number:
        context = _start_method(dataset, number, plan.devices, context)
    dataset.reader.close()
    return PatchLoader(
        dataset,
        batch_size=plan.batch_size,
        sampler=sampler,
        num_workers=number,
        pin_memory=plan.loader.pin_memory and torch.cuda.is_available(),
        multiprocessing_context=context if number else None,
    )


def _start_method(dataset: PatchDataset, workers: int, processes: int, context: str | None) -> str | None:
    """How workers start. Where they cannot share a cache, and cannot each have one, nothing is cached."""
    held = dataset.held_bytes()
    if not held:
        return context
    if context is None and "fork" in multiprocessing.get_all_start_methods():
        return "fork"
    method = context or multiprocessing.get_start_method()
    if method != "fork" and workers * held > free_ram(processes):
        log.warning(
            "each of %d workers would hold %.1f GiB, since %s shares no memory: nothing is cached; "
            "start them by fork, or let the plan cache on disk",
            workers,
            held / 2**30,
            method,
        )
        dataset.drop_cache()
    return method
