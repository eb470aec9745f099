"""What the user sets instead of the planner (``--set key=value``, YAML), checked before anything is planned.

A key stands for all plans, or after a scope for some: an architecture (``mednext_s.lr``), a configuration
(``2d.batch_size``) or one plan (``unet/3d_fullres.patch_size``). The narrower scope wins.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError

from voxplan.plans.domains import LARGEST_BATCH, LARGEST_EDGE, LENGTHS, MOST_WORKERS
from voxplan.plans.schema import Model, Positive, Precision, Task

from .rules.configurations import CONFIGURATIONS

Edge = Annotated[int, Field(gt=0, le=LARGEST_EDGE)]
Batch = Annotated[int, Field(gt=0, le=LARGEST_BATCH)]
Length = Annotated[float, Field(ge=LENGTHS[0], le=LENGTHS[1])]


class OverrideError(ValueError):
    """An override that is unknown, or has a value that cannot be."""


class PlanOverrides(Model):
    """What can be set for a plan; sizes are ZYX (YX in 2D)."""

    patch_size: Annotated[tuple[Edge, ...], Field(min_length=2, max_length=3)] | None = None
    batch_size: Batch | None = None
    """Per GPU."""
    accumulation: Positive | None = None
    base_features: Annotated[int, Field(ge=1, le=512)] | None = None
    """Channels at full resolution; deeper stages double them, as the architecture does."""
    precision: Precision | None = None
    checkpointing: bool | None = None
    deep_supervision: bool | None = None
    optimizer: Literal["adamw", "sgd"] | None = None
    lr: Annotated[float, Field(gt=0)] | None = None
    weight_decay: Annotated[float, Field(ge=0)] | None = None
    momentum: Annotated[float, Field(ge=0, lt=1)] | None = None
    eps: Annotated[float, Field(gt=0)] | None = None
    schedule: Literal["poly", "cosine", "constant"] | None = None
    epochs: Positive | None = None
    steps_per_epoch: Positive | None = None
    warmup_steps: Annotated[int, Field(ge=0)] | None = None
    batch_dice: bool | None = None
    workers: Annotated[int, Field(ge=0, le=MOST_WORKERS)] | None = None
    cache: Literal["none", "ram", "disk"] | None = None
    oversample_foreground: Annotated[float, Field(ge=0, le=1)] | None = None
    inference_window: tuple[Edge, ...] | None = None
    inference_overlap: Annotated[float, Field(ge=0, lt=1)] | None = None
    inference_batch_size: Batch | None = None


class DatasetOverrides(Model):
    """What can be set for the data set, for all plans alike."""

    task: Task | None = None
    affinity_offsets: Literal[3, 12] | None = None
    target_spacing: Annotated[tuple[Length, ...], Field(min_length=3, max_length=3)] | None = None
    """ZYX, in the data set's unit."""
    normalization: Literal["ct", "zscore", "scale", "none"] | None = None
    """Scheme of every channel."""


class Overrides(Model):
    """All of them, by scope."""

    dataset: DatasetOverrides = DatasetOverrides()
    scopes: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Keys of :class:`PlanOverrides` by scope; the empty scope is every plan."""

    def for_plan(self, architecture: str, configuration: str) -> PlanOverrides:
        """What is set for one plan, the narrower scope winning.

        A patch size for all plans counts where it has as many axes as the plan.
        """
        merged: dict[str, Any] = {}
        axes = 2 if configuration == "2d" else 3
        for scope in ("", configuration, architecture, f"{architecture}/{configuration}"):
            values = self.scopes.get(scope, {})
            merged |= {
                key: value
                for key, value in values.items()
                if "/" in scope or key not in ("patch_size", "inference_window") or len(value) == axes
            }
        return PlanOverrides(**merged)


def parse_setting(text: str) -> tuple[str, Any]:
    """``key=value`` of the command line; the value is YAML, and ``96,96,96`` is a list.

    Raises:
        OverrideError: no ``=``, or no YAML value.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip() or not value.strip():
        msg = f"--set {text!r}: expected KEY=VALUE, such as patch_size=96,96,96"
        raise OverrideError(msg)
    listed = f"[{value}]" if "," in value and value.strip()[0] not in "[{\"'" else value
    try:
        return key.strip(), _numbers_of(yaml.safe_load(listed))
    except (yaml.YAMLError, RecursionError, ValueError):
        msg = f"--set {text!r}: {value!r} is neither a number, a word nor a list"
        raise OverrideError(msg) from None


MAX_BYTES = 1 << 20
"""A file of overrides has a few kilobytes."""
MAX_VALUES = 100_000
"""Values of one file with its aliases written out: each alias multiplies what it stands for."""


