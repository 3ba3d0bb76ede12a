"""The program that starts workers, and ends each with all that it started, even if the host is killed.

The host runs this file by its path, with nothing but the standard library, and sends it requests through a
socket. A fork server (``qx/worker/fork_server.py``) serves requests in the same way, and forks workers where
this program starts them. For each request it forks a *keeper*, which is the parent of one worker. Through
``PR_SET_CHILD_SUBREAPER`` the keeper also becomes the parent of every process that the worker leaves behind,
in any session. A keeper sleeps until its worker dies or prints, or the host hangs up, on purpose or because
it is gone. Then it kills its children until none is left. It needs no list of them: the kernel keeps it.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any, NamedTuple, NoReturn

#: Size of the beginning and of the end of a worker's output that its log keeps, in bytes.
HEAD, TAIL = 1 << 16, 1 << 16
#: Size of output in bytes after which a worker is read slowly, with a pause in seconds before each chunk:
#: a flood of output must not take the processor from other workers.
FLOOD, PAUSE = 16 << 20, 0.01
#: Seconds after which a keeper stops waiting for processes that do not die although they were killed.
PATIENCE = 4.0
#: Size of a read, in bytes.
CHUNK = 1 << 16
#: The folder of all processes, and the file with the children of a process (proc(5)).
PROCESSES, CHILDREN = "/proc", "/proc/{0}/task/{0}/children"
#: The program writes this when it is ready for requests.
READY = b"\n"

#: An option of prctl(2).
PR_SET_CHILD_SUBREAPER = 36


class Request(NamedTuple):
    """The host's request to start a process, with the log for its output."""

    log: bytes
    #: The folder that the process works in; empty: that of the supervisor.
    folder: bytes
    #: The program and its arguments; empty where a fork server starts the worker.
    command: list[bytes]
    environment: list[bytes]

    def to_bytes(self) -> bytes:
        """Return the length of the request and the request. The system allows no zero byte in its parts."""
        body = b"\0".join(
            [self.log, self.folder, b"%d" % len(self.command), *self.command, *self.environment]
        )
        return len(body).to_bytes(8, "little") + body

    @classmethod
    def from_bytes(cls, body: bytes) -> Request:
        """Return the request from the result of ``to_bytes`` without the length."""
        log, folder, count, *parts = body.split(b"\0")
        return cls(log, folder, parts[: int(count)], parts[int(count) :])


class Pipes(NamedTuple):
    """The descriptors that come with a request."""

    #: The worker's standard input.
    commands: int
    #: The worker's standard output.
    answers: int
    #: A socket that reports the worker's process id and end to the host, which closes it to end the worker.
    lease: int


#: Starts a worker, as ``start_program`` does, and returns its process id.
Start = Callable[[Request, Pipes, int], int]


def main() -> None:
    """Start a worker for each request from standard input, a socket, until the host hangs up."""
    serve(control_of_standard_input(), start_program)


def control_of_standard_input() -> socket.socket:
    """Return the socket that is the standard input, which then has nothing more to read."""
    control = socket.socket(fileno=os.dup(0))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return control


def serve(control: socket.socket, start: Start) -> None:
    """Fork a keeper for each request from a socket, which starts a worker, until the host hangs up."""
    # The system reaps keepers that have ended.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    # Load the library here, so that no keeper has to.
    _library()
    control.sendall(READY)
    while _handle_request(control, start):
        pass
    with suppress(ChildProcessError):
        # Wait for the last keeper: the end of this process tells the host that all have ended.
        os.wait()


def _handle_request(control: socket.socket, start: Start) -> bool:
    """Fork a keeper in advance and return when it has received a request; False if the host has hung up."""
    readable, writable = os.pipe()
    if os.fork() == 0:
        os.close(readable)
        _keep(control, writable, start)
    os.close(writable)
    answer = os.read(readable, 1)
    os.close(readable)
    return bool(answer)


# One worker ---------------------------------------------------------------------------------------


def _keep(control: socket.socket, accepted: int, start: Start) -> NoReturn:
    """Start the next worker, wait until it or the host is gone, end its processes and report how it ended.

    ``accepted`` is the descriptor that a byte is written to once the keeper has received its request.
    """
    try:
        _inherit_orphans()
        died = _watch_children()
        output, workers_end = os.pipe()
        request, pipes = _next_request(control)
        with suppress(OSError):  # the folder is gone
            os.chdir(request.folder or b".")
        worker = start(request, pipes, workers_end)
        _report(accepted, b"\n")
        for descriptor in (accepted, pipes.commands, pipes.answers, workers_end):
            os.close(descriptor)
        control.close()
        log = _Log(request.log)
        _report(pipes.lease, b"%d\n" % worker)
        status = _end(worker, _wait(worker, pipes.lease, died, output, log))
        log.finish(output)
        _report(pipes.lease, b"%d %d %d\n" % (status, log.size, log.error))
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
            # The host is gone, or needs no further process.
            os._exit(0)
        parts += part
    return bytes(parts)


