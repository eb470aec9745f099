"""What a CPU may compute in a step; a GPU is bound by its memory alone."""

from __future__ import annotations

from voxplan.planning.rules.compute import sample_limit, step_limit


def test_a_sample_on_a_cpu_is_48_cubed() -> None:
    assert sample_limit("cpu") == 110_592


def test_a_step_on_a_cpu_is_two_samples() -> None:
    assert step_limit("cpu") == 221_184


def test_a_gpu_has_no_such_limit() -> None:
    assert sample_limit("cuda") is None
    assert step_limit("cuda") is None
