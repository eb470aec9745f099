"""Every plan of 30 data sets x 6 cards x all architectures, held to what plans promise.

    python -m voxplan.scripts.benchmarks.plan_sweep -o sweep.jsonl --jobs 8      # goes on where it ended
    python -m voxplan.scripts.benchmarks.plan_sweep -o sweep.jsonl --table
    python -m voxplan.scripts.benchmarks.plan_sweep -o sweep.jsonl --update docs/planning.md

One task is a data set with an architecture, on all cards: the first card's plan is made from nothing, and is
what planning time is judged by; the others use its traces. Checked for every plan:

- it fits its budget by the estimate, and that estimate is a trace of the built network on the meta device;
- one more sample exceeds the budget, unless a named limit stopped the batch, which is computed again here;
- one more divisor on any axis that does not cover the median shape exceeds it;
- the document is valid.

With ``--independent N`` every N-th task checks by full traces of its own instead of the planner's models.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .sweep_data import SWEPT, SweptData

if TYPE_CHECKING:
    from voxplan.planning.memory import MemoryModel
    from voxplan.planning.traced_memory import Models
    from voxplan.plans.schema import DatasetPlan, ExperimentPlan, Hardware, PlansDocument

CARDS_GB = (24, 8, 11, 16, 40, 80)
"""Memory of the cards, in binary gigabytes; the first is planned from nothing."""
CAPABILITY = (8, 6)
SECONDS = 20.0
"""What one plan may take."""
SHARE = 0.05
LARGEST_BATCH = 512
GIB = 1024**3
BEGIN, END = "<!-- sweep: begin -->", "<!-- sweep: end -->"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One plan, or the reason why there is none."""

    data: str
    asked: str
    card: int
    plan: str | None
    patch: tuple[int, ...] = ()
    batch: int = 0
    checkpointing: bool = False
    accumulation: int = 1
    share: float = 0.0
    """Of the budget that the plan takes."""
    patch_limit: str = ""
    batch_limit: str = ""
    cold: bool = False
    """Planned from nothing."""
    cpu_seconds: float = 0.0
    seconds: float = 0.0
    reason: str = ""
    """Why there is no plan."""
    problems: tuple[str, ...] = ()
    """Promises that the plan breaks."""


def card(memory_gb: float) -> Hardware:
    """A machine with one Ampere card."""
    from voxplan.plans.schema import Gpu, Hardware

    size = int(memory_gb * GIB)
    gpu = Gpu(
        name=f"{memory_gb:g} GB",
        total_memory=size,
        free_memory=size,
        compute_capability=CAPABILITY,
        present=False,
    )
    return Hardware(
        gpus=(gpu,), ram=64 * GIB, ram_available=64 * GIB, cores=16, shared_memory=None, stated=True
    )


def import_networks() -> None:
    """torch and MONAI, which a command imports once: not counted as planning."""
    import monai.networks.nets  # noqa: F401 - imported for its time
    import torch._refs  # noqa: F401


def sweep_task(data: SweptData, architecture: str, *, independent: bool = False) -> list[Row]:
    """Plans of one data set and architecture on all cards."""
    models: Models = {}
    fingerprint = data.fingerprint()
    rows = []
    for index, memory in enumerate(CARDS_GB):
        rows.append(_one(data, fingerprint, architecture, memory, models, cold=index == 0, own=independent))
    return rows


def _one(
    data: SweptData,
    fingerprint: Any,
    architecture: str,
    memory: int,
    models: Models,
    *,
    cold: bool,
    own: bool,
) -> Row:
    from voxplan.planning.planner import make_plans

    import_networks()
    wall, cpu = time.perf_counter(), time.process_time()
    configuration = "2d" if data.shape[0] == 1 else "3d_fullres"
    document = make_plans(
        fingerprint, card(memory), architectures=[architecture], only=[configuration], models=models
    )
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    common: dict[str, Any] = {
        "data": data.name,
        "asked": architecture,
        "card": memory,
        "cold": cold,
        "cpu_seconds": round(cpu, 2),
        "seconds": round(wall, 2),
    }
    if not document.plans:
        reason = "; ".join(document.failures.values())
        expected = "the budget is" in reason
        other = () if expected else (f"no plan, for another reason than memory: {reason}",)
        return Row(plan=None, reason=reason, problems=other, **common)
    ((name, plan),) = document.plans.items()
    problems = [*find_problems(document, name, models if not own else None)]
    if cpu > SECONDS:
        problems.append(f"took {cpu:.0f} s of CPU time")
    return Row(
        plan=name,
        patch=plan.patch_size,
        batch=plan.batch_size,
        checkpointing=plan.checkpointing,
        accumulation=plan.accumulation,
        share=round(plan.memory.total / plan.memory.budget, 4),
        patch_limit=plan.limits["patch_size"],
        batch_limit=plan.limits["batch_size"],
        problems=tuple(problems),
        **common,
    )


