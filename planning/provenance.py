"""How a plans file came about."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

from voxplan.plans.schema import Provenance
from voxplan.profiling.fingerprint import Fingerprint

PROGRAM = "plan-experiment"


def document_provenance(fingerprint: Fingerprint, options: Mapping[str, str]) -> Provenance:
    """Program, versions, time, options, and a hash of the fingerprint without its own provenance."""
    import torch

    try:
        program_version = version("voxplan")
    except PackageNotFoundError:
        program_version = "unknown"
    content = fingerprint.model_dump_json(exclude={"provenance"}).encode()
    return Provenance(
        program=PROGRAM,
        version=program_version,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        options=dict(options),
        torch_version=str(torch.__version__),
        fingerprint=hashlib.sha256(content).hexdigest(),
    )
