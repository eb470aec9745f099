"""Remembers what operators return on meta tensors, which torch works out slowly, in Python.

A meta result is only shapes, strides and types, and depends only on those of the arguments. Networks repeat
themselves, and the second training step repeats the first.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

Effect = Literal["fresh", "in_place", "foreach", "other"]
_REDUCING = ("_foreach_norm", "_foreach_max", "_foreach_powsum")


class MetaResults:
    """Calls operators on meta tensors, or answers from memory."""

    def __init__(self) -> None:
        self._effects: dict[Any, Effect] = {}
        self._results: dict[Any, Any] = {}

    def call(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> Any:
        """What ``func(*args, **kwargs)`` returns."""
        how = self._effects.get(func)
        if how is None:
            how = self._effects[func] = _effect(func)
        if how == "foreach" and args[0][0].device.type == "meta":
            return [torch.empty_like(item) for item in args[0]] if func._schema.returns else None
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


def _effect(func: Any) -> Effect:
    """Whether an operator returns only new tensors, only writes into its first argument, or does else.

    ``foreach``: an elementwise operator over lists, whose results are like its first list.
    """
    if (name := func._schema.name.removeprefix("aten::")).startswith("_foreach_"):
        return "fresh" if name.startswith(_REDUCING) else "foreach"
    arguments, returns = func._schema.arguments, func._schema.returns
    if not any(value.alias_info is not None for value in (*arguments, *returns)):
        return "fresh"
    written = [index for index, value in enumerate(arguments) if value.alias_info is not None]
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
        size = out.untyped_storage().nbytes()
        if not _is_meta(out) or out.storage_offset() or size != out.numel() * out.element_size():
            return None
        return (out.shape, out.stride(), out.dtype)
    if isinstance(out, list | tuple) and all(item is None or isinstance(item, Tensor) for item in out):
        parts = [None if item is None else _recipe(item) for item in out]
        if any(part is None and item is not None for part, item in zip(parts, out, strict=True)):
            return None
        return parts if isinstance(out, list) else (tuple, *parts)
    return None


def _remake(recipe: Any) -> Any:
    if isinstance(recipe, list):
        return [None if part is None else _remake(part) for part in recipe]
    if recipe[0] is tuple:
        return tuple(None if part is None else _remake(part) for part in recipe[1:])
    shape, stride, dtype = recipe
    return torch.empty_strided(shape, stride, dtype=dtype, device="meta")
