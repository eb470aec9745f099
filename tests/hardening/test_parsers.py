"""The parsers of this program return, or say what is wrong, whatever the bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from voxplan.profiling.formats.base import FormatError
from voxplan.profiling.formats.tiff_chain import check_chain
from voxplan.scripts.fuzzing.mutations import mutate
from voxplan.scripts.fuzzing.targets import TARGETS, beginnings

MAGIC = (
    b"\x5c\x01\0\0",
    b"NRRD0005\n",
    b"ObjectType = Image\n",
    b"II*\0",
    b"II+\0\x08\0\0\0",
    b"\x1f\x8b\x08\0",
    b"<OME>",
)
SLOW = [HealthCheck.too_slow, HealthCheck.large_base_example]


@pytest.mark.parametrize("name", TARGETS)
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.large_base_example],
)
@given(data=st.data())
def test_any_bytes(name: str, data: st.DataObject) -> None:
    TARGETS[name](data.draw(st.sampled_from((b"", *MAGIC))) + data.draw(st.binary(max_size=600)))


@pytest.mark.parametrize("name", TARGETS)
def test_changed_good_headers(name: str) -> None:
    rng = np.random.default_rng(11)
    start = beginnings(name)
    for _ in range(150):
        TARGETS[name](mutate(rng, start[int(rng.integers(0, len(start)))]))


def test_a_tiff_that_ends_within_the_number_of_its_tags(tmp_path: Path) -> None:
    """Found by Atheris: the directory begins at the last byte of the file."""
    path = tmp_path / "a.tif"
    path.write_bytes(b"II*\x00\x08\x00\x00\x00\x0f")
    with pytest.raises(FormatError, match="truncated"):
        check_chain(path)
