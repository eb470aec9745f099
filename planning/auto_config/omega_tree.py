"""OmegaConf configurations, plain and structured; imported only where the caller has OmegaConf."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf, ReadonlyConfigError
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, ValidationError

from .dotted import flattened


class OmegaTree:
    """A DictConfig; what it says about read-only and new keys is kept."""

    def __init__(self, config: DictConfig) -> None:
        self.content: Any = copy.deepcopy(config)

    def value(self, key: str) -> Any:
        """Value at a key, interpolations resolved."""
        found = OmegaConf.select(self.content, key, default=None)
        return OmegaConf.to_container(found, resolve=True) if OmegaConf.is_config(found) else found

    def write(self, key: str, value: Any) -> bool:
        """Set a value; sections outside every dataclass take new keys, closed (``struct``) or not.

        Raises:
            ValueError: the dataclass's field has another type.
        """
        content = self.content
        read_only = OmegaConf.is_readonly(content)
        if read_only:
            OmegaConf.set_readonly(content, False)
        try:
            OmegaConf.update(content, key, value, merge=False, force_add=not self._in_dataclass(key))
        except (ConfigAttributeError, ConfigKeyError, ReadonlyConfigError):
            return False
        except ValidationError as error:
            msg = f"config {key}: its type does not take {value!r}: {str(error).splitlines()[0]}"
            raise ValueError(msg) from None
        finally:
            if read_only:
                OmegaConf.set_readonly(content, True)
        return True

    def put_over(self, values: Mapping[str, Any]) -> list[str]:
        """Leaf by leaf, so that what the dataclasses say of types and fields is kept."""
        refused = []
        for key, value in flattened(values).items():
            if value is None and ("." not in key or not self._takes_null(key)):
                continue
            if not self.write(key, value):
                refused.append(key)
        return refused

    def _in_dataclass(self, key: str) -> bool:
        names = key.split(".")[:-1]
        sections = [self.content]
        for name in names:
            found = OmegaConf.select(sections[-1], name, default=None)
            if not isinstance(found, DictConfig):
                break
            sections.append(found)
        return any(_dataclass_of(section) is not None for section in sections)

    def _takes_null(self, key: str) -> bool:
        trial = OmegaTree(self.content)
        try:
            return trial.write(key, None)
        except ValueError:
            return False

    def differing(self) -> frozenset[str] | None:
        """Keys that differ from the defaults of the dataclass they belong to, however deep it stands.

        Keys outside every dataclass of the tree differ, since they have no default.
        """
        defaults = dict(_structured(self.content, ""))
        if not defaults:
            return None
        own = flattened(_plain(self.content))
        for prefix, values in defaults.items():
            for key, default in flattened(values, prefix).items():
                if key in own and own[key] == default:
                    del own[key]
        return frozenset(own)


def _dataclass_of(node: DictConfig) -> type[Any] | None:
    """Of an attrs class too, which OmegaConf takes likewise."""
    kind = OmegaConf.get_type(node)
    return kind if hasattr(kind, "__dataclass_fields__") or hasattr(kind, "__attrs_attrs__") else None


def _plain(node: DictConfig) -> dict[str, Any]:
    return cast("dict[str, Any]", OmegaConf.to_container(node, resolve=False))


def _structured(node: DictConfig, prefix: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The outermost dataclasses of a tree: where they stand, and their defaults as plain containers."""
    kind = _dataclass_of(node)
    if kind is not None:
        yield prefix, _plain(OmegaConf.structured(kind))
        return
    for name in map(str, node):
        if not OmegaConf.is_missing(node, name) and not OmegaConf.is_interpolation(node, name):
            child = node[name]
            if isinstance(child, DictConfig):
                yield from _structured(child, f"{prefix}{name}.")
