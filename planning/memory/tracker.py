"""Follows every storage that operators create and free, on meta tensors or on real ones."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from .events import Convolution, Direction, Kind, Operation, Phase, Trace
from .meta_results import MetaResults

_aten = torch.ops.aten
_CONVOLUTIONS = {_aten.convolution.default: 0, _aten._convolution.default: 0}
_BACKWARD = _aten.convolution_backward.default
_COPIES_INPUT = {
    # operator: positions of the tensors that its kernel makes contiguous first, if they are not
    _aten.convolution.default: (0, 1),
    _BACKWARD: (0, 1, 2),
    _aten.native_group_norm.default: (0,),
    _aten.native_group_norm_backward.default: (0, 1),
    _aten.native_layer_norm.default: (0,),
    _aten.native_layer_norm_backward.default: (0, 1),
}
"""ATen's convolution and normalization kernels call ``contiguous()`` below the dispatcher (Convolution.cpp,
cudnn/ConvShared.cpp, group_norm.cpp, layer_norm_kernel.cu), where no mode sees the copy."""


class _Watch(weakref.ref[Any]):
    """A weak reference to a storage that knows its block."""

    __slots__ = ("block", "key")
    block: int
    key: int


class Tracker(TorchDispatchMode):
    """Records a :class:`Trace` of all operators that run inside the mode.

    Args:
        device: only storages on this device count (AdamW keeps its step counters on the CPU).
    """

    def __init__(self, device: str = "meta") -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.trace = Trace()
        self.phase: Phase = "setup"
        self.step = 0
        self._device = device
        self._watched: dict[int, _Watch] = {}
        self._names: dict[Any, str] = {}
        self._results = MetaResults() if device == "meta" else None

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Whether torch wraps every call against ``torch.compile``, which no trace runs under."""
        return False

    def __exit__(self, *exception: Any) -> None:
        """Stop: what is freed after the trace, or whenever a cycle is collected, is no part of it."""
        super().__exit__(*exception)  # type: ignore[no-untyped-call]
        self._watched.clear()

    def follow(self, tensor: Tensor, kind: Kind = "activations", *, whole_storage: bool = True) -> None:
        """Count a tensor's storage from now on, if it is not counted yet."""
        if tensor.device.type != self._device:
            return
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._watched:
            return
        watch = _Watch(storage, self._release)
        size = storage.nbytes() if whole_storage else tensor.numel() * tensor.element_size()
        watch.block = self._allocate(size, kind, tensor)
        watch.key = key
        self._watched[key] = watch

    def label(self, tensor: Tensor, kind: Kind) -> None:
        """Say what a followed storage turned out to be."""
        watch = self._watched.get(tensor.untyped_storage()._cdata)
        if watch is not None:
            self.trace.kinds[watch.block] = kind

    def begin(self, phase: Phase, step: int) -> None:
        """What follows belongs to this phase."""
        self.phase, self.step = phase, step
        self.trace.operations.append(Operation(phase, phase, step))

    def _allocate(self, size: int, kind: Kind, tensor: Tensor | None = None) -> int:
        trace = self.trace
        block = len(trace.sizes)
        trace.sizes.append(size)
        trace.kinds.append(kind)
        whole = tensor is not None and tensor.numel() * tensor.element_size() == size
        trace.shapes.append(tuple(tensor.shape) if tensor is not None and whole else None)
        trace.events.append((block, len(trace.operations) - 1))
        return block

    def _free(self, block: int) -> None:
        self.trace.events.append((~block, len(self.trace.operations) - 1))

    def _release(self, watch: _Watch) -> None:
        self._free(watch.block)
        # The address of the storage may be in use again: only forget the entry that is this one.
        if self._watched.get(watch.key) is watch:
            del self._watched[watch.key]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run one operator and count what it made."""
        name = self._names.get(func)
        if name is None:
            name = self._names[func] = str(func)
        self.trace.operations.append(Operation(name, self.phase, self.step))
        if self._results is not None:
            out = self._results.call(func, args, kwargs)
        else:
            out = func(*args, **kwargs) if kwargs else func(*args)
        copies = self._copies(func, args)
        if func is _BACKWARD:
            self._convolution_backward(args, out)
        else:
            if isinstance(out, Tensor):
                # One-threaded CPU convolutions may return a corner of a larger storage; CUDA's never do.
                self.follow(out, whole_storage=func not in _CONVOLUTIONS)
                if func in _CONVOLUTIONS:
                    self._workspace("forward", args[0], args[1], out, transposed=args[6], groups=args[8])
            elif isinstance(out, list | tuple):
                for item in out:
                    if isinstance(item, Tensor):
                        self.follow(item)
        for block in copies:
            self._free(block)
        return out

    def _copies(self, func: Any, args: tuple[Any, ...]) -> list[int]:
        positions = _COPIES_INPUT.get(func)
        if positions is None:
            return []
        return [
            self._allocate(tensor.numel() * tensor.element_size(), "workspace", tensor)
            for tensor in (args[position] for position in positions)
            if not tensor.is_contiguous()
        ]

    def _convolution_backward(self, args: tuple[Any, ...], out: tuple[Tensor | None, ...]) -> None:
        """Gradients of input, weight and bias are made one after the other, each with its own workspace."""
        gradient, source, weight = args[0], args[1], args[2]
        directions: tuple[Direction, ...] = ("data_gradient", "weight_gradient")
        for made, direction in zip(out[:2], directions, strict=True):
            if made is not None:
                self.follow(made)
                self._workspace(direction, source, weight, gradient, transposed=args[7], groups=args[9])
        if out[2] is not None:
            self.follow(out[2])

    def _workspace(
        self,
        direction: Direction,
        source: Tensor,
        weight: Tensor,
        output: Tensor,
        *,
        transposed: bool,
        groups: int,
    ) -> None:
        itemsize = output.element_size()
        block = self._allocate(0, "workspace")
        self.trace.convolutions[block] = Convolution(
            direction,
            tuple(source.shape),
            tuple(weight.shape),
            tuple(output.shape),
            itemsize,
            not transposed and groups > 1 and groups == source.shape[1],
        )
        self._free(block)
