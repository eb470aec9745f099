"""Plans handed over to other frameworks, one file a framework.

Every exporter is called ``exporter(document, target, *, fingerprint, preset=None, target_gb=None,
dataset=None)``: ``target`` is a folder for nnU-Net and MONAI and a file for PyTC. It returns what it wrote.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .monai import export_monai
from .nnunet import export_nnunet
from .pytc import export_pytc

EXPORTERS: dict[str, Callable[..., tuple[Path, ...]]] = {
    "nnunet": export_nnunet,
    "pytc": export_pytc,
    "monai": export_monai,
}
"""By the name that ``--export`` takes."""

__all__ = ["EXPORTERS", "export_monai", "export_nnunet", "export_pytc"]
