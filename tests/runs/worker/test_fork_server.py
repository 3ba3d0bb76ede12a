"""Fork servers: workers of their own that share an import, and what becomes of both in the end."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from qx.processes.fork_servers import ForkServers
from qx.processes.job_answers import SpinAnswer, Started
from qx.processes.jobs import DataJob, SpinJob
from qx.processes.spawning import Supervisor
from qx.processes.workers import Failure, Processes, Worker

Start = Callable[..., Worker]


@pytest.fixture
def preload(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Have workers that spin forked from a server that has imported a module."""

    def preload(module: str) -> None:
        monkeypatch.setattr(SpinJob, "preloads", property(lambda _: (module,)))

    preload("numpy")
    return preload


@pytest.fixture
def start(processes: Processes, preload: Any, own_fork_servers: None) -> Iterator[Start]:
    """Start a worker that spins, and wait until it takes commands."""
    workers = []

    def start(**arguments: Any) -> Worker:
        worker = processes.start(SpinJob(), "spin", **arguments)
        workers.append(worker)
        worker.answer(Started, timeout=60)
        return worker

    yield start
    for worker in workers:
        worker.close()


def spin(worker: Worker) -> int:
    """Have a worker do three pieces of work; return how many it did."""
    return len(worker.ask("spin", SpinAnswer, timeout=60, calls=3).values)


def server_of(worker: Worker) -> psutil.Process | None:
    """Return the fork server that a worker was forked from; None where it is a program of its own."""
    keeper = psutil.Process(worker.pid).parent()
    above = keeper.parent() if keeper is not None else None
    is_forked = above is not None and any("qx.worker.fork_server" in word for word in above.cmdline())
    return above if is_forked else None


def test_workers_share_a_server_unless_they_are_to_be_fresh(start: Start) -> None:
    """Two workers have one server, in sessions of their own; a fresh one has none."""
    first, second, fresh = start(), start(), start(fresh=True)
    assert server_of(first) == server_of(second) is not None
    assert server_of(fresh) is None
    assert len({os.getsid(worker.pid) for worker in (first, second, fresh)}) == 3
    assert [spin(worker) for worker in (first, second, fresh)] == [3, 3, 3]


#: Writes what a worker finds when it is started into a file.
FOUND = """
import json, os, signal, sys, tempfile
facts = {
    "folder": os.getcwd(),
    "own session": os.getsid(0) == os.getpid(),
    "own temporary folder": tempfile.gettempdir() == os.environ["TMPDIR"],
    "environment": {name: value for name, value in os.environ.items() if name != "TMPDIR"},
    "arguments": sys.argv,
    "path": sys.path,
    "cpus": sorted(os.sched_getaffinity(0)),
    "children": str(signal.getsignal(signal.SIGCHLD)),
    "descriptors": sum(1 for _ in os.scandir("/proc/self/fd")),
}
json.dump(facts, open(PLACE, "w"))
"""


def test_a_forked_worker_finds_what_a_fresh_one_finds(
    mischief: Any, own_fork_servers: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Folder, session, environment, search path, CPUs, signals and descriptors are the same."""

    def found(*preloads: str) -> Any:
        place = tmp_path / "found.json"
        monkeypatch.setattr(DataJob, "preloads", property(lambda _: preloads))
        with pytest.raises(Failure, match="written"):
            mischief(f"exec({FOUND.replace('PLACE', repr(str(place)))!r}); raise ValueError('written')")
        return json.loads(place.read_text(encoding="utf-8"))

    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        # The server was started in the first folder, and with the first value.
        monkeypatch.setenv("QX_FOUND", name)
        monkeypatch.setenv("COLUMNS", "80" if name == "first" else "100")
        forked = found("numpy")
        assert forked == found()
        assert Path(forked["folder"]).name == name
        assert forked["environment"]["QX_FOUND"] == name


def test_a_crash_costs_one_worker_and_the_next_is_forked_again(start: Start) -> None:
    """A worker that dies of a signal is reported; one beside it goes on, and the server forks another."""
    first, second = start(), start()
    os.kill(first.pid, signal.SIGSEGV)
    with pytest.raises(Failure, match="was killed by SIGSEGV"):
        spin(first)
    assert spin(second) == 3
    assert server_of(start()) == server_of(second)


def test_without_its_server_a_worker_is_a_program(start: Start) -> None:
    """Where a server was killed its workers have died, and further ones are started fresh."""
    first = start()
    server = server_of(first)
    assert server is not None
    ended = [server, *server.children(recursive=True)]
    server.kill()
    assert not psutil.wait_procs(ended, timeout=60)[1]
    with pytest.raises(Failure):
        spin(first)
    later = start()
    assert server_of(later) is None
    assert spin(later) == 3


def test_what_cannot_be_forked_is_started_fresh(
    start: Start, preload: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module that is missing, or that starts a thread, keeps no worker from its work."""
    (tmp_path / "starts_a_thread.py").write_text(
        "import threading, time; threading.Thread(target=time.sleep, args=(600,), daemon=True).start()"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    for module in ("no_such_module", "starts_a_thread"):
        preload(module)
        worker = start()
        assert server_of(worker) is None
        assert spin(worker) == 3


def test_servers_end_with_those_who_use_them(tmp_path: Path, own_fork_servers: None) -> None:
    """Few servers wait at once: others end with their last worker. All are gone with their owner."""
    before = set(psutil.Process().children(recursive=True))
    supervisor = Supervisor(tmp_path / "supervisor.log")
    try:
        with ForkServers(supervisor, tmp_path, most=1) as servers:
            environments = [
                {**os.environ, "OPENBLAS_NUM_THREADS": "1", "LANG": language} for language in ("C", "C.UTF-8")
            ]
            first, second = (servers.prepare((), environment) for environment in environments)
            assert None not in (first, second) and first is not second
            assert servers.fork(first, environments[0], tmp_path / "log") is None
            process = servers.fork(second, environments[1], tmp_path / "log")
            assert process is not None
            process.close()
            assert servers.prepare((), environments[1]) is second
        assert servers.prepare((), environments[1]) is None
    finally:
        supervisor.close()
    assert set(psutil.Process().children(recursive=True)) <= before
