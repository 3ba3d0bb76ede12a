"""The host's side of the supervisor, through which processes are started, watched and ended."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import ClassVar

from attrs import frozen

from qx.errors import QxError
from qx.processes import supervisor

#: Seconds to wait until the supervisor has started, or a keeper has ended its process: more than either takes
#: on the slowest machine.
PATIENCE = 60.0


@frozen
class Ending:
    """How a process ended."""

    #: The exit status, or the signal that killed the process as a negative number.
    status: int
    #: Size of the output that it printed, in bytes.
    printed: int
    #: The errno that kept its log from being written; 0: the log is whole.
    log_error: int = 0


class _Spawner:
    """A program that starts processes for requests from a socket, see ``qx/processes/supervisor.py``."""

    def __init__(self) -> None:
        self._lock = Lock()
        #: This end of the socket, and the one of the program.
        self._control, self._theirs = socket.socketpair()

    def spawn(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        control: socket.socket | None = None,
    ) -> Process:
        """Have a process started: a program, or a worker that is forked where the ``command`` is empty.

        Its standard input is ``control``, if that is not None, else a pipe. Raises ``QxError`` if the program
        that starts it is gone.
        """
        ours, theirs = socket.socketpair()
        commands_end, commands = os.pipe() if control is None else (-1, -1)
        answers, answers_end = os.pipe()
        request = supervisor.Request(
            os.fsencode(log),
            os.fsencode(_working_folder()),
            [os.fsencode(word) for word in command],
            [os.fsencode(f"{name}={value}") for name, value in environment.items()],
        )
        pipes = supervisor.Pipes(
            commands=commands_end if control is None else control.fileno(),
            answers=answers_end,
            lease=theirs.fileno(),
        )
        try:
            self._send(request.to_bytes(), pipes)
        except BaseException:
            ours.close()
            _close(commands, answers)
            raise
        finally:
            theirs.close()
            _close(commands_end, answers_end)
        return Process(ours, commands, answers)

    def _send(self, request: bytes, pipes: supervisor.Pipes) -> None:
        try:
            with self._lock:
                sent = socket.send_fds(self._control, [request], pipes)
                self._control.sendall(request[sent:])
        except OSError as error:
            raise QxError(self._gone_message()) from error

    def _receive_ready(self, patience: float) -> None:
        """Wait until the program is ready for requests. Raises ``QxError``."""
        self._control.settimeout(patience)
        try:
            received = self._control.recv(len(supervisor.READY))
        except OSError as error:
            raise QxError(f"{self._name} did not start: {error}") from error
        if received != supervisor.READY:
            raise QxError(self._gone_message())

    #: What messages call the program.
    _name: ClassVar[str]

    def _gone_message(self) -> str:
        return f"{self._name} hung up: without it no process can be started"


class Supervisor(_Spawner):
    """The running program ``qx/processes/supervisor.py``, which ends when this is closed."""

    _name = "the supervisor of the workers"

    def __init__(self, log: Path) -> None:
        super().__init__()
        with self._theirs, log.open("wb") as stream:
            self._program = subprocess.Popen(
                [sys.executable, "-I", "-S", supervisor.__file__],
                stdin=self._theirs.fileno(),
                stdout=stream,
                stderr=stream,
                # Ctrl-C is for the host, which ends all workers itself.
                start_new_session=True,
            )
        try:
            self._receive_ready(PATIENCE)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Hang up, and wait for the program to end, which it does after the last process that it started."""
        self._control.close()
        try:
            self._program.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._program.kill()
            self._program.wait()

    def _gone_message(self) -> str:
        with suppress(subprocess.TimeoutExpired):
            self._program.wait(1)
        status = self._program.returncode
        how = "hung up" if status is None else describe_status(status)
        return f"{self._name} {how}: without it no process can be started"


