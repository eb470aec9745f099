"""A configuration as a plan that training can start from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from voxplan.plans.schema import Hardware, PlansDocument
from voxplan.profiling.fingerprint import load_fingerprint

from ..overrides import OverrideError
from ..provenance import document_provenance
from . import keys
from .apply import plan_config
from .dotted import flattened
from .facts import profiled_facts
from .loading import LoadedConfig
from .planner import CONFIGURATION


def document_from_config(
    loaded: LoadedConfig, *, print_results: bool = True, hardware: Hardware | None = None
) -> tuple[Any, PlansDocument]:
    """The configuration with planned values, and a plans document with the one plan that it describes.

    Args:
        loaded: of a plain YAML file; ``data.fingerprint`` must be set, since training needs normalization
            and splits as well.
        print_results: print the plan.
        hardware: the machine; detected if None.

    Raises:
        ValueError: planning is off, a key is unknown, or the channels are not those of the data.
    """
    _check_keys(loaded)
    config, result = plan_config(loaded, print_results, hardware=hardware)
    path = config.get("data", {}).get("fingerprint") if isinstance(config.get("data"), dict) else None
    if result is None:
        msg = f"{keys.AUTO_PLAN} must be true: without it there is no plan to train from"
        raise ValueError(msg)
    if path is None:
        msg = f"{keys.FINGERPRINT} must name the profile of the data that is trained on"
        raise ValueError(msg)
    fingerprint = load_fingerprint(Path(path))
    own = profiled_facts(
        fingerprint, in_channels=None, out_channels=None, target_spacing=None, unit=None, median_shape=None
    ).plan
    for key, asked, there in (
        (keys.IN_CHANNELS, result.dataset.in_channels, own.in_channels),
        (keys.OUT_CHANNELS, result.dataset.out_channels, own.out_channels),
    ):
        if asked != there:
            msg = f"{key} is {asked}, but the data and their task have {there}: leave it out, or correct it"
            raise ValueError(msg)
    name = f"{result.plan.architecture.name}/{CONFIGURATION}"
    options = {key: str(value) for key, value in flattened(loaded.config).items() if value is not None}
    provenance = document_provenance(fingerprint, options)
    document = PlansDocument(
        provenance=provenance.model_copy(update={"program": "train-from-plans"}),
        dataset=result.dataset,
        hardware=result.hardware,
        plans={name: result.plan},
        recommended=name,
    )
    return config, document


def _check_keys(loaded: LoadedConfig) -> None:
    """Nothing else reads the file: a key that is not known is a slip."""
    sections = {key.partition(".")[0] for key in keys.KNOWN}
    unknown = [key for key in flattened(loaded.config) if key not in keys.KNOWN and key not in sections]
    if unknown:
        msg = f"unknown key {', '.join(unknown)}; known keys: {', '.join(keys.KNOWN)}"
        raise OverrideError(msg)
