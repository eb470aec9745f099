"""``profile-dataset`` beyond one machine: the options ``--backend``, ``--scheduler`` and ``--shard``."""

from __future__ import annotations

import argparse
import contextlib
import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from voxplan.profiling.report.console import say

if TYPE_CHECKING:
    from voxplan.profiling.backends.dask import DaskBackend
    from voxplan.profiling.layouts import DiscoveredDataset

BACKENDS = ("local", "dask")
FOLDERS_CHECKED = 8
"""Folders that a worker looks for before each task."""


def add_cluster_options(parser: argparse.ArgumentParser) -> None:
    """The options, as a group of their own."""
    group = parser.add_argument_group("beyond one machine (docs/clusters.md)")
    group.add_argument(
        "--backend", choices=BACKENDS, default="local", help="where cases are read (default: %(default)s)"
    )
    group.add_argument(
        "--scheduler", metavar="ADDRESS", help="of a Dask cluster: tcp://host:8786, or its scheduler file"
    )
    group.add_argument(
        "--shard",
        type=_shard,
        metavar="I/N",
        help="only every N-th case, from the I-th; profile-dataset merge puts the N files together",
    )


def _shard(text: str) -> tuple[int, int]:
    """``3/16``; argparse says what is wrong."""
    match = re.fullmatch(r"([0-9]{1,7})/([0-9]{1,7})", text.strip())
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        msg = f"{text!r} is not a shard such as 3/16, from 1/16 to 16/16"
        raise argparse.ArgumentTypeError(msg)
    return int(match[1]), int(match[2])


def name_shard(arguments: argparse.Namespace) -> None:
    """A shard is written beside the output: all tasks of a job array may then say the same ``-o``."""
    if arguments.shard is not None:
        from voxplan.profiling.shard_file import Shard

        arguments.output = Shard(*arguments.shard).path(arguments.output)


def check_cluster_usage(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """What argparse cannot see; ends the program with status 2."""
    if arguments.backend == "dask":
        if arguments.scheduler is None:
            parser.error("--backend dask: say where the cluster is with --scheduler, e.g. tcp://host:8786")
        if arguments.jobs is not None:
            parser.error("--jobs: the workers of a Dask cluster are started with the cluster")
    elif arguments.scheduler is not None:
        parser.error("--scheduler: belongs to --backend dask")
    if arguments.shard is not None and arguments.report is not None:
        parser.error("--report: shows a whole data set; give it to profile-dataset merge")


def _folders(dataset: DiscoveredDataset) -> list[Path]:
    """The data folder, and some of those that files lie in, which may be elsewhere."""
    from voxplan.profiling.formats.address import is_address

    sources = [
        source for case in dataset.cases for source in (*case.images, case.label) if source is not None
    ]
    folders = {path.parent for source in sources for path in source.paths if not is_address(path)}
    root = [] if is_address(dataset.root) else [dataset.root]
    return [*root, *sorted(folders)[:FOLDERS_CHECKED]]


@contextlib.contextmanager
def chosen_backend(arguments: argparse.Namespace, dataset: DiscoveredDataset) -> Iterator[DaskBackend | None]:
    """The Dask cluster while it is needed; None for the processes of this machine."""
    if arguments.backend == "local":
        yield None
        return
    from voxplan.profiling.backends.dask import DaskBackend

    for name in ("distributed", "distributed.client", "distributed.comm", "distributed.core"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # the backend says in one line what happened
    quiet: bool = arguments.quiet
    backend = DaskBackend(
        arguments.scheduler,
        sees=_folders(dataset),
        tell=lambda text: None if quiet else say(f"profile-dataset: {text}", sys.stderr),
    )
    try:
        yield backend
    finally:
        backend.stop()
