"""What the planner asks of traces: the first one of a process is like all others."""

from __future__ import annotations

import subprocess
import sys

from voxplan.planning.memory import MemoryModel

FIRST_OF_A_PROCESS = """
import gc
gc.disable()
from voxplan.planning.memory import MemoryModel
model = MemoryModel("monai_unet", dimensions=2)
model.total((64, 64), 2)
assert not model._unlike, "the first two traces differ"
"""


def test_what_is_freed_after_a_step_is_no_event_of_it() -> None:
    trace = MemoryModel("monai_unet", dimensions=2)._base.trace()
    freed = {trace.kinds[~block] for block, _ in trace.events if block < 0}
    assert "parameters" not in freed


def test_first_model_of_a_process_is_fitted() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", FIRST_OF_A_PROCESS], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
