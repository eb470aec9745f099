"""nnU-Net's own two files, ``dataset_fingerprint.json`` and ``dataset.json``, as models.

Axis order is that of nnU-Net's reader (ZYX). ``nnunet_conversion`` makes a voxplan fingerprint of them, and
the files of a voxplan fingerprint.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator, model_validator

from voxplan.profiling.fingerprint import Shape, Triple
from voxplan.profiling.formats.spacing import is_length

ModelT = TypeVar("ModelT", bound=BaseModel)


class ChannelIntensities(BaseModel):
    """Foreground intensities of one channel, every case weighing the same."""

    model_config = ConfigDict(frozen=True, extra="allow")

    max: float
    mean: float
    median: float
    min: float
    percentile_00_5: float
    percentile_99_5: float
    std: float


class NnunetFingerprint(BaseModel):
    """``dataset_fingerprint.json``."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    foreground_intensity_properties_per_channel: dict[str, ChannelIntensities]
    median_relative_size_after_cropping: float
    shapes_after_crop: tuple[Shape, ...]
    spacings: tuple[Triple, ...]

    @model_validator(mode="after")
    def _one_row_a_case(self) -> NnunetFingerprint:
        if not self.spacings or len(self.spacings) != len(self.shapes_after_crop):
            msg = (
                f"spacings has {len(self.spacings)} cases and shapes_after_crop "
                f"{len(self.shapes_after_crop)}: both must list every case once"
            )
            raise ValueError(msg)
        if not all(is_length(value) for row in self.spacings for value in row):
            msg = "spacings must be positive finite numbers"
            raise ValueError(msg)
        if min(min(row) for row in self.shapes_after_crop) < 1:
            msg = "shapes_after_crop must be whole numbers of at least 1"
            raise ValueError(msg)
        return self


class NnunetDataset(BaseModel):
    """The keys of ``dataset.json`` that planning reads; others are kept and written back."""

    model_config = ConfigDict(frozen=True, extra="allow")

    channel_names: dict[str, str]
    labels: dict[str, int | list[int]]
    numTraining: int  # noqa: N815 - nnU-Net's key
    file_ending: str

    @model_validator(mode="before")
    @classmethod
    def _older_name(cls, data: Any) -> Any:
        """Accept ``modality``, as the Decathlon's files call the channels."""
        if isinstance(data, Mapping) and "channel_names" not in data and "modality" in data:
            return {**data, "channel_names": data["modality"]}
        return data

    @field_validator("channel_names", mode="before")
    @classmethod
    def _string_keys(cls, names: Any) -> Any:
        return {str(k): v for k, v in names.items()} if isinstance(names, Mapping) else names


def load_nnunet(fingerprint: Path, dataset_json: Path) -> tuple[NnunetFingerprint, NnunetDataset]:
    """Read nnU-Net's two files.

    Raises:
        ValueError: a file is no JSON or misses a key; the message names the file and the key.
    """
    return _read(fingerprint, NnunetFingerprint), _read(dataset_json, NnunetDataset)


def is_nnunet_fingerprint(path: Path) -> bool:
    """Whether a JSON file is nnU-Net's fingerprint and not voxplan's, by its keys."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and {"spacings", "shapes_after_crop"} <= content.keys()


def _read(path: Path, model: type[ModelT]) -> ModelT:
    try:
        return model.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole file"
        msg = f"{path}: {where}: {first['msg']}; nnU-Net's own file is expected here"
        raise ValueError(msg) from None
    except (ValueError, RecursionError) as error:
        msg = f"{path}: not a JSON file ({error})"
        raise ValueError(msg) from None