class ForkServer(_Spawner):
    """The running program ``qx/worker/fork_server.py``: it has imported modules, and forks workers.

    ``command`` runs it, in an ``environment`` that differs from those of its workers at most in ``TMPDIR``.
    Raises ``QxError`` if it cannot import the modules, or cannot be forked after that.
    """

    _name = "the fork server"

    def __init__(
        self, supervisor: Supervisor, command: Sequence[str], environment: Mapping[str, str], log: Path
    ) -> None:
        super().__init__()
        try:
            with self._theirs:
                self._process = supervisor.spawn(command, environment, log, self._theirs)
        except BaseException:
            self._control.close()
            raise

    def wait(self, patience: float) -> None:
        """Wait until it can fork workers. Raises ``QxError`` if it cannot, or not in so many seconds."""
        self._receive_ready(patience)
        self._control.settimeout(PATIENCE)

    def fork(self, environment: Mapping[str, str], log: Path) -> Process:
        """Fork a worker. Raises ``QxError`` if the server is gone."""
        return self.spawn([], environment, log)

    def hang_up(self) -> None:
        """Take no more requests: it ends with the last worker that it has forked."""
        with self._lock:
            self._control.close()

    def kill(self) -> None:
        """End it with the workers that it forked, without waiting for that."""
        self._process.kill()

    def close(self) -> None:
        """End it, and what is left of the workers that it forked."""
        self._control.close()
        self._process.close()


def _working_folder() -> str:
    """Return the folder that this process works in; an empty text if it has been removed."""
    try:
        return os.getcwd()
    except OSError:
        return ""


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        if descriptor >= 0:
            os.close(descriptor)


class Process:
    """A process that the supervisor has started, with the host's ends of its pipes."""

    def __init__(self, lease: socket.socket, commands: int, answers: int) -> None:
        self._lease = lease
        #: Descriptors that write to its standard input (-1 where that is a socket), and read from its output.
        self.commands, self.answers = commands, answers
        self._reports = b""
        self._pid: int | None = None
        self._ending: Ending | None = None
        self._lock = Lock()
        self._closed = False

    @property
    def pid(self) -> int:
        """The process id. Raises ``QxError`` if the process could not be started."""
        with self._lock:
            if self._pid is None:
                self._read_reports(PATIENCE, lines=1)
            if self._pid is None:
                raise QxError("the keeper of a process was killed before it could start it")
            return self._pid

    def kill(self) -> None:
        """Have the keeper end the process with all that it started, without waiting for that."""
        # Already closed, or the keeper is gone, and the process with it.
        with suppress(OSError):
            self._lease.shutdown(socket.SHUT_WR)

    def wait(self, timeout: float) -> Ending | None:
        """Wait until the process and all that it started are gone, and return how the process ended.

        None if that takes longer than ``timeout`` seconds, or if its keeper was killed.
        """
        with self._lock:
            if self._ending is None and not self._closed:
                self._read_reports(timeout, lines=2)
            return self._ending

    def close(self) -> Ending | None:
        """End the process, close its pipes and return how it ended; None if its keeper was killed."""
        self.kill()
        ending = self.wait(PATIENCE)
        with self._lock:
            if ending is None and self._pid is not None and not self._closed:
                # Nobody else is left to do it.
                with suppress(ProcessLookupError):
                    os.killpg(self._pid, signal.SIGKILL)
            if not self._closed:
                self._closed = True
                self._lease.close()
                _close(self.commands, self.answers)
                # Their numbers will be those of other pipes.
                self.commands = self.answers = -1
        return ending

    def _read_reports(self, timeout: float, lines: int) -> None:
        """Read the keeper's reports: a line with the process id, and one with how the process ended."""
        until = time.monotonic() + timeout
        while self._reports.count(b"\n") < lines:
            self._lease.settimeout(max(1e-3, until - time.monotonic()))
            try:
                received = self._lease.recv(64)
            except OSError:
                break
            if not received:
                break
            self._reports += received
        reports = self._reports.splitlines(keepends=True)
        if reports and reports[0].endswith(b"\n"):
            self._pid = int(reports[0])
        if len(reports) > 1 and reports[1].endswith(b"\n"):
            status, printed, error = map(int, reports[1].split())
            self._ending = Ending(os.waitstatus_to_exitcode(status), printed, error)


def describe_status(status: int) -> str:
    """Say what an exit status or a negative signal means, in words that follow 'the process'."""
    if status >= 0:
        return f"ended itself with status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        # A real-time signal.
        name = f"signal {-status}"
    return f"was killed by {name}"
