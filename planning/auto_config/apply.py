"""``auto_plan_config``: a configuration in, the same with planned values out."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any, get_args

from voxplan.plans.schema import Hardware
from voxplan.profiling.fingerprint import load_fingerprint
from voxplan.profiling.formats.base import Unit

from ..dataset_plan import DataFacts
from . import keys
from .devices import devices_missing, machine_for
from .facts import profiled_facts, stated_facts
from .loading import LoadedConfig, load_config
from .planner import AutoConfigPlanner
from .result import PlannedResult
from .trees import Tree, flag, make_tree
from .written import Written, check_names


def auto_plan_config(
    config: Any,
    print_results: bool = True,
    *,
    explicit: Collection[str] | None = None,
    hardware: Hardware | None = None,
) -> Any:
    """The configuration with planned values where the user wrote none; the one given stays as it is.

    With ``system.auto_plan`` false or missing nothing is planned. A value that the user wrote is an override:
    it is kept, and the rest is planned around it. Whether a value was written is known

    - of a YAML path and of :func:`load_config`: every key that the file or the settings name;
    - of a dict or plain DictConfig: every key that is there, or with ``explicit`` those named and no other;
    - of a DictConfig made from a dataclass: values that differ from the dataclass's default, and the keys
      named in ``explicit``.

    null is never a written value.

    Args:
        config: nested dict, path of a YAML file, DictConfig, or what :func:`load_config` gives.
        print_results: print the plan, unless ``system.print_auto_plan`` is false.
        explicit: dotted keys that the user wrote, or sections of them, e.g. ``{"data.batch_size"}``.
        hardware: the machine; detected if None.

    Returns:
        A configuration of the kind given (a dict for a path); ``-1`` of ``system.num_gpus`` and
        ``system.num_cpus`` is replaced by what there is.

    Raises:
        ValueError: a value that cannot be, a key in ``explicit`` that is neither known nor there, an unknown
            architecture, or nothing fits.
        TypeError: no configuration.
    """
    planned, _ = plan_config(config, print_results, explicit=explicit, hardware=hardware)
    return planned


def plan_config(
    config: Any,
    print_results: bool = True,
    *,
    explicit: Collection[str] | None = None,
    hardware: Hardware | None = None,
) -> tuple[Any, PlannedResult | None]:
    """As :func:`auto_plan_config`, with the result beside; None where planning is off."""
    if isinstance(config, str | Path):
        config = load_config(config)
    loaded = config if isinstance(config, LoadedConfig) else None
    tree = make_tree(config if loaded is None else loaded.config)
    check_names(tree, explicit or ())
    if loaded is not None:
        explicit = loaded.explicit | frozenset(explicit or ())
    if not flag(tree, keys.AUTO_PLAN):
        return tree.content, None
    written = Written.of(tree, explicit)
    overrides = {name: tree.value(key) for key, name in keys.OVERRIDES.items() if written.holds(key)}
    machine = machine_for(tree, hardware)
    facts = _facts(tree, written)
    architecture = tree.value(keys.ARCHITECTURE) or "mednext"
    planner = AutoConfigPlanner(architecture, manual_overrides=overrides, hardware=machine, facts=facts)
    supervised = flag(tree, keys.DEEP_SUPERVISION)
    dropped = supervised and not planner.has_deep_supervision and not written.holds(keys.DEEP_SUPERVISION)
    result = planner.plan(deep_supervision=supervised and not dropped)
    result.warnings += [*devices_missing(tree, machine), *_variants_unread(tree)]
    if dropped:
        tree.write(keys.DEEP_SUPERVISION, False)
        result.warnings.append(f"{keys.DEEP_SUPERVISION} is off: {architecture} has no outputs for it")
    _write_back(tree, result, written, facts)
    if print_results and flag(tree, keys.PRINT, unset=True):
        planner.print_plan(result)
    return tree.content, result


def _variants_unread(tree: Tree) -> list[str]:
    return [
        f"{key}={value} is not read: planned is MedNeXt with {planned}; plan-experiment plans others"
        for key, planned in keys.VARIANTS.items()
        if (value := tree.value(key)) is not None and value != planned
    ]


def _facts(tree: Tree, written: Written) -> DataFacts:
    """From the fingerprint that the configuration names, else from its spacing and shape."""
    path, unit = tree.value(keys.FINGERPRINT), tree.value(keys.SPACING_UNIT)
    if unit is not None and unit not in get_args(Unit):
        msg = f"{keys.SPACING_UNIT} must be one of {', '.join(get_args(Unit))}, got {unit!r}"
        raise ValueError(msg)
    if path is None:
        in_channels, out_channels = tree.value(keys.IN_CHANNELS), tree.value(keys.OUT_CHANNELS)
        return stated_facts(
            in_channels=1 if in_channels is None else in_channels,
            out_channels=2 if out_channels is None else out_channels,
            target_spacing=tree.value(keys.SPACING),
            median_shape=tree.value(keys.MEDIAN_SHAPE),
        )
    if not isinstance(path, str | Path):
        msg = f"{keys.FINGERPRINT} must be the path of a profile, got {path!r}"
        raise ValueError(msg)
    return profiled_facts(
        load_fingerprint(Path(path)),
        in_channels=written.value(keys.IN_CHANNELS),
        out_channels=written.value(keys.OUT_CHANNELS),
        target_spacing=written.value(keys.SPACING),
        unit=unit,
        median_shape=written.value(keys.MEDIAN_SHAPE),
    )


def _write_back(tree: Tree, result: PlannedResult, written: Written, facts: DataFacts) -> None:
    """Planned values, what the fingerprint says, and the devices that -1 stands for."""
    values: dict[str, Any] = {key: getattr(result, name) for key, name in keys.OVERRIDES.items()}
    if tree.value(keys.FINGERPRINT) is not None:
        values[keys.MEDIAN_SHAPE] = list(facts.plan.median_shape)
        values[keys.IN_CHANNELS] = facts.plan.in_channels
        values[keys.OUT_CHANNELS] = facts.plan.out_channels
        if facts.plan.target_spacing is not None and not written.holds(keys.SPACING):
            values[keys.SPACING] = list(facts.plan.target_spacing)
            values[keys.SPACING_UNIT] = facts.plan.spacing_unit
    values = {key: value for key, value in values.items() if not written.holds(key)}
    if tree.value(keys.NUM_GPUS) == -1:
        values[keys.NUM_GPUS] = len(result.hardware.gpus)
    if tree.value(keys.NUM_CPUS) == -1:
        values[keys.NUM_CPUS] = result.hardware.cores
    absent = [key for key, value in values.items() if not tree.write(key, value) and key in keys.OVERRIDES]
    if absent:
        result.warnings.append(f"the configuration has no field for {', '.join(absent)}: not written there")
