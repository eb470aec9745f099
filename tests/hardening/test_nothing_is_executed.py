"""No file makes the program run something: no pickle, eval or import path, in the source and at run time."""

from __future__ import annotations

import ast
import io
import json
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from voxplan.planning.overrides import OverrideError, read_overrides
from voxplan.plans.checkpoint import CheckpointError, load_checkpoint
from voxplan.profiling.codec import CodecError, decode
from voxplan.profiling.sidecar import load_histograms

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("profiling", "plans", "planning", "scripts")
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "jsonpickle", "code", "runpy"}
CALLS = {
    "eval", "exec", "compile", "__import__",
    "yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load", "yaml.unsafe_load_all",
    "yaml.full_load_all", "joblib.load", "torch.jit.load", "torch.hub.load", "torch.package.PackageImporter",
    "os.system", "os.popen", "pd.read_pickle", "pandas.read_pickle", "importlib.import_module",
    "import_module",
    "pickle.load", "pickle.loads", "pickle.Unpickler", "pydoc.locate", "hydra.utils.instantiate",
}  # fmt: skip
ALLOWED = {
    ("plans/checkpoint.py", "import pickle"),
    ("plans/lightning_ranks.py", "import_module"),
    ("scripts/benchmarks/loader_speed.py", "import_module"),
    ("scripts/fuzzing/mutant_runs.py", "importlib.import_module"),
}
"""The first names the exception that torch.load raises for what weights_only refuses; the second imports the
one of Lightning's two packages that the caller's trainer comes from; the third names torchio, where type
checkers cannot follow; the last imports modules of this tree for their mutants. No file says any name."""


def sources() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--", *FOLDERS], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [
        ROOT / name for name in listed.stdout.split("\0") if name.endswith(".py") and (ROOT / name).exists()
    ]


def called(node: ast.Call) -> str:
    return ast.unparse(node.func)


def keyword(node: ast.Call, name: str) -> object:
    """The constant that a call passes by keyword; None where it passes none."""
    for given in node.keywords:
        if given.arg == name:
            return given.value.value if isinstance(given.value, ast.Constant) else "computed"
    return None


