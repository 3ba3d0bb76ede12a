"""Ray as a cluster. No other module imports it, and this one only where it is used."""

from __future__ import annotations

import os
import re
import socket
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from attrs import define, field

from qx.cluster.transport import ClusterGone, Lost, Node, Reply, Work, do_on_node
from qx.environment import usable_cpus
from qx.errors import UsageError
from qx.foreign import one_line, to_line

NAME = "ray"
#: Why a machine cannot take part on which Ray runs in another environment than qx.
WITHOUT_QX = (
    "the Python that Ray runs there cannot import qx: start Ray in an environment with quant-explorer"
)
#: Forms of ``--executor``, in words for messages.
FORMS = "local, ray, auto, ray://HOST:PORT"
#: Longest cause of an error of Ray's in messages, in characters: its own are pages.
MOST_CAUSE = 200
#: Longest time of an attempt to reach the head, pause between two, and for how long it may not answer, in
#: seconds.
ATTEMPT_SECONDS, PAUSE_SECONDS, SILENT_SECONDS = 2.0, 0.5, 15.0
#: Names of resources that every node has, and the beginning of those that Ray makes itself.
_COMMON = frozenset({"CPU", "GPU", "memory", "object_store_memory"})
_OWN = ("node:", "accelerator_type:", "ray.io/")


def _module() -> Any:
    """Import Ray. It has no types for all that is used here, and is not installed everywhere."""
    return import_module("ray")


def check_form(executor: str) -> None:
    """Raise ``UsageError`` for a word that names no executor."""
    is_address = re.fullmatch(r"ray://[^\s/]+:\d+", executor) is not None
    if executor not in ("local", NAME, "auto") and not is_address:
        raise UsageError(f"--executor {to_line(executor, 80)}: expected one of {FORMS}")


def connect(executor: str) -> RayTransport:
    """Return the cluster that ``--executor`` names: ``ray``, ``auto`` or ``ray://HOST:PORT``.

    ``ray`` is a cluster of this machine alone, which is started. Raises ``UsageError``.
    """
    # Nothing is sent to anybody about how a cluster is used, unless the user has said so.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # By default Ray's tasks give way to all other processes of a machine, and would be timed so.
    os.environ.setdefault("RAY_worker_niceness", "0")
    # It prints pages on standard output about a machine that is gone; qx says what was lost with it.
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
    try:
        ray = _module()
    except ImportError as error:
        raise UsageError(
            f"--executor {executor}: Ray is not installed here: pip install 'quant-explorer[ray]'"
        ) from error
    quietly: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "namespace": "qx"}
    if executor == NAME:
        quietly |= {"address": "local", "num_cpus": usable_cpus(), "include_dashboard": False}
    else:
        quietly["address"] = executor
    try:
        with warnings.catch_warnings():
            # What it warns of is in the error that follows.
            warnings.simplefilter("ignore")
            context = ray.init(**quietly)
    except Exception as error:
        cause = to_line(one_line(error, MOST_CAUSE), MOST_CAUSE)
        raise UsageError(f"--executor {executor}: there is no cluster to be reached ({cause})") from error
    return RayTransport(context, _head(ray))


def _head(ray: Any) -> tuple[str, int] | None:
    """Return host and port of the head, for a driver that is part of the cluster; None for others."""
    if ray.util.client.ray.is_connected():
        return None
    host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
    return host.strip("[]"), int(port)


