"""``train-from-plans --config``: a configuration becomes plans.json beside the checkpoint."""

from __future__ import annotations

import argparse
from pathlib import Path

from voxplan.profiling.report.console import say

PLANS = "plans.json"
CONFIG = "config.yaml"
FINGERPRINT = "fingerprint.json"


def write_plans(arguments: argparse.Namespace) -> Path:
    """Plan as ``--config`` says, into ``--output``: the plans, and the configuration with planned values.

    Data without a fingerprint are profiled first. ``--device cpu`` plans for the CPU.

    Raises:
        ValueError: the configuration, a setting or the data cannot be planned from.
    """
    import yaml

    from voxplan.planning.auto_config import keys, load_config
    from voxplan.planning.auto_config.training import document_from_config
    from voxplan.plans.document import save_document

    output: Path = arguments.output
    output.mkdir(parents=True, exist_ok=True)
    settings = list(arguments.plans)
    if arguments.device == "cpu":
        settings.append(f"{keys.NUM_GPUS}=0")
    loaded = load_config(arguments.config, settings)
    if keys.FINGERPRINT not in loaded.explicit:
        settings.append(f'{keys.FINGERPRINT}="{_profile(arguments, output / FINGERPRINT)}"')
        loaded = load_config(arguments.config, settings)
    config, document = document_from_config(loaded)
    path = output / PLANS
    save_document(document, path)
    text = yaml.safe_dump(config, sort_keys=False, default_flow_style=None)
    (output / CONFIG).write_text(text, encoding="utf-8")
    say(f"planned: {path}, and {output / CONFIG} with the values filled in")
    return path


def _profile(arguments: argparse.Namespace, path: Path) -> Path:
    """Profile the data as ``profile-dataset`` does.

    Raises:
        ValueError: nothing could be profiled.
    """
    from .profile_dataset import main as profile

    command = [str(arguments.data)] if arguments.data is not None else []
    command += ["-o", str(path), "--quiet"]
    for option in ("images", "labels", "image_key", "label_key", "unit", "axes", "spacing_order"):
        value = getattr(arguments, option)
        if value is not None:
            command += [f"--{option.replace('_', '-')}", str(value)]
    for pattern in arguments.exclude:
        command += ["--exclude", pattern]
    if arguments.spacing is not None:
        command += ["--spacing", *map(str, arguments.spacing)]
    if profile(command) != 0:
        msg = f"{arguments.data or arguments.images}: could not be profiled, so there is nothing to plan"
        raise ValueError(msg)
    return path
