"""The program that starts workers, and ends each with all that it started, whatever becomes of the host.

The host runs this file by its path, with nothing but the standard library, and sends it requests through a
socket. For each it forks a *keeper*: the parent of one worker and, through ``PR_SET_CHILD_SUBREAPER``, the
heir of every process that the worker leaves behind, in whatever session. A keeper sleeps until its worker
dies or prints, or the host hangs up, on purpose or because it is gone. Then it kills until it has no child
left. So it needs no list of what to kill: the kernel keeps it.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from contextlib import suppress
from functools import cache
from typing import Any, NamedTuple, NoReturn

#: Of what a worker prints the log has so many bytes from the beginning, and so many from the end.
HEAD, TAIL = 1 << 16, 1 << 16
#: Whoever has printed more than this is read slowly, so that a flood takes no processor from other workers.
FLOOD, PAUSE = 16 << 20, 0.01
#: Seconds after which a keeper gives up on processes that do not die though they were killed.
PATIENCE = 4.0
#: Bytes that are read at once.
CHUNK = 1 << 16
#: Where the system shows all processes, and the children of one (proc(5)).
PROCESSES, CHILDREN = "/proc", "/proc/{0}/task/{0}/children"
#: What the program says when it can take requests.
READY = b"\n"

#: Of prctl(2).
PR_SET_CHILD_SUBREAPER = 36


class Request(NamedTuple):
    """What the host asks for: a process, with the log that it prints into."""

    log: bytes
    command: list[bytes]
    environment: list[bytes]

    def to_bytes(self) -> bytes:
        """The request, after its length. None of its parts can hold a zero byte: the system forbids it."""
        body = b"\0".join([self.log, b"%d" % len(self.command), *self.command, *self.environment])
        return len(body).to_bytes(8, "little") + body

    @classmethod
    def from_bytes(cls, body: bytes) -> Request:
        """The request that ``to_bytes`` wrote, without its length."""
        log, count, *parts = body.split(b"\0")
        return cls(log, parts[: int(count)], parts[int(count) :])


class Pipes(NamedTuple):
    """The descriptors that come with a request."""

    #: The worker's standard input and output.
    commands: int
    answers: int
    #: To the host: carries the worker's process id, then how it ended. The host hangs up to end the worker.
    lease: int


def main() -> None:
    """Have a keeper take each request from standard input, a socket, until the host hangs up."""
    control = socket.socket(fileno=os.dup(0))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    # Keepers are buried by the system.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    # Looked up here, so that no keeper has to.
    _library()
    control.sendall(READY)
    while _has_been_asked(control):
        pass
    with suppress(ChildProcessError):
        # Until the last keeper has gone: whoever sees this process end knows that all have.
        os.wait()


def _has_been_asked(control: socket.socket) -> bool:
    """Fork a keeper beforehand, and come back when it has a request; False where the host has hung up."""
    asked, asking = os.pipe()
    if os.fork() == 0:
        os.close(asked)
        _keep(control, asking)
    os.close(asking)
    answer = os.read(asked, 1)
    os.close(asked)
    return bool(answer)


# One worker ---------------------------------------------------------------------------------------


def _keep(control: socket.socket, asking: int) -> NoReturn:
    """Start the next worker, keep it until it or the host is gone, end all that it left, say how it ended."""
    try:
        _inherit_orphans()
        died = _watch_children()
        printed, theirs = os.pipe()
        request, pipes = _next_request(control)
        worker = _start(request, pipes, theirs)
        _say(asking, b"\n")
        for descriptor in (asking, pipes.commands, pipes.answers, theirs):
            os.close(descriptor)
        control.close()
        log = _Log(request.log)
        _say(pipes.lease, b"%d\n" % worker)
        status = _end(worker, _wait(worker, pipes.lease, died, printed, log))
        log.finish(printed)
        _say(pipes.lease, b"%d %d %d\n" % (status, log.taken, log.error))
    except BaseException:
        # Into the supervisor's log; the host ends a worker whose keeper has ended.
        import traceback

        traceback.print_exc()
    finally:
        os._exit(0)


def _next_request(control: socket.socket) -> tuple[Request, Pipes]:
    head, descriptors, *_ = socket.recv_fds(control, 8, len(Pipes._fields))
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    head += _received(control, 8 - len(head))
    return Request.from_bytes(_received(control, int.from_bytes(head, "little"))), Pipes(*descriptors)


def _received(control: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = control.recv(size - len(parts))
        if not part:
            # The host is gone, or wants no more.
            os._exit(0)
        parts += part
    return bytes(parts)


def _start(request: Request, pipes: Pipes, printed: int) -> int:
    """Start the worker in a session of its own, and give its process id. Raises ``OSError``."""
    streams = (pipes.commands, pipes.answers, printed)
    return os.posix_spawn(
        request.command[0],
        request.command,
        dict(entry.split(b"=", 1) for entry in request.environment),
        file_actions=[(os.POSIX_SPAWN_DUP2, stream, number) for number, stream in enumerate(streams)],
        setsid=True,
    )


def _watch_children() -> int:
    """Give a descriptor that can be read whenever a child has died."""
    readable, writable = os.pipe()
    for descriptor in (readable, writable):
        os.set_blocking(descriptor, False)
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    return readable


def _wait(worker: int, lease: int, died: int, printed: int, log: _Log) -> int | None:
    """Wait for the worker to die, and give its wait status; None where the host hangs up before."""
    poll = select.poll()
    for descriptor in (lease, died, printed):
        poll.register(descriptor, select.POLLIN)
    while True:
        ready = {descriptor for descriptor, _ in poll.poll()}
        if printed in ready and not log.take(printed):
            poll.unregister(printed)
        if died in ready:
            os.read(died, CHUNK)
            if (status := _bury(worker)) is not None:
                return status
        if lease in ready:
            return None


def _end(worker: int, status: int | None) -> int:
    """Kill the worker's group, and all that was left to this process; give the worker's wait status."""
    with suppress(OSError):
        os.killpg(worker, signal.SIGKILL)
    if status is None:
        status = os.waitpid(worker, 0)[1]
    until = time.monotonic() + PATIENCE
    with suppress(ChildProcessError):  # that there is none left
        while time.monotonic() < until:
            # Whoever dies leaves its own children to this process.
            _bury()
            children = _children()
            if not children:
                # The system does not show them.
                break
            for child in children:
                with suppress(OSError):
                    os.kill(child, signal.SIGKILL)
            time.sleep(0.002)
    return status


def _bury(worker: int | None = None) -> int | None:
    """Bury the children that have died; give the wait status of the worker where it is among them.

    Raises ``ChildProcessError`` where there is no child, dead or alive.
    """
    found = None
    while (dead := os.waitpid(-1, os.WNOHANG))[0]:
        if dead[0] == worker:
            found = dead[1]
            break
    return found


def _children() -> list[int]:
    """The processes whose parent is this one; none where the system has no /proc."""
    own = os.getpid()
    try:
        with open(CHILDREN.format(own), encoding="ascii") as file:
            return [int(word) for word in file.read().split()]
    except OSError:
        # The kernel was made without that file.
        return [process for process in _processes() if _parent(process) == own]


def _processes() -> list[int]:
    try:
        return [int(name) for name in os.listdir(PROCESSES) if name.isdigit()]
    except OSError:
        return []


def _parent(process: int) -> int | None:
    try:
        with open(f"{PROCESSES}/{process}/stat", "rb") as file:
            # The name, in brackets, may hold anything.
            return int(file.read().rpartition(b")")[2].split()[1])
    except (OSError, IndexError, ValueError):
        return None


def _say(listener: int, line: bytes) -> None:
    with suppress(OSError):  # whoever listened is gone
        os.write(listener, line)


class _Log:
    """What a worker prints: the beginning goes to the file as it comes, the end when the worker has ended."""

    def __init__(self, path: bytes) -> None:
        #: Why the file could not be written, as an errno.
        self.error = 0
        #: Bytes that were printed.
        self.taken = 0
        self._file = -1
        self._tail = bytearray()
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        except OSError as error:
            self.error = error.errno or 0

    def take(self, printed: int) -> bytes:
        """Read what was printed; nothing at the end."""
        if self.taken > FLOOD:
            time.sleep(PAUSE)
        data = os.read(printed, CHUNK)
        head = data[: max(0, HEAD - self.taken)]
        self._write(head)
        self._tail += data[len(head) :]
        if len(self._tail) > 2 * TAIL:
            del self._tail[:-TAIL]
        self.taken += len(data)
        return data

    def finish(self, printed: int) -> None:
        """Take what is left, and write the end."""
        os.set_blocking(printed, False)
        until = self.taken + CHUNK
        with suppress(BlockingIOError):
            # No more than a pipe holds: somebody who could not be killed may still be printing.
            while self.taken <= until and self.take(printed):
                pass
        tail = bytes(self._tail[-TAIL:])
        left_out = self.taken - HEAD - len(tail)
        if left_out > 0:
            self._write(b"\n[%d bytes are left out here]\n" % left_out)
        self._write(tail)

    def _write(self, data: bytes) -> None:
        try:
            while data and not self.error:
                data = data[os.write(self._file, data) :]
        except OSError as error:
            self.error = error.errno or 0


def _inherit_orphans() -> None:
    """Become the parent of every process that a descendant leaves behind, where the system knows of that."""
    if (library := _library()) is not None:
        library.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


@cache
def _library() -> Any:
    """The C library where it has prctl(2). Where it has not, a worker's group is ended, and nobody else."""
    try:
        import ctypes

        library = ctypes.CDLL(None)
        library.prctl  # noqa: B018 - raises where there is none
    except (ImportError, OSError, AttributeError):
        return None
    return library


if __name__ == "__main__":
    main()