@define
class RayTransport:
    """A cluster of Ray."""

    #: What ``ray.init`` has returned.
    context: Any
    #: Host and port of the head; None where Ray itself notices at once that it is gone.
    head: tuple[str, int] | None = None
    _remote: Any = field(init=False)

    def __attrs_post_init__(self) -> None:
        # Tasks that are lost are counted here, and begun again where they may be.
        self._remote = _module().remote(max_retries=0)(_on_node)

    @property
    def name(self) -> str:
        """Name of the executor."""
        return NAME

    def nodes(self) -> list[Node]:
        """Return the machines that are alive. Raises ``ClusterGone``."""
        self._await_head()
        try:
            entries = _module().nodes()
        except Exception as error:
            raise ClusterGone(to_line(one_line(error, MOST_CAUSE), MOST_CAUSE)) from error
        return [_node(entry) for entry in entries if entry["Alive"]]

    def put(self, content: bytes) -> object:
        """Keep bytes in the object store, and return what refers to them."""
        self._await_head()
        reference: object = _module().put(content)
        return reference

    def submit(
        self,
        work: Work,
        argument: object,
        parcels: Mapping[str, Sequence[object]],
        nodes: Sequence[str],
        cpus: int,
    ) -> object:
        """Begin a task on one of these machines, as soon as so many of its CPUs are free; return the task."""
        self._await_head()
        options: dict[str, Any] = {"num_cpus": cpus}
        if len(nodes) == 1:
            strategies = import_module("ray.util.scheduling_strategies")
            options["scheduling_strategy"] = strategies.NodeAffinitySchedulingStrategy(nodes[0], soft=False)
        else:
            options["label_selector"] = {"ray.io/node-id": f"in({','.join(nodes)})"}
        task: object = self._remote.options(**options).remote(work, argument, dict(parcels))
        return task

    def wait(self, task: object, seconds: float) -> Reply | None:
        """Return the result of a task; None if it is at work still after so many seconds.

        Raises ``Lost``, ``ClusterGone``, and what the task has raised.
        """
        ray = _module()
        exceptions = ray.exceptions

        try:
            reply = ray.get(task, timeout=seconds)
        except exceptions.GetTimeoutError:
            self._await_head()
            return None
        except exceptions.RayTaskError as error:
            # The task itself cannot be read there.
            if "No module named 'qx" in str(error):
                raise Lost(WITHOUT_QX, _node_of(error)) from error
            raise
        except (exceptions.RayError, ConnectionError) as error:
            gone = (exceptions.NodeDiedError, exceptions.TaskUnschedulableError)
            raise Lost(_cause(error), _node_of(error), isinstance(error, gone)) from error
        assert isinstance(reply, Reply)
        return reply

    def _await_head(self) -> None:
        """Wait until the head answers. Raises ``ClusterGone`` where it does not for a while.

        Without a head Ray's functions wait for it, and a minute after its death Ray ends this process without
        a word of what was finished.
        """
        if self.head is None:
            return
        end = time.monotonic() + SILENT_SECONDS
        while True:
            try:
                socket.create_connection(self.head, ATTEMPT_SECONDS).close()
                return
            except OSError as error:
                if time.monotonic() > end:
                    raise ClusterGone("its head does not answer") from error
            time.sleep(PAUSE_SECONDS)

    def cancel(self, task: object) -> None:
        """End a task and all processes that it has started."""
        try:
            _module().cancel(task, force=True)
        except Exception:
            # It has ended, or the cluster is gone.
            return

    def close(self) -> None:
        """Leave the cluster, or end it where it was started for this run."""
        self.context.disconnect()
        _module().shutdown()


def _on_node(work: Work, argument: object, parcels: Mapping[str, Sequence[object]]) -> Reply:
    ray = _module()
    # Ray puts packages of its own before those that are installed; workers of qx must not see them.
    sys.path[:] = [place for place in sys.path if "thirdparty_files" not in place]
    return do_on_node(work, argument, parcels, ray.get, ray.get_runtime_context().get_node_id())


def _node(entry: Mapping[str, Any]) -> Node:
    resources, labels = entry["Resources"], entry.get("Labels") or {}
    names = {name for name in resources if name not in _COMMON and not name.startswith(_OWN)}
    own = {name: value for name, value in labels.items() if not name.startswith(_OWN)}
    return Node(
        identity=entry["NodeID"],
        address=entry.get("NodeName") or entry["NodeManagerAddress"],
        cpus=int(resources.get("CPU", 0)),
        names=frozenset({*names, *own.values(), *(f"{name}={value}" for name, value in own.items())}),
    )


def _node_of(error: Exception) -> str | None:
    """Return the id of the machine that an error of Ray's names; None where it names none."""
    match = re.search(r"node ID: ([0-9a-f]{16,})", str(error))
    return None if match is None else match[1]


def _cause(error: Exception) -> str:
    """Return in words what became of a task."""
    exceptions = _module().exceptions
    causes: tuple[tuple[type[Exception], str], ...] = (
        (exceptions.NodeDiedError, "its machine is gone"),
        (exceptions.TaskUnschedulableError, "its machine is gone"),
        (exceptions.OutOfMemoryError, "Ray ended it, since the memory of its machine ran out"),
        (exceptions.WorkerCrashedError, "its process was killed"),
        (exceptions.ObjectLostError, "its files or its result were lost with a machine"),
    )
    words = next((words for kind, words in causes if isinstance(error, kind)), None)
    return words or to_line(one_line(error, MOST_CAUSE), MOST_CAUSE)
