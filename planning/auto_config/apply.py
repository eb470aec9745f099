"""``auto_plan_config``: a configuration in, the same with planned values out."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from voxplan.plans.schema import Hardware
from voxplan.profiling.fingerprint import load_fingerprint

from ..dataset_plan import DataFacts
from ..hardware import detect_hardware, state_hardware
from . import keys
from .facts import profiled_facts, stated_facts
from .loading import LoadedConfig, load_config
from .planner import AutoConfigPlanner
from .result import AutoPlanResult
from .trees import Tree, make_tree


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
        ValueError: a value that cannot be, an unknown architecture, or nothing fits.
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
) -> tuple[Any, AutoPlanResult | None]:
    """As :func:`auto_plan_config`, with the result beside; None where planning is off."""
    if isinstance(config, str | Path):
        config = load_config(config)
    if isinstance(config, LoadedConfig):
        explicit = config.explicit | frozenset(explicit or ())
        config = config.config
    tree = make_tree(config)
    if not tree.value(keys.AUTO_PLAN):
        return tree.content, None
    written = _written_by_user(tree, explicit)
    overrides = _overrides(tree, written)
    machine = _machine(tree, hardware)
    facts = _facts(tree, written)
    architecture = tree.value(keys.ARCHITECTURE) or "mednext"
    planner = AutoConfigPlanner(architecture, manual_overrides=overrides, hardware=machine, facts=facts)
    result = planner.plan(deep_supervision=bool(tree.value(keys.DEEP_SUPERVISION)))
    result.warnings += _more_gpus_wanted(tree, machine)
    _write_back(tree, result, written, facts)
    if print_results and tree.value(keys.PRINT) is not False:
        planner.print_plan(result)
    return tree.content, result


def _written_by_user(tree: Tree, explicit: Collection[str] | None) -> frozenset[str] | None:
    """Keys that the user wrote; None means all."""
    differing = tree.differing()
    if differing is not None:
        return differing | frozenset(explicit or ())
    return None if explicit is None else frozenset(explicit)


def _is_written(key: str, written: frozenset[str] | None) -> bool:
    sections = [key[:index] for index, letter in enumerate(key) if letter == "."]
    return written is None or any(name in written for name in (key, *sections))


def _is_set(tree: Tree, key: str, written: frozenset[str] | None) -> bool:
    return tree.value(key) is not None and _is_written(key, written)


def _overrides(tree: Tree, written: frozenset[str] | None) -> dict[str, Any]:
    return {name: tree.value(key) for key, name in keys.OVERRIDES.items() if _is_set(tree, key, written)}


def _machine(tree: Tree, hardware: Hardware | None) -> Hardware:
    """The machine, as far as the configuration wants to use it."""
    machine = hardware or detect_hardware()
    gpus = _count(tree, keys.NUM_GPUS, least=0)
    if gpus == 0:
        machine = state_hardware(cpu=True, base=machine)
    elif gpus is not None and machine.gpus:
        machine = state_hardware(num_gpus=min(gpus, len(machine.gpus)), base=machine)
    cores = _count(tree, keys.NUM_CPUS, least=1)
    if cores is not None and cores < machine.cores:
        machine = machine.model_copy(update={"cores": cores})
    return machine


def _count(tree: Tree, key: str, *, least: int) -> int | None:
    """A number of devices; None means all of them.

    Raises:
        ValueError: not a whole number, or too small.
    """
    value = tree.value(key)
    if value is None or value == -1:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        msg = f"{key} must be -1 (all) or a whole number from {least} on, got {value!r}"
        raise ValueError(msg)
    return value


def _more_gpus_wanted(tree: Tree, machine: Hardware) -> list[str]:
    wanted = _count(tree, keys.NUM_GPUS, least=0)
    if wanted is None or wanted <= len(machine.gpus):
        return []
    return [f"{keys.NUM_GPUS} is {wanted}, but there are {len(machine.gpus)}: planned for those"]


def _facts(tree: Tree, written: frozenset[str] | None) -> DataFacts:
    """From the fingerprint that the configuration names, else from its spacing and shape."""
    path = tree.value(keys.FINGERPRINT)
    spacing, shape = tree.value(keys.SPACING), tree.value(keys.MEDIAN_SHAPE)
    in_channels, out_channels = tree.value(keys.IN_CHANNELS), tree.value(keys.OUT_CHANNELS)
    if path is None:
        return stated_facts(
            in_channels=1 if in_channels is None else in_channels,
            out_channels=2 if out_channels is None else out_channels,
            target_spacing=_axes(spacing, keys.SPACING),
            median_shape=_axes(shape, keys.MEDIAN_SHAPE),
        )
    return profiled_facts(
        load_fingerprint(Path(path)),
        in_channels=in_channels,
        out_channels=out_channels,
        target_spacing=_axes(spacing, keys.SPACING) if _is_set(tree, keys.SPACING, written) else None,
        unit=tree.value(keys.SPACING_UNIT),
        median_shape=_axes(shape, keys.MEDIAN_SHAPE) if _is_set(tree, keys.MEDIAN_SHAPE, written) else None,
    )


def _axes(value: Any, key: str) -> Sequence[Any] | None:
    if value is not None and (
        not isinstance(value, list | tuple)
        or any(isinstance(item, bool) or not isinstance(item, int | float) for item in value)
    ):
        msg = f"{key} must be a list of three numbers (ZYX), got {value!r}"
        raise ValueError(msg)
    return value


def _write_back(tree: Tree, result: AutoPlanResult, written: frozenset[str] | None, facts: DataFacts) -> None:
    """Planned values, what the fingerprint says, and the devices that -1 stands for."""
    values = {key: getattr(result, name) for key, name in keys.OVERRIDES.items()}
    if tree.value(keys.FINGERPRINT) is not None:
        values[keys.MEDIAN_SHAPE] = list(facts.plan.median_shape)
        for key, channels in (
            (keys.IN_CHANNELS, facts.plan.in_channels),
            (keys.OUT_CHANNELS, facts.plan.out_channels),
        ):
            if tree.value(key) is None:
                values[key] = channels
        if facts.plan.target_spacing is not None and not _is_set(tree, keys.SPACING, written):
            values[keys.SPACING] = list(facts.plan.target_spacing)
            values[keys.SPACING_UNIT] = facts.plan.spacing_unit
    values = {key: value for key, value in values.items() if not _is_set(tree, key, written)}
    if tree.value(keys.NUM_GPUS) == -1:
        values[keys.NUM_GPUS] = len(result.hardware.gpus)
    if tree.value(keys.NUM_CPUS) == -1:
        values[keys.NUM_CPUS] = result.hardware.cores
    absent = [key for key, value in values.items() if not tree.write(key, value) and key in keys.OVERRIDES]
    if absent:
        result.warnings.append(f"the configuration has no field for {', '.join(absent)}: not written there")
