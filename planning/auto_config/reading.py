"""Configurations as YAML: what is quoted stays text, and ``1e-3`` is a number."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from ..overrides import MAX_BYTES, MAX_VALUES, OverrideError


class _Loader(yaml.SafeLoader):
    """YAML 1.1 wants a point and a sign in ``1.0e-3``; people write ``1e-3`` and mean the number."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def read_config(path: Path) -> dict[str, Any]:
    """The mapping of a YAML file.

    Raises:
        OverrideError: not readable, not YAML, no mapping, or larger than a configuration can be.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            msg = f"larger than {MAX_BYTES} bytes"
            raise OverrideError(msg)
        loaded = _parsed(data.decode())
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError, OverrideError) as error:
        msg = f"configuration {path}: cannot be read as YAML ({str(error).splitlines()[0]})"
        raise OverrideError(msg) from None
    if not isinstance(loaded, dict):
        msg = f"configuration {path}: expected a mapping of keys to values, got {type(loaded).__name__}"
        raise OverrideError(msg)
    return loaded


def parse_config_setting(text: str) -> tuple[str, Any]:
    """``key=value`` of the command line; the value is YAML, and ``96,96,96`` is a list.

    Raises:
        OverrideError: no ``=``, or no YAML value.
    """
    key, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not key or not value:
        msg = f"setting {text!r}: expected KEY=VALUE, such as data.patch_size=96,96,96"
        raise OverrideError(msg)
    listed = f"[{value}]" if "," in value and value[0] not in "[{\"'" else value
    try:
        return key, _parsed(listed)
    except (yaml.YAMLError, RecursionError, OverrideError):
        msg = f"setting {text!r}: {value!r} is neither a number, a word nor a list"
        raise OverrideError(msg) from None


def _parsed(text: str) -> Any:
    loader = _Loader(text)
    try:
        return _without_aliases(loader.get_single_data(), itertools.count())
    finally:
        loader.dispose()


def _without_aliases(value: Any, seen: Iterator[int]) -> Any:
    """Copies in the place of aliases, so that no key changes another.

    Raises:
        OverrideError: more values than :data:`MAX_VALUES` then.
        RecursionError: an alias of itself.
    """
    if next(seen) > MAX_VALUES:
        msg = f"more than {MAX_VALUES} values; are aliases (*name) nested in one another?"
        raise OverrideError(msg)
    if isinstance(value, list):
        return [_without_aliases(item, seen) for item in value]
    if isinstance(value, dict):
        return {key: _without_aliases(item, seen) for key, item in value.items()}
    return value
