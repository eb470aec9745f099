"""The patches that an architecture can train with on some data, and the largest of them that fits.

Sizes are ZYX (YX in 2D). Nothing here knows what memory is: the caller says whether a candidate fits.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from voxplan.plans.architectures.base import Architecture
from voxplan.plans.schema import Ints

SENSIBLE_VOXELS = {2: 128**2, 3: 64**3}
"""Voxels of the smallest patch worth training on, by dimensions, unless the image itself is smaller: below it
a network of four or more poolings sees mostly its own padding. Our choice; nnU-Net has no such floor.
"""
RUNGS_PER_DOUBLING = 6
"""Steps in which the search scales the edge of the patch; divisors make most of them fall together."""
SMALLER_DOUBLINGS = 3
"""How far below the edge of the smallest sensible patch the scaling begins: a network that needs 32 voxels of
an axis that has one makes a patch 32 times larger than asked for, which is 2.5 doublings of the other edges.
"""
TYPICAL_VOXELS = {2: 512**2, 3: 128**3}
"""Voxels of the patch that the search looks at first, by dimensions: what most published networks train on.
Its topology is near the final one.
"""

Load = Callable[["Candidate"], float]
Stop = Literal["memory", "median shape", "compute", "user"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A patch and the network arguments that go with it."""

    patch: Ints
    arguments: dict[str, Any]

    @property
    def voxels(self) -> int:
        """Voxels of one sample."""
        return math.prod(self.patch)


class PatchSpace:
    """All patches of one architecture on one resolution of one data set.

    Every candidate is valid for the architecture, and on no axis larger than the median shape padded to the
    divisor (or, where the median is smaller still, the architecture's minimum).

    Args:
        architecture: gives topology, divisors and minimum.
        spacing: of the patch axes; None counts as isotropic.
        median_shape: voxels of the patch axes at that spacing.
        most_voxels: what one sample may have; None without limit.
        base_features: channels at full resolution; None for the architecture's own.
    """

    def __init__(
        self,
        architecture: Architecture,
        spacing: Sequence[float] | None,
        median_shape: Ints,
        most_voxels: int | None = None,
        base_features: int | None = None,
    ) -> None:
        self.architecture = architecture
        self.dimensions = len(median_shape)
        self.spacing = tuple(spacing) if spacing is not None else None
        self.median_shape = median_shape
        self.most_voxels = most_voxels
        self.base_features = base_features

    def topology(self, patch: Ints) -> dict[str, Any]:
        """Network arguments for a patch.

        Raises:
            ValueError: the user asks for a width that the architecture cannot have.
        """
        arguments = self.architecture.topology(patch, self.spacing)
        if self.base_features is None:
            return arguments
        return self.architecture.with_base_features(arguments, self.base_features, self.dimensions)

    def limit(self, candidate: Candidate) -> Ints:
        """The padded median shape, on the divisors of this candidate."""
        divisors = self.architecture.divisors(candidate.arguments, self.dimensions)
        least = self.architecture.minimum_patch(candidate.arguments, self.dimensions)
        return tuple(
            max(math.ceil(median / divisor) * divisor, minimum)
            for median, divisor, minimum in zip(self.median_shape, divisors, least, strict=True)
        )

    def snap(self, sizes: Sequence[float]) -> Candidate | None:
        """The candidate at or just above these sizes; None where the architecture has none."""
        patch = tuple(max(1, round(size)) for size in sizes)
        for _ in range(4):  # a grown patch may pool once more, and then has other divisors
            arguments = self.topology(patch)
            candidate = Candidate(patch=patch, arguments=arguments)
            divisors = self.architecture.divisors(arguments, self.dimensions)
            least = self.architecture.minimum_patch(arguments, self.dimensions)
            snapped = tuple(
                min(max(math.ceil(size / divisor) * divisor, minimum), limit)
                for size, divisor, minimum, limit in zip(
                    patch, divisors, least, self.limit(candidate), strict=True
                )
            )
            if snapped == patch:
                return candidate
            patch = snapped
        return None

    def exact(self, patch: Ints) -> Candidate:
        """The candidate of a patch that the user demands.

        Raises:
            ValueError: the architecture cannot train with it; with the nearest that it can.
        """
        if len(patch) != self.dimensions:
            msg = f"patch_size {patch} has {len(patch)} axes; this plan has {self.dimensions}"
            raise ValueError(msg)
        arguments = self.topology(patch)
        try:
            self.architecture.validate(arguments, dimensions=self.dimensions, patch_size=patch)
        except ValueError as error:
            roomy = tuple(4 * max(patch) for _ in patch)
            near = PatchSpace(self.architecture, self.spacing, roomy).snap(patch)
            msg = f"{error}" + (f"; the next one that works is {near.patch}" if near else "")
            raise ValueError(msg) from None
        return Candidate(patch=patch, arguments=arguments)

    def aspect(self) -> tuple[float, ...]:
        """Edges of equal physical extent, with a geometric mean of 1."""
        inverse = [1 / value for value in self.spacing or (1.0,) * self.dimensions]
        mean = math.prod(inverse) ** (1 / self.dimensions)
        return tuple(value / mean for value in inverse)

    def ladder(self) -> tuple[Candidate, ...]:
        """Candidates of growing size: equal physical extent on all axes as long as the median shape allows.

        The first is the smallest worth training on, the last is as large as the median shape (or
        ``most_voxels``) allows. Never empty unless the architecture has no patch at all.
        """
        rungs: dict[Ints, Candidate] = {}
        for sizes in self._scaled():
            candidate = self.snap(sizes)
            if candidate is not None:
                rungs.setdefault(candidate.patch, candidate)
        ordered = sorted(rungs.values(), key=lambda candidate: candidate.voxels)
        # A thin axis snapped to its minimum makes a patch much larger: what counts is the snapped one.
        sensible = self._sensible()
        ordered = [candidate for candidate in ordered if candidate.voxels >= sensible] or ordered[-1:]
        if self.most_voxels is None:
            return tuple(ordered)
        light = tuple(candidate for candidate in ordered if candidate.voxels <= self.most_voxels)
        return light or tuple(ordered[:1])

    def _sensible(self) -> float:
        """Voxels of the smallest patch worth training on.

        At most half of ``most_voxels``, since snapping to the divisors makes patches larger.
        """
        return min(SENSIBLE_VOXELS[self.dimensions], (self.most_voxels or math.inf) / 2)

    def _scaled(self) -> Iterator[tuple[float, ...]]:
        """Sizes of equal physical extent, clipped to the median shape, from a few voxels to all of it."""
        aspect = self.aspect()
        largest = max(median / share for median, share in zip(self.median_shape, aspect, strict=True))
        edge = self._sensible() ** (1 / self.dimensions)
        for step in itertools.count(-SMALLER_DOUBLINGS * RUNGS_PER_DOUBLING):
            scale = min(edge * 2 ** (step / RUNGS_PER_DOUBLING), largest)
            yield tuple(
                min(share * scale, float(median))
                for share, median in zip(aspect, self.median_shape, strict=True)
            )
            if scale == largest:
                return

    def grown(self, candidate: Candidate) -> Iterator[Candidate]:
        """The candidates with one divisor more on one axis, the axis of least physical extent first.

        An axis that covers the median shape takes no more: it would only be padded further.
        """
        aspect = self.aspect()
        axes = [axis for axis in range(self.dimensions) if candidate.patch[axis] < self.median_shape[axis]]
        axes.sort(key=lambda axis: candidate.patch[axis] / aspect[axis])
        divisors = self.architecture.divisors(candidate.arguments, self.dimensions)
        for axis in axes:
            sizes = list(candidate.patch)
            sizes[axis] += divisors[axis]
            larger = self.snap(sizes)
            if larger is None or larger.voxels <= candidate.voxels:
                continue
            if any(new < old for new, old in zip(larger.patch, candidate.patch, strict=True)):
                continue
            if self.most_voxels is None or larger.voxels <= self.most_voxels:
                yield larger

    def same_network(self, candidate: Candidate, larger: Candidate) -> Candidate | None:
        """The larger patch with the network of ``candidate``; None where that cannot train on it."""
        try:
            self.architecture.validate(
                candidate.arguments, dimensions=self.dimensions, patch_size=larger.patch
            )
        except ValueError:
            return None
        return Candidate(patch=larger.patch, arguments=candidate.arguments)

    def why_not_larger(self, candidate: Candidate) -> Stop:
        """What stops the patch once memory would allow every candidate of :meth:`grown`."""
        covered = all(size >= median for size, median in zip(candidate.patch, self.median_shape, strict=True))
        return "median shape" if covered else "compute"


