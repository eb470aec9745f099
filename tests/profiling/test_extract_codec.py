"""Journal entries: everything comes back as it was, and nothing that a file says is executed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from voxplan.profiling.codec import CodecError, decode, encode
from voxplan.profiling.fingerprint import Failure
from voxplan.profiling.formats.base import CaseSource, VolumeSource
from voxplan.profiling.journal import entry_name


@dataclass(frozen=True)
class Pair:
    left: Any
    right: Any


def test_values_come_back_with_their_types() -> None:
    value = Pair(
        left={"a": 1, 2: (1.5, None, "µ"), "nested": [Pair(True, np.float32(0.1))]},
        right=Failure(id="c", files=("x", "y"), kind="k", reason="r"),
    )
    assert decode(encode(value), (Pair, Failure)) == value
    back = decode(encode(value), (Pair, Failure)).left["nested"][0].right
    assert isinstance(back, np.float32)


def test_huge_integers_and_odd_floats() -> None:
    value = [3**2000, -(2**64), 5e-324, 1.7976931348623157e308, 0.1 + 0.2]
    assert decode(encode(value), ()) == value


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "uint64", "float16", "float64", ">i4"])
def test_arrays(dtype: str) -> None:
    array = np.arange(24).reshape(2, 3, 4).astype(dtype)
    back = decode(encode((array, array[:0])), ())
    assert back[0].dtype == array.dtype
    np.testing.assert_array_equal(back[0], array)
    assert back[1].shape == (0, 3, 4)
    assert back[0].flags.writeable


def test_only_named_classes_are_built() -> None:
    content = encode(Pair(1, 2))
    with pytest.raises(CodecError, match="Pair"):
        decode(content, (Failure,))


def test_what_cannot_be_described_is_refused() -> None:
    with pytest.raises(TypeError, match="function"):
        encode(lambda: None)


@pytest.mark.parametrize(
    "head",
    [
        {"tree": 1, "arrays": [], "bytes": 10**15},
        {"tree": {"array": 0, "scalar": False}, "arrays": [["|O", [1]]], "bytes": 0},
        {"tree": {"array": 0, "scalar": False}, "arrays": [["|u1", [10**12]]], "bytes": 0},
        {"tree": {"array": 5, "scalar": False}, "arrays": [], "bytes": 0},
        {"tree": {"what": 1}, "arrays": [], "bytes": 0},
        {"arrays": [], "bytes": 0},
        {"tree": 1, "arrays": [], "bytes": float("inf")},
        {"tree": 1, "arrays": [], "bytes": float("nan")},
        {"tree": 1, "arrays": [["|u1", [float("inf")]]], "bytes": 0},
        {"tree": 1, "arrays": [["|u1", [2**70]]], "bytes": 0},
        {"tree": 1, "arrays": [["|V0", [4]]], "bytes": 0},
        {"tree": 1, "arrays": [[",i4", [4]]], "bytes": 0},
        {"tree": 1, "arrays": [["(" * 99, [4]]], "bytes": 0},
        {"tree": {"dtype": "i4,(2"}, "arrays": [], "bytes": 0},
        {"tree": {"array": 2**70, "scalar": False}, "arrays": [], "bytes": 0},
    ],
)
def test_lies_are_refused(head: dict[str, Any]) -> None:
    body = encode(0).partition(b"\n")[2]
    with pytest.raises(CodecError):
        decode(json.dumps(head).encode() + b"\n" + body, ())


def test_entry_names_depend_on_all_that_the_result_does(tmp_path: Path) -> None:
    image, label = tmp_path / "i.nii", tmp_path / "l.nii"
    image.write_bytes(b"abc")
    label.write_bytes(b"abc")

    def source(path: Path, key: str | None = None) -> VolumeSource:
        return VolumeSource(paths=(path,), key=key)

    case = CaseSource(id="a", images=(source(image),), label=source(label))
    name = entry_name(case, "options")
    others = [
        entry_name(CaseSource(id="b", images=case.images, label=case.label), "options"),
        entry_name(CaseSource(id="a", images=case.images), "options"),
        entry_name(CaseSource(id="a", images=(source(image, "k"),), label=case.label), "options"),
        entry_name(CaseSource(id="a", images=(source(label),), label=source(image)), "options"),
        entry_name(case, "other"),
    ]
    label.write_bytes(b"abcd")
    others.append(entry_name(case, "options"))
    label.unlink()
    others.append(entry_name(case, "options"))
    assert len({name, *others}) == 8
