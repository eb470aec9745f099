"""Plans files: what is accepted, what is refused and how, and that writing leaves old or new."""

from __future__ import annotations

import copy
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from voxplan.plans import document as module
from voxplan.plans.document import (
    PlansError,
    json_schema,
    migrate,
    read_document,
    save_document,
    validate_plans,
)
from voxplan.plans.schema import FORMAT_VERSION, PlansDocument

Maker = Callable[..., PlansDocument]
DELETE = object()


@pytest.fixture
def content(make_document: Maker) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(make_document().model_dump_json())
    return parsed


def changed(content: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy with the field at a path, its parts divided by ``>``, set or deleted."""
    result = copy.deepcopy(content)
    *parents, last = path.split(">")
    target: Any = result
    for part in parents:
        target = target[part]
    if value is DELETE:
        del target[last]
    else:
        target[last] = value
    return result


def test_what_is_saved_is_read(make_document: Maker, tmp_path: Path) -> None:
    document = make_document()
    save_document(document, tmp_path / "plans.json")
    assert read_document(tmp_path / "plans.json") == document
    assert validate_plans(json.loads((tmp_path / "plans.json").read_text())) == []
    assert list(tmp_path.iterdir()) == [tmp_path / "plans.json"]


UNET = "plans>unet/test"


@pytest.mark.parametrize(
    ("path", "value", "location", "kind"),
    [
        ("format_version", DELETE, "format_version", "version"),
        ("format_version", True, "format_version", "version"),
        ("format_version", FORMAT_VERSION + 1, "format_version", "version"),
        ("dataset>name", DELETE, "dataset.name", "missing"),
        ("dataset>nmae", "x", "dataset.nmae", "extra_forbidden"),
        ("dataset>transpose", [0, 1, 1], "dataset.transpose", "transpose"),
        ("dataset>normalization", [], "dataset.normalization", "channels"),
        (
            "dataset>normalization",
            [{"channel": "EM", "scheme": "scale"}],
            "dataset.normalization.0",
            "normalization",
        ),
        (
            "dataset>normalization",
            [{"channel": "CT", "scheme": "ct"}],
            "dataset.normalization.0",
            "normalization",
        ),
        ("recommended", "unet/3d", "recommended", "recommended"),
        (f"{UNET}>patch_size", "96", "plans.unet/test.patch_size", "tuple_type"),
        (f"{UNET}>patch_size", ["32", 32, 32], "plans.unet/test.patch_size.0", "int_type"),
        (f"{UNET}>patch_size", [32, 32, 33], "plans.unet/test.patch_size", "patch-size"),
        (f"{UNET}>patch_size", [32, 32], "plans.unet/test.patch_size", "patch-size"),
        (f"{UNET}>batch_size", 0, "plans.unet/test.batch_size", "greater_than"),
        (f"{UNET}>batch_size", 2.5, "plans.unet/test.batch_size", "int_type"),
        (f"{UNET}>global_batch_size", 3, "plans.unet/test.global_batch_size", "batch-size"),
        (f"{UNET}>architecture>name", "os.system", "plans.unet/test.architecture.name", "architecture"),
        (f"{UNET}>architecture>arguments", {}, "plans.unet/test.architecture.arguments", "arguments"),
        (f"{UNET}>architecture>arguments>eval", 1, "plans.unet/test.architecture.arguments", "arguments"),
        (
            f"{UNET}>deep_supervision",
            False,
            "plans.unet/test.loss.deep_supervision_weights",
            "deep-supervision",
        ),
        (f"{UNET}>loss>name", "bce", "plans.unet/test.loss.name", "loss"),
        (f"{UNET}>optimizer>lr", 0.0, "plans.unet/test.optimizer.lr", "greater_than"),
        (f"{UNET}>inference>window", [32], "plans.unet/test.inference.window", "axes"),
        (f"{UNET}>median_shape", [32], "plans.unet/test.median_shape", "axes"),
        (f"{UNET}>spacing", [1.0], "plans.unet/test.spacing", "axes"),
        (f"{UNET}>spacing", [1.0, float("nan"), 1.0], "", "json"),
    ],
)
def test_each_problem_has_its_place_and_kind(
    content: dict[str, Any], path: str, value: Any, location: str, kind: str
) -> None:
    problems = validate_plans(changed(content, path, value))
    assert [(problem.location, problem.kind) for problem in problems] == [(location, kind)]
    assert problems[0].message
    assert str(problems[0]).startswith(location)


def test_all_problems_are_told_at_once(content: dict[str, Any]) -> None:
    wrong = changed(content, f"{UNET}>batch_size", 0)
    wrong = changed(wrong, "plans>mednext_s/test>precision", "fp8")
    wrong = changed(wrong, "dataset>task", "regression")
    assert {problem.location for problem in validate_plans(wrong)} == {
        "plans.unet/test.batch_size",
        "plans.mednext_s/test.precision",
        "dataset.task",
    }


def test_weights_must_sum_to_one(content: dict[str, Any]) -> None:
    weights = content["plans"]["unet/test"]["loss"]["deep_supervision_weights"]
    wrong = changed(content, f"{UNET}>loss>deep_supervision_weights", [2 * weight for weight in weights])
    (problem,) = validate_plans(wrong)
    assert "sum to 1" in problem.message


def test_what_an_architecture_cannot_do_is_told(content: dict[str, Any]) -> None:
    wrong = changed(content, f"{UNET}>architecture", {"name": "basic_unet", "arguments": {}})
    wrong = changed(wrong, f"{UNET}>checkpointing", True)
    wrong = changed(wrong, f"{UNET}>loss>deep_supervision_weights", [1.0])
    problems = validate_plans(wrong)
    assert {problem.kind for problem in problems} == {"deep-supervision", "checkpointing"}
    assert all("basic_unet has no" in problem.message for problem in problems)


def test_affinity_needs_an_offset_a_channel(content: dict[str, Any]) -> None:
    wrong = changed(content, "dataset>task", "affinity")
    assert [problem.kind for problem in validate_plans(wrong)] == ["offsets", "loss", "loss"]


def test_an_error_names_file_fields_and_remedy(content: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "plans.json"
    path.write_text(json.dumps(changed(content, f"{UNET}>architecture>name", "resnet")))
    with pytest.raises(PlansError) as caught:
        read_document(path)
    message = str(caught.value)
    for part in (str(path), "plans.unet/test.architecture.name", "'resnet'", "known: unet,", "plan again"):
        assert part in message
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[1]",
        "null",
        "[" * 100_000,
        '{"format_version": NaN}',
        "\x00\xff",
        '{"format_version": 1e999}',
    ],
)
def test_what_is_no_plans_json_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "plans.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(PlansError, match=r"plans\.json"):
        read_document(path)


def test_a_huge_file_is_refused_before_it_is_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 1000)
    path = tmp_path / "plans.json"
    path.write_text(" " * 1001)
    with pytest.raises(PlansError, match="larger than 1000 bytes"):
        read_document(path)


def test_a_missing_file_is_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_document(tmp_path / "none.json")


def test_an_older_document_passes_every_migration(
    content: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two made-up versions: 1 called the plans ``experiments``, 2 knew no ``recommended``."""
    monkeypatch.setattr(module, "FORMAT_VERSION", 3)
    monkeypatch.setattr(
        module,
        "MIGRATIONS",
        {
            1: lambda old: {
                **{k: v for k, v in old.items() if k != "experiments"},
                "plans": old["experiments"],
            },
            2: lambda old: {**old, "recommended": None},
        },
    )
    old = {**content, "format_version": 1, "experiments": content["plans"]}
    del old["plans"], old["recommended"]
    new = migrate(old)
    assert new == {**content, "format_version": 3, "recommended": None}
    assert "experiments" in old


def test_a_newer_document_says_what_to_do(content: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"format_version 99 is newer.*update voxplan"):
        migrate({**content, "format_version": 99})


@pytest.mark.parametrize("failing", ["fsync", "replace", "fdopen"])
def test_a_failed_write_leaves_the_old_file(
    make_document: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    path = tmp_path / "plans.json"
    save_document(make_document(), path)
    before = path.read_bytes()

    def fail(*_args: Any, **_kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, failing, fail)
    with pytest.raises(OSError, match="No space left") as caught:
        save_document(make_document(batch_size=1), path)
    monkeypatch.undo()
    assert caught.value.filename == str(path), "where, not only what"
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [tmp_path / "plans.json"]


KILLED = """
import os, signal, sys
from voxplan.plans import document
path, moment = sys.argv[1], sys.argv[2]
plans = document.read_document(path).model_copy(update={"recommended": None})
real = getattr(os, moment)
def kill(*args, **kwargs):
    if sys.argv[3] == "after":
        real(*args, **kwargs)
    os.kill(os.getpid(), signal.SIGKILL)
setattr(os, moment, kill)
document.save_document(plans, path)
"""


@pytest.mark.parametrize(
    ("moment", "when", "new"),
    [("fsync", "before", False), ("replace", "before", False), ("replace", "after", True)],
)
def test_a_killed_write_leaves_the_old_file_or_the_new(
    make_document: Maker, tmp_path: Path, moment: str, when: str, new: bool
) -> None:
    path = tmp_path / "plans.json"
    save_document(make_document(), path)
    killed = subprocess.run([sys.executable, "-c", KILLED, path, moment, when], check=False)
    assert killed.returncode == -9
    assert read_document(path).recommended == (None if new else "unet/test")


def test_the_file_has_the_usual_permissions(make_document: Maker, tmp_path: Path) -> None:
    mask = os.umask(0o027)
    try:
        save_document(make_document(), tmp_path / "plans.json")
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "plans.json").stat().st_mode) == 0o640


def test_json_schema_covers_the_file(content: dict[str, Any]) -> None:
    schema = json_schema()
    assert set(content) <= set(schema["properties"])
    assert schema["additionalProperties"] is False
    assert set(content["plans"]["unet/test"]) <= set(schema["$defs"]["ExperimentPlan"]["properties"])
    json.dumps(schema)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), value=JSON)
def test_any_field_may_hold_anything_and_is_judged(
    content: dict[str, Any], data: st.DataObject, value: Any
) -> None:
    """No value at any place makes validation raise."""
    wrong = copy.deepcopy(content)
    target: Any = wrong
    while True:
        key = data.draw(st.sampled_from(sorted(target) if isinstance(target, dict) else range(len(target))))
        if isinstance(target[key], dict | list) and target[key] and data.draw(st.booleans()):
            target = target[key]
            continue
        target[key] = value
        break
    for problem in validate_plans(wrong):
        assert problem.kind
