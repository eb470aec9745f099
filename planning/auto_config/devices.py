"""The machine, as far as a configuration wants to use it."""

from __future__ import annotations

from voxplan.plans.schema import Hardware

from ..hardware import detect_hardware, state_hardware
from . import keys
from .trees import Tree


def machine_for(tree: Tree, hardware: Hardware | None) -> Hardware:
    """``hardware``, or what is detected, with no more GPUs and cores than the configuration names.

    Raises:
        ValueError: ``system.num_gpus`` or ``system.num_cpus`` is no number of devices.
    """
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


def devices_missing(tree: Tree, machine: Hardware) -> list[str]:
    """Warnings of devices that the configuration names and the machine has not."""
    found = []
    for key, least, there in ((keys.NUM_GPUS, 0, len(machine.gpus)), (keys.NUM_CPUS, 1, machine.cores)):
        wanted = _count(tree, key, least=least)
        if wanted is not None and wanted > there:
            found.append(f"{key} is {wanted}, but there are {there}: planned for those")
    return found


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