def _numbers_of(value: Any) -> Any:
    """YAML 1.1 reads ``1e-3`` as text; people mean the number.

    Raises:
        OverrideError: aliases make it endless, or larger than :data:`MAX_VALUES`.
        RecursionError: nested too deeply, or an alias of itself.
    """
    return _number(value, itertools.count())


def _number(value: Any, seen: Iterator[int]) -> Any:
    if next(seen) > MAX_VALUES:
        msg = f"more than {MAX_VALUES} values; are aliases (*name) nested in one another?"
        raise OverrideError(msg)
    if isinstance(value, list):
        return [_number(item, seen) for item in value]
    if isinstance(value, dict):
        return {key: _number(item, seen) for key, item in value.items()}
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def read_overrides(path: Path) -> dict[str, Any]:
    """The mapping of a YAML file.

    Raises:
        OverrideError: not readable, not YAML, or no mapping.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            msg = f"larger than {MAX_BYTES} bytes"
            raise OverrideError(msg)
        _refuse_repeated_keys(data.decode())
        loaded = _numbers_of(yaml.safe_load(data.decode()))
    except OSError as error:
        msg = f"overrides {path}: cannot be read ({(error.strerror or str(error)).lower()})"
        raise OverrideError(msg) from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        reason = str(error).splitlines()[0]
        msg = f"overrides {path}: cannot be read as YAML ({reason})"
        raise OverrideError(msg) from None
    if not isinstance(loaded, dict):
        msg = f"overrides {path}: expected a mapping of keys to values, got {type(loaded).__name__}"
        raise OverrideError(msg)
    return {str(key): value for key, value in loaded.items()}


def _refuse_repeated_keys(text: str) -> None:
    """Raise OverrideError where a mapping states a key twice, of which YAML's reader takes the last."""
    pending, seen = [yaml.compose(text, Loader=yaml.SafeLoader)], set()
    while pending:
        node = pending.pop()
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            pending += node.value
        elif isinstance(node, yaml.MappingNode):
            names = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
            if repeated := [name for name, count in names.items() if count > 1]:
                msg = f"states {repeated[0]!r} twice; which of them is meant?"
                raise OverrideError(msg)
            pending += [value for _, value in node.value]


def collect_overrides(values: Mapping[str, Any] | None, architectures: Collection[str]) -> Overrides:
    """Check a mapping of overrides: flat, with dotted scopes, or nested by scope.

    Args:
        values: ``{"batch_size": 4, "2d.batch_size": 32, "unet/3d_fullres": {"patch_size": [96, 96, 96]}}``.
        architectures: registered names, which may be scopes.

    Raises:
        OverrideError: an unknown key or scope (with the known ones), or a value that cannot be.
    """
    dataset: dict[str, Any] = {}
    scopes: dict[str, dict[str, Any]] = {}
    for key, value in (values or {}).items():
        if isinstance(value, Mapping):
            _check_scope(key, architectures)
            for inner, inner_value in value.items():
                scopes.setdefault(key, {})[str(inner)] = inner_value
        elif key in DatasetOverrides.model_fields:
            dataset[key] = value
        else:
            scope, _, name = key.rpartition(".")
            if scope:
                _check_scope(scope, architectures)
            scopes.setdefault(scope, {})[name] = value
    for scope, settings in scopes.items():
        scopes[scope] = _checked(PlanOverrides, settings, scope).model_dump(exclude_unset=True)
    return Overrides(dataset=_checked(DatasetOverrides, dataset, ""), scopes=scopes)


def _check_scope(scope: str, architectures: Collection[str]) -> None:
    architecture, _, configuration = scope.partition("/")
    known = architecture in architectures and (configuration in CONFIGURATIONS or not configuration)
    if not known and scope not in CONFIGURATIONS:
        msg = (
            f"override for {scope!r}: unknown scope; expected an architecture ({', '.join(architectures)}), "
            f"a configuration ({', '.join(CONFIGURATIONS)}) or both as ARCHITECTURE/CONFIGURATION"
        )
        raise OverrideError(msg)


def _checked(model: type[Any], values: Mapping[str, Any], scope: str) -> Any:
    where = f" for {scope}" if scope else ""
    unknown = [key for key in values if key not in model.model_fields]
    if unknown:
        known: Sequence[str] = (
            *PlanOverrides.model_fields,
            *(() if scope else DatasetOverrides.model_fields),
        )
        msg = f"unknown override {unknown[0]!r}{where}; known ones: {', '.join(known)}"
        raise OverrideError(msg)
    try:
        return model(**values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = str(first["loc"][0])
        msg = f"override {key}={values.get(key)!r}{where}: {first['msg']}"
        raise OverrideError(msg) from None