def find_problems(document: PlansDocument, name: str, models: Models | None = None) -> Iterator[str]:
    """Promises that a plan breaks.

    Args:
        document: of one data set and machine.
        name: of the plan.
        models: the planner's, for quick totals; None traces every neighbour in full.
    """
    from voxplan.plans.architectures import get_architecture
    from voxplan.plans.document import validate_plans

    plan, dataset = document.plans[name], document.dataset
    for problem in validate_plans(document.model_dump(mode="json")):
        yield f"invalid: {problem}"
    if not plan.memory.total <= plan.memory.budget or not plan.memory.fits:
        yield f"takes {plan.memory.total} of {plan.memory.budget} bytes"
    total = _Totals(document, plan, models)
    if models is None and total(plan.patch_size, plan.batch_size) != plan.memory.total:
        yield f"a trace of its own says {total(plan.patch_size, plan.batch_size)}, not {plan.memory.total}"
    yield from _batch_problems(plan, dataset, total)
    architecture = get_architecture(plan.architecture.name)
    divisors = architecture.divisors(plan.architecture.arguments, plan.dimensions)
    uncovered = [
        axis
        for axis, (edge, median) in enumerate(zip(plan.patch_size, plan.median_shape, strict=True))
        if edge < median
    ]
    limit = plan.limits["patch_size"]
    if limit == "median shape" and uncovered:
        yield f"patch limited by the median shape, but {plan.patch_size} < {plan.median_shape}"
    if limit not in ("memory", "median shape"):
        yield f"patch limited by {limit!r}"
    for axis in uncovered:
        patch = tuple(edge + divisors[axis] * (index == axis) for index, edge in enumerate(plan.patch_size))
        if total(patch, min(2, plan.batch_size)) <= plan.memory.budget:
            yield f"patch {patch} would fit as well, limited by {limit!r}"


def _batch_problems(plan: ExperimentPlan, dataset: DatasetPlan, total: _Totals) -> Iterator[str]:
    limit = plan.limits["batch_size"]
    if limit == "memory":
        if total(plan.patch_size, plan.batch_size + 1) <= plan.memory.budget:
            yield f"batch {plan.batch_size + 1} would fit as well"
    elif limit == "dataset share":
        assert dataset.training_voxels is not None
        most = max(2, round(SHARE * dataset.training_voxels / prod(plan.patch_size)))
        if plan.batch_size != most:
            yield f"batch {plan.batch_size} is said to be 5 % of the data, which are {most}"
    elif limit != "recipe" or plan.batch_size != LARGEST_BATCH:
        yield f"batch {plan.batch_size} limited by {limit!r}"


class _Totals:
    """Bytes of the plan's own network at other sizes."""

    def __init__(self, document: PlansDocument, plan: ExperimentPlan, models: Models | None) -> None:
        self.document, self.plan = document, plan
        self.model: MemoryModel | None = None
        for key, model in (models or {}).items():
            name, settings, arguments = json.loads(key)
            same = name == plan.architecture.name and arguments == plan.architecture.arguments
            if same and settings["checkpointing"] == plan.checkpointing:
                self.model = model

    def __call__(self, patch: tuple[int, ...], batch: int) -> int:
        if self.model is not None:
            return self.model.total(patch, batch)
        from voxplan.planning.memory import estimate_training_memory

        plan, dataset = self.plan, self.document.dataset
        return estimate_training_memory(
            plan.architecture,
            patch_size=patch,
            batch_size=batch,
            in_channels=dataset.in_channels,
            out_channels=dataset.out_channels,
            precision=plan.precision,
            deep_supervision=plan.deep_supervision,
            optimizer=plan.optimizer,
            loss=plan.loss,
            task=dataset.task,
            checkpointing=plan.checkpointing,
            compute_capability=CAPABILITY,
        ).total


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of finished tasks."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _task(data: SweptData, architecture: str, independent: bool) -> list[Row]:
    os.environ["VOXPLAN_CACHE"] = "off"
    return sweep_task(data, architecture, independent=independent)


