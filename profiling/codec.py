"""Small results as bytes and back, without pickle: nothing that a file says is executed.

One line of JSON describes the structure, deflated bytes hold the arrays behind it. Plain values, tuples,
numpy arrays and scalars, pydantic models and dataclasses go in; objects with ``state`` and ``from_state``
describe themselves. Only classes that the reader names come out.
"""

from __future__ import annotations

import dataclasses
import json
import re
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

LEVEL = 1
"""Deflate level: histograms shrink to a third at 100 MB/s; more costs time and wins little."""

PLAIN_TYPE = re.compile("[<>|=][biufcSU][0-9]{1,4}")
"""Names that :func:`encode` writes."""
DAMAGE = (
    *(ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError),
    *(RecursionError, zlib.error),
)
"""What the parts of a damaged entry raise."""


class CodecError(ValueError):
    """Bytes that this version did not write, or that were damaged since."""


def encode(value: Any) -> bytes:
    """The bytes of a value.

    Raises:
        TypeError: a value of a kind that is not listed in this module's text.
    """
    arrays: list[NDArray[Any]] = []
    tree = _to_tree(value, arrays)
    shapes = [[array.dtype.str, list(array.shape)] for array in arrays]
    body = b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)
    head = json.dumps({"tree": tree, "arrays": shapes, "bytes": len(body)}, allow_nan=True)
    return head.encode() + b"\n" + zlib.compress(body, LEVEL)


def decode(content: bytes, classes: Iterable[type], *, limit: int = 1 << 31) -> Any:
    """The value that :func:`encode` got.

    Args:
        content: the bytes.
        classes: those that may be built.
        limit: bytes that the arrays may take.

    Raises:
        CodecError: damaged, too large, or of an unknown class.
    """
    head, newline, body = content.partition(b"\n")
    try:
        described = json.loads(head)
        size = int(described["bytes"])
        if not newline or not 0 <= size <= limit:
            msg = f"the arrays claim {size} bytes"
            raise CodecError(msg)
        inflater = zlib.decompressobj()
        data = inflater.decompress(body, size + 1)
        if len(data) != size or not inflater.eof:
            msg = f"expected {size} bytes of arrays, found {len(data)}"
            raise CodecError(msg)
        arrays = _arrays(described["arrays"], data)
        return _from_tree(described["tree"], arrays, {cls.__name__: cls for cls in classes})
    except CodecError:
        raise
    except DAMAGE as error:
        msg = f"not what this version writes ({type(error).__name__}: {error})"
        raise CodecError(msg) from error


def dtype_of(name: Any) -> np.dtype[Any]:
    """The type of a name as numpy writes it (``<i4``).

    numpy itself takes much more, and has Python parse some of it.

    Raises:
        CodecError: another name.
    """
    if not isinstance(name, str) or not PLAIN_TYPE.fullmatch(name):
        msg = f"{name!r:.40} names no type of numbers or text"
        raise CodecError(msg)
    return np.dtype(name)


def _arrays(shapes: list[Any], data: bytes) -> list[NDArray[Any]]:
    arrays = []
    offset = 0
    for name, shape in shapes:
        dtype = dtype_of(name)
        count = int(np.prod(shape, dtype=object))
        arrays.append(np.frombuffer(data, dtype, count, offset).reshape(shape).copy())
        offset += count * dtype.itemsize
    return arrays


def _to_tree(value: Any, arrays: list[NDArray[Any]]) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return _scalar(value, arrays)
    if isinstance(value, np.ndarray | np.generic):
        arrays.append(np.asarray(value))
        return {"array": len(arrays) - 1, "scalar": isinstance(value, np.generic)}
    if isinstance(value, np.dtype):
        return {"dtype": value.str}
    if isinstance(value, list | tuple):
        items = [_to_tree(item, arrays) for item in value]
        return {"tuple": items} if isinstance(value, tuple) else {"list": items}
    if isinstance(value, Mapping):
        return {"dict": [[_to_tree(key, arrays), _to_tree(item, arrays)] for key, item in value.items()]}
    name = type(value).__name__
    if isinstance(value, BaseModel):
        return {"model": name, "fields": value.model_dump(mode="json")}
    if hasattr(value, "state") and hasattr(type(value), "from_state"):
        return {"object": name, "state": _to_tree(value.state(), arrays)}
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value) if field.init]
        return {"data": name, "fields": {key: _to_tree(getattr(value, key), arrays) for key in names}}
    msg = f"a {name} cannot be written to the journal"
    raise TypeError(msg)


def _scalar(value: Any, arrays: list[NDArray[Any]]) -> Any:
    """Plain values as they are; numpy's float64 is a Python float too, and must stay what it was."""
    if isinstance(value, np.generic):
        arrays.append(np.asarray(value))
        return {"array": len(arrays) - 1, "scalar": True}
    return value


def _from_tree(tree: Any, arrays: list[NDArray[Any]], classes: dict[str, type]) -> Any:
    if not isinstance(tree, dict):
        return tree
    if "array" in tree:
        array = arrays[tree["array"]]
        return array[()] if tree["scalar"] else array
    if "dtype" in tree:
        return dtype_of(tree["dtype"])
    if "tuple" in tree:
        return tuple(_from_tree(item, arrays, classes) for item in tree["tuple"])
    if "list" in tree:
        return [_from_tree(item, arrays, classes) for item in tree["list"]]
    if "dict" in tree:
        pairs = [[_from_tree(part, arrays, classes) for part in pair] for pair in tree["dict"]]
        return {key: item for key, item in pairs}  # noqa: C416 - lists of two, not tuples
    kind = next((name for name in ("model", "object", "data") if name in tree), None)
    if kind is None:
        msg = f"an unknown kind of value with {sorted(tree)}"
        raise CodecError(msg)
    cls: Any = classes.get(tree[kind])
    if cls is None:
        msg = f"an unknown class {tree[kind]!r}"
        raise CodecError(msg)
    if kind == "model":
        return cls.model_validate(tree["fields"])
    if kind == "object":
        return cls.from_state(_from_tree(tree["state"], arrays, classes))
    return cls(**{key: _from_tree(item, arrays, classes) for key, item in tree["fields"].items()})
