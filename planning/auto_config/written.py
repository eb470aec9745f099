"""Which values of a configuration a person wrote."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from . import keys
from .trees import Tree


@dataclass(frozen=True, slots=True)
class Written:
    """The keys that count as written: those named, whose value is not null; all where none are named."""

    tree: Tree
    named: frozenset[str] | None
    """Dotted keys and sections; None means every key."""

    @classmethod
    def of(cls, tree: Tree, explicit: Collection[str] | None) -> Written:
        """By what the caller names, and by what differs from a dataclass's defaults."""
        differing = tree.differing()
        if differing is not None:
            return cls(tree, differing | frozenset(explicit or ()))
        return cls(tree, None if explicit is None else frozenset(explicit))

    def holds(self, key: str) -> bool:
        """Whether a person wrote the value at a key."""
        return self.value(key) is not None

    def value(self, key: str) -> Any:
        """What a person wrote at a key; None where nobody did."""
        sections = [key[:index] for index, letter in enumerate(key) if letter == "."]
        named = self.named is None or any(name in self.named for name in (key, *sections))
        return self.tree.value(key) if named else None


def check_names(tree: Tree, names: Collection[str]) -> None:
    """Refuse slips.

    Raises:
        ValueError: a name that is neither a known key or section nor one with a value.
        TypeError: a string in place of a collection.
    """
    if isinstance(names, str):
        msg = f"explicit must be a collection of dotted keys, such as {{'data.batch_size'}}, got {names!r}"
        raise TypeError(msg)
    for name in names:
        known = any(key == name or key.startswith(f"{name}.") for key in keys.KNOWN)
        if not known and tree.value(name) is None:
            known_keys = ", ".join(keys.KNOWN)
            msg = f"explicit names {name!r}, which has no value and is not known; known keys: {known_keys}"
            raise ValueError(msg)