def run(path: Path, jobs: int, independent: int, seed: int = 0) -> None:
    """All tasks that are not in the file yet, in random order; each is appended when it is done."""
    from joblib import Parallel, delayed

    from voxplan.plans.architectures import ARCHITECTURES

    tasks = [(data, name) for data in SWEPT for name in ARCHITECTURES]
    random.Random(seed).shuffle(tasks)
    done = {(row["data"], row["asked"]) for row in read_rows(path)}
    left = [
        (data, name, independent > 0 and index % independent == 0)
        for index, (data, name) in enumerate(tasks)
        if (data.name, name) not in done
    ]
    results: Any = Parallel(n_jobs=jobs, return_as="generator_unordered")(
        delayed(_task)(*task) for task in left
    )
    with path.open("a", encoding="utf-8") as file:
        for finished, rows in enumerate(results, len(tasks) - len(left) + 1):
            file.writelines(json.dumps(asdict(row)) + "\n" for row in rows)
            file.flush()
            broken = [
                f"{row.data} {row.asked} {row.card} GB: {text}" for row in rows for text in row.problems
            ]
            print(f"{finished}/{len(tasks)} {rows[0].data} {rows[0].asked}", *broken, sep="\n  ", flush=True)


def make_table(rows: Sequence[dict[str, Any]]) -> str:
    """One line an architecture, and the whole, as Markdown."""
    lines = [
        "| asked for | plans | of a smaller variant | no plan: needs more | patch stopped by memory, median "
        "shape | batch stopped by memory, dataset share, recipe | share of the budget, where memory stopped "
        "either (median) | slowest from nothing | promises broken |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    names = list(dict.fromkeys(row["asked"] for row in rows))
    for name in [*sorted(names), ""]:
        chosen = [row for row in rows if name in ("", row["asked"])]
        plans = [row for row in chosen if row["plan"] is not None]
        smaller = sum(row["plan"].split("/")[0] != row["asked"] for row in plans)
        patch = Counter(row["patch_limit"] for row in plans)
        batch = Counter(row["batch_limit"] for row in plans)
        shares = sorted(row["share"] for row in plans if "memory" in (row["patch_limit"], row["batch_limit"]))
        slowest = max((row["cpu_seconds"] for row in chosen if row["cold"]), default=0.0)
        broken = sum(len(row["problems"]) for row in chosen)
        cells = [
            name or "**all**",
            len(plans),
            smaller,
            len(chosen) - len(plans),
            f"{patch['memory']}, {patch['median shape']}",
            f"{batch['memory']}, {batch['dataset share']}, {batch['recipe']}",
            f"{shares[len(shares) // 2]:.0%}" if shares else "-",
            f"{slowest:.1f} s",
            broken,
        ]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def replace_between(page: Path, text: str, begin: str, end: str) -> None:
    """Put a text between two markers of a page.

    Raises:
        ValueError: the page has no such markers.
    """
    held = page.read_text(encoding="utf-8")
    if begin not in held or end not in held:
        msg = f"{page} has no markers {begin} and {end}"
        raise ValueError(msg)
    before, after = held.split(begin)[0], held.split(end)[1]
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is left, or show what there is; 1 where a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("-o", "--output", type=Path, required=True, help="JSON lines, appended to")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--independent", type=int, default=0, metavar="N", help="full traces every N-th task")
    parser.add_argument("--table", action="store_true", help="print the table of what is done, run nothing")
    parser.add_argument(
        "--update", type=Path, metavar="PAGE", help="write the table into a page, run nothing"
    )
    options = parser.parse_args(argv)
    if not options.table and options.update is None:
        run(options.output, options.jobs, options.independent)
    rows = read_rows(options.output)
    tasks = len({(row["data"], row["asked"]) for row in rows})
    summary = f"{len(rows)} of {len(SWEPT) * 12 * len(CARDS_GB)} combinations swept ({tasks} tasks)."
    table = f"{summary}\n\n{make_table(rows)}"
    if options.update is not None:
        replace_between(options.update, table, BEGIN, END)
    else:
        print(table)
    broken = [row for row in rows if row["problems"]]
    for row in broken:
        print(row["data"], row["asked"], row["card"], *row["problems"], sep="; ", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
