"""Who runs a planned step for ``--verify``: a process of its own for every step, on the GPU or the CPU."""

from __future__ import annotations

from typing import Any, Protocol

from voxplan.plans.schema import DatasetPlan, ExperimentPlan

from .planned_step import StepOutcome, measure_step

GIB = 1024**3
TIMEOUT = 900.0
"""Seconds for three steps; far beyond what any plan takes."""


class VerificationError(RuntimeError):
    """A plan cannot be verified here, or its step failed for another reason than memory."""


class NoGpuError(VerificationError):
    """There is no CUDA GPU to verify on."""


class StepRunner(Protocol):
    """Runs planned steps somewhere."""

    device: str
    """For people: a GPU's name, or ``cpu``."""

    def run(self, experiment: ExperimentPlan, dataset: DatasetPlan) -> StepOutcome:
        """Run the plan's step within its budget, and say what it took or that it ran out of memory."""
        ...


class ProcessRunner:
    """Each step in a fresh process, whose end, however it comes, leaves nothing behind.

    A step that takes its process with it (the kernel's out-of-memory killer, an allocator that aborts) has
    run out of memory.

    Args:
        kind: ``cuda`` or ``cpu``.
        device: for people.
    """

    def __init__(self, kind: str, device: str) -> None:
        self.kind, self.device = kind, device

    def run(self, experiment: ExperimentPlan, dataset: DatasetPlan) -> StepOutcome:
        """See :class:`StepRunner`.

        Raises:
            VerificationError: the step failed for another reason than memory, or took too long.
        """
        from joblib.externals.loky import ProcessPoolExecutor
        from joblib.externals.loky.process_executor import BrokenProcessPool

        executor: Any = ProcessPoolExecutor(max_workers=1)
        try:
            job = executor.submit(
                measure_step, experiment.model_dump(mode="json"), dataset.model_dump(mode="json"), self.kind
            )
            outcome: StepOutcome = job.result(timeout=TIMEOUT)
        except BrokenProcessPool as error:
            return StepOutcome(ran=False, reason=f"its process died: {str(error).splitlines()[0]}")
        except TimeoutError:
            msg = f"verifying on {self.device}: three steps took longer than {TIMEOUT:.0f} s"
            raise VerificationError(msg) from None
        except RuntimeError as error:
            msg = f"verifying on {self.device}: the planned step failed: {str(error).splitlines()[0]}"
            raise VerificationError(msg) from error
        finally:
            executor.shutdown(wait=True, kill_workers=True)
        return outcome


def runner_for(plans: dict[str, ExperimentPlan]) -> StepRunner:
    """Where the plans can be run: on the CPU if they are for one, else on this machine's GPU.

    Raises:
        NoGpuError: they are for a GPU and torch sees none.
        VerificationError: the GPU here has less free memory than the budget.
    """
    if all(plan.memory.device == "cpu" for plan in plans.values()):
        return ProcessRunner("cpu", "cpu")
    import torch

    if not torch.cuda.is_available():
        msg = "--verify runs the planned steps on a CUDA GPU, and torch sees none on this machine"
        raise NoGpuError(msg)
    free, index = min((torch.cuda.mem_get_info(at)[0], at) for at in range(torch.cuda.device_count()))
    name = torch.cuda.get_device_name(index)
    budget = max(plan.memory.budget for plan in plans.values())
    if budget > free:
        msg = (
            f"--verify: the plans are for {budget / GIB:.1f} GiB, and the {name} here has "
            f"{free / GIB:.1f} GiB free: verify on a card of that size, or plan for this one"
        )
        raise VerificationError(msg)
    return ProcessRunner("cuda", name)
