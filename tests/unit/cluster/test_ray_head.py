"""The head of a cluster of Ray: whether it answers. Ray itself is not needed."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest

from qx.cluster.transport import ClusterGone, Lost

cluster: Any = import_module("qx.cluster.ray")


class TaskError(Exception):
    """Stands for what a task has raised on its machine."""


class NotYet(Exception):
    """Stands for a task that has not ended."""


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Return what stands for Ray: its tasks never end, and it waits for its head for a moment alone."""

    def get(_task: object, timeout: float) -> object:
        raise NotYet

    exceptions = SimpleNamespace(RayTaskError=TaskError, GetTimeoutError=NotYet, RayError=OSError)
    module = SimpleNamespace(
        remote=lambda **_: lambda function: function,
        get=get,
        put=lambda content: content,
        nodes=list,
        exceptions=exceptions,
    )
    monkeypatch.setattr(cluster, "_module", lambda: module)
    monkeypatch.setattr(cluster, "SILENT_SECONDS", 0.3)
    monkeypatch.setattr(cluster, "PAUSE_SECONDS", 0.05)
    return module


@pytest.fixture
def head() -> Iterator[socket.socket]:
    """Yield a socket that answers as a head does, until it is closed."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def test_a_head_that_has_died_ends_the_run_in_a_line(ray: SimpleNamespace, head: socket.socket) -> None:
    """Before Ray waits for it: it would end the process a minute later, without a word."""
    transport = cluster.RayTransport(None, head.getsockname())
    assert transport.wait("task", 0.1) is None
    assert transport.nodes() == []
    assert transport.put(b"file") == b"file"
    head.close()
    attempts = (transport.nodes, lambda: transport.wait("task", 0.1), lambda: transport.put(b"file"))
    for attempt in attempts:
        with pytest.raises(ClusterGone, match=r"head does not answer\); .* qx run --resume goes on"):
            attempt()


def test_a_machine_without_qx_is_named(ray: SimpleNamespace, head: socket.socket) -> None:
    """Where Ray runs in another environment there, a task cannot even be read; other errors stay."""
    transport = cluster.RayTransport(None, None)

    def fail(_task: object, timeout: float) -> object:
        raise TaskError("System error: No module named 'qx'")

    ray.get = fail
    with pytest.raises(Lost) as lost:
        transport.wait("task", 0.1)
    assert "cannot import qx: start Ray in an environment with quant-explorer" in lost.value.cause

    def fail_otherwise(_task: object, timeout: float) -> object:
        raise TaskError("No module named 'other'")

    ray.get = fail_otherwise
    with pytest.raises(TaskError):
        transport.wait("task", 0.1)
