"""What qx needs of a cluster: its machines, a place for bytes, and tasks that run on a machine."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from attrs import frozen

from qx.cluster.files import NodeStore
from qx.errors import UsageError
from qx.leftovers import remove_tree
from qx.storage.cache import open_folder

#: Folder of the cache for files that were sent to this machine.
NODES = "nodes"
#: Seconds for which files are kept there since the last task of their node.
KEPT = 7 * 24 * 3600.0


@frozen(kw_only=True)
class Node:
    """A machine of a cluster."""

    #: Id in the cluster.
    identity: str
    #: Address or name, for readers.
    address: str
    #: Number of CPUs that the cluster gives to tasks.
    cpus: int
    #: Names by which ``--on`` selects it.
    names: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """The address and the beginning of the id, since several nodes may share a machine."""
        return f"{self.address} ({self.identity[:8]})"


@frozen
class Lost(Exception):
    """A task is lost: its machine or its process is gone."""

    cause: str
    #: Id of the machine that it ran on; None where that is not known.
    node: str | None = None
    #: Whether the machine is gone, and not the process alone.
    is_machine_gone: bool = False


class ClusterGone(UsageError):
    """The cluster itself is gone, or this machine cannot reach it. The journal of the run is here."""

    def __init__(self, cause: str) -> None:
        super().__init__(
            f"the cluster is gone ({cause}); what was finished is kept: qx run --resume goes on with it"
        )


@frozen
class Reply:
    """The result of a task, and the id of the machine that it ran on."""

    node: str
    value: Any


#: What a task does on a machine, with its argument and the files that are there.
Work = Callable[[Any, NodeStore], Any]


class Transport(Protocol):
    """A cluster."""

    @property
    def name(self) -> str:
        """Name of the executor."""

    def nodes(self) -> list[Node]:
        """Return the machines that are alive. Raises ``ClusterGone``."""

    def put(self, content: bytes) -> object:
        """Keep bytes for tasks, and return what refers to them."""

    def submit(
        self,
        work: Work,
        argument: object,
        parcels: Mapping[str, Sequence[object]],
        nodes: Sequence[str],
        cpus: int,
    ) -> object:
        """Begin a task on one of these machines, as soon as so many of its CPUs are free; return the task.

        ``parcels`` maps SHA-256 of files to what ``put`` returned of their parts.
        """

    def wait(self, task: object, seconds: float) -> Reply | None:
        """Return the result of a task; None if it is at work still after so many seconds.

        Raises ``Lost``, and what the task has raised.
        """

    def cancel(self, task: object) -> None:
        """End a task and all processes that it has started."""

    def close(self) -> None:
        """Leave the cluster, or end it where it was started for this run."""


def do_on_node(
    work: Work,
    argument: object,
    parcels: Mapping[str, Sequence[object]],
    fetch: Callable[[Any], bytes],
    node: str,
) -> Reply:
    """Do the work of a task. ``fetch`` returns the bytes of a part, ``node`` is the id of this machine."""
    return Reply(node, work(argument, NodeStore(folder_of(node), parcels, fetch)))


def folder_of(node: str) -> Path:
    """Return the folder of the cache for the files of a node; several may share a machine.

    A cluster that is started anew has other nodes, so folders that no task has used for long are removed.
    """
    folder = open_folder(NODES) / node[:16]
    folder.mkdir(mode=0o700, exist_ok=True)
    os.utime(folder)
    for other in folder.parent.iterdir():
        with suppress(OSError):
            if other.stat().st_mtime < time.time() - KEPT:
                remove_tree(other)
    return folder
