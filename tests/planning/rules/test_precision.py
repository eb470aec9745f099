"""The first precision of the recipe that the card has, by its compute capability (NVIDIA's tables).

Volta (7.0) has fp16 tensor cores, Ampere (8.0) bf16 and TF32, Pascal (6.1) none.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from voxplan.planning.rules.precision import choose_precision
from voxplan.plans.schema import Precision

VOLTA, AMPERE, PASCAL = (7, 0), (8, 0), (6, 1)


@pytest.mark.parametrize(
    ("preferred", "capability", "chosen", "by"),
    [
        (("fp16", "fp32"), VOLTA, "fp16", "architecture"),
        (("bf16", "fp16", "fp32"), AMPERE, "bf16", "architecture"),
        (("bf16", "fp16", "fp32"), VOLTA, "fp16", "hardware"),
        (("bf16", "fp16", "fp32"), PASCAL, "fp32", "hardware"),
        (("bf16",), PASCAL, "fp32", "hardware"),
        (("tf32", "fp32"), AMPERE, "tf32", "architecture"),
        (("tf32", "fp32"), VOLTA, "fp32", "hardware"),
        (("fp32", "fp16"), AMPERE, "fp32", "architecture"),
    ],
)
def test_the_first_that_the_card_has(
    preferred: Sequence[Precision], capability: tuple[int, int], chosen: Precision, by: str
) -> None:
    precision, decision = choose_precision(preferred, "cuda", capability)
    assert (precision, decision.by) == (chosen, by)
    assert f"compute capability {capability[0]}.{capability[1]}" in decision.why


def test_what_was_passed_over_is_named() -> None:
    why = choose_precision(("bf16", "fp16", "fp32"), "cuda", PASCAL)[1].why
    assert why == "fp32: the GPU has no bf16, fp16 tensor cores (compute capability 6.1)"


def test_turing_without_tensor_cores_trains_in_fp32() -> None:
    """fp16 convolutions give NaN there (pytorch/pytorch issue 58123)."""
    precision, decision = choose_precision(
        ("bf16", "fp16", "fp32"), "cuda", (7, 5), without_tensor_cores="GTX 1660 Ti"
    )
    assert (precision, decision.by) == ("fp32", "hardware")
    assert decision.why == (
        "fp32: the GPU has no bf16, fp16 tensor cores (GTX 1660 Ti, compute capability 7.5 without them)"
    )
    assert choose_precision(("fp16",), "cuda", (7, 5))[0] == "fp16"


def test_a_card_of_unknown_capability_is_taken_to_have_fp16_and_no_more() -> None:
    precision, decision = choose_precision(("bf16", "fp16"), "cuda", None)
    assert precision == "fp16"
    assert "compute capability unknown" in decision.why


def test_a_cpu_trains_in_fp32_whatever_the_recipe_prefers() -> None:
    precision, decision = choose_precision(("bf16", "fp16"), "cpu", None)
    assert (precision, decision.by) == ("fp32", "hardware")
    assert "CPU" in decision.why


def test_without_any_preference_fp32() -> None:
    precision, decision = choose_precision((), "cuda", AMPERE)
    assert (precision, decision.by) == ("fp32", "hardware")
