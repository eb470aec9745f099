"""Reading a configuration: YAML file, then ``key=value`` settings over it; and which keys were written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..overrides import OverrideError, parse_setting, read_overrides
from .keys import KNOWN
from .trees import Tree, make_tree


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedConfig:
    """A configuration and the keys that a person wrote, be they equal to a default or not."""

    config: Any
    """Nested dict, or a DictConfig where ``base`` was one."""
    explicit: frozenset[str]
    """Dotted keys whose value is not null."""


def load_config(path: str | Path, settings: Sequence[str] = (), *, base: Any = None) -> LoadedConfig:
    """Read a YAML file and put command-line settings over it.

    Args:
        path: of the YAML file.
        settings: ``key=value``, e.g. ``data.batch_size=4``; ``key=null`` leaves the value to the planner.
        base: defaults underneath: a dict or a DictConfig, e.g. ``OmegaConf.structured(Config)``. Its values
            are not explicit.

    Raises:
        OverrideError: the file cannot be read, or a setting is no ``key=value``, or its key is neither known
            nor in the file or the base.
        ValueError: the base does not take a key or its value.
    """
    tree = make_tree({} if base is None else base)
    written = dict(flattened(read_overrides(Path(path))))
    for text in settings:
        key, value = parse_setting(text)
        known = key in KNOWN or key in written or tree.value(key) is not None
        if not known and not any(other.startswith(f"{key}.") for other in (*KNOWN, *written)):
            msg = f"setting {text!r}: {key} is not in {path}, nor known; known keys: {', '.join(KNOWN)}"
            raise OverrideError(msg)
        if isinstance(value, Mapping):
            written |= flattened(value, f"{key}.")
        else:
            _replace(written, key, value)
    for key, value in written.items():
        _write(tree, key, value, path)
    explicit = frozenset(key for key, value in written.items() if value is not None)
    return LoadedConfig(config=tree.content, explicit=explicit)


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


def _replace(written: dict[str, Any], key: str, value: Any) -> None:
    for other in [other for other in written if other.startswith(f"{key}.")]:
        del written[other]
    written[key] = value


def _write(tree: Tree, key: str, value: Any, path: str | Path) -> None:
    if value is None and "." not in key and tree.value(key) is not None:
        return  # "data:" with nothing under it leaves the defaults alone
    if not tree.write(key, value):
        msg = f"{path}: {key} is not a field of the configuration it is put over"
        raise ValueError(msg)
