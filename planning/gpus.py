"""The catalogue of NVIDIA GPUs by name, for planning on a machine that has other cards, or none.

Memory is nominal, in bytes of binary gigabytes; ``gpus.yaml`` says where each number comes from.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources

import yaml

from voxplan.plans.schema import Gpu

GIB = 1024**3
"""Bytes of the "GB" that graphics memory is sold in."""
BF16_SINCE = (8, 0)
"""bf16 and TF32 tensor cores came with Ampere (CUDA C++ programming guide, arithmetic by capability)."""
FP16_TENSOR_CORES_SINCE = (7, 0)
"""fp16 tensor cores came with Volta (same source); older cards have slow or no half-precision arithmetic."""
TURING = (7, 5)
SUGGESTIONS = 6
"""Near names that an error lists."""

_NOISE = re.compile(r"\b(nvidia|geforce|tesla|graphics|card|gpu)\b")
_SMALL_TURING = re.compile(
    r"\b(gtx\s*16[0-9]0|mx[45]50|t(?:400|500|550|600|1000|1200|2000))\b", re.IGNORECASE
)
"""Cards with TU116 and TU117, of capability 7.5 but without tensor cores (TechPowerUp's reviews of the GTX
1660 Ti; pytorch/pytorch issue 58123: their fp16 convolutions give NaN). The capability cannot tell them.
"""
_MIG = re.compile(r"\s*(?:\bmig\s*)?\b(?P<profile>\d+g\.\d+gb)(?:[+-][a-z.]+)?\s*$", re.IGNORECASE)


class UnknownGpuError(ValueError):
    """A name that is not in the catalogue, or that means several cards."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueGpu:
    """One card of the catalogue."""

    name: str
    memory_gb: float
    """Nominal, as marketed; binary gigabytes."""
    compute_capability: tuple[int, int]
    generation: str
    source: str
    """Where ``memory_gb`` comes from."""
    aliases: tuple[str, ...] = ()
    mig: Mapping[str, float] = field(default_factory=dict)
    """MIG profiles and their nominal GB."""
    usable_mib: int | None = None
    """What the driver leaves to programs, where it was measured."""

    @property
    def memory(self) -> int:
        """Bytes: measured where known, else nominal."""
        return int(self.memory_gb * GIB) if self.usable_mib is None else self.usable_mib * 1024**2

    @property
    def bf16(self) -> bool:
        """Whether it computes in bf16."""
        return has_bf16(self.compute_capability)

    @property
    def tf32(self) -> bool:
        """Whether it computes in TF32."""
        return has_bf16(self.compute_capability)


def has_bf16(compute_capability: tuple[int, int] | None) -> bool:
    """Whether a capability has bf16 and TF32 tensor cores; unknown counts as no."""
    return compute_capability is not None and compute_capability >= BF16_SINCE


def has_fp16(compute_capability: tuple[int, int] | None) -> bool:
    """Whether a capability has fp16 tensor cores, but for :func:`has_tensor_cores`; unknown counts as yes
    (every card that torch still serves).
    """
    return compute_capability is None or compute_capability >= FP16_TENSOR_CORES_SINCE


def has_tensor_cores(name: str, compute_capability: tuple[int, int] | None) -> bool:
    """Whether a card has them: the small chips of Turing lack what their capability promises."""
    small = compute_capability == TURING and _SMALL_TURING.search(name) is not None
    return has_fp16(compute_capability) and not small


@lru_cache(maxsize=1)
def catalogue() -> tuple[CatalogueGpu, ...]:
    """All cards, newest generation first."""
    text = resources.files("voxplan.planning").joinpath("gpus.yaml").read_text(encoding="utf-8")
    return tuple(
        CatalogueGpu(
            **{
                **entry,
                "compute_capability": tuple(entry["compute_capability"]),
                "aliases": tuple(entry["aliases"]),
            }
        )
        for entry in yaml.safe_load(text)
    )


def _words(name: str) -> tuple[str, ...]:
    """Comparable words: lower case, no maker, no series name, ``80 gb`` and ``80gb`` alike."""
    text = re.sub(r"(\d+)\s*g(i?b)?\b", r" \1gb ", name.lower())
    text = re.sub(r"[^a-z0-9.+]+", " ", _NOISE.sub(" ", text))
    text = re.sub(r"\b(rtx|gtx)(\d)", r"\1 \2", text)
    return tuple(re.sub(r"\b(\d{4})(ti|super)\b", r"\1 \2", text).split())


def _candidates(name: str) -> list[CatalogueGpu]:
    """The card of exactly this name or alias; else all cards that have all its words."""
    words = _words(name)
    exact = [gpu for gpu in catalogue() if words in {_words(known) for known in (gpu.name, *gpu.aliases)}]
    if len(exact) == 1:
        return exact
    return [
        gpu
        for gpu in catalogue()
        if words and any(set(words) <= set(_words(known)) for known in (gpu.name, *gpu.aliases))
    ]


def _only(name: str, candidates: list[CatalogueGpu]) -> CatalogueGpu:
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        msg = f"GPU {name!r} may be any of: {_listed(candidates)}; name one of them"
        raise UnknownGpuError(msg)
    msg = (
        f"GPU {name!r} is not in the catalogue; near names: {_listed(_near(name))}; "
        "for another card state its memory with --gpu-memory GB"
    )
    raise UnknownGpuError(msg)


def find_gpu(name: str) -> CatalogueGpu:
    """The card of a name, however it is written: ``RTX 3090``, ``rtx3090``, ``NVIDIA A100-SXM4-80GB``.

    An exact name or alias wins; else the only card that has all the given words; a shorter card name wins
    over one that merely extends it (``RTX 3090`` is not the Ti).

    Raises:
        UnknownGpuError: no such card, or several; with the names to choose from.
    """
    return _only(name, _candidates(name))


def _listed(gpus: list[CatalogueGpu]) -> str:
    return ", ".join(gpu.name for gpu in gpus)


def _near(name: str) -> list[CatalogueGpu]:
    """The cards whose names look most like it."""
    by_words = {" ".join(_words(gpu.name)): gpu for gpu in catalogue()}
    found = difflib.get_close_matches(" ".join(_words(name)), by_words, n=SUGGESTIONS, cutoff=0.3)
    return [by_words[key] for key in found] or list(catalogue()[:SUGGESTIONS])


def stated_gpu(name: str) -> Gpu:
    """An absent card by its catalogue name, or one MIG slice of it (``A100 80GB 3g.40gb``).

    A slice that only one of several cards has tells which one is meant (``A100 1g.5gb``).

    Raises:
        UnknownGpuError: unknown card or slice.
    """
    match = _MIG.search(name)
    if match is None:
        card = find_gpu(name)
        return _as_gpu(card.name, card.memory, card.compute_capability)
    profile = match["profile"].lower()
    named = name[: match.start()]
    candidates = _candidates(named)
    card = _only(named, [gpu for gpu in candidates if profile in gpu.mig] or candidates)
    if profile not in card.mig:
        known = ", ".join(card.mig) or "none"
        msg = f"{card.name} has no MIG slice {profile!r}; its slices: {known}"
        raise UnknownGpuError(msg)
    return _as_gpu(f"{card.name} MIG {profile}", int(card.mig[profile] * GIB), card.compute_capability)


def _as_gpu(name: str, memory: int, compute_capability: tuple[int, int]) -> Gpu:
    return Gpu(
        name=name,
        total_memory=memory,
        free_memory=memory,
        compute_capability=compute_capability,
        present=False,
    )
