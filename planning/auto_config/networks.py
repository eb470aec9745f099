"""The four documented architectures, as registered ones."""

from __future__ import annotations

from dataclasses import dataclass
from math import lcm

from voxplan.plans.architectures import get_architecture
from voxplan.plans.architectures.base import Architecture, Arguments
from voxplan.plans.architectures.monai_unet import MonaiUNet
from voxplan.plans.schema import Ints

DIVISOR = 16
"""Voxels: every planned patch is a multiple on every axis, as documented."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A documented architecture and what the documentation promises of it."""

    registered: str
    """Name in the registry of architectures."""
    base_features: int
    max_features: int
    scheduler: str
    """Advice for the notes; never written to a configuration."""


MEDNEXT = Network(
    registered="mednext_s",
    base_features=32,
    max_features=320,
    scheduler="none (constant learning rate), as the MedNeXt configuration recommends",
)
CUSTOM = "mednext_custom"
"""MedNeXt with the user's own sizes, which the documented planner is not told."""
NETWORKS: dict[str, Network] = {
    "mednext": MEDNEXT,
    CUSTOM: MEDNEXT,
    "monai_basic_unet3d": Network(
        registered="basic_unet", base_features=32, max_features=512, scheduler="cosine annealing"
    ),
    "monai_unet": Network(
        registered="monai_unet", base_features=32, max_features=512, scheduler="cosine annealing"
    ),
}


class MonaiUNetBy16(MonaiUNet):
    """MONAI's UNet on patches of multiples of 16 only, also where its strides would allow less."""

    def divisors(self, arguments: Arguments, dimensions: int) -> Ints:
        """Multiples of 16 that the strides divide."""
        return tuple(lcm(DIVISOR, divisor) for divisor in super().divisors(arguments, dimensions))

    def minimum_patch(self, arguments: Arguments, dimensions: int) -> Ints:
        """Its own minimum, on the divisors."""
        least = super().minimum_patch(arguments, dimensions)
        divisors = self.divisors(arguments, dimensions)
        return tuple(-(-edge // divisor) * divisor for edge, divisor in zip(least, divisors, strict=True))


def find_network(name: str) -> Network:
    """The documented architecture of that name.

    Raises:
        ValueError: unknown, with the known ones.
    """
    if name not in NETWORKS:
        msg = f"architecture {name!r} is unknown; known ones: {', '.join(NETWORKS)}"
        raise ValueError(msg)
    return NETWORKS[name]


def architecture_of(network: Network, *, free_patch: bool) -> Architecture:
    """What the planner is to plan; with ``free_patch`` as the user demands it, not only multiples of 16."""
    if network.registered == MonaiUNet.name and not free_patch:
        return MonaiUNetBy16()
    return get_architecture(network.registered)
