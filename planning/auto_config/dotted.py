"""Dotted keys of nested mappings: ``data.patch_size``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def flattened(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted keys and values; lists, and empty sections, are values."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and value:
            flat |= flattened(value, f"{key}.")
        else:
            flat[key] = value
    return flat
