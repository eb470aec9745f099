"""One face for the kinds of configuration: nested dict here, OmegaConf in :mod:`.omega_tree`.

Keys are dotted (``data.patch_size``). A null or missing value counts as not there.
"""

from __future__ import annotations

import copy
import dataclasses
import sys
from collections.abc import Mapping
from typing import Any, Protocol


class Tree(Protocol):
    """A copy of a configuration that can be asked and changed."""

    content: Any
    """The configuration itself, of the kind that was given."""

    def value(self, key: str) -> Any:
        """Plain value at a key; None where there is none."""

    def write(self, key: str, value: Any) -> bool:
        """Set a value; False where the configuration has no field of that name and takes no new ones."""
        ...

    def put_over(self, values: Mapping[str, Any]) -> list[str]:
        """Lay nested values over those that are there; keys that no field takes come back.

        null over a section, or over a field that takes no null, leaves what is there.
        """
        ...

    def differing(self) -> frozenset[str] | None:
        """Keys whose values differ from the dataclass's defaults; None where no dataclass is behind it."""


def make_tree(config: Any) -> Tree:
    """The face of a configuration, on a copy of it.

    Raises:
        TypeError: it is neither a mapping nor a DictConfig.
    """
    if "omegaconf" in sys.modules:
        from omegaconf import DictConfig

        if isinstance(config, DictConfig):
            from .omega_tree import OmegaTree

            return OmegaTree(config)
    if dataclasses.is_dataclass(config):
        msg = "config is a dataclass: give OmegaConf.structured(config), which knows its defaults"
        raise TypeError(msg)
    if isinstance(config, Mapping):
        return DictTree(config)
    msg = f"config must be a dict, the path of a YAML file or a DictConfig, got {type(config).__name__}"
    raise TypeError(msg)


class DictTree:
    """Nested dicts."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.content: Any = copy.deepcopy(dict(config))

    def value(self, key: str) -> Any:
        """Value at a key.

        Raises:
            ValueError: a section on the way is a value.
        """
        node, above = self.content, ""
        for name in key.split("."):
            if node is None:
                return None
            if not isinstance(node, Mapping):
                msg = f"config {above}: expected a section of keys, got {node!r}"
                raise ValueError(msg)
            node, above = node.get(name), f"{above}.{name}" if above else name
        return node

    def write(self, key: str, value: Any) -> bool:
        """Set a value; sections that are missing come into being."""
        *sections, name = key.split(".")
        node = self.content
        for section in sections:
            if node.get(section) is None:
                node[section] = {}
            node = node[section]
        node[name] = value
        return True

    def put_over(self, values: Mapping[str, Any]) -> list[str]:
        """A mapping goes over a mapping, anything else replaces what is there."""
        _lay_over(self.content, values)
        return []

    def differing(self) -> frozenset[str] | None:
        """No dataclass is behind a dict."""
        return None


def flag(tree: Tree, key: str, *, unset: bool = False) -> bool:
    """A yes or no.

    Raises:
        ValueError: neither true nor false.
    """
    value = tree.value(key)
    if value is None:
        return unset
    if not isinstance(value, bool):
        msg = f"{key} must be true or false, got {value!r}"
        raise ValueError(msg)
    return value


def _lay_over(under: dict[str, Any], over: Mapping[str, Any]) -> None:
    for name, value in over.items():
        there = under.get(name)
        if isinstance(there, dict) and isinstance(value, Mapping):
            _lay_over(there, value)
        elif value is not None or not isinstance(there, dict):
            under[name] = copy.deepcopy(value)