def offences(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (f"import {a.name}" for a in node.names if a.name.split(".")[0] in MODULES)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            if (node.module or "").split(".")[0] in MODULES:
                yield f"from {node.module}"
        elif isinstance(node, ast.Call):
            name = called(node)
            if name in CALLS:
                yield name
            if name.endswith("torch.load") and keyword(node, "weights_only") is not True:
                yield "torch.load without weights_only=True"
            if name in ("np.load", "numpy.load") and keyword(node, "allow_pickle") is not False:
                yield "np.load without allow_pickle=False"
            if keyword(node, "shell") not in (None, False):
                yield f"{name} with a shell"
            if keyword(node, "allow_pickle") not in (None, False):
                yield f"{name} with allow_pickle"


def test_the_source_has_nothing_that_executes_what_a_file_says() -> None:
    files = sources()
    assert len(files) > 150
    found = [
        (path.relative_to(ROOT).as_posix(), offence)
        for path in files
        for offence in offences(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert set(found) <= ALLOWED


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from pickle import loads",
        "eval('1')",
        "yaml.load(text, Loader)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "subprocess.run(text, shell=True)",
        "importlib.import_module(name)",
    ],
)
def test_the_search_finds_each_of_them(code: str) -> None:
    assert list(offences(ast.parse(code)))


HOSTILE = """
import json, sys
from pathlib import Path
from voxplan.plans import load_plans, PlansError
good, bad = Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]]
load_plans(good).document
armed, seen = True, []
WATCHED = ("exec", "compile", "import", "os.system", "os.exec", "os.posix_spawn", "subprocess.Popen",
           "socket.", "pickle.find_class", "marshal.loads", "ctypes.dlopen", "os.remove", "os.rename",
           "shutil.")
def hook(event, args):
    if armed and event.startswith(WATCHED):
        seen.append((event, str(args)[:200]))
sys.addaudithook(hook)
for path in bad:
    try:
        load_plans(path)
    except PlansError as error:
        print(path.name, "refused")
    else:
        print(path.name, "loaded")
armed = False
print("seen", seen)
"""


def test_loading_a_plan_executes_nothing(make_plans_text: str, tmp_path: Path) -> None:
    """Import paths, code and tags wherever text may stand: refused or taken as text, never looked up."""
    good = tmp_path / "good.json"
    good.write_text(make_plans_text)
    content = json.loads(make_plans_text)
    name = next(iter(content["plans"]))
    paths = (
        "os.system",
        "builtins.eval",
        "monai.networks.nets.UNet",
        "!!python/object/apply:os.system ['x']",
    )
    written = []
    for number, text in enumerate(paths):
        for where in ("architecture", "loss", "optimizer", "dataset"):
            changed = json.loads(make_plans_text)
            if where == "dataset":
                changed["dataset"]["name"] = text
            else:
                changed["plans"][name][where]["name"] = text
            written.append(tmp_path / f"{where}-{number}.json")
            written[-1].write_text(json.dumps(changed))
    done = subprocess.run(
        [sys.executable, "-c", HOSTILE, str(good), *map(str, written)],
        capture_output=True,
        text=True,
        check=True,
    )
    *lines, seen = done.stdout.splitlines()
    assert seen == "seen []"
    verdicts = dict(line.split() for line in lines)
    assert {verdict for name, verdict in verdicts.items() if not name.startswith("dataset")} == {"refused"}
    assert {verdict for name, verdict in verdicts.items() if name.startswith("dataset")} == {"loaded"}


class Payload:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_checkpoint_with_code_is_refused(tmp_path: Path) -> None:
    bait = tmp_path / "bait"
    path = tmp_path / "a.pt"
    torch.save({"format": "voxplan checkpoint", "version": 1, "network": Payload(bait)}, path)
    with pytest.raises(CheckpointError, match="safely"):
        load_checkpoint(path)
    assert not bait.exists()
    pickle.loads(pickle.dumps(Payload(bait)))
    assert bait.exists(), "the bait works"


def test_yaml_tags_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "overrides.yaml"
    bait = tmp_path / "bait"
    path.write_text(
        f"unet: !!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ['{bait}']]"
    )
    with pytest.raises(OverrideError, match="cannot be read as YAML"):
        read_overrides(path)
    assert not bait.exists()


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "text",
    [
        "a: &a [1,1,1,1,1,1,1,1,1]\n"
        + "".join(
            f"{n}: &{n} [{', '.join(f'*{p}' for _ in range(9))}]\n"
            for p, n in zip("abcdefghi", "bcdefghij", strict=True)
        ),
        "a: &a [*a]",
        "a: " + "[" * 20_000,
    ],
    ids=["billion-laughs", "cycle", "deep"],
)
def test_yaml_that_grows_without_end_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "overrides.yaml"
    path.write_text(text)
    with pytest.raises(OverrideError, match=r"overrides\.yaml"):
        read_overrides(path)


def test_histograms_with_pickled_objects_are_refused(tmp_path: Path) -> None:
    bait, path = tmp_path / "bait", tmp_path / "f.histograms.npz"
    buffer = io.BytesIO()
    np.save(buffer, np.array([Payload(bait)], dtype=object), allow_pickle=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("index.npy", buffer.getvalue())
    with pytest.raises(CodecError):
        load_histograms(path)
    assert not bait.exists()


def test_a_journal_entry_builds_no_class_of_its_own_choice() -> None:
    for kind in ("model", "object", "data"):
        tree = {kind: "Path", "fields": {}, "state": {}}
        head = json.dumps({"tree": tree, "arrays": [], "bytes": 0}).encode()
        with pytest.raises(CodecError):
            decode(head + b"\n" + b"x\x9c\x03\x00\x00\x00\x00\x01", ())
