"""JSON that a person can read: short lists and objects on one line, long ones spread out."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

WIDTH = 110
"""Characters; what fits stays on one line."""

_quoted: Callable[[str], str] = json.encoder.encode_basestring
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


def json_text(value: Any) -> str:
    """The JSON text of plain values (dict, list, str, int, float, bool, None), ending in a newline.

    Raises:
        ValueError: a NaN or an infinity, which JSON does not know.
    """
    return _text(value, 0) + "\n"


def json_pieces(value: Mapping[str, Any]) -> Iterator[str]:
    """The text of :func:`json_text` piece by piece, for objects too large to stand in memory twice.

    A member of ``value`` may be an iterator: its items become a list, and are asked for one at a time. Object
    and list are always spread out, as they are wherever an item has more than :data:`WIDTH` characters.
    """
    between = "{\n "
    for key, member in value.items():
        yield f"{between}{_quoted(key)}: "
        between = ",\n "
        if isinstance(member, Iterator):
            yield from _list_pieces(member)
        else:
            yield _text(member, 1)
    yield "\n}\n"


def _list_pieces(items: Iterator[Any]) -> Iterator[str]:
    opening = "["
    for item in items:
        yield f"{opening}\n  {_text(item, 2)}"
        opening = ","
    yield "[]" if opening == "[" else "\n ]"


def _text(value: Any, indent: int) -> str:
    if isinstance(value, dict):
        items = [f"{_quoted(str(key))}: {_text(item, indent + 1)}" for key, item in value.items()]
        return _joined(items, "{}", indent)
    if isinstance(value, list | tuple):
        return _joined([_text(item, indent + 1) for item in value], "[]", indent)
    if type(value) is str:
        return _quoted(value)
    if type(value) is int or (type(value) is float and math.isfinite(value)):
        return repr(value)  # what the encoder does too, four times slower
    return _encode(value)


def _joined(items: list[str], brackets: str, indent: int) -> str:
    length = indent + sum(map(len, items)) + 2 * len(items)
    if length <= WIDTH and not any("\n" in item for item in items):
        return brackets[0] + ", ".join(items) + brackets[1]
    inner = "\n" + " " * (indent + 1)
    return brackets[0] + inner + ("," + inner).join(items) + "\n" + " " * indent + brackets[1]
