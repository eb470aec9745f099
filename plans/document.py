"""The file ``plans.json``: reading it safely, writing it atomically, migrating old versions. No torch here.

Nothing in a file is executed or imported: it holds numbers, words and names that are looked up in a registry.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from pydantic import ValidationError

from .consistency import Problem, consistency_problems
from .schema import FORMAT_VERSION, PlansDocument

MAX_BYTES = 256 * 2**20
"""Largest file that is read. 100,000 cases with splits and normalization numbers need about 30 MiB."""

SHOWN_PROBLEMS = 8
"""Of a plans file, in the message; the exception holds all."""

MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""By format version: what turns such a document into one of the next version. Version 1 is the first."""


class PlansError(ValueError):
    """A plans file that cannot be used; says which file, what is wrong with it, and what to do."""

    def __init__(self, where: str, problems: tuple[Problem, ...], remedy: str) -> None:
        self.where = where
        self.problems = problems
        lines = "".join(f"\n  {problem}" for problem in problems[:SHOWN_PROBLEMS])
        if len(problems) > SHOWN_PROBLEMS:
            lines += f"\n  and {len(problems) - SHOWN_PROBLEMS} more"
        super().__init__(f"{where}: not a usable plans file; {remedy}{':' if lines else ''}{lines}")


def migrate(content: Mapping[str, Any]) -> dict[str, Any]:
    """Bring a parsed document to this program's format version.

    Raises:
        ValueError: the version is missing, or newer than this program knows.
    """
    current = dict(content)
    version = current.get("format_version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        msg = f"format_version must be a whole number from 1 to {FORMAT_VERSION}, got {version!r}"
        raise ValueError(msg)
    if version > FORMAT_VERSION:
        msg = (
            f"format_version {version} is newer than this program knows ({FORMAT_VERSION}): update voxplan, "
            "or plan again with this version"
        )
        raise ValueError(msg)
    while version < FORMAT_VERSION:
        current = MIGRATIONS[version](current)
        version += 1
        current["format_version"] = version
    return current


def validate_plans(content: Mapping[str, Any]) -> list[Problem]:
    """Everything that is wrong with a parsed plans file; empty if it can be used.

    Types are checked strictly (``"96"`` is no number, ``1.0`` no whole one); then, if those are right, what
    fields say about each other.
    """
    return _parse(content)[1]


def _parse(content: Mapping[str, Any]) -> tuple[PlansDocument | None, list[Problem]]:
    """The document, or the problems."""
    try:
        current = migrate(content)
    except ValueError as error:
        return None, [Problem(location="format_version", message=str(error), kind="version")]
    try:
        text = json.dumps(current, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        return None, [Problem(location="", message=f"not JSON: {error}", kind="json")]
    try:
        document = PlansDocument.model_validate_json(text, strict=True)
    except ValidationError as error:
        return None, [
            Problem(
                location=".".join(str(part) for part in problem["loc"]),
                message=problem["msg"],
                kind=problem["type"],
            )
            for problem in error.errors(include_url=False, include_input=False, include_context=False)
        ]
    problems = consistency_problems(document)
    return (None if problems else document), problems


def _refuse_constant(name: str) -> NoReturn:
    """NaN and the infinities, which Python's parser would accept."""
    msg = f"{name} is not JSON"
    raise ValueError(msg)


def read_document(path: Path | str) -> PlansDocument:
    """Read, migrate and check a plans file.

    Raises:
        FileNotFoundError: there is no such file.
        PlansError: too large, not JSON, a newer version, or not a valid plans document.
    """
    path = Path(path)
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        problem = Problem(location="", message=f"larger than {MAX_BYTES} bytes", kind="size")
        raise PlansError(str(path), (problem,), "plans files are small, so this is something else")
    try:
        content = json.loads(data, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        problem = Problem(location="", message=f"{error}", kind="json")
        raise PlansError(str(path), (problem,), "it must be the JSON that plan-experiment writes") from None
    if not isinstance(content, dict):
        problem = Problem(location="", message=f"is a {type(content).__name__}, not an object", kind="json")
        raise PlansError(str(path), (problem,), "it must be the JSON that plan-experiment writes")
    if {"cases", "summary"} <= content.keys():
        raise PlansError(str(path), (), "it is a fingerprint, of which plan-experiment makes plans")
    document, problems = _parse(content)
    if document is None:
        raise PlansError(str(path), tuple(problems), "correct these fields, or plan again")
    return document


def is_plans_file(path: Path) -> bool:
    """Whether a file is a plans file of any version, even one that cannot be used."""
    try:
        with path.open("rb") as file:
            content = json.loads(file.read(MAX_BYTES))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and {"format_version", "plans", "hardware"} <= content.keys()


def save_document(document: PlansDocument, path: Path | str) -> None:
    """Write a plans file; after a crash at any moment there is the old file or the new one, never half.

    Raises:
        OSError: the folder is missing, read-only or full; the old file is untouched.
    """
    path = Path(path)
    text = document.model_dump_json(indent=2) + "\n"
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    except OSError as error:  # not the temporary name, which nobody has asked for
        raise type(error)(error.errno, error.strerror, os.fspath(path)) from error
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o666 & ~_umask())  # noqa: PTH101 - mkstemp's 0600 would hide the plans from colleagues
        os.replace(name, path)  # noqa: PTH105
    except BaseException as error:
        with suppress(OSError):
            os.unlink(name)  # noqa: PTH108
        if isinstance(error, OSError) and error.filename in (None, name):
            raise type(error)(error.errno, error.strerror, os.fspath(path)) from error
        raise
    _sync_folder(path.parent)


def _umask() -> int:
    """The process's file mode mask (reading it means setting it)."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    """Make a rename in the folder durable, where the system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def json_schema() -> dict[str, Any]:
    """JSON Schema of a plans file, for editors and other languages."""
    return PlansDocument.model_json_schema()
