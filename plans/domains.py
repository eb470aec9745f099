"""Which values the numbers of a plans file may have at all: a file that others made may say anything.

The types (:mod:`.schema`) let a spacing of -1, a window of 0 voxels or a thousand million loader processes
pass. No torch here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from .schema import DatasetPlan, ExperimentPlan, PlansDocument, SpatialBlock

LARGEST_EDGE: Final = 1 << 20
"""Voxels along an axis of a patch or window; that of a plane in the largest EM volumes."""
LARGEST_SHAPE: Final = 1 << 62
"""Voxels along an axis of a volume: what a 64-bit index counts."""
LARGEST_BATCH: Final = 1 << 20
MOST_WORKERS: Final = 1024
"""Loader processes; more than the cores of any machine that has one GPU for each of them."""
LENGTHS: Final = (1e-30, 1e30)
"""Voxel spacings, in whatever unit, as the readers take them."""


@dataclass(frozen=True, slots=True)
class _Range:
    """A number's limits, both included, or the upper one not."""

    low: float
    high: float = float("inf")
    below: bool = False

    def message(self, value: float | None) -> str | None:
        """What is wrong with a value; None where nothing is, or where there is none."""
        if value is None or (self.low <= value <= self.high and not (self.below and value == self.high)):
            return None
        limit = ""
        if self.high != float("inf"):
            limit = f" and {'below' if self.below else 'at most'} {self.high:g}"
        return f"must be at least {self.low:g}{limit}, got {value}"


_SHARE: Final = _Range(0, 1)
_BELOW_ONE: Final = _Range(0, 1, below=True)
_NOT_NEGATIVE: Final = _Range(0)
_LENGTH: Final = _Range(*LENGTHS)
_EDGE: Final = _Range(1, LARGEST_EDGE)
_SHAPE: Final = _Range(1, LARGEST_SHAPE)


def domain_problems(document: PlansDocument) -> Iterator[tuple[str, str]]:
    """Dotted path of every field whose number cannot be, and what is wrong with it."""
    yield from _of_dataset(document.dataset)
    for name, plan in document.plans.items():
        for field, message in _of_plan(plan):
            yield f"plans.{name}.{field}", message


def _of_dataset(dataset: DatasetPlan) -> Iterator[tuple[str, str]]:
    yield from _each("dataset.target_spacing", dataset.target_spacing, _LENGTH)
    yield from _each("dataset.median_shape", dataset.median_shape, _SHAPE)
    for number, channel in enumerate(dataset.normalization):
        yield from _one(f"dataset.normalization.{number}.std", channel.std, _NOT_NEGATIVE)
        if channel.low is not None and channel.high is not None and channel.low > channel.high:
            yield f"dataset.normalization.{number}.low", f"must not exceed high, got {channel.low}"
    for name, numbers in dataset.case_numbers.items():
        yield from _each(f"dataset.case_numbers.{name}.std", numbers.std, _NOT_NEGATIVE)
    for number, split in enumerate(dataset.splits):
        if both := sorted(set(split.train) & set(split.validation)):
            yield f"dataset.splits.{number}", f"{both[0]!r} is both in train and in validation"
        for block in (*split.train_blocks, *split.validation_blocks):
            if not _is_block(block):
                message = f"axis {block.axis} from {block.start} to {block.stop} is no block of a volume"
                yield f"dataset.splits.{number}", message


def _is_block(block: SpatialBlock) -> bool:
    return block.axis in (0, 1, 2) and 0 <= block.start < block.stop


def _of_plan(plan: ExperimentPlan) -> Iterator[tuple[str, str]]:
    yield from _each("spacing", plan.spacing, _LENGTH)
    yield from _each("median_shape", plan.median_shape, _SHAPE)
    yield from _each("patch_size", plan.patch_size, _EDGE)
    yield from _each("inference.window", plan.inference.window, _EDGE)
    optimizer, memory = plan.optimizer, plan.memory
    for field, value, limits in (
        ("batch_size", plan.batch_size, _Range(1, LARGEST_BATCH)),
        ("inference.batch_size", plan.inference.batch_size, _Range(1, LARGEST_BATCH)),
        ("inference.overlap", plan.inference.overlap, _BELOW_ONE),
        ("inference.memory", plan.inference.memory, _NOT_NEGATIVE),
        ("loader.workers", plan.loader.workers, _Range(0, MOST_WORKERS)),
        ("loader.oversample_foreground", plan.loader.oversample_foreground, _SHARE),
        ("optimizer.weight_decay", optimizer.weight_decay, _NOT_NEGATIVE),
        ("optimizer.momentum", optimizer.momentum, _BELOW_ONE),
        ("optimizer.eps", optimizer.eps, _NOT_NEGATIVE),
        ("optimizer.betas.0", optimizer.betas[0], _BELOW_ONE),
        ("optimizer.betas.1", optimizer.betas[1], _BELOW_ONE),
        ("schedule.power", plan.schedule.power, _NOT_NEGATIVE),
        ("schedule.warmup_steps", plan.schedule.warmup_steps, _NOT_NEGATIVE),
        ("memory.allocated", memory.allocated, _NOT_NEGATIVE),
        ("memory.reserved", memory.reserved, _NOT_NEGATIVE),
        ("memory.context", memory.context, _NOT_NEGATIVE),
        ("memory.total", memory.total, _NOT_NEGATIVE),
        ("memory.budget", memory.budget, _NOT_NEGATIVE),
    ):
        yield from _one(field, value, limits)


def _one(field: str, value: float | None, limits: _Range) -> Iterator[tuple[str, str]]:
    if (message := limits.message(value)) is not None:
        yield field, message


def _each(field: str, values: Sequence[float] | None, limits: _Range) -> Iterator[tuple[str, str]]:
    for axis, value in enumerate(values or ()):
        yield from _one(f"{field}.{axis}", value, limits)
