"""One face for the kinds of configuration: nested dict, OmegaConf plain, OmegaConf structured.

Keys are dotted (``data.patch_size``). A null or missing value counts as not there.
"""

from __future__ import annotations

import copy
import dataclasses
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from omegaconf import DictConfig


class Tree(Protocol):
    """A copy of a configuration that can be asked and changed."""

    content: Any
    """The configuration itself, of the kind that was given."""

    def value(self, key: str) -> Any:
        """Plain value at a key; None where there is none."""

    def write(self, key: str, value: Any) -> bool:
        """Set a value; False where the configuration has no field of that name and takes no new ones."""
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
        """Value at a key."""
        node = self.content
        for name in key.split("."):
            if not isinstance(node, Mapping):
                return None
            node = node.get(name)
        return node

    def write(self, key: str, value: Any) -> bool:
        """Set a value; sections that are missing come into being."""
        *sections, name = key.split(".")
        node = self.content
        for section in sections:
            if node.get(section) is None:
                node[section] = {}
            node = node[section]
            if not isinstance(node, dict):
                msg = f"config {section}: expected a section of keys, got {node!r}"
                raise ValueError(msg)
        node[name] = value
        return True

    def differing(self) -> frozenset[str] | None:
        """No dataclass is behind a dict."""
        return None


class OmegaTree:
    """A DictConfig; what it says about read-only and new keys is kept."""

    def __init__(self, config: DictConfig) -> None:
        self.content: Any = copy.deepcopy(config)

    def value(self, key: str) -> Any:
        """Value at a key, interpolations resolved."""
        from omegaconf import OmegaConf

        found = OmegaConf.select(self.content, key, default=None)
        return OmegaConf.to_container(found, resolve=True) if OmegaConf.is_config(found) else found

    def write(self, key: str, value: Any) -> bool:
        """Set a value.

        Raises:
            ValueError: the dataclass's field has another type.
        """
        from omegaconf import OmegaConf, ReadonlyConfigError
        from omegaconf.errors import ConfigAttributeError, ConfigKeyError, ValidationError

        content = self.content
        read_only = OmegaConf.is_readonly(content)
        if read_only:
            OmegaConf.set_readonly(content, False)
        try:
            OmegaConf.update(content, key, value, merge=False)
        except (ConfigAttributeError, ConfigKeyError, ReadonlyConfigError):
            return False
        except ValidationError as error:
            msg = f"config {key}: the planned value {value!r} does not go in: {str(error).splitlines()[0]}"
            raise ValueError(msg) from None
        finally:
            if read_only:
                OmegaConf.set_readonly(content, True)
        return True

    def differing(self) -> frozenset[str] | None:
        """Keys that differ from the defaults of the dataclass they belong to, however deep it stands.

        Keys outside every dataclass of the tree differ, since they have no default.
        """
        from omegaconf import OmegaConf

        defaults = dict(_structured(self.content, ""))
        if not defaults:
            return None
        own = dict(_leaves(OmegaConf.to_container(self.content, resolve=False), ""))
        for prefix, values in defaults.items():
            for key, default in _leaves(values, prefix):
                if key in own and own[key] == default:
                    del own[key]
        return frozenset(own)


def _structured(node: DictConfig, prefix: str) -> Iterator[tuple[str, Any]]:
    """The outermost dataclasses of a tree: where they stand, and their defaults as plain containers."""
    from omegaconf import DictConfig, OmegaConf

    kind = OmegaConf.get_type(node)
    if kind is not None and dataclasses.is_dataclass(kind):
        yield prefix, OmegaConf.to_container(OmegaConf.structured(kind), resolve=False)
        return
    for name in map(str, node):
        if not OmegaConf.is_missing(node, name) and not OmegaConf.is_interpolation(node, name):
            child = node[name]
            if isinstance(child, DictConfig):
                yield from _structured(child, f"{prefix}{name}.")


def _leaves(node: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """Dotted keys and values; lists are values."""
    for name, value in node.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
