"""``profile-dataset`` beyond one machine: the options ``--backend``, ``--scheduler`` and ``--shard``."""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from voxplan.profiling.backends.dask import DaskBackend
    from voxplan.profiling.layouts import DiscoveredDataset

BACKENDS = ("local", "dask")


def add_cluster_options(parser: argparse.ArgumentParser) -> None:
    """The options, as a group of their own."""
    group = parser.add_argument_group("beyond one machine (docs/clusters.md)")
    group.add_argument(
        "--backend", choices=BACKENDS, default="local", help="where cases are read (default: %(default)s)"
    )
    group.add_argument(
        "--scheduler", metavar="ADDRESS", help="of a Dask cluster: tcp://host:8786, or its scheduler file"
    )


def check_cluster_usage(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """What argparse cannot see; ends the program with status 2."""
    if arguments.backend == "dask":
        if arguments.scheduler is None:
            parser.error("--backend dask: say where the cluster is with --scheduler, e.g. tcp://host:8786")
        if arguments.jobs is not None:
            parser.error("--jobs: the workers of a Dask cluster are started with the cluster")
    elif arguments.scheduler is not None:
        parser.error("--scheduler: belongs to --backend dask")


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
        sees=(dataset.root,),
        tell=lambda text: None if quiet else print(f"profile-dataset: {text}", file=sys.stderr, flush=True),
    )
    try:
        yield backend
    finally:
        backend.stop()
