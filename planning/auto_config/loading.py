"""Reading a configuration: YAML file, then ``key=value`` settings over it; and which keys were written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..overrides import OverrideError
from .dotted import flattened
from .keys import KNOWN
from .reading import parse_config_setting, read_config
from .trees import make_tree


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
    given = _nested(read_config(Path(path)))
    tree = make_tree({} if base is None else base)
    for text in settings:
        key, value = parse_config_setting(text)
        known = key in (*KNOWN, *flattened(given)) or tree.value(key) is not None
        if not known and not any(other.startswith(f"{key}.") for other in (*KNOWN, *flattened(given))):
            msg = f"setting {text!r}: {key} is not in {path}, nor known; known keys: {', '.join(KNOWN)}"
            raise OverrideError(msg)
        _set(given, key, value)
    refused = tree.put_over(given)
    if refused:
        msg = f"{path}: {', '.join(refused)}: no field of the configuration that it is put over"
        raise ValueError(msg)
    explicit = frozenset(key for key, value in flattened(given).items() if value is not None)
    return LoadedConfig(config=tree.content, explicit=explicit)


def _nested(given: dict[str, Any]) -> dict[str, Any]:
    """``data.batch_size: 2`` at the top of a file is the key of that section; other dots belong to names."""
    for key in [key for key in given if key in KNOWN]:
        _set(given, key, given.pop(key))
    return given


def _set(given: dict[str, Any], key: str, value: Any) -> None:
    """A mapping goes over a section; anything else replaces what is there."""
    *sections, name = key.split(".")
    for section in sections:
        if not isinstance(given.get(section), dict):
            given[section] = {}
        given = given[section]
    if isinstance(value, dict) and isinstance(given.get(name), dict):
        for inner, below in value.items():
            _set(given[name], str(inner), below)
    else:
        given[name] = value
