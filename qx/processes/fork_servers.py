"""Fork servers of a run, or of a whole process: which worker is forked from which server."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import TypeAlias

from attrs import Factory, define

from qx.environment import cpu_numbers
from qx.errors import QxError
from qx.leftovers import temporary_folder
from qx.processes.spawning import PATIENCE, ForkServer, Process, Supervisor

#: Environment variables that decide nothing about the import of numpy or torch, and the beginnings of others.
#: Each worker has its own values of them all the same.
_WITHOUT_EFFECT = frozenset({"TMPDIR", "PWD", "OLDPWD", "COLUMNS", "LINES", "TERM", "NO_COLOR", "SHLVL", "_"})
_PREFIXES_WITHOUT_EFFECT = ("QX_", "PYTEST_")
#: The largest number of servers that wait for requests, unless another number is set.
MOST_SERVERS = 5
#: The program of a fork server. It takes the host's own search path as arguments, as a worker does.
_PROGRAM = "import sys; sys.path[:] = sys.argv[1:]; from qx.worker.fork_server import main; main({modules!r})"

#: What decides about a server: its modules, its environment as far as imports may read it, the search path,
#: and the CPUs that it may run on, which its workers inherit.
_Key: TypeAlias = tuple[tuple[str, ...], frozenset[tuple[str, str]], tuple[str, ...], frozenset[int]]


@define(eq=False)
class _Slot:
    """The place of a server: whoever needs it first starts it. Tried and None: there can be none."""

    lock: Lock = Factory(Lock)
    server: ForkServer | None = None
    is_tried: bool = False


class ForkServers:
    """Fork servers, each started when it is first needed. Workers of one server share one import.

    ``folder`` takes their logs, and ``most`` is the largest number of servers that wait for requests. All
    end when this is closed, with the workers that they forked.
    """

    def __init__(self, supervisor: Supervisor, folder: Path, most: int = MOST_SERVERS) -> None:
        self._supervisor, self._folder, self._most = supervisor, folder, most
        self._slots: dict[_Key, _Slot] = {}
        #: Servers that take no more requests, and end with their last worker.
        self._retired: list[_Slot] = []
        self._lock = Lock()
        self._closed = False

    def prepare(self, modules: tuple[str, ...], environment: Mapping[str, str]) -> ForkServer | None:
        """Return a server that has imported modules, once it is ready; None if there can be none."""
        shared = {name: value for name, value in environment.items() if _has_effect(name)}
        key = modules, frozenset(shared.items()), tuple(sys.path), frozenset(cpu_numbers())
        with self._lock:
            if self._closed:
                return None
            slot = self._slots.pop(key, None) or _Slot()
            self._retire()
            # The one that was used last comes last.
            self._slots[key] = slot
        with slot.lock:
            if not slot.is_tried:
                slot.is_tried = True
                self._start(slot, modules, shared)
            return slot.server

    def fork(self, server: ForkServer | None, environment: Mapping[str, str], log: Path) -> Process | None:
        """Fork a worker; None if the server is gone, so that the worker has to be started fresh."""
        if server is None:
            return None
        with suppress(QxError):
            return server.fork(environment, log)
        return None

    def kill(self) -> None:
        """End all servers, and start no more, without waiting for that."""
        with self._lock:
            self._closed = True
            slots = [*self._slots.values(), *self._retired]
        for slot in slots:
            if (server := slot.server) is not None:
                server.kill()

    def close(self) -> None:
        """End all servers, and what is left of the workers that they forked."""
        self.kill()
        for slot in (*self._slots.values(), *self._retired):
            with slot.lock:
                if slot.server is not None:
                    slot.server.close()
                    slot.server = None

    def __enter__(self) -> ForkServers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _retire(self) -> None:
        """Make room for one more: the servers not used for longest end with their last worker."""
        running = [(key, slot.server) for key, slot in self._slots.items() if slot.server is not None]
        for key, server in running[: max(0, len(running) + 1 - self._most)]:
            self._retired.append(self._slots.pop(key))
            server.hang_up()

    def _start(self, slot: _Slot, modules: tuple[str, ...], environment: Mapping[str, str]) -> None:
        command = [sys.executable, "-c", _PROGRAM.format(modules=modules), *sys.path]
        log = self._folder / f"fork-server-{id(slot):x}.log"
        with suppress(QxError, OSError):
            # In the slot at once, so that whoever ends all servers ends one that still imports.
            slot.server = server = ForkServer(self._supervisor, command, environment, log)
            try:
                with self._lock:
                    if self._closed:
                        raise QxError("the run is over")
                server.wait(PATIENCE)
            except BaseException:
                slot.server = None
                server.close()
                raise


def _has_effect(variable: str) -> bool:
    return variable not in _WITHOUT_EFFECT and not variable.startswith(_PREFIXES_WITHOUT_EFFECT)


#: The servers that all runs of this process share, if any.
_shared: ForkServers | None = None


def shared_servers() -> ForkServers | None:
    """Return the servers that all runs of this process share; None where each has its own."""
    return _shared


@contextmanager
def share_fork_servers(most: int = MOST_SERVERS) -> Iterator[None]:
    """Have all runs of this process share fork servers: what follows the first need not wait for imports.

    A session of tests has many short runs, and a process on a machine of a cluster many jobs. At most
    ``most`` servers wait for requests. The servers end with the context.
    """
    global _shared
    if _shared is not None:
        yield
        return
    with temporary_folder() as folder:
        supervisor = Supervisor(folder / "supervisor.log")
        try:
            with ForkServers(supervisor, folder, most) as _shared:
                yield
        finally:
            _shared = None
            supervisor.close()
