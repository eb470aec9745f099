"""Estimates of registered architectures, kept on disk between runs.

A callable's estimate is never kept: two callables of one name need not build one network. Nor is that of an
architecture which is not the registered one of its name. A cache that cannot
be read or written is as good as none.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import fields
from functools import cache
from importlib import metadata, resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxplan.plans.architectures import ARCHITECTURES
from voxplan.plans.cache_files import default_cache_folder
from voxplan.plans.schema import LossChoice

from .prediction import MemoryEstimate, TimelinePoint

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

    from .request import Request

CODE = ("voxplan.planning.memory", "voxplan.plans")
"""Packages whose code decides a number. Another version of any of their files asks for another estimate."""


def cache_folder() -> Path | None:
    """``memory`` in the cache folder of voxplan; None where there is none."""
    folder = default_cache_folder()
    return None if folder is None else folder / "memory"


@cache
def _versions() -> tuple[str, ...]:
    """What an estimate depends on besides its request."""
    code = hashlib.sha256()
    for package in CODE:
        for name, content in sorted(_files(resources.files(package), package)):
            code.update(f"{name} {len(content)}\n".encode() + content)
    packages = tuple(f"{name} {metadata.version(name)}" for name in ("torch", "monai", "voxplan"))
    return (code.hexdigest(), *packages)


def _files(folder: Traversable, prefix: str) -> Iterator[tuple[str, bytes]]:
    """Code and constants below a package, by dotted name."""
    for item in folder.iterdir():
        name = f"{prefix}.{item.name}"
        if item.is_dir():
            yield from _files(item, name)
        elif name.endswith((".py", ".yaml")):
            yield name, item.read_bytes()


def cache_key(request: Request) -> str | None:
    """Name of the file that holds the request's estimate; None where it must not be kept."""
    loss, architecture = request.loss, request.architecture
    if architecture is None or architecture is not ARCHITECTURES.get(architecture.name):
        return None
    if loss is not None and not isinstance(loss, LossChoice):
        return None
    asked: dict[str, Any] = {
        item.name: getattr(request, item.name)
        for item in fields(request)
        if item.name not in ("architecture", "build_callable", "loss", "optimizer", "arguments")
    }
    asked["architecture"] = architecture.name
    asked["arguments"] = dict(request.arguments)
    asked["optimizer"] = request.optimizer.model_dump()
    asked["loss"] = loss.model_dump() if loss is not None else None
    try:
        text = json.dumps([_versions(), asked], sort_keys=True)
    except (TypeError, metadata.PackageNotFoundError):
        # Arguments without a JSON form, or a source tree that is not installed and so has no version.
        return None
    return hashlib.sha256(text.encode()).hexdigest()


def cached(request: Request, kind: str, compute: Callable[[], MemoryEstimate]) -> MemoryEstimate:
    """The request's estimate, from disk or computed and then kept.

    Args:
        request: what is asked.
        kind: ``training`` or ``inference``.
        compute: makes the estimate.
    """
    folder = cache_folder()
    key = cache_key(request) if folder is not None else None
    if key is None or folder is None:
        return compute()
    path = folder / f"{kind}-{key}.json.gz"
    estimate = _read(path)
    if estimate is None:
        estimate = compute()
        _write(path, estimate)
    return estimate


def _read(path: Path) -> MemoryEstimate | None:
    try:
        held = json.loads(gzip.decompress(path.read_bytes()))
        timeline = tuple(TimelinePoint(*point) for point in held.pop("timeline"))
        estimate = MemoryEstimate(timeline=timeline, notes=tuple(held.pop("notes")), **held)
        whole = sum(estimate.parts.values()) == estimate.allocated
    except (OSError, EOFError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return estimate if whole else None


def _write(path: Path, estimate: MemoryEstimate) -> None:
    held = {item.name: getattr(estimate, item.name) for item in fields(estimate)}
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(gzip.compress(json.dumps(held).encode(), compresslevel=3))
            Path(name).replace(path)
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise
