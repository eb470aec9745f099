"""What profile-dataset is to reach, beside what the runs of :mod:`.profile_speed` say."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from .timing import Run, median_wall

Runs = Mapping[str, Sequence[Run]]
OURS = "voxplan"
ONE_WORKER = f"{OURS}, 1 worker"
START_TWO = f"{OURS}, 2 workers, two tiny volumes"
START_ONE = f"{OURS}, 1 worker, two tiny volumes"
CASES = 10_000
"""Of the folder of small files."""


@dataclass(frozen=True, slots=True)
class Aim:
    """One number that a group of runs gives."""

    group: str
    says: str
    value: Callable[[Runs], float]
    bound: float
    at_least: bool = False
    needs: str = OURS
    """A program without whose runs there is no number."""

    def row(self, runs: Runs) -> str | None:
        """A line of the table; None where the runs do not say."""
        if self.needs not in runs or OURS not in runs:
            return None
        value = self.value(runs)
        met = value >= self.bound if self.at_least else value <= self.bound
        sign = "at least" if self.at_least else "at most"
        return (
            f"| {self.group} | {self.says} | {sign} {self.bound:g} | {value:.2f} | {'yes' if met else 'no'} |"
        )


def over(name: str) -> Callable[[Runs], float]:
    """How many times as long another program takes."""
    return lambda runs: median_wall(runs[name]) / median_wall(runs[OURS])


def over_floor(runs: Runs) -> float:
    """Our time over the floor's."""
    return median_wall(runs[OURS]) / median_wall(runs["floor"])


def gain_of_two(runs: Runs) -> float:
    """One worker's time over that of two, each less its time for two tiny volumes."""
    one = median_wall(runs[ONE_WORKER]) - median_wall(runs[START_ONE])
    return one / (median_wall(runs[OURS]) - median_wall(runs[START_TWO]))


def seconds(runs: Runs) -> float:
    """Our time."""
    return median_wall(runs[OURS])


def largest_process(runs: Runs) -> float:
    """Peak of any process of any run, in MiB."""
    return max(run.peak_process for done in runs.values() for run in done) / 2**20


AIMS = (
    Aim("nifti", "nnU-Net's time over ours", over("nnU-Net"), 10, at_least=True, needs="nnU-Net"),
    Aim("nifti", "MONAI's time over ours", over("MONAI DataAnalyzer"), 20, True, "MONAI DataAnalyzer"),
    Aim("nifti", "ours over the floor", over_floor, 1.5, needs="floor"),
    Aim("gzip-hdf5", "ours over the floor", over_floor, 1.3, needs="floor"),
    Aim("gzip-hdf5", "one worker over two, start-up aside", gain_of_two, 1.7, True, START_TWO),
    Aim("raw-hdf5", "ours over the floor", over_floor, 1.3, needs="floor"),
    Aim("bigtiff", "ours over the floor", over_floor, 1.3, needs="floor"),
    Aim("headers", "seconds for 10,000 files", seconds, 10),
    Aim("second-run", "seconds for 10,000 cases", seconds, 1 + CASES / 1000),
    Aim("memory", "MiB of the largest process", largest_process, 512),
    Aim("start-up", "seconds for `--help`", seconds, 0.5),
)


def aims_table(found: Mapping[str, Runs]) -> str:
    """A Markdown table of every aim that the groups speak of."""
    rows = [aim.row(found[aim.group]) for aim in AIMS if aim.group in found]
    head = ["| group | what | aim | measured | met |", "|---|---|---|---|---|"]
    return "\n".join([*head, *(row for row in rows if row is not None)])
