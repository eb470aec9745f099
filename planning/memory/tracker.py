"""Follows every storage that operators create and free, on meta tensors or on real ones."""

from __future__ import annotations

import weakref
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from .events import Convolution, Direction, Kind, Operation, Phase, Trace

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


Effect = Literal["fresh", "in_place", "foreach", "other"]
_REDUCING = ("_foreach_norm", "_foreach_max", "_foreach_powsum")


def _effect(func: Any) -> Effect:
    """Whether an operator returns only new tensors, only writes into its first argument, or does else.

    ``foreach``: an elementwise operator over lists, whose results are like its first list.
    """
    if (name := func._schema.name.removeprefix("aten::")).startswith("_foreach_"):
        return "fresh" if name.startswith(_REDUCING) else "foreach"
    arguments, returns = func._schema.arguments, func._schema.returns
    if not any(value.alias_info is not None for value in (*arguments, *returns)):
        return "fresh"
    written = [i for i, value in enumerate(arguments) if value.alias_info is not None]
    if written == [0] and arguments[0].alias_info.is_write and len(returns) < 2:
        return "in_place"
    return "other"


def _signature(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """What a meta result depends on; fails on what cannot be hashed."""
    return tuple(
        (value.shape, value.stride(), value.dtype, value.device)
        if isinstance(value, Tensor)
        else _signature(tuple(value))
        if isinstance(value, list | tuple)
        else (type(value), value)
        for value in values
    )


def _is_meta(value: Any) -> bool:
    """Counters of optimizers lie on the CPU, and must really be counted."""
    return isinstance(value, Tensor) and value.device.type == "meta"


def _recipe(out: Any) -> Any:
    """How to make an operator's result again; None where it is not made of meta tensors alone."""
    if isinstance(out, Tensor):
        if out.device.type != "meta" or out.storage_offset():
            return None
        return (out.shape, out.stride(), out.dtype, out.untyped_storage().nbytes())
    if isinstance(out, list | tuple) and all(item is None or isinstance(item, Tensor) for item in out):
        parts = [None if item is None else _recipe(item) for item in out]
        if any(part is None and item is not None for part, item in zip(parts, out, strict=True)):
            return None
        return parts if isinstance(out, list) else tuple([tuple, *parts])
    return None


def _remake(recipe: Any) -> Any:
    if isinstance(recipe, list):
        return [None if part is None else _remake(part) for part in recipe]
    if recipe[0] is tuple:
        return tuple(None if part is None else _remake(part) for part in recipe[1:])
    shape, stride, dtype, _ = recipe
    return torch.empty_strided(shape, stride, dtype=dtype, device="meta")


class Tracker(TorchDispatchMode):
    """Records a :class:`Trace` of all operators that run inside the mode.

    Args:
        device: only storages on this device count (AdamW keeps its step counters on the CPU).
    """

    def __init__(self, device: str = "meta") -> None:
        super().__init__()
        self.trace = Trace()
        self.phase: Phase = "setup"
        self.step = 0
        self._device = device
        self._watched: dict[int, _Watch] = {}
        self._names: dict[Any, str] = {}
        self._effects: dict[Any, Effect] = {}
        self._results: dict[Any, Any] = {}

    def follow(self, tensor: Tensor, kind: Kind = "activations") -> None:
        """Count a tensor's storage from now on, if it is not counted yet."""
        if tensor.device.type != self._device:
            return
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._watched:
            return
        watch = _Watch(storage, self._release)
        watch.block = self._allocate(storage.nbytes(), kind)
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

    def temporary(self, *sizes: int) -> None:
        """A kernel's own temporaries, held together during the current operator."""
        blocks = [self._allocate(size, "workspace") for size in sizes]
        for block in reversed(blocks):
            self._free(block)

    def _allocate(self, size: int, kind: Kind) -> int:
        trace = self.trace
        block = len(trace.sizes)
        trace.sizes.append(size)
        trace.kinds.append(kind)
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
        out = self._run(func, args, kwargs)
        copies = self._copies(func, args)
        if func is _BACKWARD:
            self._convolution_backward(args, out)
        else:
            if isinstance(out, Tensor):
                self.follow(out)
            elif isinstance(out, list | tuple):
                for item in out:
                    if isinstance(item, Tensor):
                        self.follow(item)
            if func in _CONVOLUTIONS:
                self._workspace("forward", args[0], args[1], out, transposed=args[6], groups=args[8])
        for block in copies:
            self._free(block)
        return out

    def _run(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> Any:
        """The operator's result; on meta from memory, where the same call was made before.

        A meta result is only shapes, strides and types, which torch works out in Python for many operators.
        """
        how = self._effects.get(func)
        if how is None:
            how = self._effects[func] = _effect(func) if self._device == "meta" else "other"
        if how == "foreach" and args[0][0].device.type == "meta":
            return None if func._schema.returns == [] else [torch.empty_like(item) for item in args[0]]
        if how in ("other", "foreach"):
            return func(*args, **kwargs) if kwargs else func(*args)
        try:
            key = (func, _signature(args), _signature(tuple(kwargs.items())) if kwargs else None)
            recipe = self._results.get(key)
        except TypeError:
            return func(*args, **kwargs) if kwargs else func(*args)
        if recipe is not None:
            if how == "fresh":
                return _remake(recipe)
            return args[0] if recipe == "first" else None
        out = func(*args, **kwargs) if kwargs else func(*args)
        if how == "fresh":
            recipe = _recipe(out)
        elif _is_meta(args[0]) and (out is None or out is args[0]) and _signature(args) == key[1]:
            recipe = "none" if out is None else "first"
        if recipe is not None:
            self._results[key] = recipe
        return out

    def _copies(self, func: Any, args: tuple[Any, ...]) -> list[int]:
        positions = _COPIES_INPUT.get(func)
        if positions is None:
            return []
        return [
            self._allocate(args[position].numel() * args[position].element_size(), "workspace")
            for position in positions
            if not args[position].is_contiguous()
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
            source.numel() * itemsize,
            weight.numel() * itemsize,
            output.numel() * itemsize,
            itemsize,
            source.dim() - 2,
            not transposed and groups > 1 and groups == source.shape[1],
        )
        self._free(block)
