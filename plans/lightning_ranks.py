"""Data-parallel training whose ranks agree, batch by batch, that none of them ran out of memory.

Under PyTorch's own DDP, gradients are exchanged in the middle of the backward pass: a rank that runs out of
memory there leaves the others waiting in a collective that never ends. Here every rank first finishes its
backward pass, then all exchange one byte over a gloo group on the CPU (no GPU is waited for), and another
when they have the memory that averaging takes; only then are gradients averaged. What is lost is the overlap
of that exchange with the backward pass: one all-reduce of the gradients a step, which for networks of this
kind is small beside the step.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist

BUCKET_BYTES = 25 * 2**20
"""Gradients that are averaged in one message (DDP's ``bucket_cap_mb``)."""


class PeerOutOfMemoryError(RuntimeError):
    """Another rank ran out of memory; this one gives its step up."""


class Agreement:
    """A group of its own in which ranks say, at the same points of a step, whether they ran out of memory."""

    def __init__(self, slots: int) -> None:
        """Collective over all ranks; ``slots``: how many parameters there are."""
        self._group: Any = dist.new_group(backend="gloo")
        self._slots = slots

    def exchange(self, *, out_of_memory: bool, used: Iterable[bool] = ()) -> list[bool]:
        """Which parameters have a gradient on some rank (``used`` says which have one here).

        Raises:
            PeerOutOfMemoryError: another rank said that it ran out of memory.
        """
        words = torch.zeros(1 + self._slots, dtype=torch.uint8)
        words[0] = out_of_memory
        flags = list(used)
        words[1 : 1 + len(flags)] = torch.tensor(flags, dtype=torch.uint8)
        dist.all_reduce(words, dist.ReduceOp.MAX, group=self._group)
        if words[0] and not out_of_memory:
            msg = "another rank ran out of memory"
            raise PeerOutOfMemoryError(msg)
        return [bool(word) for word in words[1:].tolist()]

    def share(self, value: Any) -> Any:
        """The value of rank 0."""
        values = [value]
        dist.broadcast_object_list(values, src=0, group=self._group)
        return values[0]

    def end(self) -> None:
        """Collective: the last of the group. Left to the end of the process, gloo's threads may abort it."""
        if dist.is_initialized():
            dist.barrier(group=self._group)
            dist.destroy_process_group(self._group)


def broadcast_module(module: nn.Module) -> None:
    """All ranks start with the weights and buffers of rank 0."""
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            dist.broadcast(tensor, src=0)


def gradients_of(parameters: Iterable[nn.Parameter]) -> list[Tensor]:
    """Their gradients; those that are missing here count as 0."""
    gradients = []
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        gradients.append(parameter.grad)
    return gradients


def allocate_buckets(gradients: Iterable[Tensor]) -> dict[torch.dtype, Tensor]:
    """By type, one flat tensor that the largest bucket fits into: all memory that averaging takes."""
    like: dict[torch.dtype, Tensor] = {}
    numbers: dict[torch.dtype, int] = {}
    for bucket in _buckets(gradients):
        kind = bucket[0].dtype
        like[kind] = bucket[0]
        numbers[kind] = max(numbers.get(kind, 0), sum(gradient.numel() for gradient in bucket))
    return {kind: like[kind].new_empty(count) for kind, count in numbers.items()}


def average_gradients(gradients: Iterable[Tensor], flats: Mapping[torch.dtype, Tensor]) -> None:
    """Gradients become their mean over the ranks, in :func:`allocate_buckets`. Nothing is allocated: a rank
    that failed here would leave the others waiting.
    """
    world = dist.get_world_size()
    for bucket in _buckets(gradients):
        sizes = [gradient.numel() for gradient in bucket]
        flat = flats[bucket[0].dtype][: sum(sizes)]
        parts = flat.split(sizes)
        for part, gradient in zip(parts, bucket, strict=True):
            part.view_as(gradient).copy_(gradient)
        dist.all_reduce(flat)
        flat /= world
        for part, gradient in zip(parts, bucket, strict=True):
            gradient.copy_(part.view_as(gradient))


def _buckets(gradients: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    bucket: list[Tensor] = []
    size = 0
    for gradient in gradients:
        if bucket and (size > BUCKET_BYTES or bucket[0].dtype != gradient.dtype):
            yield bucket
            bucket, size = [], 0
        bucket.append(gradient)
        size += gradient.numel() * gradient.element_size()
    if bucket:
        yield bucket


@lru_cache
def agreeing_strategy(namespace: str) -> type[Any]:
    """The strategy as a class of ``lightning.pytorch`` or ``pytorch_lightning``: neither takes another's."""
    base: type[Any] = import_module(f"{namespace}.strategies").DDPStrategy
    return type("AgreeingDDPStrategy", (_AgreeingDDP, base), {"__doc__": __doc__})


class _AgreeingDDP:
    """What is different from Lightning's ``DDPStrategy``, which comes behind it in the method order."""

    agreement: Agreement | None = None
    _blocked = False

    def _configure_ddp(self: Any) -> None:
        self._parameters = [p for p in self.model.parameters() if p.requires_grad]
        broadcast_module(self.model)
        self.agreement = Agreement(len(self._parameters))

    configure_ddp = _configure_ddp

    @contextmanager
    def block_backward_sync(self) -> Iterator[None]:
        """Batches that only accumulate: gradients stay on their rank."""
        self._blocked = True
        try:
            yield
        finally:
            self._blocked = False

    def post_backward(self: Any, closure_loss: Tensor) -> None:
        """Agree that all ranks came here; then average, unless more batches follow in this step."""
        used = [parameter.grad is not None for parameter in self._parameters]
        anywhere = self.agreement.exchange(out_of_memory=False, used=used)
        if self._blocked:
            return
        gradients = gradients_of(
            parameter for parameter, use in zip(self._parameters, anywhere, strict=True) if use
        )
        flats = allocate_buckets(gradients)
        # All have the room that averaging takes.
        self.agreement.exchange(out_of_memory=False)
        average_gradients(gradients, flats)

    def optimizer_step(self: Any, *arguments: Any, **options: Any) -> Any:
        """The first step allocates the optimizer's state, and may run out of memory too."""
        output = super().optimizer_step(*arguments, **options)  # type: ignore[misc]
        self.agreement.exchange(out_of_memory=False)
        return output
