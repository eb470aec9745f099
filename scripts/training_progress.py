"""How a training run shows itself: a bar on a terminal, about twenty lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from voxplan.profiling.report.console import safe_console, say

if TYPE_CHECKING:
    from voxplan.plans.inference import ValidationResult
    from voxplan.plans.training import Event

PLAIN_LINES = 20
"""Lines about steps that a run writes where there is no terminal."""


@contextmanager
def show_progress(before: int, steps: int) -> Iterator[Callable[[Event], None]]:
    """A bar on a terminal; elsewhere about :data:`PLAIN_LINES` lines."""
    from voxplan.plans.training import BatchHalved, StepDone, Validating

    every = max(1, steps // PLAIN_LINES)
    if not sys.stderr.isatty():

        def tell(event: Event) -> None:
            done = event.step - before
            if isinstance(event, Validating):
                due = event.case == 0
            else:
                due = not isinstance(event, StepDone) or done % every == 0 or done in (1, steps)
            if due:
                say(_sentence(event))

        yield tell
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    with Progress(*columns, console=safe_console(stderr=True)) as bar:
        task = bar.add_task("", total=steps)

        def show(event: Event) -> None:
            if isinstance(event, StepDone):
                text = f"loss {event.loss:.4f}  lr {event.lr:.2e}  {1 / event.seconds:.2f} it/s"
                bar.update(task, advance=1, description=text)
            elif isinstance(event, Validating):
                bar.update(task, description=f"validating case {event.case + 1}/{event.cases}")
            else:
                style = "yellow" if isinstance(event, BatchHalved) else None
                bar.console.print(_sentence(event), style=style, markup=False)

        yield show


def _sentence(event: Event) -> str:
    from voxplan.plans.training import BatchHalved, StepDone, Validating

    if isinstance(event, StepDone):
        rate = 1 / max(event.seconds, 1e-9)
        return f"step {event.step}  loss {event.loss:.4f}  lr {event.lr:.2e}  {rate:.2f} it/s"
    if isinstance(event, BatchHalved):
        return (
            f"step {event.step}: out of memory ({event.reason}): from now on batches of {event.batch_size}, "
            f"{event.accumulation} of them a step"
        )
    if isinstance(event, Validating):
        return f"step {event.step}  validating {event.cases} held-out case{'' if event.cases == 1 else 's'}"
    return f"step {event.step}  validation {dice_text(event.result)}"


def dice_text(result: ValidationResult) -> str:
    """Mean and single Dice of a validation."""
    if result.mean is None:
        return "Dice: no class occurs in the held-out data"
    parts = ", ".join(f"{name} {value:.3f}" for name, value in result.dice.items())
    return f"Dice {result.mean:.3f} ({parts})"