def start_program(request: Request, pipes: Pipes, error_stream: int) -> int:
    """Start the worker as a program in a session of its own; return its process id. Raises ``OSError``."""
    streams = (pipes.commands, pipes.answers, error_stream)
    return os.posix_spawn(
        request.command[0],
        request.command,
        dict(entry.split(b"=", 1) for entry in request.environment),
        file_actions=[(os.POSIX_SPAWN_DUP2, stream, number) for number, stream in enumerate(streams)],
        setsid=True,
    )


def _watch_children() -> int:
    """Return a descriptor that becomes readable whenever a child has died."""
    readable, writable = os.pipe()
    for descriptor in (readable, writable):
        os.set_blocking(descriptor, False)
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    return readable


def _wait(worker: int, lease: int, died: int, output: int, log: _Log) -> int | None:
    """Wait for the worker to die, and return its wait status; None if the host hangs up before."""
    poll = select.poll()
    for descriptor in (lease, died, output):
        poll.register(descriptor, select.POLLIN)
    while True:
        ready = {descriptor for descriptor, _ in poll.poll()}
        if output in ready and not log.take(output):
            poll.unregister(output)
        if died in ready:
            os.read(died, CHUNK)
            if (status := _reap(worker)) is not None:
                return status
        if lease in ready:
            return None


def _end(worker: int, status: int | None) -> int:
    """Kill the worker's group and all other children of this process; return the worker's wait status."""
    with suppress(OSError):
        os.killpg(worker, signal.SIGKILL)
    if status is None:
        # One that was forked just now may not lead its group yet.
        os.kill(worker, signal.SIGKILL)
        status = os.waitpid(worker, 0)[1]
    until = time.monotonic() + PATIENCE
    with suppress(ChildProcessError):  # raised when no child is left
        while time.monotonic() < until:
            # A process that dies leaves its own children to this process.
            _reap()
            children = _children()
            if not children:
                # The system does not list children.
                break
            for child in children:
                with suppress(OSError):
                    os.kill(child, signal.SIGKILL)
            time.sleep(0.002)
    return status


def _reap(worker: int | None = None) -> int | None:
    """Reap the children that have died; return the wait status of the worker if it is among them.

    Raises ``ChildProcessError`` if there is no child, dead or alive.
    """
    while True:
        process, status = os.waitpid(-1, os.WNOHANG)
        if not process:
            return None
        if process == worker:
            return status


def _children() -> list[int]:
    """Return the processes whose parent is this one; none if the system has no /proc."""
    own = os.getpid()
    try:
        with open(CHILDREN.format(own), encoding="ascii") as file:
            return [int(word) for word in file.read().split()]
    except OSError:
        # The kernel was compiled without that file.
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


def _report(listener: int, line: bytes) -> None:
    with suppress(OSError):  # the listener is gone
        os.write(listener, line)


class _Log:
    """The log of a worker's output: its beginning is written at once, its end when the worker has ended."""

    def __init__(self, path: bytes) -> None:
        #: The errno that kept the file from being written; 0: none.
        self.error = 0
        #: Size of the output so far, in bytes.
        self.size = 0
        self._file = -1
        self._tail = bytearray()
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        except OSError as error:
            self.error = error.errno or 0

    def take(self, output: int) -> bytes:
        """Read and return a chunk of the output; nothing at its end."""
        if self.size > FLOOD:
            time.sleep(PAUSE)
        data = os.read(output, CHUNK)
        head = data[: max(0, HEAD - self.size)]
        self._write(head)
        self._tail += data[len(head) :]
        if len(self._tail) > 2 * TAIL:
            del self._tail[:-TAIL]
        self.size += len(data)
        return data

    def finish(self, output: int) -> None:
        """Read the rest of the output, and write its end."""
        os.set_blocking(output, False)
        until = self.size + CHUNK
        with suppress(BlockingIOError):
            # No more than a pipe holds: a process that could not be killed may still be printing.
            while self.size <= until and self.take(output):
                pass
        tail = bytes(self._tail[-TAIL:])
        left_out = self.size - HEAD - len(tail)
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
    """Become the parent of every process that a descendant leaves behind, if the system supports that."""
    if (library := _library()) is not None:
        library.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


@cache
def _library() -> Any:
    """Return the C library if it has prctl(2). Without it, only the worker's process group is ended."""
    try:
        import ctypes

        library = ctypes.CDLL(None)
        library.prctl  # noqa: B018 - raises if it has none
    except (ImportError, OSError, AttributeError):
        return None
    return library


if __name__ == "__main__":
    main()
