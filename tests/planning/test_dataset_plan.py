"""What all plans of a data set share."""

from __future__ import annotations

from collections.abc import Callable

from voxplan.planning.dataset_plan import plan_dataset
from voxplan.profiling.fingerprint import Fingerprint
from voxplan.profiling.summary import SPACING_MISSING


def test_a_stated_spacing_ends_the_remark_that_it_is_missing(
    make_fingerprint: Callable[..., Fingerprint],
) -> None:
    """Found by a newcomer: the remark of the fingerprint stood in plans that had their spacing."""
    fingerprint = make_fingerprint(shapes=((60, 300, 400),) * 6, spacing=None)
    remark = (
        f"{SPACING_MISSING} 6 cases: plans will be made in voxels unless --spacing Z Y X --unit UNIT says it"
    )
    summary = fingerprint.summary.model_copy(update={"warnings": (remark, "another")})
    said = fingerprint.model_copy(update={"summary": summary})
    stated = plan_dataset(said, spacing=(45.0, 4.6, 4.6), unit="nm").plan.warnings
    assert remark not in stated
    assert "another" in stated
    assert remark in plan_dataset(said).plan.warnings
