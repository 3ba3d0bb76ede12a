"""``--executor`` and ``--on``: where a run is carried out."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qx.runner.executor import Executor

#: The executor of runs on this machine alone.
LOCAL = "local"


def add_executor_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where a run is carried out."""
    parser.add_argument(
        "--executor",
        default=LOCAL,
        metavar="WHERE",
        help="where to build, evaluate and measure: local; ray (a cluster of this machine alone); auto (the "
        "Ray cluster that this machine is part of); ray://HOST:PORT (default: local)",
    )


@contextmanager
def executor_of(arguments: argparse.Namespace) -> Iterator[Executor | None]:
    """Yield the executor that the options name, connected; None for this machine alone.

    Raises ``UsageError``.
    """
    if arguments.executor == LOCAL:
        yield None
        return
    from qx.cluster.executor import ClusterExecutor
    from qx.cluster.ray import check_form, connect

    check_form(arguments.executor)
    with closing(connect(arguments.executor)) as transport:
        yield ClusterExecutor(transport)