def largest_patch(space: PatchSpace, load: Load) -> tuple[Candidate, Stop] | None:
    """The largest candidate whose load is at most 1, and what stopped it; None where not even the first fits.

    On the ladder the search interpolates: load grows about as the voxels do, so that few candidates, and few
    topologies, have to be measured. Then axis by axis one divisor more, as long as it fits: afterwards no
    single axis can take another one, neither with the network chosen nor with the larger patch's own.

    Args:
        space: the candidates.
        load: predicted memory over budget.
    """
    ladder = space.ladder()
    found = _highest_rung(space, ladder, load)
    if found is None:
        return None
    chosen = ladder[found]
    while True:
        refused = False
        for larger in space.grown(chosen):
            if _load(space, load, chosen, larger) <= 1:
                chosen = larger
                break
            refused = True
        else:
            return chosen, "memory" if refused else space.why_not_larger(chosen)


def _load(space: PatchSpace, load: Load, fitting: Candidate | None, larger: Candidate) -> float:
    """Load of a patch larger than one that fits, whose network, measured already, is asked first."""
    same = None if fitting is None else space.same_network(fitting, larger)
    by_same = 0.0 if same is None else load(same)
    return by_same if by_same > 1 else load(larger)


def _highest_rung(space: PatchSpace, ladder: Sequence[Candidate], load: Load) -> int | None:
    """Index of the largest rung that fits; the load must not fall along the ladder."""
    good, bad = -1, len(ladder)
    typical = TYPICAL_VOXELS[space.dimensions]
    trial = min(range(len(ladder)), key=lambda rung: abs(math.log(ladder[rung].voxels / typical)), default=0)
    while bad - good > 1:
        value = _load(space, load, ladder[good] if good >= 0 else None, ladder[trial])
        if value <= 1:
            good = trial
        else:
            bad = trial
        voxels = ladder[trial].voxels / max(value, 1e-9)
        guess = sum(candidate.voxels <= voxels for candidate in ladder) - 1
        trial = min(max(guess, good + 1), bad - 1)
    return good if good >= 0 else None
